"""Whom a run learns from besides the labels: a finished run or an ensemble, and whether it can teach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.run.config import RunConfig, TeacherConfig
from tunesmith.run.finished_run import Run
from tunesmith.run.predictor import fingerprint
from tunesmith.tasks.base import Task
from tunesmith.tasks.objectives.distillation import Distilled
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run.assembly import Network, TaskData
    from tunesmith.run.directory import RunDirectory

MAX_SHOWN = 5


@dataclass(frozen=True)
class Teacher:
    """A run that teaches; its model is loaded when its answers are computed."""

    config: TeacherConfig
    run: Run
    sha256: str
    """What stands for all of its files."""

    @classmethod
    def of(cls, config: RunConfig) -> Teacher | None:
        """Open the teacher; None where there is none. ``InputError`` where it is no finished run."""
        if config.teacher is None:
            return None
        run = Run.open(config.teacher.run)
        return cls(config.teacher, run, fingerprint(run.directory))

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return f"the teacher ({self.run.title})"

    def record(self) -> dict[str, Any]:
        """Return what ``environment.json`` says of it."""
        return {"folder": str(self.run.folder.absolute()), "sha256": self.sha256, "title": self.run.title}

    def objective(self, task: Task) -> Distilled:
        """Return the task's objective with this teacher."""
        return Distilled(task, self.config.mix, self.config.temperature)


def with_task_of(teacher: Teacher | None, config: RunConfig) -> RunConfig:
    """Return the configuration with the teacher's task, where none was given: with the same labels in its order."""
    return (
        config if teacher is None or config.task is not None else config.model_copy(update={"task": teacher.run.task})
    )


def check_teacher(teacher: Teacher, data: TaskData, network: Network, split: str) -> list[Problem]:
    """Refuse a teacher that has nothing to say of the task, or nothing that the student could understand.

    ``split`` is what the student is judged on. Returns what is to be said of a teacher that can teach.
    """
    task, other, folder = data.task, teacher.run.task, teacher.run.folder
    if task.followed is None or task.corrupts:
        raise InputError(
            f"The task {task.name} cannot be learned from a teacher"
            + (": a chain's scores (task.crf) are no distribution of a token's tags." if "crf" in dict(task) else "."),
            "Set --task.crf false." if "crf" in dict(task) else "Leave the teacher out.",
        )
    if other.name != task.name or _form(other) != _form(task):
        raise InputError(
            f"The teacher in {folder} is of the task {other.name}{_form(other)}, and what is to be trained is of "
            f"{task.name}{_form(task)}.",
            "Leave --task out, so that the teacher's is taken, or choose another teacher.",
        )
    if set(other.answer_names) != set(task.answer_names):
        raise InputError(
            f"The teacher in {folder} knows other labels: " + _difference(task.answer_names, other.answer_names) + ".",
            "Leave --task out, so that the teacher's labels are taken, or choose one with the labels of the data.",
        )
    if task.followed == "vocabulary":
        _check_tokens(teacher, network)
    return _unlike_rows(teacher, data, split)


def check_same_teacher(directory: RunDirectory, teacher: Teacher | None) -> None:
    """Refuse to go on with a teacher other than that of the steps already made."""
    if teacher is None or not (directory.path / "environment.json").exists():
        return
    before = (directory.read_json("environment").get("teacher") or {}).get("sha256")
    if before is not None and before != teacher.sha256:
        raise InputError(
            f"The teacher in {teacher.run.folder} has changed since the run in {directory.place} was started.",
            "Bring it back as it was, or start a new run with --output.",
        )


def _check_tokens(teacher: Teacher, network: Network) -> None:
    predictor, folder = teacher.run.predictor, teacher.run.folder
    if predictor.tokenizer_sha256 != network.tokenizer_sha256:
        raise InputError(
            f"The teacher in {folder} reads other tokens: its tokenizer is not that of {network.source}.",
            "Language models learn from each other token by token: choose a model of the same tokenizer.",
        )
    if predictor.max_length < network.max_length:
        raise InputError(
            f"The teacher in {folder} reads {predictor.max_length:,} tokens, and the model to be trained "
            f"{network.max_length:,}.",
            f"Set --model.max_length {predictor.max_length}.",
        )


def _unlike_rows(teacher: Teacher, data: TaskData, split: str) -> list[Problem]:
    """Return a warning where the teacher may have been trained on rows that its student is judged on."""
    own = data.prepared.hashes.get(split)
    recorded: Mapping[str, Any] = teacher.run.directory.read_json("environment").get("data", {}).get("hashes", {})
    if own is None or recorded.get(split) == own:
        return []
    message = (
        f"The {split} rows are not those of the teacher: it may have been trained on some of them, and what it has "
        "learned there reaches the student."
    )
    return [Problem("warning", message, "Give the data, their shares and data.split_seed as in the teacher's run.")]


def _form(task: Task) -> str:
    return " (several labels a row)" if task.followed == "labels" else ""


def _difference(own: tuple[str, ...], others: tuple[str, ...]) -> str:
    missing, more = sorted(set(own) - set(others)), sorted(set(others) - set(own))
    said = [
        f"{what} {', '.join(names[:MAX_SHOWN])}{', …' if len(names) > MAX_SHOWN else ''}"
        for what, names in (("it lacks", missing), ("it has besides", more))
        if names
    ]
    return " and ".join(said)
