"""The weight of each label in the loss: as the user gives it, and balanced from how often labels occur."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from tunesmith.config.base import nearest
from tunesmith.tasks.label_checks import quoted
from tunesmith.types import InputError


def check_weights(weights: Collection[float]) -> None:
    """Raise ``ValueError`` for weights that are negative, all 0, or none at all."""
    if min(weights, default=0.0) < 0 or max(weights, default=0.0) <= 0:
        raise ValueError("expected weights that are 0 or more and not all 0")


def complete_weights(weights: Mapping[str, float], labels: Sequence[str], what: str = "labels") -> dict[str, float]:
    """Return a weight for every label, 1 for those left out; ``InputError`` for names that are no label."""
    unknown = [name for name in weights if name not in labels]
    if unknown:
        message = f"task.class_weights names {what} that do not exist: {quoted(unknown)}; there are {quoted(labels)}."
        raise InputError(message, nearest(unknown[0], list(labels)))
    return {label: weights.get(label, 1.0) for label in labels}


def balanced_weights(labels: Sequence[str], counts: Mapping[str, int]) -> dict[str, float]:
    """Return N / (K n_k) for each of K exclusive labels, of which the k-th occurs n_k times among N."""
    total = sum(counts.get(label, 0) for label in labels)
    return {label: total / (len(labels) * max(counts.get(label, 0), 1)) for label in labels}


def balanced_positive_weights(labels: Sequence[str], counts: Mapping[str, int], num_rows: int) -> dict[str, float]:
    """Return (N - n_k) / n_k for each label that n_k of N rows have; 1 for a label on every row."""
    return {label: (num_rows - counts.get(label, 0)) / max(counts.get(label, 0), 1) or 1.0 for label in labels}


def weights_tensor(weights: Mapping[str, float], labels: Sequence[str], like: torch.Tensor) -> torch.Tensor:
    """Return [K]: the weights in the order of the labels, of the type and on the device of ``like``."""
    return torch.tensor([weights[label] for label in labels], dtype=like.dtype, device=like.device)
