"""How much memory there is, and how one is told that there is none."""

from __future__ import annotations

import torch

from tunesmith.files.memory import free_memory

NO_MEMORY = (
    "can't allocate memory",  # torch, on the host
    "could not create a primitive",  # oneDNN, which does not say why; it is given nothing but shapes that it knows
    "could not create a memory object",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What libraries say, in a plain ``RuntimeError``, when there is no memory left."""


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


def memory_in_all(device: torch.device) -> int:
    """Return the bytes of the device's memory, or of the machine's with what it can swap out, taken or free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    import psutil

    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error tells that there is no memory left."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in str(error) for sign in NO_MEMORY)
