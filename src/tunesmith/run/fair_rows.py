"""Training rows by group, where groups are to be served alike.

Which group a training row is of is read from the column of the files that the row came from; the model never sees it.

Shapes: N training rows, G groups, C cells of group and label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Encoded
from tunesmith.data.row_groups import Grouping, groupings
from tunesmith.engine.mixing import Mix, counts_of
from tunesmith.readable import count
from tunesmith.run.assembly import TaskData
from tunesmith.run.config import RunConfig
from tunesmith.types import InputError, Problem

SMALLEST = 5
"""Rows that a cell needs so that its weight is no accident."""


@dataclass(frozen=True, slots=True)
class FairRows:
    """The training rows by group, and by cell of group and label where each has one label."""

    grouping: Grouping
    of_cell: npt.NDArray[np.int64]
    """[N]: which cell each row is of."""
    weights: tuple[float, ...]
    """[C]: what a row of each cell weighs so that group and label have nothing to do with each other."""

    @property
    def cells(self) -> tuple[npt.NDArray[np.int64], ...]:
        """The rows of each cell."""
        return tuple(np.flatnonzero(self.of_cell == cell) for cell in range(len(self.weights)))

    def balanced_mix(self) -> Mix:
        """Return epochs of as many rows as there are, with as many of every cell."""
        sizes = [len(rows) for rows in self.cells]
        return Mix(self.cells, counts_of(sizes, [1.0] * len(sizes), len(self.of_cell)))

    def note(self) -> Problem:
        """Say which groups there are, and how much rows are weighed or drawn apart."""
        sizes = self.grouping.sizes()
        groups = ", ".join(f"{name} ({count(size)})" for name, size in zip(self.grouping.names, sizes, strict=True))
        low, high = min(self.weights), max(self.weights)
        return Problem(
            "note",
            f"Groups of training rows by {self.grouping.column}: {groups}; weights from {low:.2g} to {high:.2g}.",
        )


def fair_rows(config: RunConfig, data: TaskData, rows: Encoded) -> FairRows | None:
    """Return the training rows by group where the configuration asks for fairness.

    Raises ``InputError`` where it cannot be had, or a cell is too small to be weighed.
    """
    wanted = config.fairness
    if wanted is None:
        return None
    _check(config, data, rows)
    places = [str(place) for place in data.columns("train")["row"]]
    (grouping,) = groupings(config.data, None, places, [wanted.group])
    if len(grouping.names) < 2:
        raise InputError(
            f"fairness.group: all training rows are of one group, {grouping.names[0]}.", "Name a column with several."
        )
    classes = data.task.classes(rows.targets)
    labels = np.zeros(len(places), dtype=np.int64) if classes is None else classes
    pairs, of_cell = np.unique(np.stack([grouping.of_row, labels]), axis=1, return_inverse=True)
    sizes = np.bincount(of_cell.ravel())
    if sizes.min() < SMALLEST:
        group, label = pairs[:, sizes.argmin()]
        name = "" if classes is None else f" with the label {data.task.label_names[label]}"
        raise InputError(
            f"fairness.group: {sizes.min()} training rows are of {grouping.names[group]}{name}; "
            f"their weight would be an accident (at least {SMALLEST} are needed).",
            "Give more of such rows, or join small groups in a column of their own.",
        )
    of_group, of_label = grouping.sizes(), np.bincount(labels)
    expected = of_group[pairs[0]] * of_label[pairs[1]] / len(places)
    weights = expected / sizes if classes is not None else len(places) / (len(sizes) * sizes)
    return FairRows(grouping, of_cell.ravel().astype(np.int64), tuple(weights.tolist()))


def _check(config: RunConfig, data: TaskData, rows: Encoded) -> None:
    task, num_rows = data.task, len(data.columns("train")["row"])
    reason = ""
    if config.teacher is not None:
        reason = "with a teacher"
    elif config.data.mixture:
        reason = "with a mixture of data sets"
    elif task.reads != "row" or task.needs_whole_step or rows.rows is not None or len(rows) != num_rows:
        reason = f"with the task {task.name}, whose rows are not read one by one"
    if reason:
        raise InputError(
            f"fairness: groups are not weighed {reason}.", "Leave fairness out, or train on labelled texts alone."
        )
