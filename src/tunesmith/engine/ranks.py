"""Sums, maxima and "any" over the processes that make the same steps; what was given where a process makes its own.

A process is alone, whatever others there are in ``torch.distributed``, until it has ``joined`` them: whoever started
those may well let each of them train a model of its own. All of them must then ask for the same things in the same
order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import distributed

_group: ContextVar[Any] = ContextVar("ranks", default=None)
"""The processes joined with; None of a process that is alone."""


@contextmanager
def joined() -> Iterator[None]:
    """Make the steps inside the block together with all processes of ``torch.distributed``, if there are several."""
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    token = _group.set(distributed.group.WORLD if several else None)
    try:
        yield
    finally:
        _group.reset(token)


def sum(value: float) -> float:  # noqa: A001 (always used as ranks.sum)
    """Return the sum of the ranks' values."""
    return value if _group.get() is None else _reduced(value, distributed.ReduceOp.SUM)


def max(value: float) -> float:  # noqa: A001
    """Return the largest of the ranks' values."""
    return value if _group.get() is None else _reduced(value, distributed.ReduceOp.MAX)


def any(value: bool) -> bool:  # noqa: A001
    """Say whether the value of any rank is true."""
    return value if _group.get() is None else max(float(value)) > 0


def norm(part: torch.Tensor) -> torch.Tensor:
    """Return the L2 norm of all ranks' parts together, given that of this rank's: a scalar on the same device."""
    group = _group.get()
    if group is None:
        return part
    squares = part.double().square().to(_device(group))
    distributed.all_reduce(squares, distributed.ReduceOp.SUM, group)
    return squares.sqrt().to(part)


def _reduced(value: float, operation: Any) -> float:
    group = _group.get()
    tensor = torch.tensor(value, dtype=torch.float64, device=_device(group))
    distributed.all_reduce(tensor, operation, group)
    return tensor.item()


def _device(group: Any) -> str:
    """Return where the group's backend takes tensors."""
    return "cuda" if distributed.get_backend(group) == "nccl" else "cpu"
