"""What a trained model has to beat: a classical model trained on the same rows, or a simple rule of the task.

A fine-tuned model that is not better has not earned its cost. For tasks whose rival is the model before training, a run
judges it by itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.evaluate import tfidf
from tunesmith.tasks.base import Columns, Task


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a baseline predicted for the test rows, in the form of the task's outputs."""

    name: str
    outputs: Mapping[str, Any]
    seconds: float
    num_parameters: int
    num_rows: int | None
    """Training rows it learned from; None where it did not learn from them."""


def has_baseline(task: Task) -> bool:
    """Say whether ``baseline`` knows how to predict what the task does."""
    return task.rival == "rule" or (task.rival == "classical" and tfidf.fits(task))


def baseline(task: Task, train_columns: Columns, test_columns: Columns, seed: int) -> Baseline | None:
    """Return what the task's baseline makes of the test rows; None for tasks that have none. ``task`` must be bound."""
    if not has_baseline(task):
        return None
    began = time.perf_counter()
    if task.rival == "rule":
        name, outputs = task.answer_by_rule(train_columns, test_columns)
        return Baseline(name, outputs, time.perf_counter() - began, 0, None)
    fitted = tfidf.fit_and_predict(task, train_columns, test_columns, seed)
    outputs = task.outputs_from(fitted.predictions)
    return Baseline(fitted.name, outputs, time.perf_counter() - began, fitted.num_parameters, fitted.num_rows)
