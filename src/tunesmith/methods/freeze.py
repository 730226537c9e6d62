"""Partial fine-tuning: the lower part of the model keeps its pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.groups import fixed_by_design, group_parameters
from tunesmith.methods.whole import WholeModel
from tunesmith.models.anatomy import Anatomy
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Freeze(WholeModel):
    """Freeze the embeddings and the lowest layers, or everything but the head; optionally thaw from the top.

    Without options everything but the head is frozen (a linear probe). A pooler whose weights are
    new counts as head. Layers that stay frozen below everything trained run without dropout; batch norms
    would still update their running statistics (no text model here has any): freezing concerns
    what the optimizer changes, nothing else.
    """

    name: Literal["freeze"] = "freeze"

    title: ClassVar[str] = "training of the head and the upper layers only"
    default_learning_rate: ClassVar[float] = 1e-4
    HEAD_FACTOR: ClassVar[float] = 100.0
    """How much faster a head alone is learned: nothing below it can be spoiled."""

    layers: Annotated[int, Field(ge=0)] = 0
    """Lowest layers that are frozen; of an encoder-decoder, the encoder's come first."""
    embeddings: bool | None = None
    """Whether the embeddings are frozen; when not given, they are if any layer is."""
    all_but_head: bool | None = None
    """Whether only the head is trained; when not given, yes unless another option is."""
    gradual: bool = False
    """Thaw from the top (Howard & Ruder 2018, section 3.3): the head alone at first (the top layer where the model
    has no head of its own), then one more layer at a time, in stages of equal length; what ``layers`` and
    ``embeddings`` freeze is never thawed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.all_but_head and (self.layers or self.embeddings is False or self.gradual):
            raise ValueError("all_but_head freezes everything but the head; drop it, or drop the other options")
        if self.all_but_head is False and not (self.layers or self.embeddings or self.gradual):
            raise ValueError("nothing would be frozen; set layers, embeddings or gradual, or use the method 'full'")
        return self

    @property
    def only_head(self) -> bool:
        """Whether only the head is trained."""
        if self.all_but_head is not None:
            return self.all_but_head
        return not (self.layers or self.embeddings is not None or self.gradual)

    def rate_factor(self) -> float:
        return self.HEAD_FACTOR if self.only_head else 1.0

    @property
    def leaves_weights_unread(self) -> bool:
        return True

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` with what is frozen at the start of training set so.

        Raises ``InputError`` when the model has fewer layers, or no head to train alone.
        """
        anatomy = Anatomy.of(model)
        num_layers = anatomy.num_layers
        if self.layers > num_layers:
            raise InputError(
                f"method.layers is {self.layers}, but the model has {num_layers} layers.",
                f"Set method.layers to {num_layers} or less, or method.all_but_head to true.",
            )
        if self.only_head and not anatomy.head_parameter_names:
            raise InputError(
                f"Only the head would be trained, but {type(model).__name__} has no head of its own for the task.",
                "Set method.layers or method.gradual, or use the method 'full' or 'lora'.",
            )
        ever = self._ever_trained(model)
        if not ever:
            raise InputError(
                f"Everything would be frozen: {type(model).__name__} has no head of its own for the task.",
                f"Set method.layers below {num_layers}, or use the method 'full' or 'lora'.",
            )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in ever)
        self.update(model, 0.0)
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        return group_parameters(model, self._ever_trained(model), self)

    def update(self, model: nn.Module, progress: float) -> None:
        """With ``gradual``: thaw the top ``1 + floor(progress * stages)`` groups, the head being the first.

        What is frozen has no gradient, so that an optimizer leaves it alone.
        """
        if not self.gradual:
            return
        depths = Anatomy.of(model).depths
        ever = self._ever_trained(model)
        top = max(depths[name] for name in ever)  # a language model has no head of its own: its top layer is first
        num_stages = top - self._lowest(model) + 1
        # 3 of 10 steps are exactly 0.3 of the way, whatever the binary fraction says.
        stage = min(num_stages - 1, int(progress * num_stages + 1e-9))
        for name, parameter in model.named_parameters():
            trained = name in ever and depths[name] >= top - stage
            if parameter.requires_grad != trained:
                parameter.requires_grad_(trained)
                parameter.grad = None

    def _lowest(self, model: nn.Module) -> int:
        """Return the lowest depth that is ever trained above the embeddings' own setting."""
        frozen = self.embeddings if self.embeddings is not None else self.layers > 0
        if self.only_head:
            return Anatomy.of(model).num_layers + 1
        return self.layers + 1 if frozen else 0

    def _ever_trained(self, model: nn.Module) -> set[str]:
        """Return the names of all parameters trained at any time."""
        known = getattr(model, "tunesmith_fixed", None)
        if known is None:
            known = model.tunesmith_fixed = fixed_by_design(model)  # type: ignore[assignment]
        lowest = self._lowest(model)
        return {
            name
            for name, depth in Anatomy.of(model).depths.items()
            if name not in known and (depth >= lowest and (depth == 0 or depth > self.layers))
        }
