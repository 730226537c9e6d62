"""Full fine-tuning of a few layers at a time, drawn anew again and again: the memory of those few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.groups import fixed_by_design, group_parameters
from tunesmith.methods.whole import WholeModel
from tunesmith.models.anatomy import Anatomy
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Lisa(WholeModel):
    """Layerwise importance sampled AdamW (LISA, Pan et al. 2024, algorithm 1).

    The embeddings, what stands above the layers and the head are trained all the time, of the layers a few at a time.
    Layers that sleep have no gradients, and the optimizer forgets their moments. Which layers are awake when is drawn
    from the run's seed before the first step.
    """

    name: Literal["lisa"] = "lisa"

    title: ClassVar[str] = "full fine-tuning, a few layers at a time (LISA)"
    default_learning_rate: ClassVar[float] = 1e-4

    layers: Annotated[int, Field(ge=1)] = 2
    """How many layers are trained at a time."""
    draws: Annotated[int, Field(ge=1)] = 20
    """How many times in a whole training these are drawn."""

    @property
    def detail(self) -> str:
        return f"{self.layers} layer{'' if self.layers == 1 else 's'}"

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` with the first layers awake; ``InputError`` where it has no more layers than that."""
        num_layers = Anatomy.of(model).num_layers
        if num_layers <= self.layers:
            raise InputError(
                f"method.layers is {self.layers}, but the model has {num_layers} layers: the method 'lisa' would train "
                "all of them all the time.",
                f"Set method.layers to {num_layers - 1} or less." if num_layers > 1 else "Use the method 'full'.",
            )
        # The seed of the run, without a draw from it: nothing else that is random becomes another.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        drawn = torch.stack([torch.randperm(num_layers, generator=generator)[: self.layers] for _ in range(self.draws)])
        vars(model)["tunesmith_fixed"] = fixed_by_design(model)
        vars(model)["tunesmith_awake"] = drawn.sort(dim=1).values
        self.update(model, 0.0)
        return model

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        return group_parameters(model, self._ever_trained(model), self)

    def update(self, model: nn.Module, progress: float) -> None:
        """Wake the layers drawn for this part of the training, and let the others sleep."""
        awake = self._awake(model, min(self.draws - 1, int(progress * self.draws + 1e-9)))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad != (name in awake):
                parameter.requires_grad_(name in awake)
                parameter.grad = None

    def trained_at_once(self, model: nn.Module) -> set[str] | None:
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        sets = [self._awake(model, draw) for draw in range(self.draws)]
        largest: set[str] = max(sets, key=lambda names: sum(sizes[name] for name in names))
        return largest

    def state(self, model: nn.Module) -> dict[str, Any]:
        return {"awake": vars(model)["tunesmith_awake"]}

    def load_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        vars(model)["tunesmith_awake"] = state["awake"].cpu()

    def _ever_trained(self, model: nn.Module) -> set[str]:
        fixed: set[str] = vars(model).get("tunesmith_fixed", set())
        return set(Anatomy.of(model).depths) - fixed

    def _awake(self, model: nn.Module, draw: int) -> set[str]:
        """Return the names of what is trained in one part of the training."""
        anatomy = Anatomy.of(model)
        layers = set(vars(model)["tunesmith_awake"][draw].tolist())
        asleep: tuple[str, ...] = tuple(f"{prefix}." for index, prefix in anatomy.layers if index not in layers)
        return {name for name in self._ever_trained(model) if not name.startswith(asleep or ("\0",))}
