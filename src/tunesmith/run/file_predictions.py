"""Predictions on the rows of a file, some rows after the other, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.data.rows import Rows
from tunesmith.files.hashing import hash_json
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run.countdown import Countdown
from tunesmith.run.predictor import Predictor
from tunesmith.run.written_answers import PART_ROWS, WRITING, Notify, Writing, after, part_of
from tunesmith.tasks.base import Columns, Task
from tunesmith.version import __version__

SCORED_ROWS = 8192
"""Rows that are scored together."""


@dataclass(frozen=True, slots=True)
class FilePredictions:
    """What a run predicts of the rows of a file."""

    predictor: Predictor
    rows: Rows
    writing: Writing
    model: str
    """Stands for the model that predicts."""

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @property
    def part_rows(self) -> int:
        """Rows of a part: predictions on them depend on no other rows."""
        return part_rows(self.predictor.task)

    @property
    def key(self) -> str:
        """Stands for all that the predictions depend on."""
        return hash_json([self.model, self.rows.fingerprint, asdict(self.writing), self.part_rows, __version__])

    def parts(self, first: int = 0, notify: Notify = lambda _: None) -> Iterator[list[dict[str, Any]]]:
        """Yield the predictions of each part of the rows, from the row ``first`` on, which begins a part."""
        task = self.predictor.task
        columns = {name: values for name, values in self.rows.columns().items() if name not in task.truths}
        yield from predicted(self.predictor, columns, self.writing, first, notify)


def part_rows(task: Task) -> int:
    """Return how many rows are predicted on together; predictions depend on no others."""
    return SCORED_ROWS if task.writer is None else PART_ROWS


def predicted(
    predictor: Predictor, columns: Columns, writing: Writing, first: int = 0, notify: Notify = lambda _: None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the predictions of each part of the rows, from the row ``first`` on, which begins a part."""
    task = predictor.task
    num_rows, size = len(next(iter(columns.values()))), part_rows(task)
    countdown = Countdown("predicting" if task.writer is None else WRITING, num_rows, notify, done=first)
    for start in range(first, num_rows, size):
        part = task.complete(part_of(columns, start, size))
        with cores_shared():
            found = predictor.predict(part, writing.of_part(start // size), after(start, countdown))
        countdown.tell(start + len(found))
        yield found
