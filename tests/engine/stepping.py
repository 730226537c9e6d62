"""Parts for tests of steps: their gradients without an update, layers computed again for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunesmith.engine.loop import _compute, _within_memory
from tunesmith.engine.order import step_seed
from tunesmith.engine.recompute import recompute_layers
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.engine.step import Step, Training

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tunesmith.engine.batch import IntArray


def compute_gradients(training: Training, rows: IntArray) -> tuple[list[torch.Tensor], int]:
    """Fill the masters' gradients for one step over ``rows``; return the parts of its loss and its real tokens."""
    step = Step(training, rows, step_seed(training.config.seed, training.step))
    _within_memory(step, _compute)
    if step.num_units:
        training.optimizer.add_penalties()
    return step.losses, step.num_tokens


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Let layers be computed again inside the ``with`` block."""
    recompute_layers(model)
    try:
        yield
    finally:
        take_away(model, Tier.RECOMPUTED)
