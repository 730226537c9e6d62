"""What PEFT puts around a model, looked through: the model inside, and the names of its parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def inner(model: nn.Module) -> PreTrainedModel:
    """Return the ``transformers`` model itself, out of its ``PeftModel`` if it is in one."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", unwrap() if callable(unwrap) and hasattr(model, "peft_config") else model)


def num_virtual_tokens(model: nn.Module) -> int:
    """Return how many tokens that nobody wrote are put before every row on its way into the model."""
    config: Any = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return int(config.num_virtual_tokens) if getattr(config, "is_prompt_learning", False) else 0


def names_inside(model: nn.Module) -> dict[str, str]:
    """Return, for parameters of the ``transformers`` model inside, their own names there by those they have here."""
    inside = {id(parameter): plain_name(name) for name, parameter in inner(model).named_parameters()}
    return {name: inside[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in inside}


def plain_name(name: str) -> str:
    """Return a parameter's name as it was before PEFT put its layers around it (adapters keep their own part)."""
    return re.sub(r"(?<![^.])(modules_to_save\.[^.]+|original_module|base_layer)\.", "", name).removeprefix(
        "base_model.model."
    )
