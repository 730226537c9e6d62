"""The gradient of a loss that holds all rows of a step against each other, with one micro-batch in memory at a time.

Cached gradients (GradCache, Gao et al. 2021, section 3): all micro-batches are scored without a graph, the loss of the
whole step and its gradient with respect to the scores are computed from these, and then each micro-batch is scored
again and differentiated with its part of that gradient. By the chain rule that is the plain gradient, if both times
dropout is the same: the noise of tokens is keyed by their rows, all other begins anew with each micro-batch.

Of several processes each holds its own rows against each other, and their gradients are added up as those of any loss.

Shapes: U units of the whole step, K scores a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tunesmith.data.encoded import Units
from tunesmith.engine.batch import Batch, IntArray
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.losses import widened
from tunesmith.engine.order import set_seed, step_seed
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.objective import Objective

_FIRST_NOISE = 1 << 32
"""The first of the numbers that noise of micro-batches is drawn by; hooks of methods have those from 0 on."""


def differentiate_whole_step(
    scorer: Scorer,
    task: Objective,
    batches: Sequence[Batch],
    num_units: float,
    *,
    device: torch.device,
    seed: int,
    collect: Callable[[], None],
) -> torch.Tensor:
    """Compute a step's gradients and return its loss, a scalar without a graph.

    Args:
        scorer: Scores micro-batches; sequences are read as wholes (``reads`` is "row").
        task: Its ``loss_sum`` is given all of them at once.
        batches: The micro-batches, in the host's memory.
        num_units: What the loss is divided by.
        device: Where they are scored.
        seed: Of the step's noise.
        collect: Called after each micro-batch has added to the gradients of the weights.
    """
    assert scorer.reads == "row", "only sequences read as wholes are held against each other"
    noise = [step_seed(seed, _FIRST_NOISE + number) for number in range(len(batches))]
    parts = []
    for built, own in zip(batches, noise, strict=True):
        batch = to_device(built, device)
        set_seed(own, device)
        with torch.no_grad(), scorer.surrounding(batch):
            parts.append(widened(scorer(batch)).clone())
    scores_UK = torch.cat(parts).requires_grad_()
    names = batches[0].targets
    targets = {name: torch.cat([batch.targets[name] for batch in batches]).to(device) for name in names}
    loss = task.loss_sum(scores_UK, targets, joined([batch.units for batch in batches])) / num_units
    (gradient_UK,) = torch.autograd.grad(loss, scores_UK)
    pieces = torch.split(gradient_UK, [len(part) for part in parts])
    for built, own, piece_UK in zip(batches, noise, pieces, strict=True):
        batch = to_device(built, device)
        set_seed(own, device)
        with scorer.surrounding(batch):
            widened(scorer(batch)).backward(piece_UK)  # type: ignore[no-untyped-call]
        collect()
    return loss.detach()


def joined(parts: Sequence[Units]) -> Units:
    """Return the borders of all units of several batches, which follow each other."""
    starts = np.cumsum([0, *(part.sequences[-1] for part in parts)])

    def of(borders: Sequence[IntArray]) -> IntArray:
        moved = [one[:-1] + start for one, start in zip(borders, starts[:-1], strict=True)]
        return np.concatenate([*moved, starts[-1:]])

    return Units(of([part.sequences for part in parts]), of([part.rows for part in parts]))
