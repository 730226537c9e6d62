"""Whether an exported model gives what the run gives: both asked for the scores of the same rows.

Shapes: S sequences, L tokens of the longest one, U units (rows or tokens), K scores of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch
from tunesmith.engine.layout import collator_for
from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import CPU_TOKENS, Collected, Scored, scored_parts
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import remove_stand_ins
from tunesmith.export.target import Runtime
from tunesmith.models.modes import evaluating
from tunesmith.run.assembly import Network
from tunesmith.tasks.base import Task

HOST = torch.device("cpu")


@dataclass(frozen=True)
class RuntimeScorer(Scorer):
    """Another program in the place of the model; padded batches only."""

    runtime: Runtime | None = None

    def __post_init__(self) -> None:
        """Nothing is known of the model inside."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        return self.read(batch)

    def read(self, batch: Batch) -> torch.Tensor:
        """Return ``scores_UK``: there is nothing between the other program's inputs and its scores."""
        assert self.runtime is not None
        scores = self.runtime(batch.inputs)
        return scores if self.reads == "row" else scores[batch.read_mask][batch.read_tokens]

    def head(self, states_UD: torch.Tensor) -> torch.Tensor:
        return states_UD


@dataclass(slots=True)
class Difference:
    """How far scores are from those of the run."""

    largest: float = 0.0
    """Of all scores of the run, without their sign."""
    apart: float = 0.0
    num_units: int = 0
    num_same: int = 0
    """Units whose highest score is the same one."""

    @property
    def relative(self) -> float:
        """Largest difference, relative to the largest score; infinite where scores are no numbers."""
        return self.apart / max(self.largest, 1e-30)

    def add(self, ours_UK: torch.Tensor, theirs_UK: torch.Tensor) -> None:
        """Compare the scores of some units."""
        self.largest = max(self.largest, float(ours_UK.abs().max()))
        apart = float((ours_UK - theirs_UK).abs().max())
        self.apart = math.inf if math.isnan(apart) else max(self.apart, apart)
        self.num_units += len(ours_UK)
        self.num_same += int((ours_UK.argmax(dim=-1) == theirs_UK.argmax(dim=-1)).sum())


@dataclass(frozen=True, slots=True)
class Compared:
    """What both sides made of the same rows."""

    ours: Scored
    theirs: Scored
    difference: Difference


def reference_model(network: Network) -> nn.Module:
    """Return the run's own model, in float32 on the CPU, as ``transformers`` has it: without what makes it quick."""
    return remove_stand_ins(network.model).float().cpu()


@torch.inference_mode()
def compare_scores(network: Network, task: Task, encoded: Encoded, runtime: Runtime) -> Compared:
    """Score rows by the run's model, in float32 as ``transformers`` has it, and by another program.

    ``network`` holds the run's own model; it is left in float32 on the CPU, without what makes it quick.
    """
    model = reference_model(network)
    if task.corrupts:
        encoded = task.corrupt(encoded, np.arange(len(encoded)), None)
    ours = replace(network.scorer, model=model, layout="padded", prefix=None, fused_loss=None, graphs=None)
    theirs = RuntimeScorer(model, "padded", task.reads, pooling=task.row_pooling, runtime=runtime)
    collate = collator_for(model, "padded", network.tokenizer.pad_token_id or 0, HOST)
    both = (Collected(task, encoded), Collected(task, encoded))
    difference = Difference()
    with evaluating(model):
        for sequences in micro_batches(encoded, np.arange(encoded.num_samples), "padded", CPU_TOKENS):
            batch = collate(encoded, sequences)
            parts = zip(scored_parts(ours, task, batch), scored_parts(theirs, task, batch), strict=True)
            for (our_scores, targets, units), (their_scores, _, _) in parts:
                difference.add(*_comparable(task, our_scores, their_scores))
                both[0].add(our_scores, targets, units)
                both[1].add(their_scores, targets, units)
            for collected in both:
                collected.scored(batch.sequences)
    return Compared(both[0].finish(), both[1].finish(), difference)


def _comparable(task: Task, *scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return scores that can be held against each other: vectors of length 1 where only their direction counts."""
    if not task.vectors_of:
        return scores
    return tuple(torch.nn.functional.normalize(one, dim=-1) for one in scores)


def answers_of(task: Task, outputs: Mapping[str, Any], columns: Mapping[str, Any]) -> list[Any] | None:
    """Return what a model answers to every row, without its numbers; None where it answers by numbers or by writing."""
    if task.writer is not None or task.vectors_of:
        return None
    found = [_without_numbers(one) for one in task.decode(outputs, columns)]
    return found if any(found) else None


def _without_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: kept for name, one in value.items() if (kept := _without_numbers(one)) not in (None, {}, [])}
    if isinstance(value, (list, tuple)):
        return [_without_numbers(one) for one in value]
    return None if isinstance(value, float) else value
