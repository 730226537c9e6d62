"""What is to be learned in a run, as the rules know it by which methods are chosen (``methods.choosing``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.data.left_out_rows import CONTRADICT
from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.precision import choose_device
from tunesmith.methods.situation import Situation
from tunesmith.models.weights import num_weights
from tunesmith.tasks.objective import Objective

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.run.assembly import TaskData
    from tunesmith.run.config import RunConfig

TOKENS_OF_AN_ANSWER = 100
"""About how many tokens a written answer has, before it is known."""


def situation_before(config: RunConfig, data: TaskData, model: nn.Module) -> Situation:
    """Return what is to be learned of rows that are not tokenised yet, by a model as it was loaded."""
    num_rows = len(data.prepared.splits["train"])
    _, free = memory_of(choose_device(config.compute.device))
    return situation_of(
        data,
        num_rows * (TOKENS_OF_AN_ANSWER if data.task.writer is not None else 1),
        sum(map(num_weights, model.parameters())),
        free_memory=free,
    )


def situation_of(data: TaskData, num_answers: int, num_all: int, *, free_memory: int | None = None) -> Situation:
    """Return what is to be learned: ``num_answers`` labels or tokens, by a model of ``num_all`` weights."""
    num_rows = len(data.prepared.splits["train"])
    found = [one.count or 0 for one in data.problems if CONTRADICT in one.message and " train " in one.message]
    return Situation(
        num_rows=num_rows,
        num_answers=num_answers,
        writes=data.task.writer is not None,
        noise=sum(found) / max(num_rows, 1),
        num_weights=num_all,
        has_classes=data.task.followed == "classes" and type(data.task).classes is not Objective.classes,
        free_memory=free_memory,
    )
