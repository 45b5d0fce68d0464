"""The C interface as ctypes sees it: structs, functions and the library itself. `idlora.h` says what they mean."""

import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

ABI = 1


class Config(ctypes.Structure):
    _fields_ = [(name, c_size_t) for name in ("struct_size", "rank", "clusters", "min_size", "split", "max_iterations")]
    _fields_ += [("seed", c_uint64), ("alpha", c_float)]
    _fields_ += [(name, c_uint32) for name in ("cluster_by", "select", "gate", "scaling", "b_init")]


class Report(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("relative_error", c_double), ("inertia", c_double), ("seconds", c_double)]
    _fields_ += [("iterations", c_size_t), ("converged", c_uint32), ("reserved", c_uint32)]
    _fields_ += [("cluster_sizes", POINTER(c_size_t)), ("cluster_ranks", POINTER(c_size_t))]
    _fields_ += [("cluster_errors", POINTER(c_double))]


class Info(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("skeleton", POINTER(c_uint32))]
    _fields_ += [(name, c_size_t) for name in ("rows", "cols", "rank", "components", "split", "b_rows", "b_cols")]
    _fields_ += [(name, c_size_t) for name in ("gate_rows", "gate_cols", "trained", "frozen_bytes", "stored_bytes")]
    _fields_ += [("optimizer_bytes", c_size_t), ("scale", c_float), ("gate", c_uint32), ("dtype", c_uint32)]
    _fields_ += [("reserved", c_uint32), ("digest", c_uint8 * 32)]


class Matrix(ctypes.Structure):
    """idlora_matrix and idlora_matrix_mut alike."""

    _fields_ = [("data", c_void_p), ("rows", c_size_t), ("cols", c_size_t), ("ld", c_size_t)]


class Dropout(ctypes.Structure):
    _fields_ = [("seed", c_uint64), ("offset", c_uint64), ("probability", c_float), ("reserved", c_uint32)]


class Forward(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("dtype", c_uint32), ("reserved", c_uint32)]
    _fields_ += [(name, Matrix) for name in ("b", "gate", "h", "w", "bias")] + [("dropout", Dropout)]
    _fields_ += [(name, Matrix) for name in ("y0", "y", "saved_x", "saved_gate", "saved_z")]


class Backward(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("dtype", c_uint32), ("accumulate", c_uint32)]
    _fields_ += [(name, Matrix) for name in ("b", "gate", "h")] + [("dropout", Dropout)]
    _fields_ += [(name, Matrix) for name in ("saved_x", "saved_gate", "saved_z", "scatter", "g", "dx")]
    _fields_ += [(name, Matrix) for name in ("grad_b", "grad_gate", "grad_h")]


def load():
    name = {"win32": "idlora_capi.dll", "darwin": "libidlora_capi.dylib"}.get(sys.platform, "libidlora_capi.so")
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    path = os.environ.get("IDLORA_CAPI") or (beside if os.path.exists(beside) else name)
    library = ctypes.CDLL(path)
    if library.idlora_abi() != ABI:
        raise ImportError(f"{path} has interface {library.idlora_abi()}, this module is for {ABI}")
    library.idlora_version.restype = library.idlora_last_error.restype = c_char_p
    library.idlora_status_name.restype = c_char_p
    library.idlora_status_name.argtypes = [c_int32]
    for function, arguments in SIGNATURES.items():
        getattr(library, function).argtypes = arguments
        getattr(library, function).restype = c_int32
    return library


OUT = POINTER(c_void_p)
SIGNATURES = {
    "idlora_device_open": [c_char_p, OUT],
    "idlora_device_on_stream": [c_size_t, c_void_p, OUT],
    "idlora_device_wait": [c_void_p],
    "idlora_buffer_create": [c_void_p, c_size_t, OUT],
    "idlora_buffer_address": [c_void_p, OUT],
    "idlora_buffer_write": [c_void_p, c_void_p, c_size_t],
    "idlora_buffer_read": [c_void_p, c_void_p, c_size_t],
    "idlora_workspace_create": [c_void_p, c_size_t, OUT],
    "idlora_config_default": [POINTER(Config)],
    "idlora_adapter_create": [c_void_p, c_char_p, c_uint32, POINTER(Matrix), POINTER(Config), POINTER(Report), OUT],
    "idlora_adapter_describe": [c_void_p, POINTER(Info)],
    "idlora_adapter_config": [c_void_p, POINTER(Config)],
    "idlora_adapter_read": [c_void_p, c_uint32, c_void_p, c_size_t],
    "idlora_adapter_write": [c_void_p, c_uint32, c_void_p, c_size_t],
    "idlora_adapter_check_base": [c_void_p, c_uint32, POINTER(Matrix)],
    "idlora_merge": [c_void_p, c_void_p, c_uint32, POINTER(Matrix)],
    "idlora_unmerge": [c_void_p, c_void_p, c_uint32, POINTER(Matrix)],
    "idlora_save": [c_char_p, POINTER(c_void_p), c_size_t],
    "idlora_load": [c_char_p, OUT],
    "idlora_list_count": [c_void_p, POINTER(c_size_t)],
    "idlora_list_get": [c_void_p, c_size_t, OUT],
    "idlora_plan_create": [c_void_p, c_void_p, c_uint32, c_uint32, OUT],
    "idlora_plan_workspace": [c_void_p, c_uint32, c_size_t, POINTER(c_size_t)],
    "idlora_forward": [c_void_p, POINTER(Forward), c_void_p],
    "idlora_backward": [c_void_p, POINTER(Backward), c_void_p],
}
for _kind in ("device", "buffer", "workspace", "adapter", "list", "plan"):
    SIGNATURES[f"idlora_{_kind}_close"] = [c_void_p]
