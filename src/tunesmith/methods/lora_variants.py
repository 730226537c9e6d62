"""Variants of LoRA under names of their own: the same class and options, with defaults that make the variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field

from tunesmith.methods.lora import Lora

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel


class RsLora(Lora):
    """LoRA whose scale does not shrink with the rank: alpha / sqrt(rank) (Kalajdzievski 2023), at a high rank."""

    name: Literal["rslora"] = "rslora"  # type: ignore[assignment]

    title: ClassVar[str] = "rsLoRA"

    rank: int = Field(default=32, ge=1)
    """Inner size of the added matrices."""
    alpha: float | None = Field(default=16.0, gt=0)
    """Scale of what is added (times 1 / sqrt(rank)); twice the rank when null."""
    rslora: bool = True
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023), for high ranks."""


class Dora(Lora):
    """LoRA of the direction of the weights, whose magnitude is trained apart (DoRA, Liu et al. 2024)."""

    name: Literal["dora"] = "dora"  # type: ignore[assignment]

    title: ClassVar[str] = "DoRA"

    dora: bool = True
    """Train direction and magnitude of the weights apart (DoRA, Liu et al. 2024)."""


class LoraPlus(Lora):
    """LoRA whose ``B`` learns faster than its ``A`` (LoRA+, Hayou et al. 2024)."""

    name: Literal["lora_plus"] = "lora_plus"  # type: ignore[assignment]

    title: ClassVar[str] = "LoRA+"

    lora_plus_ratio: float = Field(default=16.0, gt=0)
    """Factor on the learning rate of ``B`` (LoRA+, Hayou et al. 2024; the authors suggest 16)."""


class LoraFa(Lora):
    """LoRA whose random ``A`` stays as it is (LoRA-FA, Zhang et al. 2023); the gradient of ``B`` is made up for that.

    As in PEFT's optimizer of the name, the gradient of ``B`` becomes ``(A A')^-1 / scale^2`` times what it was: the
    step of ``B A`` is then the nearest to that of the whole weight.
    """

    name: Literal["lora_fa"] = "lora_fa"  # type: ignore[assignment]

    title: ClassVar[str] = "LoRA-FA"

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        wrapped = super().wrap(model, config)
        for name, parameter in wrapped.named_parameters():
            if ".lora_A." in name or ".lora_embedding_A." in name:
                parameter.requires_grad_(False)
        return wrapped

    @torch.no_grad()
    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Turn every gradient of ``B``."""
        for module in model.modules():
            layer: Any = module
            up = layer.lora_B["default"].weight if "default" in getattr(layer, "lora_B", ()) else None
            if up is None or up.grad is None:
                continue
            down = layer.lora_A["default"].weight.to(up.dtype)
            inverse = torch.linalg.pinv(down @ down.T, hermitian=True)
            up.grad = up.grad @ inverse / layer.scaling["default"] ** 2
