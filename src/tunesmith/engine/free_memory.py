"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

import torch


def memory_of(device: torch.device) -> tuple[int, int]:
    """Return the bytes in use by this process and those that it can take besides.

    On CUDA: of torch's tensors, and free on the device or held by torch for later. Elsewhere: resident
    memory of the process, and what the machine and the limits of its control group leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        allocated = torch.cuda.memory_allocated(device)
        return allocated, free + torch.cuda.memory_reserved(device) - allocated
    import psutil

    available = int(psutil.virtual_memory().available)
    return int(psutil.Process().memory_info().rss), min([available, *group_limits(Path("/sys/fs/cgroup"))])


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
