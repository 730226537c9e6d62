"""LoRA that begins at what its layers read most (EVA, Paischer et al. 2024), with ranks where that explains most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from tunesmith.methods.calibration import Calibration
from tunesmith.methods.layer_statistics import input_statistics
from tunesmith.methods.lora import Lora
from tunesmith.methods.lora_starts import named_adapters

if TYPE_CHECKING:
    from torch import nn


class Eva(Lora):
    """LoRA whose ``A`` begins at the principal directions of what each layer reads (algorithm 1 of the paper).

    ``B`` begins at zero, so that nothing is added yet. Ranks go to the layers whose directions explain the largest
    shares of the variance of what they read, from 1 to ``rho`` times ``rank``, with a mean of ``rank``; scales stay
    those of ``rank``. The directions are those of the whole covariance, not PEFT's estimate by growing batches.
    """

    name: Literal["eva"] = "eva"  # type: ignore[assignment]

    title: ClassVar[str] = "EVA"
    default_learning_rate: ClassVar[float] = 3e-4

    init: Literal["default"] = "default"
    """Decided by the method."""
    rho: float = Field(default=2.0, ge=1)
    """How many times ``rank`` a layer may get; 1 for the same rank everywhere."""
    calibration_rows: int = Field(default=256, ge=1)
    """Training rows that are looked at before the first step."""

    @property
    def num_calibration_rows(self) -> int:
        return self.calibration_rows

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        layers = named_adapters(model)
        directions: dict[str, torch.Tensor] = {}
        shares: dict[str, torch.Tensor] = {}
        for name, _, read in input_statistics(layers, rows):
            values, vectors = torch.linalg.eigh(read.covariance)
            most = min(int(self.rho * self.rank), len(values))
            directions[name] = vectors.T.flip(0)[:most]
            shares[name] = (values.flip(0) / values.sum().clamp(min=1e-20))[:most]
        ranks = _distributed(shares, self.rank * len(layers))
        return {name: directions[name][: ranks[name]] for name, _ in layers}

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        wrapped: Any = model
        config = wrapped.peft_config["default"]
        for name, layer in named_adapters(model):
            rank, down, up = len(found[name]), layer.lora_A["default"], layer.lora_B["default"]
            scale = layer.scaling["default"]
            alpha = scale * (rank**0.5 if self.rslora else rank)
            layer.r["default"], layer.lora_alpha["default"] = rank, alpha
            down.out_features = up.in_features = rank
            down.weight.data = found[name].to(down.weight)
            up.weight.data = torch.zeros(up.out_features, rank).to(up.weight)
            plain = name.removeprefix("base_model.model.")
            config.rank_pattern[plain], config.alpha_pattern[plain] = rank, alpha


def _distributed(shares: Mapping[str, torch.Tensor], budget: int) -> dict[str, int]:
    """Return ranks of at least 1 that together make ``budget``, given to the directions with the largest shares."""
    names = [name for name, values in shares.items() for _ in values[1:]]
    further = torch.cat([values[1:] for values in shares.values()])
    chosen = further.argsort(descending=True, stable=True)[: max(budget - len(shares), 0)]
    ranks = dict.fromkeys(shares, 1)
    for index in chosen.tolist():
        ranks[names[index]] += 1
    return ranks
