"""Scoring a whole split: batches by length, outputs in row order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.batch import Collator, IntArray
from tunesmith.engine.layout import Scorer
from tunesmith.engine.order import micro_batches
from tunesmith.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Scored:
    """What evaluation keeps of a split."""

    outputs: dict[str, Array | Ragged]
    """What the task's ``collect`` kept, in the order of the data's rows: an entry per row, or per token read."""
    loss: float | None
    """Mean loss per labelled unit; None without targets."""


@torch.inference_mode()
def predict(
    scorer: Scorer,
    collate: Collator,
    task: Task,
    data: Encoded,
    token_budget: int,
    *,
    check: Callable[[], None] = lambda: None,
) -> Scored:
    """Score every row of ``data`` without dropout; ``check`` is called between micro-batches and may raise."""
    was_training = scorer.model.training
    scorer.model.eval()
    pieces: list[dict[str, Array]] = []
    rows_seen: list[IntArray] = []
    loss_sum, num_units = 0.0, 0.0
    try:
        for rows in micro_batches(np.arange(len(data)), data.lengths, collate.layout, token_budget):
            check()
            batch = collate(data, rows)
            with scorer.surrounding(batch):
                scores = scorer(batch)
            scores = scores if scores.dtype == torch.float64 else scores.float()
            if batch.targets:
                loss_sum += float(task.loss_sum(scores, batch.targets))
                num_units += task.count_units(batch.targets)
            collected = task.collect(scores, batch.targets)
            pieces.append({name: tensor.cpu().numpy() for name, tensor in collected.items()})
            rows_seen.append(batch.rows)
    finally:
        scorer.model.train(was_training)
    if not pieces:
        return Scored({}, None)
    seen = np.concatenate(rows_seen)
    outputs = {name: _in_row_order(np.concatenate([piece[name] for piece in pieces]), seen, data) for name in pieces[0]}
    return Scored(outputs, loss_sum / num_units if num_units else None)


def _in_row_order(values: Array, rows_seen: IntArray, data: Encoded) -> Array | Ragged:
    """Bring values from the order in which rows were scored back into the split's own."""
    back = np.argsort(rows_seen, kind="stable")
    if data.reads is None:
        return values[back]
    offsets = np.concatenate([[0], np.cumsum(data.reads.lengths[rows_seen])])
    return data.join(Ragged(values, offsets).select(back))
