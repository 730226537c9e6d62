"""What a method learns of training rows before its first step: computed once, and kept until the run ends.

A column like others (``computed_columns``): a resumed run takes it up, and runs of one workshop share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch, Collator, IntArray
from tunesmith.engine.drawing import draw
from tunesmith.engine.layout import collator_for
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.order import epoch_order, micro_batches, set_seed
from tunesmith.engine.precision import place
from tunesmith.engine.predict import forward_tokens
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import as_written, remove_stand_ins
from tunesmith.methods.base import trained_parameters
from tunesmith.models.base import LoadedModel
from tunesmith.models.modes import evaluating
from tunesmith.models.streaming import brought_to, let_go
from tunesmith.models.wrapping import inner
from tunesmith.run.answering import with_answering
from tunesmith.run.assembly import Network, make_network
from tunesmith.run.composition import new_training
from tunesmith.run.compression import cost_of
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.offload import check_streamed
from tunesmith.run.session import Composed
from tunesmith.tasks.base import Task
from tunesmith.types import InputError, RunError


def calibrated(composed: Composed) -> Composed:
    """Return the run with its model set up by what its method learns of some training rows; others as they are.

    Raises ``RunError`` where what was learned is not finite.
    """
    if not composed.config.method.num_calibration_rows:
        return composed
    found, seconds = composed.columns.get(_column(composed))
    composed.progress.seconds += seconds  # a part of what the method costs
    return _set_up(composed, found)


def _column(composed: Composed) -> Column[tuple[dict[str, torch.Tensor], float]]:
    config, device = composed.config, composed.network.device
    method, data = config.method, composed.data
    key = [
        data.task.model_dump(mode="json"),
        data.prepared.hashes["train"],
        composed.model_key,
        method.without_rates(),
        method.num_calibration_rows,
        config.train.seed,
    ]

    def compute(folder: ColumnFolder) -> None:
        composed.observers.working(f"looking at training rows for {method.title or method.name}")
        began = time.perf_counter()
        network, rows = composed.network, _rows(composed)
        set_seed(config.train.seed, device)
        with as_written(network.model), evaluating(network.model):
            learned = method.calibrate(network.model, rows)
        network.model.zero_grad()
        if not all(torch.isfinite(tensor).all() for tensor in learned.values() if tensor.is_floating_point()):
            raise RunError(
                f"What the method '{method.name}' learned of the training rows is not finite.\n  → Try "
                "--train.precision fp32, or another method such as lora."
            )
        for number, tensor in enumerate(learned.values()):
            is_short = tensor.is_floating_point() and tensor.dtype != torch.float64
            folder.put(str(number), (tensor.float() if is_short else tensor).detach().cpu().numpy())
        folder.facts.update(names=list(learned), seconds=time.perf_counter() - began)

    def join(kept: Kept) -> tuple[dict[str, torch.Tensor], float]:
        values = (torch.tensor(np.array(kept.values[str(number)])) for number in range(len(kept.facts["names"])))
        return dict(zip(kept.facts["names"], values, strict=True)), float(kept.facts["seconds"])

    return Column("calibration", key, compute, join)


def _set_up(composed: Composed, found: Mapping[str, torch.Tensor]) -> Composed:
    config, network, optimizer = composed.config, composed.network, composed.training.optimizer
    method, model = config.method, network.model
    for parameter, master in zip(optimizer.parameters, optimizer.masters, strict=True):
        parameter.data = master.detach()
    set_seed(config.train.seed, network.device)
    parts, cost = _parts(model), cost_of(composed, network) if method.changes_sizes else None
    let_go(model)
    method.take_calibration(model, {name: tensor.to(network.device) for name, tensor in found.items()})
    trained = frozenset(name for name, _ in trained_parameters(model, method.parameter_groups(model)))
    check_streamed(model, trained)
    place(model, network.precision, network.device, trained)
    network = replace(network, trained=trained) if _parts(model) == parts else _made_anew(composed)
    composed.workshop.own(network)
    if cost is not None:
        composed.progress.compression = {"before": cost, "after": cost_of(composed, network)}
    before = composed.training
    training = new_training(config, composed.data.task, network, before.data, plan=before.plan)
    return replace(composed, network=network, training=training)


def _parts(model: nn.Module) -> list[tuple[str, type[nn.Module], list[torch.Size]]]:
    """Return what the stand-ins of a model depend on: its modules, and the shapes of their weights."""
    return [
        (name, type(module), [parameter.shape for parameter in module.parameters(recurse=False)])
        for name, module in model.named_modules()
    ]


def _made_anew(composed: Composed) -> Network:
    """Return the network of a model whose modules are others now: layout and stand-ins are settled in float32."""
    network = composed.network
    written = brought_to(remove_stand_ins(network.model), network.device, torch.float32)
    loaded: Any = LoadedModel(written, network.tokenizer, network.max_length, network.source)  # type: ignore[arg-type]
    made = make_network(loaded, composed.config, composed.data.task, lambda same: same, is_trained=True)
    return with_answering(made, composed.data.task)


def _rows(composed: Composed) -> _Rows:
    network, task = composed.network, composed.data.task
    model, seed = network.model, composed.config.train.seed
    padding = network.tokenizer.pad_token_id or 0
    collate = collator_for(model, "padded", padding, network.device, network.scorer.shapes)
    data = composed.encoded("train")  # all of it labelled
    samples = np.sort(epoch_order(data.num_samples, seed, 0)[: composed.config.method.num_calibration_rows])
    if task.corrupts:
        data = task.corrupt(data, data.sequences_of(samples), seed)
        samples = np.arange(len(samples))
    if task.draws:
        data = draw(network.scorer, task, data, samples, seed, check=composed.stop.check).data
        samples = np.arange(data.num_samples)
    return _Rows(
        scorer=Scorer(model, "padded", task.reads, network.scorer.shapes, pooling=task.row_pooling),
        collate=collate,
        task=task,
        data=data,
        samples=samples,
        token_budget=forward_tokens(composed.config.compute.micro_batch_tokens, network.device),
        check=composed.stop.check,
    )


@dataclass(frozen=True)
class _Rows:
    """The rows that a method looks at."""

    scorer: Scorer
    collate: Collator
    task: Task
    data: Encoded
    samples: IntArray
    token_budget: int
    check: Callable[[], None]
    """Raises where a signal asked to stop."""

    def batches(self, max_rows: int | None = None) -> Iterator[_Part]:
        for sequences in micro_batches(self.data, self.samples, "padded", self.token_budget, max_rows):
            self.check()
            yield _Part(self, self.collate(self.data, sequences))

    def classes(self) -> npt.NDArray[np.int64] | None:
        found = self.task.classes(self.data.targets)
        return None if found is None else found[self.samples]

    def vectors(self, model: nn.Module, rows: IntArray) -> torch.Tensor:
        self.check()
        batch, scorer = self.collate(self.data, self.samples[rows]), replace(self.scorer, model=model)
        try:
            with torch.enable_grad(), scorer.surrounding(batch):
                read_BD = scorer.read(batch)
        except NotImplementedError as error:
            message = f"There are no vectors of rows to be tuned: of {type(inner(model)).__name__}, {error}."
            raise InputError(message, "Use another method, such as lora.") from error
        place_of = {int(sequence): place for place, sequence in enumerate(batch.sequences)}  # sorted by length
        return read_BD[[place_of[int(sample)] for sample in self.samples[rows]]]

    @cached_property
    def num_units(self) -> float:
        """Labelled units of all rows."""
        parts = micro_batches(self.data, self.samples, "padded", self.token_budget)
        batches = (self.collate.on_host(self.data, sequences) for sequences in parts)
        return sum(self.task.count_units(batch.targets, batch.units) for batch in batches) or 1.0


@dataclass(frozen=True)
class _Part:
    """A batch of them."""

    rows: _Rows
    batch: Batch

    @property
    def num_rows(self) -> int:
        return len(self.batch.sequences)

    @torch.no_grad()
    def forward(self) -> None:
        scorer = self.rows.scorer
        with scorer.surrounding(self.batch):
            _ = scorer(self.batch) if scorer.reads == "row" else scorer.read(self.batch)

    def backward(self) -> None:
        scorer, task, batch = self.rows.scorer, self.rows.task, self.batch
        if not task.count_units(batch.targets, batch.units):
            return
        with torch.enable_grad(), scorer.surrounding(batch):
            loss = loss_sum(scorer, task, batch) / self.rows.num_units
            loss.backward()  # type: ignore[no-untyped-call]

    def real(self, states: torch.Tensor) -> torch.Tensor:
        masks = (mask for name, mask in self.batch.inputs.items() if name.endswith("attention_mask"))
        fitting = (mask for mask in masks if states.dim() > 2 and states.shape[:2] == mask.shape)
        mask = next(fitting, None)
        return states.reshape(-1, states.shape[-1]) if mask is None else states[mask.bool()]
