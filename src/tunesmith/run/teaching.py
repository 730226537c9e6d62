"""What a teacher says of a run's rows: computed once, joined to the rows, and set beside what the student learns.

Its answers are computed for the run's own rows, so that nothing needs to be matched; a column's key holds the rows'
content and the teacher's hash.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.evaluate import Baseline
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.ensemble import in_order_of
from tunesmith.run.finished_run import Run
from tunesmith.run.predictor import Predictor
from tunesmith.run.session import Opened
from tunesmith.run.teacher import Teacher
from tunesmith.run.unlabelled import UNLABELLED
from tunesmith.tasks.objectives.distillation import SCORES, LikeliestTokens, taught

Said = Mapping[str, Array]
"""What a teacher says of units, [U, ...] by the names of the targets that hold it."""


def follow_teacher(opened: Opened) -> Opened:
    """Return the run with what its teacher says of the training rows, and of the rows that it will be judged on."""
    teacher = opened.teacher
    if teacher is None:
        return opened

    @cache
    def at_work() -> Predictor:
        """Its model is loaded if anything has to be computed, and gone with this function."""
        opened.observers.working("asking the teacher")
        return Run.open(teacher.run.folder).predictor

    hashes, training = opened.data.prepared.hashes, opened.training
    splits = [split for split in ("train", UNLABELLED) if split in hashes]
    said = [opened.columns.get(_column(opened, teacher, split, at_work)) for split in splits]
    data = training.data

    def of_units(parts: list[Array]) -> Array | Ragged:
        values = np.concatenate(parts) if len(parts) > 1 else parts[0]
        return values if data.reads is None else Ragged(values, data.reads.offsets)

    values = {name: of_units([part[name] for part in said]) for name in said[0]}
    alone = None
    if UNLABELLED in splits:
        numbers = [len(part[SCORES]) for part in said]
        alone = of_units([np.zeros(numbers[0], dtype=np.uint8), np.ones(numbers[1], dtype=np.uint8)])
    targets = taught(data, values, alone)
    rival = _judged(opened, teacher, at_work)
    training = replace(training, data=replace(data, targets=targets), task=teacher.objective(opened.data.task))
    return replace(opened, training=training, taught_by=rival)


def _column(opened: Opened, teacher: Teacher, split: str, at_work: Callable[[], Predictor]) -> Column[Said]:
    """Return what the teacher says of a split, unit by unit."""
    task, data = opened.data.task, opened.data
    by_tokens = task.followed == "vocabulary"
    encoded = opened.encoded(split)

    def compute(folder: ColumnFolder) -> None:
        if by_tokens:
            found = _likeliest(teacher, opened, encoded, at_work())
        else:
            columns = data.columns(split)
            answers = in_order_of(task, teacher.run.task, at_work().answers(columns))
            found = {SCORES: _values(task.scores_for(answers))}
        for name, values in found.items():
            folder.put(name, values)

    def join(kept: Kept) -> Said:
        num_units = len(encoded) if encoded.reads is None else len(encoded.reads.values)
        assert all(len(values) == num_units for values in kept.values.values()), "one answer for each unit"
        return {name: _values(values) for name, values in kept.values.items()}

    network = opened.network
    reading = [opened.workshop.tokenizer_sha256(network), network.max_length] if by_tokens else []
    settings = [teacher.config.temperature, teacher.config.num_tokens] if by_tokens else []
    key = [task.model_dump(mode="json"), data.prepared.hashes[split], teacher.sha256, reading, settings]
    return Column(f"teacher/{split}", key, compute, join, num_bytes=_num_bytes(teacher, encoded) if by_tokens else 0)


def _likeliest(teacher: Teacher, opened: Opened, encoded: Encoded, predictor: Predictor) -> dict[str, Array]:
    settings, vocabulary = teacher.config, len(opened.network.tokenizer)
    objective = LikeliestTokens(settings.temperature, settings.num_tokens, vocabulary)
    outputs = predictor.tokens(objective, replace(encoded, targets={})).outputs
    return {name: _values(values) for name, values in outputs.items()}


def _num_bytes(teacher: Teacher, encoded: Encoded) -> int:
    num_read = 0 if encoded.reads is None else len(encoded.reads.values)
    return 8 * teacher.config.num_tokens * num_read


def _values(values: Any) -> Array:
    array: Array = values.values if isinstance(values, Ragged) else values
    return array


def _judged(opened: Opened, teacher: Teacher, at_work: Callable[[], Predictor]) -> Baseline | None:
    """Return what the teacher answers for the rows that the student will be judged on; None without such rows."""
    data, task, split = opened.data, opened.data.task, opened.judged_split
    if split not in data.prepared.splits:
        return None

    def compute(folder: ColumnFolder) -> None:
        began = time.perf_counter()
        if task.followed == "vocabulary":
            outputs: Mapping[str, Any] = at_work().tokens(task, opened.encoded(split)).outputs
        else:
            answers = in_order_of(task, teacher.run.task, at_work().answers(data.columns(split)))
            outputs = task.outputs_from(answers)
        folder.facts["seconds"] = time.perf_counter() - began
        for name, values in outputs.items():
            folder.put(name, values)

    def join(kept: Kept) -> Baseline:
        num_parameters = int(teacher.run.summary.get("num_parameters") or 0)
        return Baseline(teacher.name, kept.values, kept.facts["seconds"], num_parameters, None)

    reading = [opened.workshop.tokenizer_sha256(opened.network), opened.network.max_length]
    key = [task.model_dump(mode="json"), data.prepared.hashes[split], teacher.sha256, reading, "judged"]
    return opened.columns.get(Column("teacher/judged", key, compute, join))
