"""What PEFT puts around a model: the model inside, the names of its parameters, and what is done on the way in."""

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


def has_virtual_tokens(model: nn.Module) -> bool:
    """Say whether what is around a model adds tokens, or states of tokens, on the way in: then it must be gone through.

    Around other adapted models there is nothing that computes.
    """
    return bool(getattr(_active_config(model), "is_prompt_learning", False))


def has_virtual_states(model: nn.Module) -> bool:
    """Say whether what is added are states of tokens, which every layer finds in its cache."""
    kind = getattr(_active_config(model), "peft_type", None)
    return has_virtual_tokens(model) and kind in ("PREFIX_TUNING", "CARTRIDGE")


def _active_config(model: nn.Module) -> object:
    return getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
