"""The native library, loaded with ctypes.

Where it cannot be compiled, or with ``TUNESMITH_KERNELS=0``, there is none and every operation uses torch's own code.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

from tunesmith.kernels.building import build, compilers

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}

_NEED_MEMORY = (
    "activation_backward",
    "attention_backward",
    "attention_forward",
    "column_sums",
    "decoding",
    "layer_norm_backward",
    "rms_norm_backward",
)
"""Kernels that set aside memory of their own and return whether there was enough; calling them raises if not."""


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None where there are none, whatever the reason."""
    for compiler in compilers():
        place = build(compiler)
        found = None if place is None else _load(place)
        if found is not None:
            return found
    return None


def _load(place: Path) -> ctypes.CDLL | None:
    """Return a compiled library; None where this machine's loader, or the OpenMP that torch brings, cannot serve it."""
    try:
        found = ctypes.CDLL(str(place))
        for suffix in DTYPES.values():
            getattr(found, f"squares_{suffix}").restype = ctypes.c_double
            for name in _NEED_MEMORY:
                getattr(found, f"{name}_{suffix}").errcheck = _checked
    except (OSError, AttributeError):
        return None
    return found


def require_memory(status: int) -> None:
    """Raise ``MemoryError`` where a kernel did not get the memory that it needed (``NO_MEMORY`` of native code)."""
    if status:
        raise MemoryError("native code could not set aside memory")


def _checked(status: int, _kernel: object, _arguments: object) -> int:
    require_memory(status)
    return status


def kernel(name: str, dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    """Return a kernel of the library, which must be there, for a number format."""
    native = library()
    assert native is not None
    found: ctypes._NamedFuncPointer = getattr(native, f"{name}_{DTYPES[dtype]}")
    return found


def serves(*tensors: torch.Tensor | None) -> bool:
    """Say whether native code takes these tensors: all on the CPU, of one format it knows, laid out contiguously."""
    dtype = None
    for tensor in tensors:  # a loop, for this is asked of every layer in every step
        if tensor is None:
            continue
        if dtype is None:
            dtype = tensor.dtype
        if tensor.dtype != dtype or not tensor.is_cpu or not tensor.is_contiguous():
            return False
    return dtype in DTYPES and library() is not None


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p | None:
    """Return where a tensor's numbers are, or NULL; nothing but the caller keeps them there."""
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())
