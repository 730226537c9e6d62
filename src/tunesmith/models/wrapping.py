"""What PEFT puts around a model: the model inside, the names of its parameters, and what is done on the way in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def inner(model: nn.Module) -> PreTrainedModel:
    """Return the ``transformers`` model itself, out of its ``PeftModel`` if it is in one."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", unwrap() if callable(unwrap) and hasattr(model, "peft_config") else model)


def writes_from_encoder(model: nn.Module) -> bool:
    """Say whether a model is an encoder with a decoder that writes: ``forward`` then takes two inputs of tokens."""
    whole: Any = inner(model)
    is_double = bool(getattr(whole.config, "is_encoder_decoder", False))
    return is_double and hasattr(whole, "get_output_embeddings") and whole.get_output_embeddings() is not None


def inputs_for(model: nn.Module, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return what ``forward`` is given to try a model on tokens; one that takes two inputs is given them as both."""
    given = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL) if mask_BL is None else mask_BL}
    return {**given, "decoder_input_ids": ids_BL} if writes_from_encoder(model) else given


def names_inside(model: nn.Module) -> dict[str, str]:
    """Return, for parameters of the ``transformers`` model inside, their own names there by those they have here."""
    inside = {id(parameter): plain_name(name) for name, parameter in inner(model).named_parameters()}
    return {name: inside[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in inside}


def plain_name(name: str) -> str:
    """Return a parameter's name as it was before PEFT put its layers around it (adapters keep their own part)."""
    return re.sub(r"(?<![^.])(modules_to_save\.[^.]+|original_module|base_layer)\.", "", name).removeprefix(
        "base_model.model."
    )


def prefix_of(model: nn.Module, wanted: nn.Module) -> str:
    """Return the name of a module within a model."""
    names: Iterator[str] = (name for name, module in model.named_modules() if module is wanted)
    return next(names)


def join_names(prefix: str, name: str) -> str:
    """Return the name of what is called ``name`` within the module ``prefix``; empty for the model itself."""
    return f"{prefix}.{name}" if prefix else name


def has_virtual_tokens(model: nn.Module) -> bool:
    """Say whether what is around a model adds tokens, or states of tokens, on the way in: then it must be gone through.

    Around other adapted models there is nothing that computes.
    """
    return bool(getattr(_active_config(model), "is_prompt_learning", False))


def num_virtual_tokens(model: nn.Module) -> int:
    """Return how many tokens that nobody wrote come before every row."""
    config: Any = _active_config(model)
    return int(config.num_virtual_tokens) if has_virtual_tokens(model) else 0


def has_virtual_states(model: nn.Module) -> bool:
    """Say whether what is added are states of tokens, which every layer finds in its cache."""
    kind = getattr(_active_config(model), "peft_type", None)
    return has_virtual_tokens(model) and kind in ("PREFIX_TUNING", "CARTRIDGE")


def _active_config(model: nn.Module) -> object:
    return getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None


def takes_images(model: nn.Module) -> bool:
    """Say whether a model is given images: ``forward`` then takes their pixels."""
    return "pixel_values" in inspect.signature(inner(model).forward).parameters


def token_table(model: nn.Module) -> nn.Module | None:
    """Return the module that has a vector for every token; None where the model reads none."""
    try:
        table = inner(model).get_input_embeddings()
    except (NotImplementedError, AttributeError):  # models of images alone say it in either way
        return None
    return cast("nn.Module | None", table)


def language_part(model: nn.Module) -> nn.Module:
    """Return the part that reads and writes tokens, of a model that sees as well; of all others the whole model."""
    from transformers import PreTrainedModel

    whole = inner(model)
    table = token_table(whole) if takes_images(whole) else None
    if table is None:
        return whole
    inside = [one for one in whole.modules() if isinstance(one, PreTrainedModel) and token_table(one) is table]
    return inside[-1]
