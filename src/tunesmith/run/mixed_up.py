"""Training on rows between rows (mix-up): where it makes sense, and how a run is made to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunesmith.models.wrapping import inner, takes_images, token_table
from tunesmith.run.session import Opened
from tunesmith.tasks.objectives.mixed_rows import MixedRows
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.data.encoded import Encoded
    from tunesmith.run.config import RunConfig
    from tunesmith.tasks.base import Task

MIXED = frozenset({"classes", "labels", "value"})
"""What the scores of a row may be, so that there is something between what is right for two rows."""


def mix_up(opened: Opened) -> Opened:
    """Return the run with rows that are mixed, where its configuration asks for that."""
    alpha, training = opened.config.train.mixup, opened.training
    if alpha is None:
        return opened
    return replace(opened, training=replace(training, task=MixedRows(training.task, alpha)))


def check_mixup(config: RunConfig, task: Task, model: nn.Module, rows: Encoded) -> None:
    """Raise ``InputError`` with everything for which rows cannot be mixed."""
    if config.train.mixup is None:
        return
    if problems := [
        Problem("error", f"train.mixup: {reason}", fix) for reason, fix in _hindrances(config, task, model, rows)
    ]:
        raise InputError(problems)


def _hindrances(config: RunConfig, task: Task, model: nn.Module, rows: Encoded) -> Iterator[tuple[str, str]]:
    """Yield why rows cannot be mixed, each with what would do."""
    leave = "Leave train.mixup out."
    whole: Any = inner(model)
    if takes_images(model) or token_table(model) is None:
        yield "the model reads images, and what is mixed are vectors of tokens.", leave
    elif task.reads != "row" or task.followed not in MIXED or task.needs_whole_step or rows.rows is not None:
        yield (
            f"between two rows of the task {task.name} there is nothing that could be right.",
            "It is for texts (or pairs) with a label, several, or a number. Leave it out.",
        )
    if getattr(whole.config, "is_encoder_decoder", False):
        yield "the model's decoder reads the text once more, as it is.", "Choose an encoder or a decoder alone."
    if config.teacher is not None:
        yield "what a teacher says is of single rows.", "Leave out train.mixup, or the teacher."
    if config.fairness is not None:
        yield "rows between two groups are of neither.", "Leave out train.mixup, or fairness."
    if config.privacy is not None and config.privacy.epsilon is not None:
        yield "a mixed row holds two, and what is protected is one.", "Leave out train.mixup, or privacy.epsilon."
    if config.compute.cuda_graphs:
        yield "captured graphs look tokens up as they were.", "Leave out compute.cuda_graphs."
