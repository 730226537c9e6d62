"""Contrastive tuning before a head is learned (SetFit, Tunstall et al. 2022): for few rows.

Shapes: N rows, B rows of a step, D numbers a vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from tunesmith.methods.base import REFERENCE_ROWS, REFERENCE_WEIGHTS, ParameterGroup
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.methods.whole import WholeModel
from tunesmith.models.anatomy import Anatomy
from tunesmith.tasks.objectives.contrastive import cosine_sum
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.methods.calibration import Calibration
    from tunesmith.methods.situation import Situation

IntArray = npt.NDArray[np.int64]

WARM_UP = 0.1
"""Share of the steps in which the rate rises; then it falls to 0."""
_HEAD = Freeze()


class Contrastive(WholeModel):
    """Tune what the head reads on pairs of rows first, then freeze it and train the head alone (SetFit).

    Before the first step the whole model below the head is tuned until the vectors of two rows have a cosine near 1
    where they are of one class and near 0 where they are not (section 3 of the paper). Its pairs are drawn one by one;
    here all pairs of a step's rows count, those of one class as much in all as the others, so that a row is read once
    for many pairs.
    """

    name: Literal["contrastive"] = "contrastive"

    title: ClassVar[str] = "contrastive tuning on pairs, then a head"
    default_learning_rate: ClassVar[float] = Freeze.default_learning_rate

    passes: Annotated[int, Field(ge=1)] = 20
    """How often every row is read while the vectors are tuned."""
    tuning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of that stage; what `full` would have for a model of this size and steps of so many rows when
    not given. `train.learning_rate` is the head's."""
    tuning_rows: Annotated[int, Field(ge=2)] = 16
    """Rows of a step of that stage: all pairs among them count."""
    most_rows: Annotated[int, Field(ge=2)] = 4096
    """Training rows that vectors are tuned on, at most; the head learns from all."""

    def rate_factor(self) -> float:
        return _HEAD.rate_factor()

    def settled(self, model: PreTrainedModel, situation: Situation) -> Self:
        if not situation.has_classes:
            raise InputError(
                "The method 'contrastive' makes pairs of rows by their classes, and these rows have none (or several).",
                "Use it for classification with one label a row, or choose another method, such as lora.",
            )
        return self

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` with everything but its head frozen; ``InputError`` where it has no head of its own."""
        return _HEAD.apply(model)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        return _HEAD.changed(layer_decay=self.layer_decay, head_factor=self.head_factor).parameter_groups(model)

    @property
    def num_calibration_rows(self) -> int:
        return self.most_rows

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        """Return the weights below the head as they are after tuning, by name."""
        classes_N = rows.classes()
        assert classes_N is not None, "settled() has asked for classes"
        head = Anatomy.of(model).head_parameter_names
        weights = {name: weight for name, weight in model.named_parameters() if name not in head}
        steps = list(self._steps(classes_N, np.random.default_rng(torch.initial_seed())))
        rate = self.tuning_rate or _usual_rate(model, sum(map(len, steps)) / len(steps))
        with _trained_apart(model, weights):
            optimizer = torch.optim.AdamW(weights.values(), lr=rate, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, len(steps)))
            for rows_B in steps:
                with torch.enable_grad():
                    vectors_BD = torch.nn.functional.normalize(rows.vectors(model, rows_B).float(), dim=-1)
                    loss = pairs_loss(vectors_BD, torch.from_numpy(classes_N[rows_B]).to(vectors_BD.device))
                if loss.requires_grad:
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
                    optimizer.step()
                schedule.step()
            return {name: weight.detach().clone() for name, weight in weights.items()}

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        for name, weight in model.named_parameters():
            if name in found:
                weight.data = found[name].to(weight)

    def _steps(self, classes_N: IntArray, generator: np.random.Generator) -> Iterator[IntArray]:
        """Yield the rows of every step: of each class that has some, several, so that there are pairs of both kinds."""
        distinct = np.unique(classes_N)
        size = min(self.tuning_rows, len(classes_N))
        together = max(2, size // len(distinct))
        for _ in range(self.passes):
            pieces = list(
                chain.from_iterable(
                    _pieces(generator.permutation(np.flatnonzero(classes_N == one)), together) for one in distinct
                )
            )
            order = generator.permutation(len(pieces))
            held: list[IntArray] = []
            for index in order:
                held.append(pieces[index])
                if sum(map(len, held)) >= size:
                    yield np.concatenate(held)
                    held = []
            if held:
                yield np.concatenate(held)


@contextmanager
def _trained_apart(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Let ``weights`` alone be trained, as float32 in memory of their own; afterwards all is as it was.

    Others may share the memory that they have, and a copy of the model would not do: what stands in for parts of it
    belongs to the original.
    """
    before = {name: (weight.data, weight.requires_grad) for name, weight in model.named_parameters()}
    try:
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in weights)
            weight.data = weight.data.float().clone()
        yield
    finally:
        for name, weight in model.named_parameters():
            weight.data, is_trained = before[name]
            weight.requires_grad_(is_trained)
            weight.grad = None


def pairs_loss(vectors_BD: torch.Tensor, classes_B: torch.Tensor) -> torch.Tensor:
    """Return how far cosines are from 1 for pairs of one class and from 0 for others, squared; the mean of both means.

    Vectors have a length of 1. Of a kind of which there is no pair, nothing is counted.
    """
    first, second = torch.triu_indices(len(classes_B), len(classes_B), 1, device=classes_B.device)
    alike = classes_B[first] == classes_B[second]
    parts = []
    for chosen, wanted in ((alike, 1.0), (~alike, 0.0)):
        if chosen.any():
            one, other = vectors_BD[first[chosen]], vectors_BD[second[chosen]]
            parts.append(cosine_sum(one, other, torch.full_like(one[:, 0], wanted)) / len(one))
    return torch.stack(parts).mean() if parts else vectors_BD.new_zeros(())


def _pieces(rows: IntArray, size: int) -> list[IntArray]:
    """Return rows in pieces of ``size``; what is left over joins the last one where it would be alone."""
    borders = list(range(size, len(rows), size))
    if borders and len(rows) - borders[-1] == 1:
        borders.pop()
    return np.split(rows, borders)


def _usual_rate(model: nn.Module, num_rows: float) -> float:
    """Return the rate that suits all weights of a model of this size, its vocabulary aside, for steps of so many rows.

    As ``run.defaults`` has it.
    """
    table = Anatomy.of(model).whole.get_input_embeddings()
    num_weights = sum(one.numel() for one in model.parameters()) - sum(one.numel() for one in table.parameters())
    return Full.default_learning_rate * math.sqrt(REFERENCE_WEIGHTS / num_weights * num_rows / REFERENCE_ROWS)


def _factor(step: int, total: int) -> float:
    warm = max(1, round(WARM_UP * total))
    return min((step + 1) / warm, (total - step) / max(total - warm, 1), 1.0)
