"""Losses of vectors that are to lie near each other or far apart; pure functions of vectors of length 1.

Shapes: B rows, D numbers a vector, C candidates, P pairs of an anchor with a negative.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def in_batch_negatives_sum(
    anchors_BD: torch.Tensor,
    candidates_CD: torch.Tensor,
    excluded_BC: torch.Tensor,
    temperature: float,
    *,
    symmetric: bool = False,
) -> torch.Tensor:
    """Return InfoNCE, summed over rows: van den Oord et al. 2018, eq. 4; Henderson et al. 2017, eq. 4.

    Each anchor is to find its own candidate among all: a cross-entropy over their cosines divided by the temperature.
    The first B candidates are the anchors' own, in their order; others follow. ``excluded_BC`` says which candidates
    are no negatives of an anchor though they are not its own. With ``symmetric`` the mean of this and of the other
    direction: each own candidate is to find its anchor among all of these.
    """
    scores_BC = anchors_BD @ candidates_CD.T / temperature
    scores_BC = scores_BC.masked_fill(excluded_BC, -torch.inf)
    own_B = torch.arange(len(anchors_BD), device=anchors_BD.device)
    forwards = functional.cross_entropy(scores_BC, own_B, reduction="sum")
    if not symmetric:
        return forwards
    backwards = functional.cross_entropy(scores_BC[:, : len(anchors_BD)].T, own_B, reduction="sum")
    return (forwards + backwards) / 2


def cosine_sum(anchors_BD: torch.Tensor, positives_BD: torch.Tensor, wanted_B: torch.Tensor) -> torch.Tensor:
    """Return the squared differences of cosines from those wanted, summed: Reimers and Gurevych 2019, section 3."""
    return functional.mse_loss((anchors_BD * positives_BD).sum(dim=-1), wanted_B, reduction="sum")


def cosent(
    anchors_BD: torch.Tensor, positives_BD: torch.Tensor, wanted_B: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return CoSENT (Su 2022): log(1 + the sum of exp((cos_j - cos_i) / t) over rows i, j with wanted_i > wanted_j).

    Only the order of the wanted numbers matters. It is one number of all rows together, no sum over them.
    """
    cosines_B = (anchors_BD * positives_BD).sum(dim=-1) / temperature
    apart_BB = cosines_B[None, :] - cosines_B[:, None]
    apart_BB = apart_BB.masked_fill(wanted_B[:, None] <= wanted_B[None, :], -torch.inf)
    return torch.cat([apart_BB.new_zeros(1), apart_BB.flatten()]).logsumexp(dim=0)


def triplet_sum(
    anchors_PD: torch.Tensor,
    positives_PD: torch.Tensor,
    negatives_PD: torch.Tensor,
    weights_P: torch.Tensor,
    margin: float,
) -> torch.Tensor:
    """Return how far each negative is from being ``margin`` further than the positive, by cosine distance.

    Schroff et al. 2015, eq. 3, with 1 - cos for the distance; weighed by ``weights_P`` and summed.
    """
    near_P = (anchors_PD * positives_PD).sum(dim=-1)
    far_P = (anchors_PD * negatives_PD).sum(dim=-1)
    return (functional.relu(far_P - near_P + margin) * weights_P).sum()
