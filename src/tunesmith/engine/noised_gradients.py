"""The gradient of a private step: of every row apart, clipped, summed, with noise (Abadi et al. 2016, algorithm 1).

What a step learns is ``(sum of clipped gradients + N(0, multiplier^2 bound^2)) / expected_rows``. It is divided by how
many rows a step has in the mean, not by how many it has: that number is a secret, too. The unit that is protected is
the row of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch, Collator, IntArray
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.order import set_seed
from tunesmith.engine.poisson import Secret
from tunesmith.engine.row_gradients import Gradients, at_once, clipped_sums, come_at_once, one_by_one
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@dataclass
class NoisedGradients:
    """How the gradient of a step is made where rows are to stay private."""

    bound: float
    """Largest L2 norm of a row's gradient."""
    multiplier: float
    """The noise's standard deviation, in bounds."""
    expected_rows: float
    """Rows of a step in the mean."""
    secret: Secret = field(default_factory=Secret)
    are_at_once: bool | None = None
    """Whether gradients of rows are taken apart in one pass; None until that has been tried."""

    def differentiate(
        self,
        scorer: Scorer,
        task: Objective,
        collate: Collator,
        data: Encoded,
        *,
        samples: IntArray,
        batches: Sequence[Batch],
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
        for batch in self._parts(collate, data, samples, batches):
            loss, gradients = differentiate(scorer, task, batch, parameters)
            _add(sums, clipped_sums(gradients, batch.units, self.bound))
            total += loss.cpu().double().nan_to_num(0.0, 0.0, 0.0)  # such rows have no part in the step
            num_units += int(batch.units.rows[-1])
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

    def _set_noised(self, parameters: Sequence[nn.Parameter], sums: Sequence[torch.Tensor], step: int) -> None:
        generator = self.secret.generator("noise", step)
        for parameter, summed in zip(parameters, sums, strict=True):
            kind = np.float64 if parameter.dtype == torch.float64 else np.float32
            drawn = torch.from_numpy(np.asarray(generator.standard_normal(tuple(parameter.shape), dtype=kind)))
            noise = drawn.to(summed.device) * (self.multiplier * self.bound)
            parameter.grad = (summed + noise) / self.expected_rows


def _add(sums: Sequence[torch.Tensor], parts: Gradients) -> None:
    for summed, part in zip(sums, parts, strict=True):
        if part is not None:
            summed.add_(part)
