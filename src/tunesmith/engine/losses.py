# mypy: disable-error-code="no-untyped-call"
"""The loss of a batch, its scores computed a chunk of units at a time where there are many.

The scores of a language model are by far its largest tensor: tokens times vocabulary. They are
needed only to be reduced to a loss and to the gradient of the hidden states, so both are made
chunk by chunk in the forward pass and the scores forgotten (the idea of Liger's fused linear
cross-entropy, Hsu et al. 2024, for any head and any loss that is a sum over units). Gradients of
the head's weights are added up in float32 or wider, whatever the weights are.

Shapes: U units read, D numbers per hidden state, K scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tunesmith.engine.batch import Batch
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.objective import Objective

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

MAX_SCORES = 2**23
"""Scores that are computed at once: few enough to stay in the processor's cache."""

MAX_SCORES_OF_TRAINED_HEADS = 2**25
"""The same where the head is trained: after each part its gradient, as large as its weights, is added up."""

MAX_SCORES_ELSEWHERE = 2**27
"""The same on other devices than the CPU, whose caches hold none of it: few parts keep them busy."""

Targets = Mapping[str, torch.Tensor]


def widened(scores: torch.Tensor) -> torch.Tensor:
    """Return scores in float32, or in float64 if that is what they are."""
    return scores if scores.dtype == torch.float64 else scores.float()


def loss_sum(scorer: Scorer, task: Objective, batch: Batch) -> torch.Tensor:
    """Return the scalar sum of the losses over the batch's units, to be differentiated."""
    if task.reduces:
        return task.loss_sum(reduced(scorer, task, batch), batch.targets, batch.units)
    if scorer.reads == "row":
        return task.loss_sum(widened(scorer(batch)), batch.targets, batch.units)
    hidden_UD = scorer.read(batch)
    if scorer.fused_loss is not None:
        return scorer.fused_loss(hidden_UD, batch.targets["labels"])
    parts = list(chunks(scorer, task, len(hidden_UD)))
    if len(parts) <= 1:
        with scorer.noise_of_read(batch):
            return task.loss_sum(scorer.head(hidden_UD), batch.targets, batch.units)
    loss: torch.Tensor = _ChunkedLoss.apply(hidden_UD, scorer, task, batch, parts, *scorer.head_parameters())
    return loss


def reduced(scorer: Scorer, task: Objective, batch: Batch) -> torch.Tensor:
    """Return [U, R]: what the task reads of the scores of all units, which are computed a chunk at a time.

    In a backward pass each chunk's scores are computed once more: what is known of the loss then is its gradient.
    """
    hidden_UD = scorer.read(batch)

    def of(part: slice, part_UD: torch.Tensor) -> torch.Tensor:
        with scorer.noise_of_read(batch, part):
            return task.reduce(scorer.head(part_UD), part_of(batch.targets, part))

    parts = list(chunks(scorer, task, len(hidden_UD)))
    if len(parts) <= 1:
        return of(slice(None), hidden_UD)
    if not torch.is_grad_enabled():
        return torch.cat([of(part, hidden_UD[part]) for part in parts])
    return torch.cat([checkpoint(of, part, hidden_UD[part], use_reentrant=False) for part in parts])


def max_scores(scorer: Scorer) -> int:
    """Return how many scores are computed at once."""
    if next(scorer.model.parameters()).device.type != "cpu":
        return MAX_SCORES_ELSEWHERE
    return MAX_SCORES_OF_TRAINED_HEADS if scorer.head_parameters() else MAX_SCORES


def chunks(scorer: Scorer, task: Objective, num_units: int) -> Iterator[slice]:
    """Yield the slices of units whose scores are computed at once: one, where the loss is no sum over units."""
    size = num_units
    if task.sums_over_units or task.reduces:
        whole = max(max_scores(scorer) // scorer.num_outputs, 1)
        size = max(whole // scorer.shapes.tokens, 1) * scorer.shapes.tokens if whole < num_units else num_units
    for start in range(0, num_units, max(size, 1)):
        yield slice(start, min(start + size, num_units))


def part_of(targets: Targets, part: slice) -> dict[str, torch.Tensor]:
    """Return the targets of some of the units; every target has one entry per unit."""
    return {name: target[part] for name, target in targets.items()}


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (the interface of torch)
        ctx: FunctionCtx,
        hidden_UD: torch.Tensor,
        scorer: Scorer,
        task: Objective,
        batch: Batch,
        parts: list[slice],
        *parameters: nn.Parameter,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=_wide(hidden_UD.dtype), device=hidden_UD.device)
        hidden_gradient = torch.empty_like(hidden_UD)
        sums: list[torch.Tensor | None] = [None] * len(parameters)
        for part in parts:
            with torch.enable_grad(), scorer.noise_of_read(batch, part):
                hidden = hidden_UD[part].detach().requires_grad_()
                loss = task.loss_sum(scorer.head(hidden), part_of(batch.targets, part), batch.units.part(part))
            gradients = torch.autograd.grad(loss, [hidden, *parameters], allow_unused=True)
            total += loss.detach()
            assert gradients[0] is not None
            hidden_gradient[part] = gradients[0]
            for index, gradient in enumerate(gradients[1:]):
                if gradient is not None:
                    sums[index] = _added(sums[index], gradient)
        ctx.save_for_backward(hidden_gradient, *sums)  # type: ignore[arg-type]
        ctx.dtypes = [parameter.dtype for parameter in parameters]  # type: ignore[attr-defined]
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[Any, ...]:
        hidden_gradient, *sums = ctx.saved_tensors  # type: ignore[attr-defined]
        scale = gradients[0]
        of_parameters = [
            None if summed is None else (summed * scale).to(dtype)
            for summed, dtype in zip(sums, ctx.dtypes, strict=True)  # type: ignore[attr-defined]
        ]
        return hidden_gradient * scale.to(hidden_gradient.dtype), None, None, None, None, *of_parameters


def _added(summed: torch.Tensor | None, gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to(_wide(gradient.dtype)) if summed is None else summed.add_(gradient)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
