"""What stacking learns from: predictions of runs for rows that they were not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.evaluate.averaging import Answers
from tunesmith.tasks.base import Targets, Task
from tunesmith.types import InputError

STUDY = "study.json"


def out_of_fold(task: Task, studies: Sequence[Path]) -> tuple[list[Answers], Targets, int]:
    """Return what each study's folds answer for the rows they held out, what is true of them, and how many there are.

    A study is the folder of a cross-validation, one for each member, in their order. Rows are matched by their
    content; of one that was held out several times the mean is taken. Raises ``InputError`` where a folder is no such
    study, or the studies have no rows in common.
    """
    if task.followed not in ("classes", "labels", "value") or "tokens" in [role.name for role in task.roles]:
        raise InputError(
            f"Predictions out of folds are not kept row by row for the task {task.name}.",
            "Leave --out-of-fold out: stacking then learns from the validation rows.",
        )
    held_out = [_held_out(task, study) for study in studies]
    common = [key for key in held_out[0] if all(key in one for one in held_out[1:])]
    if not common:
        raise InputError(
            f"The studies in {', '.join(map(str, studies))} held out no row in common.",
            "Cross-validate the same data.",
        )
    answers = [np.stack([np.mean([row for row, _ in one[key]], axis=0) for key in common]) for one in held_out]
    labels = [held_out[0][key][0][1] for key in common]
    return list(answers), task.targets({"text": ["" for _ in labels], "label": labels}), len(common)


Held = dict[str, list[tuple[Any, Any]]]
"""By a row's content: answers and label, once for each time it was held out."""


def _held_out(task: Task, study: Path) -> Held:
    import pyarrow.parquet as pq

    path = study / STUDY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{study} is no study: {path} cannot be read ({error}).", "Name a study's folder.") from error
    if not isinstance(content, Mapping) or content.get("kind") != "cross-validation":
        raise InputError(
            f"{study} is no cross-validation.", "Make one with: tunesmith cross-validate config.yaml --output FOLDER."
        )
    if not content.get("predictions"):
        raise InputError(f"The cross-validation in {study} did not finish.", "Finish it first, by the same command.")
    place = study / str(content["predictions"])
    found: Held = {}
    for row in pq.read_table(place).to_pylist():
        key = json.dumps([row.get(name) for name in task.inputs], ensure_ascii=False)
        found.setdefault(key, []).append((_answers(task, row, place), row["label"]))
    return found


def _answers(task: Task, row: Mapping[str, Any], place: Path) -> Any:
    if not task.answer_names:
        return float(row["prediction"])
    try:
        return np.array([row[f"p:{name}"] for name in task.answer_names], dtype=np.float64)
    except KeyError as error:
        raise InputError(
            f"{place} has no probabilities of the label {error}.", "Cross-validate with the labels of the runs."
        ) from error
