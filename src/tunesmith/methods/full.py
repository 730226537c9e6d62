"""Full fine-tuning: every parameter of the model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.whole import WholeModel

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Full(WholeModel):
    """Train all parameters (what an architecture itself keeps fixed, such as sinusoidal positions, stays so)."""

    name: Literal["full"] = "full"

    title: ClassVar[str] = "full fine-tuning"
    default_learning_rate: ClassVar[float] = 1e-4
    trains_everything: ClassVar[bool] = True

    @property
    def leaves_weights_unread(self) -> bool:
        return True

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` itself: a loaded model is trainable as it is."""
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self)
