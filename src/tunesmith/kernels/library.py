"""The native library: compiled once per machine from the sources beside this file, and loaded with ctypes.

A C compiler (``$CC``, cc, gcc or clang) that knows OpenMP is all it takes; compiling takes about two seconds, once.
Without one, or with ``TUNESMITH_KERNELS=0``, there is no library and every operation uses torch's own code.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch

from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_bytes

SOURCES = Path(__file__).with_name("native")

FLAGS = (
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-fPIC",
    "-fopenmp",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
)

COMPILE_SECONDS = 120
"""A compiler that takes longer is given up on."""

DTYPES = {torch.float32: "f32", torch.bfloat16: "bf16"}


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None where there are none, whatever the reason."""
    if os.environ.get("TUNESMITH_KERNELS") == "0" or platform.system() != "Linux":
        return None
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    try:
        folder = cached_folder("kernels", _key(compiler), lambda folder: _compile(compiler, folder))
        # Symbols of OpenMP resolve to the library that torch brought along: one pool of threads for both.
        found = ctypes.CDLL(str(folder / "kernels.so"))
    except (OSError, subprocess.SubprocessError):
        return None
    found.squares_f32.restype = found.squares_bf16.restype = ctypes.c_double
    return found


def kernel(name: str, dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    """Return a kernel of the library, which must be there, for a number format."""
    native = library()
    assert native is not None
    found: ctypes._NamedFuncPointer = getattr(native, f"{name}_{DTYPES[dtype]}")
    return found


def serves(*tensors: torch.Tensor | None) -> bool:
    """Say whether native code takes these tensors: all on the CPU, of one format it knows, laid out contiguously."""
    given = [tensor for tensor in tensors if tensor is not None]
    dtype = given[0].dtype
    return (
        dtype in DTYPES
        and all(tensor.is_cpu and tensor.dtype == dtype and tensor.is_contiguous() for tensor in given)
        and library() is not None
    )


def address(tensor: torch.Tensor | None) -> ctypes.c_void_p | None:
    """Return where a tensor's numbers are, or NULL."""
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def _key(compiler: str) -> str:
    """Return what the result of compiling depends on: the sources, the compiler, the flags and the processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=10).stdout
    sources = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    return hash_bytes(b"\0".join([sources, version, " ".join(FLAGS).encode(), _processor().encode()]))


def _processor() -> str:
    """Return what ``-march=native`` depends on: a cache may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0].strip(": ") in wanted}))


def _compile(compiler: str, folder: Path) -> None:
    compiled = folder / "kernels.o"
    for command in (
        [compiler, *FLAGS, "-c", str(SOURCES / "kernels.c"), "-o", str(compiled)],
        [compiler, "-shared", str(compiled), "-lm", "-o", str(folder / "kernels.so")],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
    compiled.unlink()
