"""Several language models of one tokenizer as one: at every place, the mean of what they expect.

Shapes: M models, U tokens read, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Collator
from tunesmith.engine.losses import chunks, part_of, widened
from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import Collected, Scored, forward_tokens
from tunesmith.engine.scorer import Scorer
from tunesmith.models.modes import evaluating
from tunesmith.tasks.objective import Objective


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a mixture."""

    scorer: Scorer
    collate: Collator
    weight: float


@torch.inference_mode()
def predict_mixture(
    parts: Sequence[Part], task: Objective, data: Encoded, token_budget: int, vocabulary: int
) -> Scored:
    """Score every sequence by ``log sum_m w_m p_m``, which ``task`` reads as it reads the scores of a model.

    ``vocabulary`` is how many tokens the tokenizer knows: models may have scores for more, and for different numbers.
    """
    first = parts[0]
    token_budget = forward_tokens(token_budget, first.collate.device)
    if task.corrupts:
        data = task.corrupt(data, np.arange(len(data)), None)
    collected = Collected(task, data)
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(evaluating(part.scorer.model))
        for sequences in micro_batches(data, np.arange(data.num_samples), first.collate.layout, token_budget):
            batches = [part.collate(data, sequences) for part in parts]
            read_M = []
            for part, batch in zip(parts, batches, strict=True):
                with part.scorer.surrounding(batch):
                    read_M.append(part.scorer.read(batch))
            batch = batches[0]
            for piece in chunks(first.scorer, task, len(read_M[0])):
                scores_UV = _mixed(parts, [read[piece] for read in read_M], vocabulary)
                collected.add(scores_UV, part_of(batch.targets, piece), batch.units.part(piece))
            collected.scored(batch.sequences)
    return collected.finish()


def _mixed(parts: Sequence[Part], read_M: Sequence[torch.Tensor], vocabulary: int) -> torch.Tensor:
    """Return [U, V]: the logarithm of the mean probability of each token."""
    logs: torch.Tensor | None = None
    for part, read_UD in zip(parts, read_M, strict=True):
        if part.weight:
            scores_UV = widened(part.scorer.head(read_UD)).to(parts[0].collate.device)[:, :vocabulary]
            own = functional.log_softmax(scores_UV, dim=-1) + math.log(part.weight)
            logs = own if logs is None else torch.logaddexp(logs, own)
    assert logs is not None, "weights add up to 1"
    return logs
