"""Losses of single-label and multi-label classification, summed over the rows.

Shapes: B rows, K classes. Everything is computed in float32 or wider.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from tunesmith.kernels import cross_entropy


def widen(scores: torch.Tensor) -> torch.Tensor:
    """Return half-precision scores as float32, wider ones unchanged."""
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def cross_entropy_sum(
    scores_BK: torch.Tensor, labels_B: torch.Tensor, weights_K: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Return torch's cross-entropy (class weights and label smoothing as there), summed.

    The scores may be overwritten where a gradient will be asked for.
    """
    if weights_K is None and not smoothing:
        return cross_entropy.cross_entropy_sum(scores_BK, labels_B)
    return functional.cross_entropy(
        widen(scores_BK), labels_B.long(), weight=weights_K, label_smoothing=smoothing, reduction="sum"
    )


def focal_sum(
    scores_BK: torch.Tensor, labels_B: torch.Tensor, weights_K: torch.Tensor | None, gamma: float
) -> torch.Tensor:
    """Return the focal loss of K exclusive classes, summed: Lin et al. 2017, eq. 5, with the weights as alpha."""
    log_p_B = functional.log_softmax(widen(scores_BK), dim=-1).gather(1, labels_B.long()[:, None])[:, 0]
    loss_B = -_focus(log_p_B, gamma) * log_p_B
    return (loss_B if weights_K is None else loss_B * weights_K[labels_B.long()]).sum()


def binary_cross_entropy_sum(
    scores_BK: torch.Tensor, labels_BK: torch.Tensor, weights_K: torch.Tensor | None, smoothing: float
) -> torch.Tensor:
    """Return the binary cross-entropy of K independent labels, summed over rows and labels.

    ``weights_K`` multiply the positives (torch's ``pos_weight``); smoothing moves the
    targets towards one half.
    """
    scores_BK = widen(scores_BK)
    targets_BK = labels_BK.to(scores_BK.dtype) * (1.0 - smoothing) + 0.5 * smoothing
    return functional.binary_cross_entropy_with_logits(scores_BK, targets_BK, pos_weight=weights_K, reduction="sum")


def binary_focal_sum(
    scores_BK: torch.Tensor, labels_BK: torch.Tensor, weights_K: torch.Tensor | None, gamma: float
) -> torch.Tensor:
    """Return the focal loss of K independent labels, summed: Lin et al. 2017, eq. 5; alpha is 1 for negatives."""
    scores_BK = widen(scores_BK)
    positive_BK = labels_BK > 0.5
    log_p_BK = functional.logsigmoid(torch.where(positive_BK, scores_BK, -scores_BK))
    loss_BK = -_focus(log_p_BK, gamma) * log_p_BK
    if weights_K is not None:
        loss_BK = torch.where(positive_BK, loss_BK * weights_K, loss_BK)
    return loss_BK.sum()


def _focus(log_p: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return (1 - p) ** gamma; kept off zero, where the gradient of a power below 1 is infinite."""
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny).pow(gamma)
