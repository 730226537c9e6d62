"""What PEFT puts around a model, looked through: the model inside, and the names of its parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def inner(model: nn.Module) -> PreTrainedModel:
    """Return the ``transformers`` model itself, out of its ``PeftModel`` if it is in one."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", unwrap() if callable(unwrap) and hasattr(model, "peft_config") else model)


def plain_name(name: str) -> str:
    """Return a parameter's name as it was before PEFT put its layers around it (adapters keep their own part)."""
    return re.sub(r"(?<![^.])(modules_to_save\.[^.]+|original_module|base_layer)\.", "", name).removeprefix(
        "base_model.model."
    )
