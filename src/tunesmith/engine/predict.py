"""Scoring a whole split: batches by length, outputs in row order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.data.encoded import Array, Encoded, Ragged, Units
from tunesmith.engine.batch import Batch, Collator, IntArray, targets_of, units_of
from tunesmith.engine.blocks.packing import packed_for
from tunesmith.engine.drawing import draw
from tunesmith.engine.losses import chunks, part_of, reduced, widened
from tunesmith.engine.order import micro_batches
from tunesmith.engine.scorer import Scorer
from tunesmith.models.modes import evaluating
from tunesmith.tasks.objective import SURVEYED, Objective

ROWS_TOGETHER = 64
"""Rows that are held against each other, in their order, for the loss of a split that training would need a whole step
for: a figure of the rows, whatever the batches that they are scored in."""

CPU_TOKENS = 2048
"""Tokens of a micro-batch without a backward pass: on a CPU more of them leave the caches."""


def forward_tokens(token_budget: int, device: torch.device) -> int:
    """Return the tokens of a micro-batch that is only scored, where training takes ``token_budget``."""
    return min(token_budget, CPU_TOKENS) if device.type == "cpu" else token_budget


@dataclass(frozen=True, slots=True)
class Scored:
    """What evaluation keeps of a split."""

    outputs: dict[str, Array | Ragged]
    """What the task's ``collect`` kept, in the order of the data's rows: an entry per row, or per unit of a row."""
    targets: dict[str, Array | Ragged]
    """What the outputs are judged by, in that order: the data's targets, or those that corrupting or drawing set."""
    loss: float | None
    """Mean loss per labelled unit; None without targets."""


def predict(
    scorer: Scorer,
    collate: Collator,
    task: Objective,
    data: Encoded,
    token_budget: int,
    *,
    check: Callable[[], None] = lambda: None,
) -> Scored:
    """Score every row of ``data`` without dropout; ``check`` is called between micro-batches and may raise.

    Of a task that ``draws`` it is what the model answers to the rows that is scored.
    """
    if task.corrupts:
        data = task.corrupt(data, np.arange(len(data)), None)
    if task.draws:
        data = draw(scorer, task, data, np.arange(data.num_samples), None, check=check).data
    return _scored(scorer, collate, task, data, token_budget=forward_tokens(token_budget, collate.device), check=check)


def _scored(
    scorer: Scorer,
    collate: Collator,
    task: Objective,
    data: Encoded,
    *,
    token_budget: int,
    check: Callable[[], None],
) -> Scored:
    collected = Collected(task, data)
    packed = packed_for(scorer.model) if scorer.packs else nullcontext()
    with scorer.without_gradients(), evaluating(scorer.model), packed:
        for sequences in micro_batches(data, np.arange(data.num_samples), collate.layout, token_budget):
            check()
            batch = collate(data, sequences)
            for scores, targets, units in scored_parts(scorer, task, batch):
                collected.add(scores, targets, units)
            collected.scored(batch.sequences)
        return collected.finish()


class Collected:
    """What is kept of scores while they are computed, batch by batch, in whatever order."""

    def __init__(self, task: Objective, data: Encoded) -> None:
        self._task = task
        self._data = data
        self._pieces: list[dict[str, Array]] = []
        self._seen: list[IntArray] = []
        self._loss = 0.0
        self._num_units = 0.0
        self._together: list[torch.Tensor] = []
        """Scores of rows that are held against each other."""
        self._unsurveyed: list[tuple[torch.Tensor, Mapping[str, torch.Tensor], Units]] = []
        """What the loss is still to be computed of, where that depends on all of it."""

    def add(self, scores: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> None:
        """Take the scores of some units of a batch, those of the units before them having been taken."""
        if targets and self._task.needs_whole_step:
            self._together.append(scores)
        elif targets and self._task.surveys:
            self._unsurveyed.append((scores, targets, units))
        elif targets:
            self._add_loss(scores, targets, units)
        found = self._task.collect(scores, targets, units)
        self._pieces.append({name: tensor.cpu().numpy() for name, tensor in found.items()})

    def scored(self, sequences: IntArray) -> None:
        """Take note of the sequences of a batch, all of whose units have been taken."""
        self._seen.append(sequences)

    def _add_loss(self, scores: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> None:
        self._loss += float(self._task.loss_sum(scores, targets, units))
        self._num_units += self._task.count_units(targets, units)

    def _add_losses_of_whole(self, order: IntArray) -> None:
        """Add the losses of rows held against each other, some at a time; ``order`` is that of the sequences scored."""
        data, scores = self._data, torch.cat(self._together)[torch.from_numpy(np.argsort(order, kind="stable"))]
        for start in range(0, data.num_samples, ROWS_TOGETHER):
            sequences = data.sequences_of(np.arange(start, min(start + ROWS_TOGETHER, data.num_samples)))
            targets = {name: target.to(scores.device) for name, target in targets_of(data, sequences).items()}
            self._add_loss(scores[torch.from_numpy(sequences)], targets, units_of(data, sequences))

    def _add_losses_by_survey(self) -> None:
        surveyed = torch.stack([self._task.survey(*part) for part in self._unsurveyed]).sum(dim=0)
        for scores, targets, units in self._unsurveyed:
            self._add_loss(scores, {**targets, SURVEYED: surveyed}, units)
        self._unsurveyed = []

    def finish(self) -> Scored:
        """Return all of it in the order of the data's rows."""
        data, pieces = self._data, self._pieces
        if not pieces:
            return Scored({}, data.data_targets, None)
        order = np.concatenate(self._seen)
        outputs = {name: _by_row(np.concatenate([piece[name] for piece in pieces]), order, data) for name in pieces[0]}
        if self._together:
            self._add_losses_of_whole(order)
        if self._unsurveyed:
            self._add_losses_by_survey()
        loss = self._loss / self._num_units if self._num_units else None
        concluded = self._task.conclude(outputs, data)
        return Scored({**concluded, **data.beside}, data.data_targets, loss)


def scored_parts(
    scorer: Scorer, task: Objective, batch: Batch
) -> Iterator[tuple[torch.Tensor, Mapping[str, torch.Tensor], Units]]:
    """Yield the scores of a batch with their targets and borders, a chunk of units at a time where there are many."""
    with scorer.surrounding(batch):
        if scorer.reads == "row":
            yield widened(scorer(batch)), batch.targets, batch.units
            return
        if task.reduces:
            yield reduced(scorer, task, batch), batch.targets, batch.units
            return
        hidden_UD = scorer.read(batch)
        parts = list(chunks(scorer, task, len(hidden_UD)))
        for part in parts:
            targets = part_of(batch.targets, part) if len(parts) > 1 else batch.targets
            yield widened(scorer.head(hidden_UD[part])), targets, batch.units.part(part)


def _by_row(values_U: Array, order: IntArray, data: Encoded) -> Array | Ragged:
    """Bring values of units from the order in which sequences were scored into that of the data's rows.

    Rows that have one unit each by their nature give an array, others a ragged one.
    """
    back = np.argsort(order, kind="stable")
    if data.reads is None and data.rows is None:
        return values_U[back]
    counts = np.ones(len(order), dtype=np.int64) if data.reads is None else data.reads.lengths_of(order)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return data.join(Ragged(values_U, offsets).select(back))
