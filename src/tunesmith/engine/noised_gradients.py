"""The gradient of a private step: of every row apart, clipped, summed, with noise (Abadi et al. 2016, algorithm 1).

What a step learns is ``(sum of clipped gradients + N(0, multiplier^2 bound^2)) / expected_units``. It is divided by how
many rows a step has in the mean, not by how many it has: that number is a secret, too. The unit that is protected is
the row of the data or, where rows belong together (all of one person), the group: its gradient is the mean of those of
its rows, and that is what is clipped, so that a group has one bound however many rows it has (McMahan et al. 2018,
"Learning differentially private recurrent language models", section 3, where the groups are users).

Shapes: B rows of a pass, G groups of a part of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from tunesmith.data.encoded import Encoded, Units
from tunesmith.engine.batch import Batch, Collator, IntArray
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.order import set_seed
from tunesmith.engine.poisson import Secret
from tunesmith.engine.row_gradients import (
    Gradients,
    at_once,
    clipped_sums,
    come_at_once,
    one_by_one,
    sums_of_groups,
)
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.objective import Objective

if TYPE_CHECKING:
    from torch import nn


@dataclass
class NoisedGradients:
    """How the gradient of a step is made where rows are to stay private."""

    bound: float
    """Largest L2 norm of a row's gradient."""
    multiplier: float
    """The noise's standard deviation, in bounds."""
    expected_units: float
    """Rows, or groups, of a step in the mean."""
    secret: Secret = field(default_factory=Secret)
    are_at_once: bool | None = None
    """Whether gradients of rows are taken apart in one pass; None until that has been tried."""
    group_of_sample: IntArray | None = None
    """[E]: the group of each sample of the training rows, where groups are what is protected."""
    most_groups: int = 1
    """Groups whose gradients are held at once."""

    def differentiate(
        self,
        scorer: Scorer,
        task: Objective,
        collate: Collator,
        data: Encoded,
        *,
        samples: IntArray,
        batches: Sequence[Batch],
        split: Callable[[IntArray], Iterator[IntArray]],
        parameters: Sequence[nn.Parameter],
        step: int,
        seed: int,
    ) -> torch.Tensor:
        """Set the gradients of ``parameters`` for a step; return the mean loss of its units, a scalar without a graph.

        Args:
            scorer: Scores micro-batches in the padded layout.
            task: Its loss is a sum over rows, each for itself.
            collate: Lays out rows.
            data: The training rows.
            samples: Those of the step; there may be none.
            batches: The same as micro-batches, in the host's memory.
            split: Yields the sequences of each micro-batch of some samples.
            parameters: All that is trained in this step, in float32 or wider.
            step: The step's index from 0, which the noise follows from, besides the secret.
            seed: Of everything else that is random in the step: dropout.
        """
        if self.are_at_once is None:
            self.are_at_once = come_at_once(scorer, task, collate, data, parameters)
        set_seed(seed, collate.device)
        differentiate = at_once if self.are_at_once else one_by_one
        total = torch.zeros((), dtype=torch.float64)
        num_units, sums = 0, [torch.zeros_like(parameter) for parameter in parameters]

        def look_at(batch: Batch) -> Gradients:
            nonlocal num_units, total
            loss, gradients = differentiate(scorer, task, batch, parameters)
            total += loss.cpu().double().nan_to_num(0.0, 0.0, 0.0)  # such rows have no part in the step
            num_units += int(batch.units.rows[-1])
            return gradients

        if self.group_of_sample is None:
            for batch in self._parts(collate, data, samples, batches):
                _add(sums, clipped_sums(look_at(batch), batch.units, self.bound))
        else:
            for part in self._parts_of_groups(samples):
                of_groups = self._sums_of_groups(part, collate, data, split, look_at)
                _add(sums, clipped_sums(of_groups, Units.single(len(np.unique(self._groups(part)))), self.bound))
        self._set_noised(parameters, sums, step)
        return (total / max(num_units, 1)).to(collate.device, torch.float32)

    def _parts(self, collate: Collator, data: Encoded, samples: IntArray, batches: Sequence[Batch]) -> Iterator[Batch]:
        """Yield what is differentiated in one pass: a micro-batch, or a single row."""
        if self.are_at_once:
            for built in batches:
                yield to_device(built, collate.device)
            return
        for sample in samples:
            batch = collate(data, data.sequences_of(np.array([sample])))
            if batch.units.rows[-1]:
                yield batch

    def _groups(self, samples: IntArray) -> IntArray:
        assert self.group_of_sample is not None
        return self.group_of_sample[samples]

    def _parts_of_groups(self, samples: IntArray) -> Iterator[IntArray]:
        """Yield the samples of as many whole groups as are looked at together."""
        groups = self._groups(samples)
        names = np.unique(groups)
        for start in range(0, len(names), max(self.most_groups, 1)):
            yield samples[np.isin(groups, names[start : start + self.most_groups])]

    def _sums_of_groups(
        self,
        samples: IntArray,
        collate: Collator,
        data: Encoded,
        split: Callable[[IntArray], Iterator[IntArray]],
        look_at: Callable[[Batch], Gradients],
    ) -> Gradients:
        """Return [G, ...] of each parameter: the gradient of each group, the mean of those of its rows."""
        groups = self._groups(samples)
        names, sizes = np.unique(groups, return_counts=True)
        parts = split(samples) if self.are_at_once else (data.sequences_of(np.array([one])) for one in samples)
        summed: Gradients = []
        for sequences in parts:
            batch = collate(data, sequences)
            if not batch.units.rows[-1]:
                continue
            of_row = np.searchsorted(names, self._groups(_samples_of(data, batch.sequences)))
            found = sums_of_groups(look_at(batch), batch.units, of_row, 1 / sizes[of_row], len(names))
            summed = found if not summed else [_sum(one, two) for one, two in zip(summed, found, strict=True)]
        return summed

    def _set_noised(self, parameters: Sequence[nn.Parameter], sums: Sequence[torch.Tensor], step: int) -> None:
        generator = self.secret.generator("noise", step)
        for parameter, summed in zip(parameters, sums, strict=True):
            kind = np.float64 if parameter.dtype == torch.float64 else np.float32
            drawn = torch.from_numpy(np.asarray(generator.standard_normal(tuple(parameter.shape), dtype=kind)))
            noise = drawn.to(summed.device) * (self.multiplier * self.bound)
            parameter.grad = (summed + noise) / self.expected_units


def _samples_of(data: Encoded, sequences: IntArray) -> IntArray:
    """Return the sample of each row of a batch, in the batch's order."""
    if not data.keeps_rows:
        return sequences
    found = np.searchsorted(data.samples, sequences, side="right") - 1
    return found[np.flatnonzero(np.diff(found, prepend=-1))]


def _sum(one: torch.Tensor | None, two: torch.Tensor | None) -> torch.Tensor | None:
    return two if one is None else one if two is None else one + two


def _add(sums: Sequence[torch.Tensor], parts: Gradients) -> None:
    for summed, part in zip(sums, parts, strict=True):
        if part is not None:
            summed.add_(part)
