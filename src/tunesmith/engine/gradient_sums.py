"""Gradients summed over the processes that make a step together: those of what is trained, and nothing else.

They travel flattened into buckets, and are summed in fp32 or wider. A bucket sets out as soon as the last backward pass
of a step has computed all that it holds, while the pass goes on (Li et al. 2020, section 3.2); buckets set out in one
order on all ranks, whatever each of them has to compute. Of a table of which a step reads few rows, these rows travel
alone, in the end. Every rank has the same bits afterwards: each sum is made in one order for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from tunesmith.engine import ranks
from tunesmith.kernels.adamw import RowGradient

BUCKET_NUMBERS = 1 << 21
"""Numbers that travel together."""
FEW_RANKS = 4
"""Up to so many ranks, gradients in 16 bits travel as they are, from each to all, and are summed there: that is fewer
bytes than a sum in 32 bits takes. With more ranks it would be more."""
NONE, DENSE, ROWS = 0, 1, 2

Gradient = torch.Tensor | RowGradient | None


def kind_of(gradient: Gradient) -> int:
    """Say how a gradient travels."""
    if gradient is None:
        return NONE
    return ROWS if isinstance(gradient, RowGradient) else DENSE


@dataclass
class _Bucket:
    """Gradients that travel together: one after the other in ``flat``, of which ``pieces`` are parts."""

    indices: list[int]
    flat: torch.Tensor
    pieces: dict[int, torch.Tensor]
    missing: set[int]
    """Those that are not there yet."""
    wait: Callable[[], torch.Tensor] | None = field(default=None)
    """Waits for the sums, and returns them in their masters' numbers; None where they have not set out."""

    def put(self, index: int, gradient: Gradient, master: torch.Tensor) -> None:
        if gradient is None:
            self.pieces[index].zero_()
        else:
            self.pieces[index].copy_(gradient.dense(master) if isinstance(gradient, RowGradient) else gradient)
        self.missing.discard(index)


class DenseSums:
    """Sums of dense gradients under way; ``arrived`` for those that are there early, ``finish`` for all others."""

    def __init__(
        self, masters: Sequence[torch.Tensor], indices: Sequence[int], formats: Sequence[torch.dtype] | None = None
    ) -> None:
        """Prepare to sum the gradients of the masters of these ``indices``, which are the same on all ranks.

        Those of the last ones are expected first: they are closest to the loss. ``formats`` are the numbers that each
        gradient travels in; its master's when not given.
        """
        formats = formats or [master.dtype for master in masters]
        self._masters = masters
        self.indices = list(indices)
        groups = _together(masters, sorted(indices, reverse=True), formats)
        self._buckets = [_bucket(masters, chosen, formats[chosen[0]]) for chosen in groups]
        self._bucket_of = {index: bucket for bucket in self._buckets for index in bucket.indices}
        self._begin = ranks.summer()
        self._num_begun = 0

    def arrived(self, index: int, gradient: Gradient) -> None:
        """Take a gradient that nothing is going to be added to; let all that is complete set out."""
        bucket = self._bucket_of[index]
        assert bucket.wait is None, "a gradient was computed after it had set out"
        bucket.put(index, gradient, self._masters[index])
        while self._num_begun < len(self._buckets) and not self._buckets[self._num_begun].missing:
            self._set_out()

    def finish(self, gradients: Sequence[Gradient]) -> dict[int, torch.Tensor]:
        """Let the rest set out, given all gradients, wait, and return the sums by index."""
        while self._num_begun < len(self._buckets):
            bucket = self._buckets[self._num_begun]
            for index in sorted(bucket.missing):
                bucket.put(index, gradients[index], self._masters[index])
            self._set_out()
        found: dict[int, torch.Tensor] = {}
        for bucket in self._buckets:
            assert bucket.wait is not None
            found |= _pieces(bucket.wait(), self._masters, bucket.indices)
        return found

    def _set_out(self) -> None:
        bucket = self._buckets[self._num_begun]
        bucket.wait = self._begin(bucket.flat, self._masters[bucket.indices[0]].dtype)
        self._num_begun += 1


class StepSums:
    """The sums over ranks of one training's gradients, step by step: early ones, then all others."""

    def __init__(self, parameters: Sequence[torch.Tensor], masters: Sequence[torch.Tensor]) -> None:
        self._parameters, self._masters = parameters, masters
        self._dense: list[int] = []
        """Those whose gradients travelled whole in the last step: all ranks know them, and what to expect."""
        self._under_way: DenseSums | None = None
        self._early: dict[int, torch.Tensor] = {}
        self.is_of_one_pass = False
        """Whether all gradients of this step are as one backward pass gave them, on every rank."""

    def under_way(self) -> DenseSums | None:
        """Return the sums that may begin before all gradients are there; None where there are none."""
        chosen = [index for index in self._dense if self._parameters[index].requires_grad]
        if self._under_way is None and chosen and ranks.size() > 1:
            self._under_way = DenseSums(self._masters, chosen, self._formats())
        return self._under_way

    def finish(self, gradients: Sequence[Gradient]) -> None:
        """Bring to their end the sums that any rank may have begun, also where this one's memory did not suffice."""
        if (sums := self.under_way()) is not None:
            self._early, self._under_way = sums.finish(gradients), None

    def total(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """Return the sums over all ranks of each master's gradient, None where no rank has one; after ``finish``.

        Raises ``RankLostError`` where another rank cannot be reached.
        """
        kinds, early = ranks.maxima([kind_of(gradient) for gradient in gradients]), self._early
        late = [index for index, kind in enumerate(kinds) if kind == DENSE and index not in early]
        found = {**early, **(DenseSums(self._masters, late, self._formats()).finish(gradients) if late else {})}
        rows = [index for index, kind in enumerate(kinds) if kind == ROWS and index not in early]
        summed: list[Gradient] = [None if kind == NONE else found.get(index) for index, kind in enumerate(kinds)]
        for index in rows:
            summed[index] = rows_summed(gradients[index], self._masters[index])
        self._dense = [index for index, kind in enumerate(kinds) if kind == DENSE]
        self._early = {}
        return summed

    def _formats(self) -> list[torch.dtype] | None:
        if not self.is_of_one_pass or ranks.size() > FEW_RANKS:
            return None
        return [parameter.dtype for parameter in self._parameters]

    def forget(self) -> None:
        """Forget the sums of a step that is made again, or not at all."""
        self._early = {}


def rows_summed(gradient: Gradient, master: torch.Tensor) -> RowGradient:
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


def _bucket(masters: Sequence[torch.Tensor], indices: list[int], dtype: torch.dtype) -> _Bucket:
    total = sum(masters[index].numel() for index in indices)
    flat = torch.empty(total, dtype=dtype, device=masters[indices[0]].device)
    return _Bucket(indices, flat, _pieces(flat, masters, indices), set(indices))


def _pieces(flat: torch.Tensor, masters: Sequence[torch.Tensor], indices: Sequence[int]) -> dict[int, torch.Tensor]:
    """Return the parts of a flat tensor that belong to masters, in their shapes."""
    parts = torch.split(flat, [masters[index].numel() for index in indices])
    return {index: piece.view(masters[index].shape) for index, piece in zip(indices, parts, strict=True)}


def _together(
    masters: Sequence[torch.Tensor], indices: Sequence[int], formats: Sequence[torch.dtype]
) -> list[list[int]]:
    """Group masters that follow each other, of one kind of numbers, on one device."""
    groups: list[list[int]] = []
    last, total = None, 0
    for index in indices:
        master = masters[index]
        kind = (master.dtype, formats[index], master.device)
        if kind != last or total + master.numel() > BUCKET_NUMBERS:
            groups.append([])
            last, total = kind, 0
        groups[-1].append(index)
        total += master.numel()
    return groups
