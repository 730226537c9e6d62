"""The gradient of a loss that holds all rows of a step against each other, with one micro-batch in memory at a time.

Cached gradients (GradCache, Gao et al. 2021, section 3): all micro-batches are scored without a graph, the loss of the
whole step and its gradient with respect to the scores are computed from these, and then each micro-batch is scored
again and differentiated with its part of that gradient. By the chain rule that is the plain gradient, if both times
dropout is the same: the noise of tokens is keyed by their rows, all other begins anew with each micro-batch.

Of several ranks each scores its own rows; the scores of all are put together, so that each computes the loss of the
whole step, and differentiates its own rows with their part of the gradient.

Shapes: U units of the whole step, K scores a unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from tunesmith.data.encoded import Units
from tunesmith.engine import ranks
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
    before: Sequence[Batch] = (),
    after: Sequence[Batch] = (),
    idle: Sequence[Batch] = (),
    device: torch.device,
    seed: int,
    collect: Callable[[], None],
) -> torch.Tensor:
    """Compute a step's gradients and return this rank's share of its loss, a scalar without a graph.

    Args:
        scorer: Scores micro-batches; sequences are read as wholes (``reads`` is "row").
        task: Its ``loss_sum`` is given all of them at once.
        batches: This rank's micro-batches, in the host's memory.
        num_units: What the loss is divided by.
        before: The micro-batches of the ranks before this one.
        after: Those of the ranks after it.
        idle: What is passed through for nothing, since other ranks have more micro-batches.
        device: Where they are scored.
        seed: Of the step's noise.
        collect: Called after each micro-batch has added to the gradients of the weights.
    """
    assert scorer.reads == "row", "only sequences read as wholes are held against each other"
    noise = [step_seed(seed, _FIRST_NOISE + number) for number in range(len(before), len(before) + len(batches))]
    parts = []
    with torch.no_grad(), scorer.at_hand():
        for built, own in zip((*batches, *idle), (*noise, *[seed] * len(idle)), strict=True):
            batch = to_device(built, device)
            set_seed(own, device)
            with scorer.surrounding(batch):
                parts.append(widened(scorer(batch)).clone())
    del parts[len(batches) :]
    everything = [*before, *batches, *after]
    scores_UK = _of_all_ranks(parts, before, after, device).requires_grad_()
    names = everything[0].targets
    targets = {name: torch.cat([batch.targets[name] for batch in everything]).to(device) for name in names}
    loss = task.loss_sum(scores_UK, targets, joined([batch.units for batch in everything])) / num_units
    (gradient_UK,) = torch.autograd.grad(loss, scores_UK)
    pieces = torch.split(gradient_UK, [len(batch.sequences) for batch in everything])[len(before) :]
    for built, own, piece_UK in zip(batches, noise, pieces, strict=False):
        batch = to_device(built, device)
        set_seed(own, device)
        with scorer.surrounding(batch):
            scorer.compute(partial(_scores, scorer, batch)).backward(piece_UK)  # type: ignore[no-untyped-call]
        collect()
    for built in idle:
        batch = to_device(built, device)
        with scorer.surrounding(batch):
            scores = scorer.compute(partial(_scores, scorer, batch))
            scores.backward(torch.zeros_like(scores))  # type: ignore[no-untyped-call]
        collect()
    return loss.detach() if ranks.is_first() else torch.zeros_like(loss.detach())


def _scores(scorer: Scorer, batch: Batch) -> torch.Tensor:
    return widened(scorer(batch))


def _of_all_ranks(
    parts: Sequence[torch.Tensor], before: Sequence[Batch], after: Sequence[Batch], device: torch.device
) -> torch.Tensor:
    """Return [U, K]: the scores of all ranks, in their order, given this one's, of each of its micro-batches."""
    if ranks.size() == 1:
        return torch.cat(list(parts))
    width = int(ranks.max(parts[0].shape[1] if parts else 0))
    counts = [sum(len(batch.sequences) for batch in others) for others in (before, after)]
    own = torch.cat(list(parts)) if parts else torch.zeros((0, width), device=device)
    whole = torch.zeros((counts[0] + len(own) + counts[1], width), dtype=torch.float64, device=device)
    whole[counts[0] : counts[0] + len(own)] = own
    ranks.summer()(whole, whole.dtype)()  # each is added to zeros, and stays what it is
    return whole.to(own.dtype)


def joined(parts: Sequence[Units]) -> Units:
    """Return the borders of all units of several batches, which follow each other."""
    starts = np.cumsum([0, *(part.sequences[-1] for part in parts)])

    def of(borders: Sequence[IntArray]) -> IntArray:
        moved = [one[:-1] + start for one, start in zip(borders, starts[:-1], strict=True)]
        return np.concatenate([*moved, starts[-1:]])

    return Units(of([part.sequences for part in parts]), of([part.rows for part in parts]))
