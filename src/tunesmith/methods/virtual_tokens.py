"""Whether a model takes vectors that nobody wrote before every row: found by trying, as layouts are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.failures import said
from tunesmith.models.modes import evaluating
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

LENGTHS = (5, 2)
"""Of rows that are scored beside each other: the second one is padded."""

TOLERANCE = 1e-3
"""Largest difference of scores, relative to their size, that padding may make."""

_TASK_TYPES = ("SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM")
"""For which PEFT has a class that puts the vectors there; around other models it silently does not."""

_SIZES = {"token_dim": "hidden_size", "num_layers": "num_hidden_layers", "num_attention_heads": "num_attention_heads"}
"""PEFT's names of a model's sizes, and those that every configuration of ``transformers`` has an alias for."""


def complete(config: Any, method: str, model: PreTrainedModel) -> None:
    """Give PEFT the model's sizes, which it knows by few of their names; ``InputError`` where there is no place."""
    sizes = model.config.get_text_config()
    if config.task_type not in _TASK_TYPES or not all(hasattr(sizes, name) for name in _SIZES.values()):
        raise _refusal(method, f"PEFT has no such place in {type(model).__name__}")
    anatomy = Anatomy.of(model)
    places = None if anatomy.max_positions is None else anatomy.max_positions - anatomy.position_offset
    if places is not None and places - config.num_virtual_tokens < max(LENGTHS):
        message = f"{type(model).__name__} has {places} places, of which {config.num_virtual_tokens} leave too few"
        raise _refusal(method, message)
    for name, own in _SIZES.items():
        if getattr(config, name) is None:
            setattr(config, name, getattr(sizes, own))


def require_place_before_rows(method: str, model: PeftModel) -> None:
    """Raise ``InputError`` where a model takes no vectors, or padding would then change a row's scores.

    A head that reads the last token of a row finds it by the tokens, and there are none any more.
    """
    kind = type(inner(model)).__name__
    try:
        difference = _difference(model)
    except Exception as error:  # a model may refuse in any way it likes
        raise _refusal(method, f"{kind} takes none ({said(error)})") from error
    if difference > TOLERANCE:
        raise _refusal(method, f"{kind} then takes padding for a part of the row")


def _refusal(method: str, reason: str) -> InputError:
    message = f"The method '{method}' puts vectors before every row in the place of tokens: {reason}."
    return InputError(message, "Use another method, such as lora, or another model.")


@torch.inference_mode()
def _difference(model: Any) -> float:
    """Return by how much, relative to their size, the scores of a padded row are others than those of it alone."""
    longest, shortest = LENGTHS
    padding = getattr(inner(model).config.get_text_config(), "pad_token_id", None) or 0
    device = next(model.parameters()).device
    ids = torch.arange(1, longest + 1, device=device).add(padding).repeat(2, 1)
    mask = torch.ones_like(ids)
    ids[1, shortest:], mask[1, shortest:] = padding, 0
    with quiet(), evaluating(model):
        beside = model(input_ids=ids, attention_mask=mask).logits[1:]
        alone = model(input_ids=ids[1:, :shortest], attention_mask=mask[1:, :shortest]).logits
    if alone.dim() > 2:
        beside = beside[:, : alone.shape[1]]
    return float((beside - alone).abs().max() / alone.abs().max().clamp(min=1e-6))
