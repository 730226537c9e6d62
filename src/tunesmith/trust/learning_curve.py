"""What more rows would bring: the run trained again on parts of its training rows, judged on the same test rows.

The gains of two doublings (25% to 50% to 100% of the rows) give the next one, shrunk as the second was beside the first
(never grown). The interval is that of other test rows, by resamples that are the same for all trainings; what another
seed would change is not in it.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.run import Run, train
from tunesmith.run.config import RunConfig
from tunesmith.tasks.base import FloatArray
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.types import InputError

SHARES = (0.25, 0.5)
Notify = Callable[[str], None]


def learning_curve(run: Run, rows: JudgedRows, working: Notify = lambda _: None) -> dict[str, Any]:
    """Train on 25% and 50% of a run's training rows and return its metric by their number, and what twice would bring.

    Raises ``InputError`` where the run was trained on few rows drawn, or on a mixture.
    """
    config = run.config
    if config.data.few_shot is not None or config.data.mixture or config.data.train_fraction < 1:
        raise InputError("--learning-curve is for runs that were trained on all rows of one data set.", "Leave it out.")
    whole = len(run.labelled_columns(split="train")[0]["row"])
    values: list[FloatArray] = []
    points = []
    weights = rows.weights()
    with tempfile.TemporaryDirectory(prefix="tunesmith-curve-") as folder:
        for share in SHARES:
            working(f"training on {share:.0%} of the rows")
            part = Run.open(train(_config(config, share, Path(folder) / f"{share:g}")))
            judged = JudgedRows.judged(part, rows.columns, rows.name)
            values.append(judged.main(weights))
            points.append(len(part.labelled_columns(split="train")[0]["row"]))
    values.append(rows.main(weights))
    points.append(whole)
    sign = 1 if rows.task.higher_is_better.get(rows.metric, True) else -1
    gains = [sign * (later - earlier) for earlier, later in itertools.pairwise(values)]
    return {
        "metric": rows.metric,
        "points": [
            {"rows": number, "value": rows.interval(value)} for number, value in zip(points, values, strict=True)
        ],
        "last_doubling": rows.interval(gains[1]),
        "next_doubling": rows.interval(next_gain(gains[0], gains[1])),
    }


def next_gain(first_R: FloatArray, second_R: FloatArray) -> FloatArray:
    """Return the gain after two: the second, times what it was of the first, which is put between 0 and 1."""
    shrunk = np.divide(second_R, first_R, out=np.ones_like(second_R), where=first_R > 0)
    found: FloatArray = second_R * np.clip(shrunk, 0.0, 1.0)
    return found


def _config(config: RunConfig, share: float, output: Path) -> RunConfig:
    return config.changed(
        data=config.data.changed(train_fraction=share),
        evaluation=config.evaluation.changed(baseline=False, num_resamples=0, answers=0),
        output=str(output),
    )
