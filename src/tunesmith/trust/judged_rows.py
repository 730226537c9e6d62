"""The rows that a finished run is questioned on: with what it answered, and how its metrics are resampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.evaluate import IntervalDict, interval, resamples
from tunesmith.run import Run
from tunesmith.tasks.base import Columns, FloatArray, Task
from tunesmith.types import InputError

MOST_ROWS = 20_000
"""Rows that are questioned at most, from all over the data: of more, resamples would not fit into memory."""


@dataclass(frozen=True)
class JudgedRows:
    """N rows with a run's answers to them."""

    task: Task
    columns: Columns
    name: str
    """What the rows are called: a split, or a file."""
    outputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    seed: int
    num_resamples: int
    confidence: float

    @classmethod
    def of(
        cls, run: Run, data: Any = None, split: str = "test", columns: Mapping[str, str] | None = None
    ) -> JudgedRows:
        """Have a run answer to labelled rows: those of ``data``, or of a split of its own.

        Raises ``InputError`` where they cannot be read or carry labels that the run does not know.
        """
        read, name = run.labelled_columns(data, split, columns)
        num_rows = len(read["row"])
        if num_rows > MOST_ROWS:
            chosen = np.linspace(0, num_rows - 1, MOST_ROWS, dtype=np.int64).tolist()
            read = {column: [values[row] for row in chosen] for column, values in read.items()}
        return cls.judged(run, read, name)

    @classmethod
    def judged(cls, run: Run, columns: Columns, name: str) -> JudgedRows:
        """Have a run answer to labelled rows in canonical columns. Written answers are not asked for."""
        problems = run.task.check(name, columns)
        if errors := [problem for problem in problems if problem.severity == "error"]:
            raise InputError(errors)
        config = run.config
        if run.task.writer is not None:
            config = config.changed(evaluation=config.evaluation.changed(answers=0))
        judged = run.predictor.judge(columns, name, config)
        settings = config.evaluation
        return cls(
            run.task,
            columns,
            name,
            judged.outputs,
            judged.targets,
            config.train.seed,
            settings.num_resamples,
            settings.confidence,
        )

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def has_labels(self) -> bool:
        """Whether each row has one label of several."""
        return self.task.reads == "row" and self.task.followed == "classes"

    @cached_property
    def metric(self) -> str:
        """What is compared where there are no labels, or in short."""
        return self.task.headline(set(self.measured(np.ones((1, len(self))))))

    def measured(self, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return every metric for each row of weights, [R] each."""
        return self.task.measure(self.outputs, self.targets, weights_RN)

    def main(self, weights_RN: FloatArray) -> FloatArray:
        """Return ``metric`` for each row of weights, [R]; a share of right rows costs no other metric."""
        if self.metric != "accuracy":
            return self.measured(weights_RN)[self.metric]
        right_N = (self.errors() == 0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: FloatArray = (weights_RN @ right_N) / weights_RN.sum(axis=1)
        return found

    @cached_property
    def _weights(self) -> FloatArray:
        drawn = resamples(len(self), self.num_resamples, self.seed)
        return np.concatenate([np.ones((1, len(self))), *drawn])

    def weights(self) -> FloatArray:
        """Return [1 + R, N]: every row once, then the resamples."""
        return self._weights

    def interval(self, values: FloatArray) -> IntervalDict:
        """Return the first of [1 + R] values with the interval of the others."""
        return interval(float(values[0]), values[1:], self.confidence)

    def answers(self) -> npt.NDArray[np.int64]:
        """Return [N]: which label each row got, where ``has_labels``."""
        found: npt.NDArray[np.int64] = np.asarray(self.task.answers(self.outputs)).argmax(axis=1).astype(np.int64)
        return found

    def truths(self) -> npt.NDArray[np.int64]:
        """Return [N]: which label each row has, where ``has_labels``."""
        return np.asarray(self.targets[self.task.truths[0]], dtype=np.int64)

    def errors(self) -> FloatArray:
        """Return [N]: how wrong each answer is; 0 where it is right."""
        return np.asarray(self.task.errors(self.outputs, self.targets), dtype=np.float64)
