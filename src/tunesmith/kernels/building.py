"""Compiling the native sources beside this file, once per machine; nothing here needs torch.

A C compiler (``$CC``, cc, gcc or clang) that knows OpenMP is all it takes; it takes about two seconds, once.
Symbols of OpenMP are left open: they resolve to the library that torch brings along.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import threading
from functools import cache
from pathlib import Path

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

_TURN = threading.Lock()


def build() -> Path | None:
    """Return the shared library, compiled if it has not been before; None where it cannot or shall not be."""
    with _TURN:
        return _build()


def build_ahead() -> None:
    """Start compiling beside whatever comes next, such as the import of torch; ``build`` waits for it."""
    threading.Thread(target=build, name="compiler of kernels", daemon=True).start()


@cache
def _build() -> Path | None:
    if os.environ.get("TUNESMITH_KERNELS") == "0" or platform.system() != "Linux":
        return None
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    try:
        return cached_folder("kernels", _key(compiler), lambda folder: _compile(compiler, folder)) / "kernels.so"
    except (OSError, subprocess.SubprocessError):
        return None


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
