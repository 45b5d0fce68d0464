"""standard.py DEVICE...: the module `idlora` with the standard library alone, by hand-made numbers."""

import array
import ctypes
import sys
import tempfile
from pathlib import Path

import idlora
from idlora_arrays import Matrix, matrix

ROWS, COLS, TOKENS, RANK = 6, 3, 2, 1


def floats(values):
    return array.array("f", values)


def shaped(values, rows, cols):
    address, _ = values.buffer_info()
    return Matrix(address, rows, cols, cols, "float32", "cpu", False, values)


def weight():
    return floats(((i * 7 + 3) % 11 - 5) / 4 for i in range(ROWS * COLS))


def refuses(call, kind, words):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"not refused: {words}")


def adapter_of(gate):
    config = idlora.Config(rank=RANK, clusters=2, split=1, gate=gate, alpha=2.0, scaling="one", min_size=1, seed=5)
    assert (config.rank, config.gate, config.scaling, config.select) == (RANK, gate, "one", "pivoted-qr")
    return idlora.Adapter.init(idlora.Device(), "layer", shaped(weight(), ROWS, COLS), config)


class Memory:
    """A buffer of a device with floats in it."""

    def __init__(self, device, values, rows, cols):
        self.buffer, self.shape = idlora.Buffer(device, 4 * rows * cols), (rows, cols)
        self.buffer.write(floats(values).tobytes())

    def matrix(self):
        return self.buffer.matrix("float32", *self.shape)

    def floats(self):
        return list(floats(memoryview(self.buffer.read()).cast("f")))


def run(name):
    """B and the static gate in numbers that can be followed by hand: y = y0 + B (a_0 x_0 + a_1 x_1)."""
    device, adapter = idlora.Device(name), adapter_of("static")
    assert adapter.b_shape == (ROWS, 1) and adapter.gate_shape == (1, 2) and adapter.trained == 8 and adapter.scale == 1.0
    plan, (s0, s1) = idlora.Plan(device, adapter), adapter.skeleton
    y0 = [float(i % 5) - 1 for i in range(TOKENS * ROWS)]
    b, a = [0.5, -1.0, 2.0, 0.25, 1.0, -0.5], [0.5, -0.25]
    here = {key: Memory(device, *value) for key, value in {
        "y": (y0, TOKENS, ROWS), "b": (b, ROWS, 1), "gate": (a, 1, 2), "x": ([9.0] * 4, TOKENS, 2), "a": ([9.0] * 4, TOKENS, 2),
        "g": ([1.0] * 12, TOKENS, ROWS), "db": ([0.5] * 6, ROWS, 1), "dgate": ([0.5] * 2, 1, 2),
    }.items()}
    view = {key: value.matrix() for key, value in here.items()}
    operands = {"b": view["b"], "gate": view["gate"], "saved": (view["x"], view["a"])}
    plan.forward(view["y"], **operands)
    rows = [y0[t * ROWS : (t + 1) * ROWS] for t in range(TOKENS)]
    z = [a[0] * row[s0] + a[1] * row[s1] for row in rows]
    assert here["y"].floats() == [row[i] + b[i] * z[t] for t, row in enumerate(rows) for i in range(ROWS)], name
    assert here["x"].floats() == [row[s] for row in rows for s in (s0, s1)], name
    assert here["a"].floats() == a * TOKENS, name

    gradients = {"scatter": view["g"], "grad_b": view["db"], "grad_gate": view["dgate"]}
    plan.backward(**operands, **gradients, accumulate=True)
    dz = sum(b)
    assert here["db"].floats() == [0.5 + sum(z)] * ROWS, name
    assert here["dgate"].floats() == [0.5 + sum(dz * row[s] for row in rows) for s in (s0, s1)], name
    expected = [1.0] * ROWS
    expected[s0] += a[0] * dz
    expected[s1] += a[1] * dz
    assert here["g"].floats() == expected * TOKENS, name
    device.wait()
    refuses(lambda: plan.forward(view["y"], **{**operands, "b": view["gate"]}), idlora.Error, "`b` has shape [1, 2]")
    if name != "cpu":
        refuses(lambda: plan.forward(shaped(floats(y0), TOKENS, ROWS), **operands), ValueError, "y lies on cpu")


def library_objects():
    adapter = adapter_of("linear-softmax")
    assert len(adapter.digest) == 64 and set(adapter.report["cluster_sizes"]) <= set(range(1, 6))
    adapter.write("b", floats([1, 2, 3, 4, 5, 6]))
    assert list(adapter.read("b")) == [1, 2, 3, 4, 5, 6] and len(adapter.read("gate")) == 2 * COLS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter"
        idlora.save(path, [adapter])
        [again] = idlora.load(path)
        assert (again.name, again.gate, again.digest) == ("layer", "linear-softmax", adapter.digest)
        assert again.read("b") == adapter.read("b") and again.read("gate") == adapter.read("gate")
        refuses(lambda: idlora.load(Path(folder) / "no"), idlora.Error, "no/adapter.safetensors")
    refuses(lambda: adapter.merge(shaped(weight(), ROWS, COLS)), idlora.Error, "only a Static gate can")
    static, w = adapter_of("static"), weight()
    static.write("b", floats([1, 0, 0, 0, 0, 0]))
    static.merge(shaped(w, ROWS, COLS))
    assert w != weight()
    static.merge(shaped(w, ROWS, COLS), undo=True)
    assert max(abs(x - y) for x, y in zip(w, weight())) < 1e-5
    refuses(lambda: idlora.Config(gate="none"), ValueError, "gate is 'none', expected one of inner")
    refuses(lambda: idlora.Config(ranks=1), TypeError, "there is no choice 'ranks'")
    refuses(lambda: idlora.Device("tpu"), idlora.Error, "device `tpu`")
    refuses(lambda: matrix(3), TypeError, "int has neither")
    device = idlora.Device()
    device.close()
    device.close()
    refuses(lambda: idlora.Plan(device, adapter), idlora.Error, "`device` is null")


class Capsule:
    """A producer of DLPack in the standard library: bfloat16 numbers, two rows of three in rows of four, after two others."""

    def __init__(self):
        import idlora_arrays as arrays

        self.data = (ctypes.c_uint16 * 10)()
        self.shape, self.strides = (ctypes.c_int64 * 2)(2, 3), (ctypes.c_int64 * 2)(4, 1)
        self.tensor = arrays._DLTensor(ctypes.addressof(self.data), (1, 0), 2, (4, 16, 1), self.shape, self.strides, 4)

    def __dlpack_device__(self):
        return self.tensor.device.kind, self.tensor.device.ordinal

    def __dlpack__(self):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


def capsules():
    array = Capsule()
    found = matrix(array)
    assert found[:6] == (ctypes.addressof(array.data) + 4, 2, 3, 4, "bfloat16", "cpu"), found
    array.tensor.strides = None
    assert matrix(array)[1:4] == (2, 3, 3)
    array.tensor.dtype.code = 0
    refuses(lambda: matrix(array), TypeError, "DLPack type 0 of 16 bits")
    array.tensor.device.kind = 8
    refuses(lambda: matrix(array), ValueError, "DLPack device type 8")


if __name__ == "__main__":
    for device in sys.argv[1:]:
        run(device)
    library_objects()
    capsules()
    print("standard: all well")
