"""How much memory there is."""

from __future__ import annotations

import torch

from tunesmith.files.memory import free_memory


def memory_of(device: torch.device) -> tuple[int, int]:
    """Return the bytes in use by this process and those that it can take besides.

    On CUDA: of torch's tensors, and free on the device or held by torch for later. Elsewhere: resident
    memory of the process, and what the machine, its control group and the limits of the process leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        allocated = torch.cuda.memory_allocated(device)
        return allocated, free + torch.cuda.memory_reserved(device) - allocated
    import psutil

    return int(psutil.Process().memory_info().rss), free_memory()
