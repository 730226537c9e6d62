"""The common ground of methods of PEFT's that change chosen modules: which ones, and what PEFT is told of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator
from torch import nn

from tunesmith.methods.peft_method import PeftMethod, config_class
from tunesmith.methods.targets import ALL_LINEAR, LAYERS, find_targets
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class TargetedMethod(PeftMethod):
    """A method that changes chosen modules; of many, the class with its options is all that there is to say.

    Each option of a class is handed to PEFT, by the name that it has there.
    """

    peft_names: ClassVar[Mapping[str, str]] = {}
    """Own options -> what PEFT calls them, where that is another name."""
    told: ClassVar[Mapping[str, Any]] = {}
    """What PEFT is told beside the options."""
    turns: ClassVar[bool] = False
    """Whether it fits GPT-2's linear layers, whose weights are [inputs, outputs]."""
    adapts_tables: ClassVar[bool] = False
    """Whether it fits embeddings."""

    target_modules: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    """Which modules are adapted: every linear layer below the head, or module names (or their last parts)."""
    layers_to_transform: tuple[Annotated[int, Field(ge=0)], ...] | Annotated[str, Field(pattern=LAYERS)] = "all"
    """Which layers are adapted: all, `top 2` (or as many), or indices counted from 0 at the bottom, such as `4,5`; of
    an encoder-decoder, the encoder's come first. What is below the lowest one is computed once for the whole run."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value != ALL_LINEAR:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("layers_to_transform", mode="before")
    @classmethod
    def _list_layers(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        if isinstance(value, str) and re.fullmatch(r"[\d\s,]*\d[\d\s,]*", value):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return re.sub(r"^top[\s_-]*(?=\d)", "top ", value.strip()) if isinstance(value, str) else value

    def targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the modules that are changed, by their names.

        Raises ``InputError`` when a name fits none, or the method cannot change one of them.
        """
        found = find_targets(model, self.target_modules, self.layers_to_transform, method=self.name)
        tables = [name for name, module in found.items() if isinstance(module, nn.Embedding)]
        if tables and not self.adapts_tables:
            message = f"The method '{self.name}' adapts linear layers; {', '.join(tables)} is a table of embeddings."
            raise InputError(message, "Name linear layers in method.target_modules, or use the method 'lora'.")
        if not self.turns and any(_is_turned(module) for module in found.values()):
            message = (
                f"The method '{self.name}' does not fit {type(model).__name__}: PEFT has no form of it for layers with "
                "turned weights (Conv1D)."
            )
            raise InputError(message, "Use a method such as lora, vera or fourierft.")
        return found

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        targets = self.targets(model)
        kind = config_class(self.kind)
        told = {**self.told, "target_modules": list(targets), **self.peft_options()}
        if self.turns and "fan_in_fan_out" in kind.__dataclass_fields__:
            told["fan_in_fan_out"] = all(_is_turned(module) for module in targets.values())
        return kind(**told)  # type: ignore[no-any-return]

    def peft_options(self) -> dict[str, Any]:
        """Return the options that are PEFT's, by its names."""
        own = [name for name in type(self).model_fields if name not in TargetedMethod.model_fields]
        return {self.peft_names.get(name, name): getattr(self, name) for name in own}


def _is_turned(module: nn.Module) -> bool:
    return not isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d))
