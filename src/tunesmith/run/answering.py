"""How a run's model writes answers in its own training, and who judges them: for tasks that draw answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine.answering import Answering, Messages
from tunesmith.engine.predict import predict
from tunesmith.run.assembly import Network
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory, open_directory
from tunesmith.run.finished_network import read_network
from tunesmith.run.reference import Values, ask
from tunesmith.tasks.base import Task
from tunesmith.tasks.objective import Objective
from tunesmith.types import InputError

if TYPE_CHECKING:
    import numpy.typing as npt


def with_answering(network: Network, task: Task) -> Network:
    """Return a network that can write the answers which the task draws; the same one where it draws none."""
    if not task.draws:
        return network
    assert task.writer is not None, "a task that draws answers writes them"
    tokenizer = network.tokenizer

    def decode(answers: Sequence[Sequence[int]]) -> list[str]:
        texts = tokenizer.batch_decode([list(ids) for ids in answers], skip_special_tokens=True)
        return [text.strip() for text in texts]

    answering = Answering(
        decode=decode,
        stop_tokens=task.writer.stop_tokens(tokenizer),
        pad_token_id=tokenizer.pad_token_id or 0,
        judges={name: JudgeRun(Path(folder)) for name, folder in task.judges.items()},
    )
    return replace(network, scorer=replace(network.scorer, answering=answering))


def check_judges(task: Task) -> None:
    """Refuse runs that are to judge answers, and cannot; ``InputError`` says why."""
    for folder in task.judges.values():
        _ = JudgeRun(Path(folder)).opened


@dataclass(frozen=True)
class JudgeRun:
    """A finished run that gives texts a score; its model is loaded when it is first asked."""

    folder: Path

    def __call__(self, asked: Sequence[Messages], answers: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the score of each answer, float64 [answers]."""
        _, config, task = self.opened
        pairs = zip(asked, answers, strict=True)
        whole = [[*messages, {"role": "assistant", "content": answer}] for messages, answer in pairs]
        texts = ["\n\n".join(str(turn["content"]) for turn in turns) for turns in whole]
        rows = {"text": texts, "messages": [json.dumps(turns, ensure_ascii=False) for turns in whole]}
        network = self.network
        encoded = network.encode(task, rows)
        scored = predict(network.scorer, network.collate, task, encoded, config.compute.micro_batch_tokens)
        return np.array([row["value"] for row in task.decode(scored.outputs)], dtype=np.float64)

    @cached_property
    def opened(self) -> tuple[RunDirectory, RunConfig, Task]:
        """The run's folder, configuration and task; ``InputError`` where it is none that scores texts."""
        directory = open_directory(self.folder)
        config = directory.read_config()
        task = config.task
        assert task is not None
        if task.head().num_outputs != 1 or task.inputs != ("text",):
            raise InputError(
                f"The run in {self.folder} was trained for {task.title.lower()}: it gives an answer no score.",
                "Give a run of a reward model: tunesmith train --data pairs.jsonl --task reward.",
            )
        return directory, config, task

    @cached_property
    def network(self) -> Network:
        """The run's model."""
        directory, config, _ = self.opened
        return read_network(directory, config)


@dataclass(frozen=True)
class Reference:
    """The model as it was before training, which is asked what it makes of answers."""

    network: Network
    objective: Objective
    config: RunConfig

    def __call__(self, encoded: Encoded) -> Values:
        """Return what the objective keeps of these answers, by name."""
        return ask(self.network, self.objective, encoded, self.config)


def referring(network: Network, reference: Reference) -> Network:
    """Return a network whose answers are compared with what the reference makes of them."""
    answering = network.scorer.answering
    assert answering is not None
    return replace(network, scorer=replace(network.scorer, answering=replace(answering, refer=reference)))
