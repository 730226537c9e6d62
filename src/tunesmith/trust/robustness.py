"""What disturbed texts do to a run's answers: the change of its metric on the same rows, with paired intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tunesmith.run import Run
from tunesmith.trust.counterfactuals import wilson
from tunesmith.trust.disturbed_texts import CHANGES_MEANING, DISTURBANCES
from tunesmith.trust.judged_rows import JudgedRows

Notify = Callable[[str], None]


def robustness_report(run: Run, rows: JudgedRows, working: Notify = lambda _: None) -> list[dict[str, Any]]:
    """Return for each disturbance how many texts it changes, the metric and its change, and the share of other answers.

    Empty for tasks that are not given plain texts with one label or number each.
    """
    task = rows.task
    if task.reads != "row" or task.followed is None or not task.texts(rows.columns):
        return []
    found, own = [], rows.main(rows.weights())
    for number, (name, disturb) in enumerate(DISTURBANCES.items()):
        working(f"disturbing texts: {name}")
        random = np.random.default_rng([rows.seed, number])
        texts = {
            column: [None if text is None else disturb(str(text), random) for text in values]
            for column, values in task.texts(rows.columns).items()
        }
        changed = [
            any(texts[column][row] != values[row] for column, values in task.texts(rows.columns).items())
            for row in range(len(rows))
        ]
        other = JudgedRows.judged(run, {**rows.columns, **texts}, rows.name)
        values = other.main(rows.weights())
        change = rows.interval(values - own)  # resamples are the same for both
        entry: dict[str, Any] = {
            "name": name,
            "changed_texts": sum(changed),
            "changes_meaning": name in CHANGES_MEANING,
        }
        entry |= {"metric": float(values[0]), "change": change}
        if rows.has_labels and any(changed):
            differ = (other.answers() != rows.answers())[np.array(changed)]
            entry["other_answers"] = wilson(int(differ.sum()), len(differ), rows.confidence)
        found.append(entry)
    return found
