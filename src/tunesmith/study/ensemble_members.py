"""Finished runs that are to become one, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.evaluate.averaging import likelihoods
from tunesmith.run.assembly import TaskData, load_data
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory, open_directory
from tunesmith.run.ensemble import in_order_of, read_ensemble
from tunesmith.run.judgement import Judged
from tunesmith.run.predictor import TrainedModel, fingerprint
from tunesmith.tasks.base import Columns, FloatArray, Task
from tunesmith.types import InputError, Problem

MAX_SHOWN = 5


@dataclass(frozen=True)
class Member:
    """A finished run among others."""

    name: str
    """The end of its path that tells it from the others."""
    directory: RunDirectory
    config: RunConfig
    sha256: str

    @property
    def task(self) -> Task:
        """Its own task, with its labels in its order."""
        assert self.config.task is not None
        return self.config.task

    @cached_property
    def model(self) -> TrainedModel:
        """What predicts."""
        return TrainedModel(self.directory, self.config)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``training.json``."""
        return self.directory.read_json("training")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """``environment.json``."""
        return self.directory.read_json("environment")

    @property
    def hashes(self) -> Mapping[str, str]:
        """The content of its rows, by split."""
        found: Mapping[str, str] = self.environment["data"]["hashes"]
        return found


def open_members(folders: Sequence[Path]) -> list[Member]:
    """Open runs that are to become one; ``InputError``, with all that is wrong, where they do not fit each other."""
    if len(folders) < 2:
        raise InputError("An ensemble takes two runs or more.", "Name several: tunesmith ensemble runs/a runs/b.")
    places = [folder.resolve() for folder in folders]
    if twice := sorted({str(folder) for folder in places if places.count(folder) > 1}):
        raise InputError(f"{twice[0]} is named twice.", "Name each run once; --weights says how much it counts.")
    members = []
    for folder, name in zip(folders, names_of(places), strict=True):
        directory = open_directory(folder)
        if read_ensemble(directory) is not None:
            raise InputError(f"{folder} is an ensemble itself.", "Name its members instead.")
        members.append(Member(name, directory, directory.read_config(), fingerprint(directory)))
    if problems := [problem for other in members[1:] for problem in _misfits(members[0], other)]:
        raise InputError(problems)
    task = members[0].task
    if task.head().num_outputs is not None and not task.has_answers:
        message = f"Runs of {task.title.lower()} cannot be combined: what they answer has no mean."
        raise InputError(message, "Use the best of them, by its validation rows.")
    return members


def names_of(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell them apart."""
    for depth in range(1, max(len(place.parts) for place in places)):
        names = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]


def _misfits(first: Member, other: Member) -> list[Problem]:
    """Return what keeps two runs from being one."""

    def problem(message: str, fix: str) -> Problem:
        return Problem("error", message, fix)

    one, two, pair = first.task, other.task, f"{first.directory.path} and {other.directory.path}"
    if one.name != two.name or (one.followed == "labels") != (two.followed == "labels"):
        return [
            problem(
                f"{pair} are not of one task: {one.title.lower()} and {two.title.lower()}, or of one label a row and "
                "of several.",
                "Combine runs of the same task.",
            )
        ]
    found = []
    if set(one.answer_names) != set(two.answer_names):
        more, less = (sorted(set(a) - set(b))[:MAX_SHOWN] for a, b in _both_ways(one, two))
        found.append(
            problem(
                f"{pair} have other labels: {', '.join(more) or 'none'} in the first alone, "
                f"{', '.join(less) or 'none'} in the second alone.",
                "Combine runs that were trained on the same labels.",
            )
        )
    if one.head().num_outputs is None and first.model.tokenizer_sha256 != other.model.tokenizer_sha256:
        found.append(
            problem(
                f"{pair} read other tokens: what language models expect can be averaged for the same tokens only.",
                "Combine models of the same tokenizer.",
            )
        )
    if one.head().num_outputs is None and first.model.max_length != other.model.max_length:
        found.append(
            problem(
                f"{pair} read rows of {first.model.max_length:,} and of {other.model.max_length:,} tokens.",
                "Train them with the same model.max_length.",
            )
        )
    found += [
        problem(
            f"{pair} have other {split} rows, so that one may have been trained on what the other is judged by.",
            "Train them with the same data, data.split_seed and shares of validation and test rows.",
        )
        for split in ("test", "validation")
        if first.hashes.get(split) != other.hashes.get(split)
    ]
    return found


def _both_ways(one: Task, two: Task) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [(one.answer_names, two.answer_names), (two.answer_names, one.answer_names)]


class Rows:
    """The rows that members have in common, and what each answers for them, computed once."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.config = members[0].config
        self.task = members[0].task
        self._made: dict[tuple[str, ...], Any] = {}

    @cached_property
    def data(self) -> TaskData:
        """The rows, as the first member reads them; ``InputError`` where they are others now."""
        found = load_data(self.config)
        first = self.members[0]
        for split in ("validation", "test"):
            if found.prepared.hashes.get(split) != first.hashes.get(split):
                raise InputError(
                    f"The {split} rows of {self.config.data.path} are not those of the runs: the data has "
                    "changed since.",
                    "Bring the data back as it was.",
                )
        return found

    @property
    def judged_split(self) -> str:
        """What the whole is judged on."""
        return self.data.judged_split(self.config.evaluation.split)

    @property
    def has_validation(self) -> bool:
        """Whether there are rows to choose by that nothing is judged on."""
        return "validation" in self.data.prepared.splits and self.judged_split != "validation"

    def columns(self, split: str) -> Columns:
        """Return the rows of a split."""
        return self.data.columns(split)

    @property
    def by_tokens(self) -> bool:
        """Whether members are combined token by token: language models."""
        return self.task.head().num_outputs is None

    def answers(self, member: Member, split: str) -> Array | Ragged:
        """Return what a member answers for a split, with the labels in the order of the first one's."""

        def compute() -> Array | Ragged:
            answers = member.model.answers(self.task.complete(self.columns(split)))
            return in_order_of(self.task, member.task, answers)

        found: Array | Ragged = self._once(("answers", member.sha256, split), compute)
        return found

    def judged(self, member: Member, split: str) -> Judged:
        """Return what a member makes of a split, in the form of the first one's task."""

        def compute() -> Judged:
            scored = member.model.tokens(self.task, self.encoded(split))
            return Judged(scored.outputs, scored.targets, scored.loss)

        if self.by_tokens:
            found: Judged = self._once(("judged", member.sha256, split), compute)
            return found
        return Judged(self.task.outputs_from(self.answers(member, split)), self.targets(split), None)

    def encoded(self, split: str) -> Encoded:
        """Return a split's tokens, where all members read the same."""
        network = self.members[0].model.network
        found: Encoded = self._once(("encoded", split), lambda: network.encode(self.task, self.columns(split)))
        return found

    def targets(self, split: str) -> Mapping[str, Array | Ragged]:
        """Return what is true of a split."""
        found: Mapping[str, Array | Ragged] = self._once(
            ("targets", split), lambda: self.task.targets(self.columns(split))
        )
        return found

    def likelihoods(self, member: Member, split: str) -> FloatArray:
        """Return [N]: the probability that a member gives to what is true of each row, word or token."""
        if self.by_tokens:
            losses = as_ragged(self.judged(member, split).outputs["loss"]).values.astype(np.float64)
            return np.exp(-losses[np.isfinite(losses)])
        return likelihoods(self.task, self.answers(member, split), self.targets(split))

    def figure(self, judged: Judged) -> float:
        """Return the task's main metric, turned so that more is better."""
        name = self.task.main_metric()
        num_rows = len(next(iter(judged.outputs.values())))
        value = float(self.task.measure(judged.outputs, judged.targets, np.ones((1, num_rows)))[name][0])
        return value if self.task.higher_is_better[name] else -value

    def best(self, split: str) -> Member:
        """Return the member that is best on a split, the first of equals."""
        return max(self.members, key=lambda member: self.figure(self.judged(member, split)))

    def _once(self, key: tuple[str, ...], compute: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = compute()
        return self._made[key]
