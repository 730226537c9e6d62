"""Losses of answers that a model has written itself: those better than others to the same question become likelier.

``r_i`` is the reward of the answer ``i`` of a group of ``G`` to one question, its advantage
``A_i = (r_i - mean(r)) / std(r)`` (Shao et al. 2024, DeepSeekMath, section 4.1.2; GRPO), or without the division
(Liu et al. 2025, "Dr. GRPO", section 3.2). Of a token of the answer, ``p`` is the probability that the model gives it
now, ``o`` what it gave it when the answer was written, ``q`` what the reference gives it; ``w = p / o``:

    loss = -min(w A, clip(w, 1 - low, 1 + high) A) + beta (q / p - log(q / p) - 1)

(DeepSeekMath, eq. 3 and 4; ``high`` above ``low`` as in DAPO, Yu et al. 2025, eq. 10.) Where each answer serves for
one step, ``o`` is ``p`` itself: ``w`` is 1 and its gradient that of ``log p``, so that nothing is clipped.

Shapes: B questions, G answers to each, U tokens of all answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from tunesmith.tasks.judge import FloatArray
from tunesmith.tasks.objectives.preference import REFERENCE

ADVANTAGE, WEIGHT, BEFORE = "advantage", "weight", "before"
"""Targets of every token: its answer's advantage; its share in the loss; its log-probability when it was written."""
LEAST_SPREAD = 1e-4
"""Added to the standard deviation that advantages are divided by, as in TRL."""


def advantages(rewards_BG: FloatArray, *, scale: bool) -> FloatArray:
    """Return [B, G]: how much better each answer is than those to the same question."""
    centred: FloatArray = rewards_BG - rewards_BG.mean(axis=1, keepdims=True)
    if not scale:
        return centred
    scaled: FloatArray = centred / (rewards_BG.std(axis=1, ddof=1, keepdims=True) + LEAST_SPREAD)
    return scaled


def differ(rewards_BG: FloatArray) -> FloatArray:
    """Return [B]: 1 for groups whose answers are not all worth the same, else 0: from those nothing is learned."""
    spread = rewards_BG.max(axis=1) - rewards_BG.min(axis=1)
    found: FloatArray = (spread > 1e-9 * np.maximum(np.abs(rewards_BG).max(axis=1), 1.0)).astype(np.float64)
    return found


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return what each token adds to the KL divergence from the reference (Schulman 2020, k3): at least 0."""
    return torch.expm1(log_q - log_p) - (log_q - log_p)


def policy_losses(
    log_p_U: torch.Tensor,
    targets: Mapping[str, torch.Tensor],
    *,
    low: float,
    high: float,
    beta: float,
    corrects_kl: bool = False,
) -> torch.Tensor:
    """Return [U]: the loss of each token; that of the reference where there is one and ``beta`` is not 0."""
    advantage_U = targets[ADVANTAGE].to(log_p_U.dtype)
    before_U = targets[BEFORE].to(log_p_U.dtype) if BEFORE in targets else log_p_U.detach()
    ratio_U = torch.exp(log_p_U - before_U)
    clipped_U = ratio_U.clamp(1 - low, 1 + high)
    losses_U = -torch.minimum(ratio_U * advantage_U, clipped_U * advantage_U)
    if beta and REFERENCE in targets:
        apart_U = divergence(log_p_U, targets[REFERENCE].to(log_p_U.dtype))
        losses_U = losses_U + beta * (ratio_U * apart_U if corrects_kl else apart_U)
    return losses_U
