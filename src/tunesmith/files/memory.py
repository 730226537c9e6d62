"""How much memory a process can take: what the machine, its control group and its own limits leave."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path


def free_memory() -> int:
    """Return the bytes that this process can take besides what it has."""
    import psutil

    available = int(psutil.virtual_memory().available)
    return min([available, *group_limits(Path("/sys/fs/cgroup")), *own_limits(Path("/proc/self/status"))])


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""What glibc's ``malloc.h`` calls so."""
_KEPT_ON_TOP = 1 << 26
"""Bytes at the end of the heap that are kept when they are freed: small blocks take them again at once."""


def give_back_freed() -> None:
    """Give memory that was freed back to the system, as far as the C library keeps it for later and can (glibc)."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # another library, or none that is shared
        ctypes.CDLL(None).malloc_trim(0)


def give_back_as_freed(large: int) -> None:
    """Let blocks of ``large`` bytes and more go back to the system as soon as they are freed, from now on (glibc).

    By itself glibc takes larger and larger blocks, up to 32 MB, from a heap that it keeps: where blocks of all sizes
    come and go, most of that is holes. Fresh memory costs time in turn. Whoever has said something else in the
    environment is left alone; it is for all of the process, for as long as it lives.
    """
    import ctypes

    if {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, large)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_ON_TOP)


def group_limits(root: Path) -> list[int]:
    """Return what the control group (of a container or a service, Linux) lets this process take besides."""
    pairs = (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    )
    found = []
    for limit, usage, statistics, reclaimable in pairs:
        try:
            most = int((root / limit).read_text(encoding="ascii"))
            taken = int((root / usage).read_text(encoding="ascii"))
            lines = (line.split() for line in (root / statistics).read_text(encoding="ascii").splitlines())
            cached = next((int(line[1]) for line in lines if line[:1] == [reclaimable]), 0)
        except (OSError, ValueError, IndexError):
            continue  # no such group, or "max": no limit
        found.append(max(most - taken + cached, 0))
    return found


def own_limits(status: Path) -> list[int]:
    """Return what the limits of the process itself (``ulimit -d`` and ``-v``, Linux) let it take besides.

    ``status`` is its page in ``/proc``.
    """
    if sys.platform == "win32":
        return []
    import resource

    try:
        lines = (line.split() for line in status.read_text(encoding="ascii", errors="replace").splitlines())
        taken = {line[0]: 1024 * int(line[1]) for line in lines if line and line[0] in ("VmData:", "VmSize:")}
    except (OSError, ValueError, IndexError):
        return []
    limits = {"VmData:": resource.RLIMIT_DATA, "VmSize:": resource.RLIMIT_AS}
    found = ((resource.getrlimit(limit)[0], taken[key]) for key, limit in limits.items() if key in taken)
    return [max(most - used, 0) for most, used in found if most != resource.RLIM_INFINITY]
