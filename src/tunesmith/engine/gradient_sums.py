"""Gradients summed over the processes that make a step together: those of what is trained, and nothing else.

They travel in fp32 or wider, flattened into buckets, each on its way while the next is filled. Of a table of which a
step reads few rows, these rows travel alone. Every rank has the same bits afterwards: each sum is made once, in one
order, by ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tunesmith.engine import ranks
from tunesmith.kernels.adamw import RowGradient

BUCKET_NUMBERS = 1 << 22
"""Numbers that travel together."""
NONE, DENSE, ROWS = 0, 1, 2

Gradient = torch.Tensor | RowGradient | None


def summed(gradients: Sequence[Gradient], masters: Sequence[torch.Tensor]) -> list[Gradient]:
    """Return the sums over all ranks of each master's gradient; None where no rank has one.

    Raises ``RankLostError`` where another rank cannot be reached.
    """
    kinds = ranks.maxima([_kind(gradient) for gradient in gradients])
    found: list[Gradient] = [None] * len(masters)
    waits: list[Callable[[], None]] = []
    for bucket in _buckets([index for index, kind in enumerate(kinds) if kind == DENSE], masters):
        flat, pieces = _flattened([gradients[index] for index in bucket], [masters[index] for index in bucket])
        waits.append(ranks.begin_sum(flat))
        for index, piece in zip(bucket, pieces, strict=True):
            found[index] = piece
    for wait in waits:
        wait()
    for index, kind in enumerate(kinds):
        if kind == ROWS:
            found[index] = _rows_summed(gradients[index], masters[index])
    return found


def _kind(gradient: Gradient) -> int:
    if gradient is None:
        return NONE
    return ROWS if isinstance(gradient, RowGradient) else DENSE


def _buckets(indices: Sequence[int], masters: Sequence[torch.Tensor]) -> list[list[int]]:
    """Group masters that follow each other, of one kind of numbers, on one device."""
    buckets: list[list[int]] = []
    last, total = None, 0
    for index in indices:
        master = masters[index]
        kind = (master.dtype, master.device)
        if kind != last or total + master.numel() > BUCKET_NUMBERS:
            buckets.append([])
            last, total = kind, 0
        buckets[-1].append(index)
        total += master.numel()
    return buckets


def _flattened(
    gradients: Sequence[Gradient], masters: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return gradients one after the other in their masters' numbers, and each as a part of that; zeros for none."""
    sizes = [master.numel() for master in masters]
    flat = torch.empty(sum(sizes), dtype=masters[0].dtype, device=masters[0].device)
    pieces = [piece.view(master.shape) for piece, master in zip(flat.split(sizes), masters, strict=True)]
    for piece, gradient in zip(pieces, gradients, strict=True):
        if gradient is None:
            piece.zero_()
        else:
            assert isinstance(gradient, torch.Tensor)
            piece.copy_(gradient)
    return flat, pieces


def _rows_summed(gradient: Gradient, master: torch.Tensor) -> RowGradient:
    """Return the sum of all ranks' gradients of a table [V, D], each of some of its rows."""
    own = gradient if isinstance(gradient, RowGradient) else None
    counts = [int(count) for count in ranks.of_each(0 if own is None else len(own.rows))]
    rows = torch.zeros(max(counts), dtype=torch.int64, device=master.device)
    values = torch.zeros((max(counts), master.shape[1]), dtype=master.dtype, device=master.device)
    if own is not None:
        rows[: len(own.rows)] = own.rows
        values[: len(own.rows)] = own.values
    everybody = zip(ranks.gathered(rows), ranks.gathered(values), counts, strict=True)
    parts = [RowGradient(rows[:count], values[:count]) for rows, values, count in everybody if count]
    total = parts[0]
    for part in parts[1:]:
        total = total.plus(part)
    return total
