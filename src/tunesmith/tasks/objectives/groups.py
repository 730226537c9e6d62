"""Losses that weigh groups of rows, in one place for every task that reads rows one by one.

- By weights that stand (``CellWeights``): of every cell of group and label as much as it would have if both had nothing
  to do with each other (Kamiran and Calders 2012, section 4.3: reweighing).
- By the worst cell (``WorstGroup``; group DRO, Sagawa et al. 2020): a step's loss is the sum of its cells' mean losses,
  each weighing as exp(sharpness * loss). There, weights are carried from step to step; here they are those of the step,
  so that a step is a function of its rows alone, as in every other training.

Shapes: U units (rows) of a micro-batch, K scores a unit, C cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from tunesmith.data.encoded import Units
from tunesmith.tasks.objective import SURVEYED
from tunesmith.tasks.objectives.around import Around

CELL = "cell"
"""The target that says which cell of group and label a row is of."""

Targets = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class ByCells(Around):
    """A task's objective whose rows are of cells."""

    def collect(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> dict[str, torch.Tensor]:
        return self.task.collect(scores_UK, _own(targets), units)

    def _cells(self, targets: Targets) -> Iterator[tuple[int, torch.Tensor, dict[str, torch.Tensor], Units]]:
        """Yield every cell of a micro-batch with its units' places, targets and borders."""
        cells_U = targets[CELL]
        for cell in sorted(set(cells_U.tolist())):
            (places,) = (cells_U == cell).nonzero(as_tuple=True)
            own = {name: target[places] for name, target in _own(targets).items()}
            yield cell, places, own, Units.single(len(places))


@dataclass(frozen=True)
class CellWeights(ByCells):
    """Rows weigh as their cell does."""

    weights: tuple[float, ...]
    """C."""

    def loss_sum(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> torch.Tensor:
        parts = [
            self.weights[cell] * self.task.loss_sum(scores_UK[places], own, borders)
            for cell, places, own, borders in self._cells(targets)
        ]
        return torch.stack(parts).sum()

    def count_units(self, targets: Targets, units: Units) -> float:
        return sum(
            self.weights[cell] * self.task.count_units(own, borders) for cell, _, own, borders in self._cells(targets)
        )


@dataclass(frozen=True)
class WorstGroup(ByCells):
    """Cells weigh the more, the larger their mean loss is in the step."""

    num_cells: int
    """C."""
    sharpness: float

    @property
    def surveys(self) -> int:
        return 2 * self.num_cells

    def survey(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> torch.Tensor:
        """Return [2 C]: the sum of each cell's losses, and its units."""
        found = scores_UK.new_zeros(2 * self.num_cells)
        for cell, places, own, borders in self._cells(targets):
            found[cell] = self.task.loss_sum(scores_UK[places], own, borders)
            found[self.num_cells + cell] = self.task.count_units(own, borders)
        return found

    def loss_sum(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> torch.Tensor:
        """Return what, over the step and divided by its units, is the sum of q_c times the mean loss of cell c."""
        surveyed = targets.get(SURVEYED)
        if surveyed is None:  # a probe of how fast steps are
            return self.task.loss_sum(scores_UK, _own(targets), units)
        sums_C, units_C = surveyed[: self.num_cells], surveyed[self.num_cells :]
        is_there_C = units_C > 0
        means_C = torch.where(is_there_C, sums_C / units_C.clamp(min=1e-12), -torch.inf)
        shares_C = (self.sharpness * means_C).softmax(dim=0)
        weights_C = (units_C.sum() * shares_C / units_C.clamp(min=1e-12)).tolist()
        parts = [
            weights_C[cell] * self.task.loss_sum(scores_UK[places], own, borders)
            for cell, places, own, borders in self._cells(targets)
        ]
        return torch.stack(parts).sum()

    def count_units(self, targets: Targets, units: Units) -> float:
        return self.task.count_units(_own(targets), units)


def _own(targets: Targets) -> dict[str, torch.Tensor]:
    """Return the targets of the task itself."""
    return {name: target for name, target in targets.items() if name not in (CELL, SURVEYED)}
