"""What predicts: the model of a run, or several runs together (``run.ensemble``)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from tunesmith.data.bad_rows import errors_among
from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.predict import Scored, predict
from tunesmith.files.hashing import hash_file
from tunesmith.files.manifest import MANIFEST
from tunesmith.run.answering import Reference, referring, with_answering
from tunesmith.run.assembly import Network
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.run.finished_network import read_network
from tunesmith.run.judgement import Judged, Writing, judge, write_answers
from tunesmith.run.reference import before_training, refer
from tunesmith.tasks.base import Columns, Task
from tunesmith.tasks.left_out import encoding_problems
from tunesmith.tasks.objective import Objective
from tunesmith.types import InputError

Notify = Callable[[str], None]


class Predictor(Protocol):
    """What a run's folder holds to predict with."""

    @property
    def task(self) -> Task:
        """The task with the labels that it predicts."""

    def load(self) -> None:
        """Load what it takes, if that is not there yet."""

    def judge(self, columns: Columns, split: str, config: RunConfig, *, working: Notify = ...) -> Judged:
        """Score labelled rows, ``split`` being their name, and have answers written as far as ``config`` says.

        Raises ``InputError`` for rows that cannot be read.
        """

    def predict(self, columns: Columns, writing: Writing) -> list[dict[str, Any]]:
        """Return one JSON-ready prediction per row."""

    def answers(self, columns: Columns) -> Array | Ragged:
        """Return what the task's ``answers`` are for these rows, labelled or not."""

    def tokens(self, objective: Objective, data: Encoded) -> Scored:
        """Return what ``objective`` collects of a language model's scores of sequences that its tokenizer made."""

    @property
    def tokenizer_sha256(self) -> str:
        """What the tokenizer does, as one hash: of models whose scores are those of tokens."""

    @property
    def max_length(self) -> int:
        """The longest sequence that it reads."""


def fingerprint(directory: RunDirectory) -> str:
    """Return the hash that stands for all files of a finished run: that of its manifest."""
    return hash_file(directory.path / MANIFEST)


class TrainedModel:
    """The model of a finished run."""

    def __init__(self, directory: RunDirectory, config: RunConfig) -> None:
        assert config.task is not None
        self.directory = directory
        self.config = config
        self.task: Task = config.task

    @cached_property
    def network(self) -> Network:
        """The model, loaded when first needed."""
        return with_answering(read_network(self.directory, self.config), self.task)

    def load(self) -> None:
        _ = self.network

    def judge(self, columns: Columns, split: str, config: RunConfig, *, working: Notify = lambda _: None) -> Judged:
        network, objective = self.network, self.task.reference
        encoded = network.encode(self.task, columns)
        if errors := errors_among(encoding_problems(encoded, columns, split, config.data.bad_rows)):
            raise InputError(errors)
        weights = self.directory.read_json("environment").get("model", {}).get("weights_sha256")
        encoded = refer(encoded, self.task, self.config, weights)
        if self.task.draws and objective is not None:
            reference = before_training(self.task, self.config, weights)
            network = referring(network, Reference(reference, objective, self.config))
        return judge(network, self.task, encoded, columns, config, working=working)

    def predict(self, columns: Columns, writing: Writing) -> list[dict[str, Any]]:
        network = self.network
        if self.task.writer is not None:
            name = self.task.writer.answer_name
            return [{name: text} for text in write_answers(network, self.task, columns, writing)]
        scored = self.tokens(self.task, network.encode(self.task, columns))
        return self.task.spell(self.task.decode(scored.outputs, columns), network.tokenizer)

    def answers(self, columns: Columns) -> Array | Ragged:
        given = {name: values for name, values in columns.items() if name not in self.task.truths}
        found = self.task.answers(self.tokens(self.task, self.network.encode(self.task, given)).outputs)
        assert found is not None, "asked of tasks that have answers"
        return found

    def tokens(self, objective: Objective, data: Encoded) -> Scored:
        network, budget = self.network, self.config.compute.micro_batch_tokens
        return predict(network.scorer, network.collate, objective, data, budget)

    @property
    def tokenizer_sha256(self) -> str:
        recorded: str = self.directory.read_json("environment")["tokenizer"]["sha256"]
        return recorded

    @property
    def max_length(self) -> int:
        recorded: int = self.directory.read_json("training")["max_length"]
        return recorded
