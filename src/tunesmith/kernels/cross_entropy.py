"""Cross-entropy over large vocabularies in two passes over the scores, which become their own gradient.

Shapes: U units, K classes.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch.nn import functional

from tunesmith.kernels.library import address, kernel, serves

IGNORED = -100
"""A label that takes no part, as in torch."""

MIN_CLASSES = 256
"""With fewer, torch's own is as good."""

_KEEP_NOTHING = {"MmBackward0", "AddmmBackward0"}
_PASS_ON = {"UnsafeViewBackward0", "ViewBackward0", "SqueezeBackward1", "SqueezeBackward0", "SliceBackward0"}


def cross_entropy_sum(scores_UK: torch.Tensor, labels_U: torch.Tensor) -> torch.Tensor:
    """Return ``sum over units of log sum over classes exp(score) - score of the label``, in float32 or wider.

    Where a gradient will be asked for, the scores may be overwritten: they must not be read afterwards.
    """
    if scores_UK.requires_grad and scores_UK.shape[1] >= MIN_CLASSES and serves(scores_UK):
        loss: torch.Tensor = _CrossEntropySum.apply(scores_UK, labels_U)  # type: ignore[no-untyped-call]
        return loss
    wide = scores_UK if scores_UK.dtype == torch.float64 else scores_UK.float()
    return functional.cross_entropy(wide, labels_U.long(), reduction="sum")


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        classes = labels.long().contiguous()
        _require_classes(classes, *scores.shape)
        ctx.gradient = scores if _may_overwrite(scores) else scores.clone()
        losses = torch.empty(len(scores))
        num_units, num_classes = (ctypes.c_int64(size) for size in scores.shape)
        kernel("cross_entropy", scores.dtype)(num_units, num_classes, *map(address, (ctx.gradient, classes, losses)))
        torch.autograd.graph.increment_version(ctx.gradient)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (factor,) = gradients
        gradient: torch.Tensor = ctx.gradient
        del ctx.gradient
        return gradient if float(factor) == 1 else gradient.mul_(factor), None


def _require_classes(labels: torch.Tensor, num_units: int, num_classes: int) -> None:
    """Raise what torch raises for labels that do not belong to the scores."""
    if labels.shape != (num_units,):
        raise ValueError(f"expected {num_units} labels, one for each row of scores, got {list(labels.shape)}")
    if not num_units:
        return
    least, most = (int(bound) for bound in labels.aminmax())
    if most >= num_classes:
        raise IndexError(f"Target {most} is out of bounds: there are {num_classes} classes.")
    if least < 0 and bool(((labels < 0) & (labels != IGNORED)).any()):
        raise IndexError("A target below 0 is out of bounds.")


def _may_overwrite(scores: torch.Tensor) -> bool:
    """Say whether the scores come straight from a matrix product, whose gradient does not need them."""
    node: Any = scores.grad_fn
    while node is not None and node.name() in _PASS_ON:
        node = node.next_functions[0][0]
    return node is not None and node.name() in _KEEP_NOTHING
