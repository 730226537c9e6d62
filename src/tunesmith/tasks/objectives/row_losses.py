"""The loss of every row for itself: what an attacker sees of a model who asks it about single rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.data.encoded import Units
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objective import Objective
from tunesmith.tasks.objectives.around import Around

LOSS = "loss"
"""What is kept of every unit: its own loss, of a language model's tokens; else the mean loss of its row."""


@dataclass(frozen=True)
class RowLosses(Around):
    """A task's objective, of which evaluation keeps the losses alone, float32, one for each unit."""

    @property
    def reduces(self) -> bool:  # type: ignore[override]
        return self.task.reduces

    @property
    def sums_over_units(self) -> bool:
        return self.task.sums_over_units

    def reduce(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.task.reduce(scores_UK, targets)

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        return self.task.loss_sum(scores_UK, targets, units)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return self.task.count_units(targets, units)

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        kept = self.task.collect(scores_UK, targets, units)
        if LOSS in kept and self.task.followed == "vocabulary":
            return {LOSS: kept[LOSS]}
        return {LOSS: _means_of_rows(self.task, widen(scores_UK.detach()), targets, units)}


def _means_of_rows(
    task: Objective, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
) -> torch.Tensor:
    """Return [U]: of each unit the mean loss of its row."""
    num_units = len(scores_UK)
    found_U = torch.zeros(num_units, dtype=torch.float32)
    for row, (first, last) in enumerate(zip(units.rows[:-1].tolist(), units.rows[1:].tolist(), strict=True)):
        if first == last:
            continue
        own = {
            name: target[first:last] if len(target) == num_units else target[row : row + 1]
            for name, target in targets.items()
        }
        loss = task.loss_sum(scores_UK[first:last], own, _units_of_row(units, row))
        found_U[first:last] = float(loss) / (last - first)
    return found_U


def _units_of_row(units: Units, row: int) -> Units:
    """Return the borders of the units of one row: its sequences, and itself."""
    first, last = int(units.rows[row]), int(units.rows[row + 1])
    inside = units.sequences[(units.sequences > first) & (units.sequences < last)]
    sequences = np.concatenate([[first], inside, [last]]) - first
    return Units(sequences, np.array([0, last - first]))
