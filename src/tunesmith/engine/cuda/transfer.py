"""From the host to the GPU and back without making either wait.

Batches are built on the host and copied from pinned memory: the copy is queued behind the kernels
that run already, and the host goes on. What a step must know (its loss, the norm of its gradient)
comes back in a single transfer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def to_device(built: T, device: torch.device) -> T:
    """Return ``built`` (a batch, or any nest of dataclasses, tuples and mappings) with its tensors on ``device``.

    Tensors that are there already are not copied. On CUDA the copies are queued, not awaited: the
    pinned memory they read from is kept by torch until they are done.
    """
    if device.type == "cpu":
        return built
    moved: T = _moved(built, device)
    return moved


def numbers(*tensors: torch.Tensor) -> list[float]:
    """Return scalars as numbers of Python, in one transfer and therefore after one wait.

    They are widened to float64 first, which loses nothing. Apple's GPUs know no float64: there they are
    fetched one by one.
    """
    if not tensors:
        return []
    if tensors[0].device.type == "mps":
        return [float(tensor) for tensor in tensors]
    values: list[float] = torch.stack([tensor.detach().double() for tensor in tensors]).tolist()
    return values


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        pinned = value.pin_memory() if device.type == "cuda" and value.device.type == "cpu" else value
        return pinned.to(device, non_blocking=device.type == "cuda")
    if is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: _moved(getattr(value, field.name), device) for field in fields(value) if field.init}
        return replace(value, **changed)
    if isinstance(value, Mapping):
        return {name: _moved(one, device) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_moved(one, device) for one in value)
    return value
