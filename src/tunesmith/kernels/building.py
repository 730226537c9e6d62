"""Compiling the native sources beside this file, once per machine; nothing here needs torch.

A C compiler (``$CC``, cc, gcc or clang) that knows OpenMP is all it takes; it takes about two seconds, once.
Symbols of OpenMP are left open: they resolve to the library that torch brings along. Whether they do is found out by
loading, which is why the choice among several compilers is made by who loads (``kernels.library``).
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from functools import cache, partial
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

COMPILE_SECONDS = 300
"""A compiler that takes longer is given up on: beside other work two seconds become very many."""

LIBRARY = "kernels.so"

_TURN = threading.Lock()


def compilers() -> list[str]:
    """Return the compilers to try, the preferred one first; none where there shall be no native code."""
    if os.environ.get("TUNESMITH_KERNELS") == "0" or platform.system() != "Linux":
        return []
    found = map(shutil.which, (os.environ.get("CC") or "cc", "cc", "gcc", "clang"))
    return list(dict.fromkeys(filter(None, found)))


def build(compiler: str) -> Path | None:
    """Return the shared library that a compiler makes, made if it has not been before; None where it cannot."""
    with _TURN:
        return _build(compiler)


def build_ahead() -> None:
    """Start compiling beside whatever comes next, such as the import of torch; ``build`` waits for it."""
    threading.Thread(target=lambda: any(map(build, compilers())), name="compiler of kernels", daemon=True).start()


@cache
def _build(compiler: str) -> Path | None:
    # Native code makes things quick, nothing more: whatever is wrong here must not stop a run.
    try:
        key = _key(compiler)
    except Exception:
        return None
    try:
        return cached_folder("kernels", key, partial(_compile, compiler), hashes=True) / LIBRARY
    except subprocess.TimeoutExpired:
        return None
    except Exception:
        # The cache may be read-only or full; a compiler that writes there then fails as it does at faulty sources.
        return _build_beside(compiler)


def _build_beside(compiler: str) -> Path | None:
    """Compile into a folder that stands in for the cache until the process ends."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="tunesmith-kernels-", ignore_cleanup_errors=True)
    except OSError:
        return None
    try:
        _compile(compiler, Path(folder.name))
    except Exception:
        folder.cleanup()
        return None
    atexit.register(folder.cleanup)
    return Path(folder.name) / LIBRARY


def _key(compiler: str) -> str:
    """Return what the result of compiling depends on: the sources, the compiler, the flags and the processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=10).stdout
    sources = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    return hash_bytes(b"\0".join([sources, version, " ".join(FLAGS).encode(), _processor().encode()]))


def _processor() -> str:
    """Return what ``-march=native`` depends on: a cache may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split("\t")[0].strip(": ") in wanted}))


def _compile(compiler: str, folder: Path) -> None:
    compiled = folder / "kernels.o"
    for command in (
        [compiler, *FLAGS, "-c", str(SOURCES / "kernels.c"), "-o", str(compiled)],
        [compiler, "-shared", str(compiled), "-lm", "-o", str(folder / LIBRARY)],
    ):
        _run(command)
    compiled.unlink()


def _run(command: list[str]) -> None:
    """Run a compiler; one that takes too long ends with all that it has started."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        status = process.wait(COMPILE_SECONDS)
    except BaseException:
        # What a compiler starts goes on without it, and takes a core for nothing.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if status:
        raise subprocess.CalledProcessError(status, command)
