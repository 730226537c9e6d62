"""Training so that groups of rows are served alike: by weights, by what is drawn, or by the worst group's loss."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.run.session import Opened
from tunesmith.tasks.objectives.groups import CELL, CellWeights, WorstGroup


def weigh_groups(opened: Opened) -> Opened:
    """Return the run with the loss that its configuration asks for of groups."""
    wanted, fair, task = opened.config.fairness, opened.fair, opened.data.task
    if wanted is None or fair is None or wanted.how == "balance":
        return opened
    objective = (
        CellWeights(task, fair.weights)
        if wanted.how == "reweight"
        else WorstGroup(task, len(fair.weights), wanted.sharpness)
    )
    training = opened.training
    data = training.data.with_targets({CELL: fair.of_cell})
    return replace(opened, training=replace(training, data=data, task=objective))
