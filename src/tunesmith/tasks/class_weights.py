"""The weight of each label in the loss: as the user gives it, and balanced from how often labels occur."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch

from tunesmith.config.base import nearest
from tunesmith.tasks.label_checks import quoted
from tunesmith.types import InputError

Weights = Literal["balanced"] | Mapping[str, float] | Sequence[float] | None
"""As the user gives them."""


def check_weights(weights: Collection[float]) -> None:
    """Raise ``ValueError`` for weights that are negative, all 0, or none at all."""
    if min(weights, default=0.0) < 0 or max(weights, default=0.0) <= 0:
        raise ValueError("expected weights that are 0 or more and not all 0")


def bound_weights(
    weights: Weights,
    labels: Sequence[str],
    counts: Mapping[str, int],
    *,
    num_rows: int | None = None,
    what: str = "labels",
) -> dict[str, float] | None:
    """Return the weight of every label, as given or balanced; None where nothing is said.

    ``counts`` say how often labels occur; ``num_rows`` is given where a row may have any number of them. Raises
    ``InputError`` for weights of another number than the labels, and for names that are no label.
    """
    if weights is None:
        return None
    if weights == "balanced":
        return _balanced(labels, counts) if num_rows is None else _balanced_positive(labels, counts, num_rows)
    if isinstance(weights, Mapping):
        unknown = [name for name in weights if name not in labels]
        if unknown:
            message = f"task.class_weights names {what} that do not exist: {quoted(unknown)}"
            raise InputError(f"{message}; there are {quoted(labels)}.", nearest(unknown[0], list(labels)))
        return {label: weights.get(label, 1.0) for label in labels}
    if len(weights) != len(labels):
        message = f"task.class_weights lists {len(weights)} weights for {len(labels)} {what}: {quoted(labels)}."
        raise InputError(message, "Give one weight per label, or a mapping from label to weight.")
    return dict(zip(labels, weights, strict=True))


def _balanced(labels: Sequence[str], counts: Mapping[str, int]) -> dict[str, float]:
    """Return N / (K n_k) for each of K exclusive labels, of which the k-th occurs n_k times among N."""
    total = sum(counts.get(label, 0) for label in labels)
    return {label: total / (len(labels) * max(counts.get(label, 0), 1)) for label in labels}


def _balanced_positive(labels: Sequence[str], counts: Mapping[str, int], num_rows: int) -> dict[str, float]:
    """Return (N - n_k) / n_k for each label that n_k of N rows have; 1 for a label on every row."""
    return {label: (num_rows - counts.get(label, 0)) / max(counts.get(label, 0), 1) or 1.0 for label in labels}


def weights_tensor(weights: Weights, labels: Sequence[str], like: torch.Tensor) -> torch.Tensor | None:
    """Return [K]: bound weights in the order of the labels, of the type and on the device of ``like``; or None."""
    if weights is None:
        return None
    assert isinstance(weights, Mapping), "bind the task first"
    return torch.tensor([weights[label] for label in labels], dtype=like.dtype, device=like.device)
