"""Checkpoints of weights in parts: the files of one process, written by the first rank weight by weight.

Nothing in them tells how many ranks there were, so that any number goes on from them. Every rank reads its own part of
a file, which is mapped into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from tunesmith.engine.sharding.optimizer import ShardedOptimizer, in_files
from tunesmith.files.tensors import Described, write_tensors
from tunesmith.models.weight_files import KINDS


def write_wholes(
    optimizer: ShardedOptimizer,
    divided: Mapping[str, torch.Tensor],
    path: Path,
    beside: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write tensors of which each rank has a part, on the first rank; the others ``give_parts`` meanwhile.

    ``beside`` are tensors that every rank has whole.
    """
    beside = beside or {}
    shapes = optimizer.shapes_of(divided) | {name: (one.dtype, tuple(one.shape)) for name, one in beside.items()}
    order = sorted(shapes, key=lambda name: in_files(name, shapes[name][0]))
    described = [
        Described(name, KINDS[dtype], shape, torch.Size(shape).numel() * dtype.itemsize)
        for name, (dtype, shape) in ((name, shapes[name]) for name in order)
    ]

    def contents() -> Iterator[memoryview]:
        wholes = optimizer.wholes(divided)
        for name in order:
            whole = next(wholes) if name in divided else beside[name]
            assert whole is not None, "the first rank writes"
            yield _bytes_of(whole)

    write_tensors(path, described, contents())


def give_parts(optimizer: ShardedOptimizer, divided: Mapping[str, torch.Tensor]) -> None:
    """Give the first rank, which writes, this rank's parts."""
    for _ in optimizer.wholes(divided):
        pass


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data
