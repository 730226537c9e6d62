"""Biases and the head alone are trained."""

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
    """Train the biases, of layers and of norms, and the head (BitFit, Ben Zaken et al. 2022).

    Decoders of Llama's kind have no biases: on them it is refused.
    """

    name: Literal["bitfit"] = "bitfit"

    title: ClassVar[str] = "training of the biases and the head only"
    default_learning_rate: ClassVar[float] = 1e-3

    @property
    def leaves_weights_unread(self) -> bool:
        return True

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` with all but biases and head frozen; ``InputError`` where it has no biases."""
        head = set(Anatomy.of(model).head_parameter_names)
        biases = {
            name for name, parameter in model.named_parameters() if name.endswith("bias") and parameter.requires_grad
        }
        if not biases - head:
            raise InputError(
                f"The method 'bitfit' trains biases, and {type(model).__name__} has none below its head.",
                "Use the method 'lora', which adds weights to linear layers, or 'freeze' with method.layers.",
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in biases or name in head)
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self)
