"""Trains an adapter on a synthetic regression with numpy alone, and checks itself: exits non-zero if a gradient is not the slope
of the loss, if the loss does not fall, or if a saved adapter does not come back the same.

    IDLORA_CAPI=target/release/libidlora_capi.so python3 capi/python/example_numpy.py
"""

import sys
import tempfile
from pathlib import Path

import idlora
import numpy as np

ROWS, COLS, TOKENS, COMPONENTS, RANK = 48, 32, 96, 2, 4


def check(condition, words):
    if not condition:
        sys.exit(f"example_numpy: {words}")


class Layer:
    """A frozen linear layer and its adapter: arrays of the trainer's own."""

    def __init__(self, w, gate, dtype=np.float32):
        config = idlora.Config(rank=RANK, clusters=COMPONENTS, gate=gate, alpha=8.0, seed=1)
        self.w, self.device, self.dtype = w, idlora.Device("cpu"), dtype
        self.adapter = idlora.Adapter.init(self.device, "layer", w, config)
        self.plan = idlora.Plan(self.device, self.adapter)
        self.b = np.array(self.adapter.read("b"), np.float32).reshape(self.adapter.b_shape)
        self.gate = np.array(self.adapter.read("gate"), np.float32).reshape(self.adapter.gate_shape)

    def forward(self, h):
        """The output, and what the backward needs."""
        y = (h @ self.w.T).astype(self.dtype)
        saved = np.empty((len(h), COMPONENTS * RANK), self.dtype), np.empty((len(h), COMPONENTS), np.float32)
        self.plan.forward(y, b=self.b, gate=self.gate, h=h.astype(self.dtype), saved=saved)
        return y, saved

    def backward(self, h, saved, g):
        """Gradients of B, of the gate and of the input, from that of the output."""
        db, dgate, g = np.empty_like(self.b), np.empty_like(self.gate), g.astype(self.dtype)
        dh = np.empty(h.shape, self.dtype) if "linear" in self.adapter.gate else None
        operands = {"b": self.b, "gate": self.gate, "h": h.astype(self.dtype), "saved": saved, "scatter": g}
        self.plan.backward(**operands, grad_b=db, grad_gate=dgate, grad_h=dh)
        return db, dgate, g @ self.w + (0.0 if dh is None else dh)


def loss_of(y, target):
    difference = y.astype(np.float64) - target
    return float(np.mean(difference**2)), (2.0 * difference / difference.size).astype(np.float32)


def check_gradients(layer, h, target, rng):
    """Along random directions the gradient is the slope of the loss: a central difference of the library's own forward."""
    layer.b[:] = 0.3 * rng.standard_normal(layer.b.shape)
    y, saved = layer.forward(h)
    gradients = layer.backward(h, saved, loss_of(y, target)[1])
    for name, place, gradient in zip(("b", "gate", "h"), (layer.b, layer.gate, h), gradients):
        direction = rng.standard_normal(place.shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        kept, step, losses = place.copy(), 0.02, []
        for sign in (1.0, -1.0):
            place[:] = kept + sign * step * direction
            losses.append(loss_of(layer.forward(h)[0], target)[0])
        place[:] = kept
        slope, expected = (losses[0] - losses[1]) / (2.0 * step), float(np.sum(gradient * direction))
        # Rounding of f32 outputs costs about 1e-7 / step, the curvature of the loss step^2.
        check(abs(slope - expected) < 1e-4 + 1e-2 * abs(expected), f"{name}: slope {slope}, gradient {expected}")
        print(f"  gradient of {name:4}: slope {slope:+.6f}, gradient {expected:+.6f}")


def train(layer, h, target, steps=200, rate=2e-2):
    """AdamW without decay; the losses."""
    layer.b[:] = 0.0
    losses, state = [], [np.zeros((2, *value.shape)) for value in (layer.b, layer.gate)]
    for step in range(1, steps + 1):
        y, saved = layer.forward(h)
        loss, g = loss_of(y, target)
        losses.append(loss)
        for value, gradient, moments in zip((layer.b, layer.gate), layer.backward(h, saved, g), state):
            moments[0] += 0.1 * (gradient - moments[0])
            moments[1] += 0.001 * (gradient**2 - moments[1])
            first, second = moments[0] / (1.0 - 0.9**step), moments[1] / (1.0 - 0.999**step)
            value -= (rate * first / (np.sqrt(second) + 1e-8)).astype(np.float32)
    return losses


def check_files(layer, folder):
    layer.adapter.write("b", layer.b)
    layer.adapter.write("gate", layer.gate)
    idlora.save(folder / "adapter", [layer.adapter])
    [again] = idlora.load(folder / "adapter")
    again.check_base(layer.w)
    same = np.array_equal(np.array(again.read("b"), np.float32), layer.b.ravel())
    check(same and again.skeleton == layer.adapter.skeleton and again.name == "layer", "a saved adapter came back another")
    try:
        again.check_base(layer.w + 1.0)
    except idlora.Error as error:
        check(error.status == "DIGEST" and "module `layer`" in str(error), f"the wrong refusal: {error}")
    else:
        check(False, "a changed base weight was not refused")


def check_views(layer, h):
    """Rows that lie apart, leading dimensions, float16, read-only arrays: taken as they are, or refused in words."""
    expected, _ = layer.forward(h)
    wide = np.full((4, TOKENS // 4, ROWS + 5), np.nan, np.float32)
    wide[..., :ROWS] = (h @ layer.w.T).reshape(4, TOKENS // 4, ROWS)
    layer.plan.forward(wide[..., :ROWS], b=layer.b, gate=layer.gate, h=h)
    check(np.array_equal(wide[..., :ROWS].reshape(TOKENS, ROWS), expected), "a view gives another result than an array")
    check(np.isnan(wide[..., ROWS:]).all(), "padding was written")
    layer.dtype = np.float16
    half, _ = layer.forward(h)
    layer.dtype = np.float32
    check(np.abs(half - expected).max() < 2e-2 * np.abs(expected).max(), "float16 gives another result than float32")
    frozen = wide[..., :ROWS].copy()
    frozen.flags.writeable = False
    for bad, words in ((wide[..., ::2], "elements of a row"), (frozen, "read-only"), (wide.astype(float), "expected float32")):
        try:
            layer.plan.forward(bad, b=layer.b, gate=layer.gate, h=h)
        except (TypeError, ValueError) as error:
            check(words in str(error), f"the wrong refusal: {error}")
        else:
            check(False, f"not refused: {words}")


def main():
    rng = np.random.default_rng(7)
    w = (rng.standard_normal((ROWS, COLS)) / np.sqrt(COLS)).astype(np.float32)
    h = rng.standard_normal((TOKENS, COLS)).astype(np.float32)
    for gate in idlora.GATES:
        layer = Layer(w, gate)
        # What an adapter of the same rows can do, with another B, and noise that none can.
        layer.b[:] = 0.5 * rng.standard_normal(layer.b.shape)
        target = layer.forward(h)[0] + 0.05 * rng.standard_normal((TOKENS, ROWS))
        print(f"{gate}: {layer.adapter.trained} trained numbers, relative error {layer.adapter.report['relative_error']:.3f}")
        check_gradients(layer, h, target, rng)
        losses = train(layer, h, target)
        print(f"  loss {losses[0]:.4f} to {losses[-1]:.4f}")
        check(losses[-1] < 0.2 * losses[0], f"{gate}: the loss has not fallen: {losses[0]} to {losses[-1]}")
        check_views(layer, h)
        with tempfile.TemporaryDirectory() as folder:
            check_files(layer, Path(folder))
    print(f"example_numpy: all well (idlora {idlora.version()}, numpy {np.__version__})")


if __name__ == "__main__":
    main()
