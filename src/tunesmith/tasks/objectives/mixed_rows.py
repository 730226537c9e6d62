"""Mix-up: what is learned are rows between two rows, with what is right for either in the same proportion.

Every row of a step has a partner, any of the training rows. Their tokens' vectors are mixed place by place, ``share``
of the row and ``1 - share`` of the partner, and so are the losses of their labels (Zhang et al. 2018, eq. 1 and
section 5: for a linear loss that is the loss of mixed labels; Guo et al. 2019, wordMixup). The share is drawn from
Beta(alpha, alpha), one for each step, as Zhang et al. do in their code. Where the shorter text has ended, the longer
one goes on alone: Guo et al. fill it up with zeros there, which no pretrained model has seen.

Share and partners are functions of the seed of the step and of the row: never of the rows beside it.

Shapes: U units (rows) of a micro-batch, K scores a unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.data.encoded import PARTNERS, SHARE_OF_OWN, Array, Encoded, Ragged, Units, as_ragged
from tunesmith.tasks.masking import random_keys
from tunesmith.tasks.objectives.around import Around

IntArray = npt.NDArray[np.int64]
Targets = Mapping[str, torch.Tensor]

_OF_PARTNER = "partner_"
"""How the names of the partners' targets begin."""
IDS = "input_ids"
_PARTS = 2**20


@dataclass(frozen=True)
class MixedRows(Around):
    """A task's objective on rows that are mixed with others."""

    corrupts: ClassVar[bool] = True

    alpha: float
    """Both parameters of the Beta distribution: small ones mix little, 1 any share alike."""

    def corrupt(self, data: Encoded, sequences: IntArray, seed: int | None) -> Encoded:
        """Return these rows with their partners; as they are in evaluation."""
        own = data.select(sequences)
        if seed is None:
            return own
        other = data.select(self.partners_of(data, sequences, seed))
        share = np.full(len(sequences), self.share_of_own(seed), dtype=np.float32)
        inputs = {name: _longer(as_ragged(one), as_ragged(other.inputs[name])) for name, one in own.inputs.items()}
        partners = _longer(as_ragged(other.inputs[IDS]), as_ragged(own.inputs[IDS]))
        targets: dict[str, Array | Ragged] = {
            **own.targets,
            **{_OF_PARTNER + name: target for name, target in other.targets.items()},
            SHARE_OF_OWN: share,
        }
        return Encoded({**inputs, PARTNERS: partners}, targets)

    def share_of_own(self, seed: int) -> float:
        """Return what of a row's vectors is its own in a step: a number that float32 holds, and its rest to 1, too."""
        return round(float(np.random.default_rng([seed]).beta(self.alpha, self.alpha)) * _PARTS) / _PARTS

    @staticmethod
    def partners_of(data: Encoded, sequences: IntArray, seed: int) -> IntArray:
        """Return the row that each of these is mixed with."""
        return (random_keys(seed, sequences) % np.uint64(len(data))).astype(np.int64)

    def loss_sum(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> torch.Tensor:
        # Who computes a loss may overwrite its scores.
        parts = [weight * self.task.loss_sum(scores_UK.clone(), own, units) for weight, own in _both(targets)]
        return torch.stack(parts).sum()

    def count_units(self, targets: Targets, units: Units) -> float:
        return sum(float(weight) * self.task.count_units(own, units) for weight, own in _both(targets))

    def collect(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> dict[str, torch.Tensor]:
        return self.task.collect(scores_UK, next(_both(targets))[1], units)


def _both(targets: Targets) -> Iterator[tuple[torch.Tensor | float, dict[str, torch.Tensor]]]:
    """Yield what the loss of either row's targets weighs, with these: of the row itself first."""
    own = {name: one for name, one in targets.items() if not name.startswith(_OF_PARTNER) and name != SHARE_OF_OWN}
    if SHARE_OF_OWN not in targets:  # evaluation
        yield 1.0, own
        return
    share = targets[SHARE_OF_OWN][0]
    yield share, own
    yield 1 - share, {name: targets[_OF_PARTNER + name] for name in own}


def _longer(first: Ragged, second: Ragged) -> Ragged:
    """Return rows of the first, each followed by what the second has beyond its end."""
    rows = []
    for row in range(len(first)):
        begin = first[row]
        rows.append(np.concatenate([begin, second[row][len(begin) :]]))
    return Ragged.from_rows(rows, dtype=first.values.dtype)
