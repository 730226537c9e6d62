"""How changes of weights are added: only where runs agree (TIES), or a random part of them (DARE).

A run's change is what its training added to the base model's weights (Ilharco et al. 2023). Each function returns what
every run contributes; the merged model is the base and all contributions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

Change = Mapping[str, torch.Tensor]
"""What was added to each weight, by its name."""


def ties(changes_M: Sequence[Change], weights_M: Sequence[float], density: float) -> list[dict[str, torch.Tensor]]:
    """Return the changes as TIES keeps them (Yadav et al. 2023, algorithm 1; lambda is 1).

    Of every run the largest ``density`` of its change is kept; each weight's sign is that of the weighted sum; a run
    contributes where it has this sign, and the contributions to a weight are a mean over those who make any.
    """
    trimmed_M = [_trimmed(change, density) for change in changes_M]
    found: list[dict[str, torch.Tensor]] = [{} for _ in changes_M]
    for name in changes_M[0]:
        weighted = [weight * change[name] for change, weight in zip(trimmed_M, weights_M, strict=True)]
        sign = torch.stack(weighted).sum(dim=0).sign()
        agreeing = [(one.sign() == sign) & (one != 0) for one in weighted]
        total = sum(weight * agrees.to(sign.dtype) for weight, agrees in zip(weights_M, agreeing, strict=True))
        total = torch.as_tensor(total)
        for own, one, agrees in zip(found, weighted, agreeing, strict=True):
            own[name] = torch.where(agrees, one / total.clamp_min(torch.finfo(one.dtype).tiny), 0.0)
    return found


def dare(
    changes_M: Sequence[Change], weights_M: Sequence[float], density: float, seed: int
) -> list[dict[str, torch.Tensor]]:
    """Return a random ``density`` of every change, made as much larger, weighted (Yu et al. 2024, section 3.2)."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for change, weight in zip(changes_M, weights_M, strict=True):
        own = {}
        for name, value in change.items():
            kept = torch.rand(value.shape, generator=generator) < density
            own[name] = torch.where(kept, value * (weight / density), 0.0)
        found.append(own)
    return found


def _trimmed(change: Change, density: float) -> dict[str, torch.Tensor]:
    """Return a change of which only the largest values, over all weights, are not zero."""
    sizes = torch.cat([value.abs().flatten() for value in change.values()])
    num_kept = max(1, round(density * len(sizes)))
    least = sizes.kthvalue(len(sizes) - num_kept + 1).values
    return {name: torch.where(value.abs() >= least, value, 0.0) for name, value in change.items()}
