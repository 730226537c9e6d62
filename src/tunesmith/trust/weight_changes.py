"""What a method changed: the size and the rank of the update of every matrix, and of every layer together."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from tunesmith.export.plain_model import plain_model
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner
from tunesmith.run import Run
from tunesmith.run.reference import before_training

ENERGY = 0.99
"""The rank is that of the smallest part with this share of an update's square."""
LARGEST = 2048
"""Numbers of the smaller side of a matrix whose rank is looked for."""


@dataclass(frozen=True, slots=True)
class LayerChange:
    """Of the matrices of one layer, or of one matrix outside of the layers."""

    name: str
    parameters: int
    changed: int
    """How many of them differ from what they were."""
    norm: float
    """Of the update (the root of the sum of its squares)."""
    relative: float
    """The same beside the norm of the weights before."""
    rank: int | None
    """The largest of its matrices' updates: how many directions hold 99% of its square; None where there is none, or
    its matrices are too large to look."""


def weight_changes(run: Run) -> list[LayerChange]:
    """Return what training changed, layer by layer from the input up, the whole model last.

    Adapters are added to their base first. Raises ``InputError`` for models of which there is no plain one, and where
    the base has changed since.
    """
    trained = dict(plain_model(run).model.named_parameters())
    recorded = run.directory.read_json("environment").get("model", {}).get("weights_sha256")
    network = before_training(run.task, run.config, recorded)
    before = dict(inner(network.model).named_parameters())
    depths = Anatomy.of(network.model).depths
    groups: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for name, weights in sorted(before.items(), key=lambda item: depths.get(item[0], 0)):
        if name in trained and trained[name].shape == weights.shape:
            pair = (weights.detach().float().cpu(), trained[name].detach().float().cpu())
            groups.setdefault(layer_of(name), []).append(pair)
    everything = [pair for pairs in groups.values() for pair in pairs]
    return [_change(name, pairs) for name, pairs in [*groups.items(), ("all", everything)]]


def layer_of(name: str) -> str:
    """Return the layer that a parameter is of: what stands before its number, with it; else the module's name."""
    found = re.match(r"(.*?\.\d+)\.", name)
    return found[1] if found else name.rpartition(".")[0]


def _change(name: str, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> LayerChange:
    updates = [after - weights for weights, after in pairs]
    square = sum(float(update.double().square().sum()) for update in updates)
    size = sum(float(weights.double().square().sum()) for weights, _ in pairs)
    ranks = [rank for update in updates if (rank := update_rank(update)) is not None]
    return LayerChange(
        name,
        sum(update.numel() for update in updates),
        sum(int((update != 0).sum()) for update in updates),
        square**0.5,
        (square / size) ** 0.5 if size else 0.0,
        max(ranks, default=None) if name != "all" else None,
    )


def update_rank(update: torch.Tensor) -> int | None:
    """Return how many singular directions hold ``ENERGY`` of the square of a matrix; None of what is no such matrix."""
    if update.ndim != 2 or min(update.shape) > LARGEST or not bool(update.any()):
        return None
    wide = update.double() if update.shape[0] <= update.shape[1] else update.double().T
    squares = torch.linalg.eigvalsh(wide @ wide.T).flip(0).clamp(min=0)
    return int((squares.cumsum(0) < ENERGY * squares.sum()).sum()) + 1
