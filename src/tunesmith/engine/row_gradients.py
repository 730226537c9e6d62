# mypy: disable-error-code="no-untyped-call"
"""The gradient of every row apart, clipped and summed.

``at_once`` has opacus (Yousefpour et al. 2021) take the gradients of all rows of a padded micro-batch apart, by hooks
on the modules that hold trained weights. ``one_by_one`` runs each row alone: slower, and right for any model.
``come_at_once`` says whether the first can be taken, by comparing it with the second on some rows.

Shapes: B rows and S sequences of a micro-batch, K scores of a unit.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.data.encoded import Encoded, Units
from tunesmith.engine.batch import Batch, Collator, IntArray
from tunesmith.engine.losses import loss_sum, widened
from tunesmith.engine.scorer import Scorer
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.head_scores import head_inputs, head_scores
from tunesmith.models.modes import evaluating
from tunesmith.models.wrapping import inner
from tunesmith.tasks.objective import Objective

if TYPE_CHECKING:
    from torch import nn

PROBE_ROWS = 4
"""Rows that both ways are compared on."""
PROBE_TOLERANCE = 1e-4
"""Largest difference of two gradients of a row, relative to the largest entry of all, for both ways to count as equal
in float32."""
_LEFT_BY_HOOKS = ("activations", "max_batch_len")
"""What opacus leaves on modules where a pass was broken off."""

FloatArray = npt.NDArray[np.float64]

Gradients = list[torch.Tensor | None]
"""[B, ...] of each parameter: the gradients of the rows' losses. None of one that no row's loss reads."""


def at_once(
    scorer: Scorer, task: Objective, batch: Batch, parameters: Sequence[nn.Parameter]
) -> tuple[torch.Tensor, Gradients]:
    """Return the sum of the rows' losses, without a graph, and the gradients of each, from one pass.

    Raises whatever opacus does on models that it cannot take apart, and ``ValueError`` where what it gives is not of
    the rows.
    """
    from opacus.grad_sample.grad_sample_module import GradSampleHooks

    model, batch = scorer.model, _with_positions(scorer, batch)
    hooks = GradSampleHooks(model, loss_reduction="sum", strict=False)
    try:
        with _watched(model), scorer.surrounding(batch):
            loss = _loss_sum(scorer, task, batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks on modules below which nothing is trained: they are meant
            loss.backward()
        found = [_of_rows(parameter, batch.units) for parameter in parameters]
    finally:
        hooks.cleanup()
        for module in model.modules():
            for name in _LEFT_BY_HOOKS:
                vars(module).pop(name, None)
        for parameter in parameters:
            parameter.grad = None
    return loss.detach(), found


def one_by_one(
    scorer: Scorer, task: Objective, batch: Batch, parameters: Sequence[nn.Parameter]
) -> tuple[torch.Tensor, Gradients]:
    """Return the same of a batch that is a single row."""
    with scorer.surrounding(batch):
        loss = loss_sum(scorer, task, batch)
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return loss.detach(), [None if gradient is None else gradient[None] for gradient in found]


def _loss_sum(scorer: Scorer, task: Objective, batch: Batch) -> torch.Tensor:
    """Return the loss of a batch, computed so that whatever is trained sees its rows side by side.

    A head that reads tokens is elsewhere given those of all rows as one.
    """
    if scorer.reads == "row" or not scorer.head_parameters():
        return loss_sum(scorer, task, batch)
    inputs = head_inputs(scorer.model, batch.inputs)
    scores_SLK = widened(head_scores(scorer.model(**inputs, **scorer.switches)))
    return task.loss_sum(scores_SLK[batch.read_mask][batch.read_tokens], batch.targets, batch.units)


def _with_positions(scorer: Scorer, batch: Batch) -> Batch:
    """Return a padded batch that says the positions of each row's tokens, which are those that the model would take.

    Without being told, models look them up once for all rows: then a trained table of positions has one gradient.
    """
    ids, anatomy = batch.inputs.get("input_ids"), Anatomy.of(scorer.model)
    entries: list[Any] = [anatomy.base, inner(scorer.model)]
    takes_them = all("position_ids" in inspect.signature(one.forward).parameters for one in entries)
    if ids is None or not takes_them or "position_ids" in batch.inputs:
        return batch
    positions = torch.arange(ids.shape[1], device=ids.device) + anatomy.position_offset
    return replace(batch, inputs={**batch.inputs, "position_ids": positions.expand(ids.shape)})


def _of_rows(parameter: nn.Parameter, units: Units) -> torch.Tensor | None:
    """Return [B, ...]: what opacus has found of a parameter, the sequences of a row added up."""
    found: torch.Tensor | None = getattr(parameter, "grad_sample", None)
    if found is None:
        if parameter.grad is not None:
            raise ValueError("a parameter has a gradient, and none of each row")
        return None
    num_sequences, num_rows = len(units.sequences) - 1, len(units.rows) - 1
    if not isinstance(found, torch.Tensor) or len(found) != num_sequences:
        raise ValueError("a module was given the rows of a batch in another form than side by side")
    if num_rows == num_sequences:
        return found
    row_of_sequence = np.searchsorted(units.rows, units.sequences[:-1], side="right") - 1
    rows_S = torch.from_numpy(row_of_sequence).to(found.device)
    return found.new_zeros((num_rows, *found.shape[1:])).index_add_(0, rows_S, found)


def clipped_sums(gradients: Gradients, units: Units, bound: float) -> Gradients:
    """Return, of each parameter, the sum over rows of the gradient of a row's mean loss, clipped to the norm ``bound``.

    A row's loss is the sum over its units divided by their number; rows without units have no part, and neither have
    those whose gradient is not finite. The norm is the L2 norm over all parameters (Abadi et al. 2016, algorithm 1).
    """
    known = [gradient for gradient in gradients if gradient is not None]
    if not known:
        return gradients
    squares_B = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in known]).sum(dim=0)
    shares_B = _shares(units, squares_B)
    norms_B = squares_B.sqrt() * shares_B
    is_sound_B = norms_B.isfinite()
    factors_B = shares_B * (bound / norms_B.clamp(min=torch.finfo(norms_B.dtype).tiny)).clamp(max=1)
    factors_B = torch.where(is_sound_B, factors_B, 0.0)

    def summed(gradient: torch.Tensor) -> torch.Tensor:
        if not bool(is_sound_B.all()):
            gradient = torch.where(is_sound_B.view(-1, *[1] * (gradient.ndim - 1)), gradient, 0.0)
        found: torch.Tensor = torch.tensordot(factors_B, gradient, dims=1)
        return found

    return [None if gradient is None else summed(gradient) for gradient in gradients]


def sums_of_groups(
    gradients: Gradients, units: Units, groups_B: IntArray, weights_B: FloatArray, num_groups: int
) -> Gradients:
    """Return [G, ...] of each parameter: for each group the weighted sum of the gradients of its rows' mean losses.

    Rows are added up group by group: one whose gradient is not finite spoils that of its own group alone.
    """

    def summed(gradient: torch.Tensor) -> torch.Tensor:
        weights = torch.from_numpy(weights_B).to(gradient) * _shares(units, gradient)
        of_rows = gradient * weights.view(-1, *[1] * (gradient.ndim - 1))
        groups = torch.from_numpy(groups_B).to(gradient.device)
        return gradient.new_zeros((num_groups, *gradient.shape[1:])).index_add_(0, groups, of_rows)

    return [None if gradient is None else summed(gradient) for gradient in gradients]


def _shares(units: Units, like: torch.Tensor) -> torch.Tensor:
    """Return [B]: what a unit is of each row's mean loss; 0 for rows without any."""
    counts_B = torch.from_numpy(np.diff(units.rows)).to(like)
    return torch.where(counts_B > 0, 1 / counts_B.clamp(min=1), 0.0)


def come_at_once(
    scorer: Scorer, task: Objective, collate: Collator, data: Encoded, parameters: Sequence[nn.Parameter]
) -> bool:
    """Say whether the gradients of some rows are the same at once and one by one, without dropout."""
    if task.reduces:
        return False  # scores of many units are computed twice, which hooks would see as further rows
    samples = np.arange(min(data.num_samples, PROBE_ROWS))
    with evaluating(scorer.model):
        batch = collate(data, data.sequences_of(samples))
        order = samples if data.keeps_rows else batch.sequences
        try:
            _, together = at_once(scorer, task, batch, parameters)
        except Exception:
            return False
        alone = [one_by_one(scorer, task, collate(data, _row(data, sample)), parameters)[1] for sample in order]
    expected = [_side_by_side([row[number] for row in alone]) for number in range(len(together))]
    largest = max((float(one.abs().max()) for one in expected if one is not None), default=0.0)
    return all(
        one is None and two is None
        if one is None or two is None
        else bool((one - two).abs().max() <= PROBE_TOLERANCE * largest)
        for one, two in zip(together, expected, strict=True)
    )


def _row(data: Encoded, sample: Any) -> IntArray:
    return data.sequences_of(np.array([sample]))


def _side_by_side(rows: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Return [B, ...] of gradients of single rows; None where no row has one."""
    known = [row[0] for row in rows if row is not None]
    return torch.stack(known) if known else None


@contextmanager
def _watched(model: nn.Module) -> Iterator[None]:
    """Let what holds trained weights be in training mode inside the block: opacus looks at nothing else.

    None of these modules has dropout of its own, but for recurrent ones, which it cannot take apart.
    """
    resting = [
        module
        for module in model.modules()
        if not module.training and any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    ]
    for module in resting:
        module.training = True
    try:
        yield
    finally:
        for module in resting:
            module.training = False
