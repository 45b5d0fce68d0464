"""Checks `idlora_torch` against torch itself; exits non-zero if anything differs. Needs torch, and is run by hand:

    IDLORA_CAPI=target/release/libidlora_capi.so python3 capi/python/check_torch.py

For every gate: `gradcheck` in f32 (the library's numbers are f32, so the differences take steps of 1e-2 instead of 1e-6), and
outputs and gradients of float32, float16 and bfloat16 against the formula in float64 with torch's own autograd. Then training,
dropout, and files.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import idlora
import torch
from idlora_torch import IdLoraLinear

TOKENS, ROWS, COLS, RANK, COMPONENTS, SPLIT = 6, 16, 12, 4, 2, 2
UNIT = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def check(condition, words):
    if not condition:
        sys.exit(f"check_torch: {words}")


def layer_of(gate, dtype=torch.float32, bias=False, dropout=0.0, seed=3):
    torch.manual_seed(seed)
    linear = torch.nn.Linear(COLS, ROWS, bias=bias).to(dtype)
    config = idlora.Config(rank=RANK, clusters=COMPONENTS, split=SPLIT, gate=gate, alpha=6.0, b_init="normal")
    return IdLoraLinear(linear, "layer", config, dropout)


def formula(layer, y0, b, gate, h):
    """The adapter in float64, as the paper writes it: every component through its own (I kron B), then weighed."""
    adapter = layer.adapter
    x = y0[:, torch.tensor(adapter.skeleton)].reshape(-1, COMPONENTS, RANK)
    if adapter.gate == "inner":
        a = x @ gate[0]
    elif adapter.gate == "rms-inner":
        a = (x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-6)) @ gate[0]
    elif adapter.gate == "static":
        a = gate.expand(len(y0), -1)
    else:
        a = h @ gate.T
        a = torch.softmax(a, -1) if adapter.gate == "linear-softmax" else a
    up = torch.block_diag(*[b] * SPLIT)
    base = y0 if layer.base.bias is None else y0 + layer.base.bias.double()
    return base + adapter.scale * (a.unsqueeze(-1) * (x @ up.T)).sum(1)


def check_gate(gate, dtype, bias):
    layer, unit = layer_of(gate, dtype, bias), UNIT[dtype]
    h = torch.randn(TOKENS, COLS).to(dtype).requires_grad_()
    g = torch.randn(TOKENS, ROWS).to(dtype)
    y = layer(h)
    y.backward(g)
    # The reference starts from the base product as it was rounded, so that only the adapter is compared.
    wide = h.detach().double().requires_grad_()
    b, t = layer.b.detach().double().requires_grad_(), layer.gate.detach().double().requires_grad_()
    y0 = torch.nn.functional.linear(h.detach(), layer.base.weight).double().requires_grad_()
    expected = formula(layer, y0, b, t, wide)
    expected.backward(g.double())
    dh = y0.grad @ layer.base.weight.double() + (0.0 if wide.grad is None else wide.grad)
    worst = 0.0
    pairs = {"y": (y, expected), "b": (layer.b.grad, b.grad), "gate": (layer.gate.grad, t.grad), "h": (h.grad, dh)}
    for name, (found, wanted) in pairs.items():
        check(found.shape == wanted.shape, f"{gate} {dtype}: {name} has shape {tuple(found.shape)}")
        # A rounding of x, g and dY0 each; sums of up to ROWS terms of them.
        off = float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm())
        check(off < 8.0 * unit + 4e-6, f"{gate} {dtype} bias {bias}: {name} is off by {off:.3g}")
        worst = max(worst, off)
    return worst


def check_bias(gate, dtype):
    """x is gathered without the bias: however large, it changes no bit of a gradient."""

    def gradients(bias):
        layer = layer_of(gate, dtype, bias)
        if bias:
            layer.base.bias.mul_(1000.0)
        torch.manual_seed(4)
        h = torch.randn(TOKENS, COLS).to(dtype).requires_grad_()
        layer(h).backward(torch.randn(TOKENS, ROWS).to(dtype))
        return layer.b.grad, layer.gate.grad, h.grad

    same = all(torch.equal(one, other) for one, other in zip(gradients(False), gradients(True)))
    check(same, f"{gate} {dtype}: a bias changes gradients")


def check_slopes(gate):
    layer = layer_of(gate)
    from idlora_torch import _Apply

    def call(y0, b, t, h):
        return _Apply.apply(y0, b, t, h, layer._plans, None, (0.25, 11, 5))

    y0, h = torch.randn(TOKENS, ROWS).requires_grad_(), torch.randn(TOKENS, COLS).requires_grad_()
    reads = "linear" in gate
    arguments = y0, layer.b, layer.gate, h if reads else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the inputs are not float64
        good = torch.autograd.gradcheck(call, arguments, eps=1e-2, atol=5e-3, rtol=5e-3, nondet_tol=0.0)
    check(good, f"{gate}: gradcheck")


def check_training(gate):
    layer, steps = layer_of(gate, bias=True, dropout=0.1), 150
    frozen = layer.base.weight.clone()
    h = torch.randn(2, 32, COLS)  # a batch of sequences: the leading dimensions are tokens
    with torch.no_grad():
        layer.eval()
        layer.b.copy_(torch.randn_like(layer.b))
        target = layer(h).clone()
        layer.b.zero_()
    check(len(list(layer.parameters())) == 4 and sum(p.requires_grad for p in layer.parameters()) == 2, "parameters")
    optimizer = torch.optim.AdamW([p for p in layer.parameters() if p.requires_grad], lr=3e-2, weight_decay=0.0)
    loss_of = lambda: torch.nn.functional.mse_loss(layer(h), target)
    first = float(loss_of().detach())
    layer.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
    check(not torch.equal(layer(h), layer(h)), "dropout draws the same mask twice")
    layer.eval()
    check(torch.equal(layer(h), layer(h)), "two runs differ")
    last = float(loss_of().detach())
    check(last < 0.2 * first, f"{gate}: the loss has not fallen: {first} to {last}")
    check(torch.equal(layer.base.weight, frozen), "the base weight has moved")
    with tempfile.TemporaryDirectory() as folder:
        idlora.save(Path(folder) / "adapter", [layer.trained_adapter()])
        [again] = idlora.load(Path(folder) / "adapter")
        again.check_base(layer.base.weight.detach())
        check(torch.equal(torch.tensor(again.read("b")), layer.b.detach().ravel()), "a saved B came back another")
    return first, last


def main():
    for gate in idlora.GATES:
        off = {
            (str(dtype).removeprefix("torch."), bias): check_gate(gate, dtype, bias) for dtype in UNIT for bias in (False, True)
        }
        for dtype in UNIT:
            check_bias(gate, dtype)
        check_slopes(gate)
        first, last = check_training(gate)
        figures = ", ".join(f"{dtype}{' bias' if bias else ''} {value:.1e}" for (dtype, bias), value in off.items())
        print(f"{gate}: off by {figures}; gradcheck; loss {first:.4f} to {last:.4f}")
    print(f"check_torch: all well (idlora {idlora.version()}, torch {torch.__version__})")


if __name__ == "__main__":
    main()
