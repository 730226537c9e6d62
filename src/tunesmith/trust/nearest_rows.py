"""The training rows that speak for a prediction and against it, by gradients of the last layer (Pruthi et al. 2020).

A step on a training row moves the loss of another row by the learning rate times the product of both gradients (there:
TracIn, equation 1, with the last checkpoint alone). Of a linear last layer the gradient is the outer product of the
gradient of the scores and the layer's input, so that the product of two rows' gradients is that of two short products:
no gradient is ever made whole.

Shapes: N training rows, B rows of a batch, K scores, D numbers that the last layer reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch
from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import forward_tokens
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.modes import evaluating
from tunesmith.models.wrapping import inner
from tunesmith.run import Run, Writing
from tunesmith.run.assembly import Network
from tunesmith.tasks.base import Columns, Task
from tunesmith.types import InputError


@dataclass(frozen=True, slots=True)
class NearRow:
    """A training row."""

    row: str
    """Where it stands, as file:line."""
    text: str
    label: Any
    influence: float
    """Product of the gradients: above 0, training on the row makes the prediction surer; below 0, less sure."""


@dataclass(frozen=True, slots=True)
class LastLayer:
    """What the gradients of some rows are made of."""

    gradients: torch.Tensor
    """Of each row's loss with respect to its scores."""
    inputs: torch.Tensor
    scores: torch.Tensor

    def products(self, other: LastLayer) -> torch.Tensor:
        """Return [N, M]: the product of each row's gradient with each of the other's, weights and bias together."""
        of_inputs = self.inputs @ other.inputs.T + 1.0
        return (self.gradients @ other.gradients.T) * of_inputs


class NearestRows:
    """The training rows of a run, ready to be asked which of them a prediction rests on."""

    def __init__(self, run: Run) -> None:
        """Read the training rows.

        Raises ``InputError`` where the data has changed since, and for tasks that do not read rows one by one.
        """
        task = run.task
        if task.reads != "row" or task.needs_whole_step or task.row_pooling is not None:
            raise InputError(
                f"Nearest training rows are not known of the task {task.name}.",
                "They are of tasks that give each text a label or a number.",
            )
        self._run, self._task = run, task
        self._columns, _ = run.labelled_columns(split="train")

    @cached_property
    def _layer(self) -> LastLayer:
        return last_layer(self._run.network, self._task, self._encoded(self._columns), self._budget)

    @property
    def _budget(self) -> int:
        return self._run.config.compute.micro_batch_tokens

    def _encoded(self, columns: Columns) -> Encoded:
        encoded = self._run.network.encode(self._task, columns)
        if encoded.keeps_rows or encoded.rows is not None:
            raise InputError(
                "Nearest training rows are not known where a row is several sequences.", "Leave --nearest out."
            )
        return encoded

    def of(self, columns: Columns, number: int) -> list[NearRow]:
        """Return the ``number`` rows that speak most for what is predicted of a row, and those most against it.

        The row is the only one of ``columns``; its loss is the one that the prediction would have if it were the truth.
        """
        task, network = self._task, self._run.network
        truth = task.truths[0]
        given = {name: values for name, values in columns.items() if name not in task.truths}
        answer = self._run.predictor.predict(given, Writing())[0]
        said = answer["label"] if "label" in answer else answer["value"]
        asked = last_layer(network, task, self._encoded({**given, truth: [said]}), self._budget)
        influence_N = self._layer.products(asked)[:, 0].double().numpy()
        order = np.argsort(-influence_N, kind="stable")
        chosen = [*order[:number].tolist(), *order[::-1][:number].tolist()]
        texts = list(task.texts(self._columns).values())
        return [
            NearRow(
                str(self._columns["row"][place]),
                " | ".join(str(column[place] or "") for column in texts),
                self._columns[truth][place],
                float(influence_N[place]),
            )
            for place in dict.fromkeys(chosen)
        ]


def last_layer(network: Network, task: Task, data: Encoded, budget: int) -> LastLayer:
    """Return what the last layer reads of rows, and the gradients of their losses, in the order of the rows.

    Without targets all gradients are 0.
    """
    gradients: list[torch.Tensor] = []
    inputs: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    order: list[np.typing.NDArray[np.int64]] = []
    rows = np.arange(data.num_samples)
    with torch.no_grad(), evaluating(network.model), _watched(network) as seen:
        for sequences in micro_batches(data, rows, network.collate.layout, forward_tokens(budget, network.device)):
            batch = network.collate(data, sequences)
            with network.scorer.surrounding(batch):
                scores = network.scorer(batch).float()
            inputs.append(seen[-1].reshape(len(scores), -1).float().cpu())
            gradients.append(_gradient(task, scores, batch).cpu())
            given.append(scores.cpu())
            order.append(batch.sequences)
            seen.clear()
    back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
    return LastLayer(torch.cat(gradients)[back], torch.cat(inputs)[back], torch.cat(given)[back])


def _gradient(task: Task, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return [B, K]: the gradient of the rows' losses with respect to their scores."""
    if not batch.targets:
        return torch.zeros_like(scores)
    with torch.enable_grad():
        asked = scores.detach().clone().requires_grad_()
        return torch.autograd.grad(task.loss_sum(asked.clone(), batch.targets, batch.units), asked)[0]


@contextmanager
def _watched(network: Network) -> Iterator[list[torch.Tensor]]:
    """Yield a list that what the last layer reads is added to, inside the ``with`` block."""
    seen: list[torch.Tensor] = []
    whole: Any = inner(network.model)
    within = set(Anatomy.of(network.model).base.modules())
    size = network.scorer.num_outputs
    layers = [
        module
        for module in whole.modules()
        if isinstance(module, nn.Linear) and module.out_features == size and module not in within
    ]
    if not layers:
        raise InputError("The model has no linear last layer, whose gradients are compared.", "Leave --nearest out.")

    def note(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0].detach())

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
