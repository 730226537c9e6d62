"""LoRA beside a base in 4 bits that begins at what rounding took away (LoftQ, Li et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from tunesmith.methods.lora import Lora
from tunesmith.methods.lora_starts import named_adapters
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LoftQ(Lora):
    """LoRA whose first ``B A`` is the low-rank part of ``W - Q(W)``: the model begins near the one before rounding.

    One alternation of algorithm 1, so that the base is the usual ``nf4`` one, which whoever loads the adapter makes of
    the published weights. Offered on GPUs alone: a base in 4 bits makes a CPU's steps slower.
    """

    name: Literal["loftq"] = "loftq"  # type: ignore[assignment]

    title: ClassVar[str] = "LoftQ"

    init: Literal["default"] = "default"
    """Decided by the method."""
    quantize: Literal["nf4"] = "nf4"
    """The frozen linear layers are kept in 4 bits."""

    def apply(self, model: PreTrainedModel) -> nn.Module:
        if not has_gpu():
            raise InputError(
                "The method 'loftq' needs a GPU: it is for a base in 4 bits, with which a CPU is slower.",
                "Use the method 'lora' here; with --method.quantize nf4 it saves as much memory.",
            )
        from peft.utils.integrations import dequantize_module_weight

        whole = {name: _whole_weight(module) for name, module in self.targets(model).items()}
        wrapped = super().apply(model)
        for name, layer in named_adapters(wrapped):
            base = layer.get_base_layer()
            if base.weight.is_floating_point():
                continue  # it stayed whole
            missing_OI = whole[name.removeprefix("base_model.model.")] - dequantize_module_weight(base).float()
            left_OR, sizes_R, right_IR = torch.svd_lowrank(missing_OI, q=self.rank, niter=4)
            roots_R = (sizes_R / layer.scaling["default"]).sqrt()
            layer.lora_A["default"].weight.data = (right_IR * roots_R).T.contiguous()
            layer.lora_B["default"].weight.data = left_OR * roots_R
        return wrapped


def has_gpu() -> bool:
    """Say whether this machine has an accelerator."""
    return torch.accelerator.is_available()


def _whole_weight(module: nn.Module) -> torch.Tensor:
    """Return a copy of a linear layer's weight as [O, I]."""
    weight: Any = module.weight
    whole: torch.Tensor = weight if isinstance(module, nn.Linear) else weight.T
    return whole.detach().float().clone()
