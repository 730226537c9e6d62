"""Biases and the head alone are trained (Ben Zaken et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.whole import WholeModel
from tunesmith.models.anatomy import Anatomy
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class BitFit(WholeModel):
    """Train biases and the head only."""

    name: Literal["bitfit"] = "bitfit"

    default_learning_rate: ClassVar[float] = 1e-3

    def apply(self, model: PreTrainedModel) -> nn.Module:
        head = Anatomy.of(model).head_parameter_names
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith("bias") or name in head)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError(f"{type(model).__name__} has no biases and no head of its own.", "Use the method 'lora'.")
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self.layer_decay)
