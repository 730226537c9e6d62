"""Several finished runs that answer together: their answers averaged, or weighed by a small model on top of them.

An ensemble's folder is a run's in all but weights. ``ensemble.json`` names the members, each with the hash of its
manifest: an ensemble whose member is gone or has changed is refused. Language models are combined token by token
(``engine.mixture``), all others by what their task answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tunesmith.config.base import Config
from tunesmith.config.build import build
from tunesmith.data.bad_rows import errors_among
from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.mixture import Part, predict_mixture
from tunesmith.engine.predict import Scored
from tunesmith.evaluate.averaging import aligned, averaged
from tunesmith.evaluate.stacking import Stacker
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory, open_directory
from tunesmith.run.judgement import Judged, Writing
from tunesmith.run.predictor import Notify, TrainedModel, fingerprint
from tunesmith.tasks.base import Columns, Task
from tunesmith.tasks.left_out import encoding_problems
from tunesmith.tasks.objective import Objective
from tunesmith.types import InputError

ENSEMBLE = "ensemble"
"""``ensemble.json``: what makes a folder that of an ensemble."""


class Member(Config):
    """A run of an ensemble, by reference."""

    name: str
    """What it is called beside the others."""
    folder: str
    """Where it is, seen from the ensemble's folder."""
    absolute: str
    """Where it was when the ensemble was made."""
    sha256: str
    """Of its manifest, which holds the hashes of its files."""


class EnsembleRecord(Config):
    """``ensemble.json``."""

    version: Literal[1] = 1
    how: Literal["average", "stack"]
    members: tuple[Member, ...]
    weights: tuple[float, ...]
    """Of the members in the mean; they add up to 1."""
    weighted_by: str
    """What the weights follow from, in words."""
    stacker: Stacker | None = None
    """What stands in the place of the mean."""


def read_ensemble(directory: RunDirectory) -> EnsembleRecord | None:
    """Return what makes a folder an ensemble; None where it is a run."""
    if not (directory.path / f"{ENSEMBLE}.json").exists():
        return None
    return build(EnsembleRecord, directory.read_json(ENSEMBLE), str(directory.path / f"{ENSEMBLE}.json"))


def open_member(folder: Path, member: Member) -> RunDirectory:
    """Return the folder of a member as it was when the ensemble in ``folder`` was made; ``InputError`` otherwise."""
    places = [(folder / member.folder).resolve(), Path(member.absolute)]
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise InputError(
            f"The member {member.name} of the ensemble in {folder} is gone: there is neither {places[0]} nor "
            f"{places[1]}.",
            "Put it back, or make the ensemble again; --copy lets it keep copies of its members.",
        )
    directory = open_directory(place)
    if fingerprint(directory) != member.sha256:
        raise InputError(
            f"The member {member.name} of the ensemble in {folder} is another run now: {place} has changed since.",
            "Make the ensemble again from the runs as they are.",
        )
    return directory


@dataclass(frozen=True)
class Ensemble:
    """Members that predict together, as a run does."""

    task: Task
    """That of the first member; other members may have the same labels in another order."""
    members: tuple[TrainedModel, ...]
    weights: tuple[float, ...]
    stacker: Stacker | None = None

    @classmethod
    def open(cls, directory: RunDirectory, config: RunConfig, record: EnsembleRecord) -> Self:
        """Open the members; ``InputError`` where one is not what it was."""
        assert config.task is not None
        directories = [open_member(directory.path, member) for member in record.members]
        members = tuple(TrainedModel(one, one.read_config()) for one in directories)
        return cls(config.task, members, record.weights, record.stacker)

    def load(self) -> None:
        for member in self.members:
            member.load()

    @property
    def _mixes_tokens(self) -> bool:
        return self.task.head().num_outputs is None

    def judge(self, columns: Columns, split: str, config: RunConfig, *, working: Notify = lambda _: None) -> Judged:
        if self._mixes_tokens:
            if config.evaluation.answers or self.task.draws:
                raise _writes_nothing()
            encoded = self.members[0].network.encode(self.task, columns)
            if errors := errors_among(encoding_problems(encoded, columns, split, config.data.bad_rows)):
                raise InputError(errors)
            scored = self.tokens(self.task, encoded)
            return Judged(scored.outputs, scored.targets, scored.loss)
        outputs = self.task.outputs_from(self.answers(columns, working))
        return Judged(outputs, self.task.targets(columns), None)

    def predict(self, columns: Columns, writing: Writing) -> list[dict[str, Any]]:  # noqa: ARG002 (writes nothing)
        if self.task.writer is not None:
            raise _writes_nothing()
        if self._mixes_tokens:
            network = self.members[0].network
            scored = self.tokens(self.task, network.encode(self.task, columns))
            return self.task.spell(self.task.decode(scored.outputs, columns), network.tokenizer)
        return self.task.decode(self.task.outputs_from(self.answers(columns)), columns)

    def answers(self, columns: Columns, working: Notify = lambda _: None) -> Array | Ragged:
        columns = self.task.complete(columns)
        found = []
        for number, member in enumerate(self.members, start=1):
            working(f"scoring with member {number} of {len(self.members)}")
            found.append(in_order_of(self.task, member.task, member.answers(columns)))
        return self.combine(found)

    def combine(self, answers_M: Sequence[Array | Ragged]) -> Array | Ragged:
        """Return the answer of the whole for what members answer, in the order of the ensemble's labels."""
        return averaged(answers_M, self.weights) if self.stacker is None else self.stacker.apply(answers_M)

    def tokens(self, objective: Objective, data: Encoded) -> Scored:
        networks = [member.network for member in self.members]
        parts = [
            Part(network.scorer, network.collate, weight)
            for network, weight in zip(networks, self.weights, strict=True)
        ]
        budget = self.members[0].config.compute.micro_batch_tokens
        return predict_mixture(parts, objective, data, budget, len(networks[0].tokenizer))

    @property
    def tokenizer_sha256(self) -> str:
        return self.members[0].tokenizer_sha256

    @property
    def max_length(self) -> int:
        return min(member.max_length for member in self.members)


def in_order_of(task: Task, other: Task, answers: Array | Ragged) -> Array | Ragged:
    """Return answers of a task with the labels in the order of another, which has the same."""
    return aligned(answers, other.answer_names, task.answer_names)


def _writes_nothing() -> InputError:
    return InputError(
        "An ensemble of language models is judged by what it expects; it writes no answers.",
        "Make one model of them, which does: tunesmith ensemble RUN... --how soup (or linear, for adapters).",
    )
