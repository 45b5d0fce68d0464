"""ID-LoRA adapters through the C interface: ctypes and the standard library, nothing else.

    device = idlora.Device("cpu")
    adapter = idlora.Adapter.init(device, "layer.0.query", w, idlora.Config(rank=16, gate="static"))
    plan = idlora.Plan(device, adapter)
    plan.forward(y, b=b, gate=gate, saved=(x, a))        # y: base output, becomes the adapted one
    plan.backward(b=b, gate=gate, saved=(x, a), scatter=g, grad_b=db, grad_gate=dgate)

Arrays are whatever has `__array_interface__` (numpy) or `__dlpack__` (numpy, torch, ...), of float32, float16 or bfloat16, a
`Matrix`, or an `array.array` of floats; nothing is copied. All dimensions but the last are the rows. What numbers mean,
which operands are needed and who may use memory when is said in `idlora.h`; a refused call raises `Error`.

The library is found by the environment variable IDLORA_CAPI (its path), else beside this file, else by the loader.
"""

import array
import ctypes
import operator
import os
from ctypes import byref, c_double, c_size_t, c_void_p

import idlora_c as abi
from idlora_arrays import DTYPES, Matrix, matrix

GATES = {"inner": 1, "rms-inner": 2, "linear": 3, "linear-softmax": 4, "static": 5}
SPACES = {"full": 0, "direction": 1, "norm": 2}
SELECTIONS = {"pivoted-qr": 0, "centroid": 1, "sketch": 2, "norm": 3, "random": 4}
SCALINGS = {"alpha-over-rank": 0, "alpha-over-sqrt-rank": 1, "one": 2}
B_INITS = {"zero": 0, "normal": 1}
DOWNS = {"gather": 0, "gemm": 1}
BIASES = {"none": 0, "included": 1, "separate": 2}
PARAMETERS = {"b": 0, "gate": 1}


class Error(Exception):
    """A refused call: `status` is the name of its idlora_status, such as "SHAPE"."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


_library = abi.load()


def version():
    """The library's version."""
    return _library.idlora_version().decode()


def _call(function, *arguments):
    status = getattr(_library, function)(*arguments)
    if status:
        raise Error(_library.idlora_status_name(status).decode(), _library.idlora_last_error().decode())


def _made(function, *arguments):
    """The handle or pointer that a call writes to its last argument."""
    place = c_void_p()
    _call(function, *arguments, byref(place))
    return place


def _number(table, name, what):
    if name not in table:
        raise ValueError(f"{what} is {name!r}, expected one of {', '.join(table)}")
    return table[name]


class _Handle:
    """Something of the library's that is closed when it is not used any more."""

    _kind = None
    _handle = None

    def close(self):
        """Closes it now. It may be closed twice."""
        handle, self._handle = self._handle, None
        if handle:
            _call(f"idlora_{self._kind}_close", handle)

    def __del__(self):
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Device(_Handle):
    """Where work runs: "cpu", "cuda", "cuda:N", "vm"; or CUDA device `ordinal` on a stream of the caller (an int)."""

    _kind = "device"

    def __init__(self, name="cpu", *, ordinal=None, stream=None):
        if ordinal is None:
            self.name = name
            self._handle = _made("idlora_device_open", name.encode())
        else:
            self.name = f"cuda:{ordinal}"
            self._handle = _made("idlora_device_on_stream", ordinal, stream)

    def wait(self):
        """Waits for everything queued so far."""
        _call("idlora_device_wait", self._handle)

    def _matrix(self, name, value, dtype=None):
        """The C form of an operand, which is kept alive by what is returned beside it."""
        if value is None:
            return abi.Matrix(), None
        found = matrix(value)
        here = {"cuda": "cuda:0"}.get(self.name, self.name)
        if found.place not in (here, None):
            raise ValueError(f"{name} lies on {found.place}, the device is {self.name}")
        if dtype is not None and found.dtype != dtype:
            raise TypeError(f"{name} is {found.dtype}, expected {dtype}")
        return abi.Matrix(found.address, found.rows, found.cols, found.ld), found


_CPU = Device("cpu")


class Buffer(_Handle):
    """Memory of a device, all 0: for the virtual machine, and for programs without CUDA of their own."""

    _kind = "buffer"

    def __init__(self, device, size):
        self._device, self.size = device, size
        self._handle = _made("idlora_buffer_create", device._handle, size)
        self._address = _made("idlora_buffer_address", self._handle).value

    def write(self, data):
        """Copies a bytes-like object of the buffer's size."""
        data = bytes(data)
        _call("idlora_buffer_write", self._handle, data, len(data))

    def read(self):
        """A copy of all bytes; waits."""
        data = ctypes.create_string_buffer(self.size)
        _call("idlora_buffer_read", self._handle, data, self.size)
        return data.raw

    def matrix(self, dtype, rows, cols):
        """Its first elements as an operand."""
        if rows * cols * DTYPES[dtype].size > self.size:
            raise ValueError(f"[{rows}, {cols}] of {dtype} does not fit {self.size} bytes")
        return Matrix(self._address, rows, cols, cols, dtype, self._device.name, False, self)


class Config:
    """The choices that decide an adapter; see idlora_config. Enumerations by name: gate="linear-softmax"."""

    _enumerations = {"cluster_by": SPACES, "select": SELECTIONS, "gate": GATES, "scaling": SCALINGS, "b_init": B_INITS}

    def __init__(self, **choices):
        self._c = abi.Config(struct_size=ctypes.sizeof(abi.Config))
        _call("idlora_config_default", byref(self._c))
        for name, value in choices.items():
            if name == "struct_size" or not any(name == field for field, _ in abi.Config._fields_):
                raise TypeError(f"there is no choice {name!r}")
            table = self._enumerations.get(name)
            setattr(self._c, name, _number(table, value, name) if table else value)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        value, table = getattr(self._c, name), self._enumerations.get(name)
        return next(key for key, number in table.items() if number == value) if table else value


class Adapter(_Handle):
    """One adapted module: chosen rows, B, the gate's parameters. See idlora_adapter_info for its attributes."""

    _kind = "adapter"

    def __init__(self, handle):
        self._handle = handle
        self._info = abi.Info(struct_size=ctypes.sizeof(abi.Info))
        _call("idlora_adapter_describe", handle, byref(self._info))
        info, self.report = self._info, None
        self.name, self.gate = info.name.decode(), next(key for key, number in GATES.items() if number == info.gate)
        self.b_shape, self.gate_shape = (info.b_rows, info.b_cols), (info.gate_rows, info.gate_cols)
        self.digest, self.skeleton = bytes(info.digest).hex(), info.skeleton[: info.components * info.rank]

    @classmethod
    def init(cls, device, name, w, config):
        """Makes the adapter of module `name` from its base weight, an array in host memory. `report` is a dict."""
        count = config.clusters
        sizes, ranks, errors = (c_size_t * count)(), (c_size_t * count)(), (c_double * count)()
        report = abi.Report(ctypes.sizeof(abi.Report), cluster_sizes=sizes, cluster_ranks=ranks, cluster_errors=errors)
        c, found = _CPU._matrix("w", w)
        adapter = cls(
            _made(
                "idlora_adapter_create", device._handle, name.encode(), DTYPES[found.dtype].number, byref(c),
                byref(config._c), byref(report),
            )
        )
        adapter.report = {key: getattr(report, key) for key in ("relative_error", "inertia", "seconds", "iterations")}
        adapter.report.update(converged=bool(report.converged), cluster_sizes=list(sizes), cluster_ranks=list(ranks))
        adapter.report.update(cluster_errors=list(errors))
        return adapter

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._info, name)

    def _count(self, which):
        return operator.mul(*{"b": self.b_shape, "gate": self.gate_shape}[which])

    def read(self, which):
        """A copy of "b" or "gate" as an array.array of floats, row by row."""
        values = array.array("f", bytes(4 * self._count(which)))
        _call("idlora_adapter_read", self._handle, PARAMETERS[which], values.buffer_info()[0], len(values))
        return values

    def write(self, which, values):
        """Overwrites "b" or "gate" with a contiguous array of float32."""
        found = matrix(values)
        if found.dtype != "float32" or found.place != "cpu" or (found.ld != found.cols and found.rows > 1):
            raise ValueError(f"{which}: expected contiguous float32 in host memory")
        _call("idlora_adapter_write", self._handle, PARAMETERS[which], found.address, found.rows * found.cols)

    def check_base(self, w):
        """Raises an Error of status "DIGEST" unless `w` is the weight that the adapter was made from."""
        c, found = _CPU._matrix("w", w)
        _call("idlora_adapter_check_base", self._handle, DTYPES[found.dtype].number, byref(c))

    def merge(self, w, device=_CPU, undo=False):
        """Writes the update into a base weight in host memory, or takes it out again. Static gates only."""
        c, found = _CPU._matrix("w", w)
        if found.readonly:
            raise ValueError("w is read-only")
        function = "idlora_unmerge" if undo else "idlora_merge"
        _call(function, device._handle, self._handle, DTYPES[found.dtype].number, byref(c))


def save(directory, adapters):
    """Writes adapters to a new folder."""
    adapters = list(adapters)
    handles = (c_void_p * len(adapters))(*(adapter._handle for adapter in adapters))
    _call("idlora_save", os.fsencode(directory), handles, len(adapters))


def load(directory):
    """The adapters of a folder, in their order."""
    handle = _made("idlora_load", os.fsencode(directory))
    try:
        count = c_size_t()
        _call("idlora_list_count", handle, byref(count))
        return [Adapter(_made("idlora_list_get", handle, index)) for index in range(count.value)]
    finally:
        _call("idlora_list_close", handle)


class Plan(_Handle):
    """A module on a device. Keeps one workspace, as large as the largest call has needed."""

    _kind = "plan"

    def __init__(self, device, adapter, down="gather", bias="none"):
        self._device, self._workspace, self._room = device, None, -1
        down, bias = _number(DOWNS, down, "down"), _number(BIASES, bias, "bias")
        self._handle = _made("idlora_plan_create", device._handle, adapter._handle, down, bias)

    def close(self):
        workspace, self._workspace = getattr(self, "_workspace", None), None
        if workspace:
            _call("idlora_workspace_close", workspace)
        super().close()

    def forward(self, y, *, b, gate, y0=None, h=None, w=None, bias=None, dropout=None, saved=None):
        """The adapted output into `y`, which holds the base output unless `y0` does. `dropout` is (probability, seed,
        offset); `saved` is (x, gate values) or (x, gate values, z), to be filled for the backward."""
        x, a, z = ((saved or ()) + (None, None, None))[:3]
        written = {"y": y, "saved_x": x, "saved_gate": a, "saved_z": z}
        operands = {"b": b, "gate": gate, "h": h, "w": w, "bias": bias, "y0": y0, **written}
        self._run("idlora_forward", abi.Forward, operands, written, dropout, {})

    def backward(
        self, *, b, gate, saved, grad_b, grad_gate, scatter=None, g=None, dx=None, grad_h=None, h=None, dropout=None,
        accumulate=False,
    ):
        """The gradients: `scatter` holds dL/dY and becomes dL/dY0, or `g` stays and `dx` is written."""
        x, a, z = (tuple(saved) + (None,))[:3]
        written = {"scatter": scatter, "dx": dx, "grad_b": grad_b, "grad_gate": grad_gate, "grad_h": grad_h}
        operands = {"b": b, "gate": gate, "h": h, "saved_x": x, "saved_gate": a, "saved_z": z, "g": g, **written}
        self._run("idlora_backward", abi.Backward, operands, written, dropout, {"accumulate": int(accumulate)})

    _floats = {"b", "gate", "saved_gate", "saved_z", "grad_b", "grad_gate"}

    def _run(self, function, struct, operands, written, dropout, rest):
        main = matrix(next(operands[name] for name in ("y", "scatter", "g") if operands.get(name) is not None))
        call = struct(struct_size=ctypes.sizeof(struct), dtype=DTYPES[main.dtype].number, **rest)
        alive = []
        for name, value in operands.items():
            dtype = "float32" if name in self._floats else main.dtype
            c, found = self._device._matrix(name, value, dtype)
            if found is not None and found.readonly and name in written:
                raise ValueError(f"{name} is read-only, and would be written")
            setattr(call, name, c)
            alive.append(found)
        if dropout is not None:
            call.dropout = abi.Dropout(probability=dropout[0], seed=dropout[1], offset=dropout[2])
        _call(function, self._handle, byref(call), self._room_for(main))
        del alive

    def _room_for(self, main):
        if self._device.name == "cpu":
            return None
        need = c_size_t()
        _call("idlora_plan_workspace", self._handle, DTYPES[main.dtype].number, main.rows, byref(need))
        if need.value > self._room:
            old, self._workspace = self._workspace, None
            if old:
                _call("idlora_workspace_close", old)
            self._workspace = _made("idlora_workspace_create", self._device._handle, need.value)
            self._room = need.value
        return self._workspace
