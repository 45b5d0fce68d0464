"""What an array of any library is to C: an address, rows, columns, a leading dimension. No copies are made.

`__array_interface__` is numpy's protocol for host memory, `__dlpack__` (https://dmlc.github.io/dlpack) everybody's for memory
anywhere. A DLPack capsule is only looked into here; its owner frees it when the capsule goes.
"""

import array
import ctypes
from typing import Any, NamedTuple


class Dtype(NamedTuple):
    """An element type: its idlora_dtype and its bytes."""

    number: int
    size: int


DTYPES = {"float32": Dtype(1, 4), "float16": Dtype(2, 2), "bfloat16": Dtype(3, 2)}


class Matrix(NamedTuple):
    """A matrix of memory that somebody else owns."""

    address: int
    rows: int
    cols: int
    ld: int
    dtype: str
    place: Any  # "cpu", "cuda:0", "vm"; None where it is not known
    readonly: bool
    owner: Any  # keeps the memory


class _DLDevice(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("ordinal", ctypes.c_int32)]


class _DLDtype(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _DLDevice), ("ndim", ctypes.c_int32), ("dtype", _DLDtype)]
    _fields_ += [("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64))]
    _fields_ += [("byte_offset", ctypes.c_uint64)]


_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
_DL_DTYPES = {(2, 32): "float32", (2, 16): "float16", (4, 16): "bfloat16"}

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def matrix(value):
    """Any of the arrays that the module `idlora` takes, as a `Matrix`."""
    if isinstance(value, Matrix):
        return value
    if isinstance(value, array.array):
        if value.typecode != "f":
            raise TypeError(f"an array.array of {value.typecode!r}, expected floats, 'f'")
        address, count = value.buffer_info()
        return Matrix(address, 1, count, count, "float32", "cpu", False, value)
    if hasattr(value, "__array_interface__"):
        return _of_array_interface(value)
    if hasattr(value, "__dlpack__"):
        return _of_dlpack(value)
    raise TypeError(f"{type(value).__name__} has neither __array_interface__ nor __dlpack__")


def _of_array_interface(value):
    interface = value.__array_interface__
    dtype = {"<f4": "float32", "<f2": "float16"}.get(interface["typestr"])
    # numpy has no name of its own for the bfloat16 of other packages.
    if dtype is None and str(getattr(value, "dtype", "")) == "bfloat16":
        dtype = "bfloat16"
    if dtype is None:
        raise TypeError(f"elements are {interface['typestr']}, expected float32, float16 or bfloat16")
    size, strides, (address, readonly) = DTYPES[dtype].size, interface.get("strides"), interface["data"]
    if strides is not None:
        if any(stride % size for stride in strides):
            raise ValueError(f"strides of {strides} bytes are not whole elements of {size}")
        strides = [stride // size for stride in strides]
    return Matrix(address, *_rows(interface["shape"], strides), dtype, "cpu", bool(readonly), value)


def _of_dlpack(value):
    kind, ordinal = (int(number) for number in value.__dlpack_device__())
    places = {_CPU: "cpu", _CUDA_HOST: "cpu", _CUDA: f"cuda:{ordinal}", _CUDA_MANAGED: f"cuda:{ordinal}"}
    if kind not in places:
        raise ValueError(f"memory of DLPack device type {kind} is neither the host's nor CUDA's")
    # -1: no waiting for another stream. Work is queued on the stream that the device was opened with.
    capsule = value.__dlpack__(stream=-1) if kind == _CUDA else value.__dlpack__()
    tensor = _DLTensor.from_address(_pointer_of(capsule, b"dltensor"))
    dtype = _DL_DTYPES.get((tensor.dtype.code, tensor.dtype.bits)) if tensor.dtype.lanes == 1 else None
    if dtype is None:
        found = f"DLPack type {tensor.dtype.code} of {tensor.dtype.bits} bits"
        raise TypeError(f"elements are {found}, expected float32, float16 or bfloat16")
    shape = tensor.shape[: tensor.ndim]
    strides = tensor.strides[: tensor.ndim] if tensor.strides else None
    address = (tensor.data or 0) + tensor.byte_offset
    return Matrix(address, *_rows(shape, strides), dtype, places[kind], False, (value, capsule))


def _rows(shape, strides):
    """Rows, columns and leading dimension, if the array is a matrix when all dimensions but the last are taken as one."""
    if len(shape) == 0:
        raise ValueError("a scalar, expected an array")
    *outer, cols = shape
    rows = 1
    for length in outer:
        rows *= length
    if strides is None or rows * cols == 0:
        return rows, cols, cols
    *steps, step = strides
    if step != 1 and cols > 1:
        raise ValueError(f"elements of a row lie {step} apart, expected 1")
    ld, span = cols, None
    # Dimensions of one have any stride. The innermost other one is the leading dimension; those outside it must continue it.
    for length, stride in zip(reversed(outer), reversed(steps)):
        if length == 1:
            continue
        if span is None:
            ld = stride
        elif stride != span:
            raise ValueError(f"shape {tuple(shape)} with strides {tuple(strides)} is no matrix of rows of one distance")
        span = stride * length
    if ld < cols and rows > 1:
        raise ValueError(f"rows lie {ld} apart, expected at least {cols}")
    return rows, cols, ld
