"""Merging an adapter into its base model, and the proof that the merged model is the adapted one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.failures import said
from tunesmith.models.head_scores import head_inputs
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner, inputs_for
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOLERANCE = 1e-4
"""Largest difference between scores of the merged and the adapted model, relative to the largest score. Adding
``B A`` to ``W`` rounds in the seventh digit, and the thirty layers of SmolLM2 carry that to the sixth (3e-6)."""

_ROW_TOKENS = 32
_TEXTS = (
    "The quick brown fox jumps over the lazy dog, twice on Sundays.",
    "Was it worth the 1,250 euros? I would say: yes, and I'd buy it again!",
    "def total(values): return sum(v for v in values if v is not None)",
)


def merge(wrapped: PeftModel, folder: Path) -> PreTrainedModel:
    """Return the base model of ``wrapped`` with the adapter from ``folder`` added to its weights.

    Weights that several modules share are given to each of them first where an adapter changes one of these: added
    to what is shared, it would change all.
    """
    _untie(wrapped)
    _take_trained_modules(wrapped)
    try:
        with quiet():
            merged: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    except MemoryError:
        raise
    except Exception as error:  # values that are no numbers, and kinds of layers that cannot be merged
        raise InputError(f"The adapter in {folder} cannot be merged: {said(error)}") from error
    return merged


def _take_trained_modules(wrapped: PeftModel) -> None:
    """Put what was trained whole in the place of the base's: PEFT does so for heads of a single layer only."""
    from peft.utils.other import ModulesToSaveWrapper

    whole: Any = inner(wrapped)
    for name, module in list(whole.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(whole.get_submodule(parent), child, module.modules_to_save[module.active_adapters[0]])


def _untie(wrapped: PeftModel) -> None:
    """Give every module its own copy of shared weights, if an adapter or a trained copy stands beside one of them."""
    whole: Any = inner(wrapped)
    tied = Anatomy.of(whole).tied_modules
    if not any(name.endswith((".base_layer", ".original_module")) for name in tied):
        return
    for name in tied:
        module: Any = whole.get_submodule(name)
        module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
    for config in {id(config): config for config in (whole.config, whole.config.get_text_config())}.values():
        config.tie_word_embeddings = False
    if hasattr(whole, "all_tied_weights_keys"):
        whole.all_tied_weights_keys = {}  # what saving leaves out


def probe_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int | None) -> list[list[int]]:
    """Return rows of token ids as the model reads them: real texts, then ids from the whole vocabulary.

    ``limit`` is the number of positions that the model has.
    """
    rows = [[int(token) for token in tokenizer(text)["input_ids"]] for text in _TEXTS]
    special = set(tokenizer.all_special_ids)
    first = next((index for index, token in enumerate(rows[0]) if token not in special), 0)
    last = next((index for index, token in enumerate(reversed(rows[0])) if token not in special), 0)
    before, after = rows[0][:first], rows[0][len(rows[0]) - last :]
    table: Any = model.get_input_embeddings()
    usable = [token for token in range(min(len(tokenizer), len(table.weight))) if token not in special]
    length = max(1, min(_ROW_TOKENS, limit or _ROW_TOKENS) - len(before) - len(after))
    stride = max(1, len(usable) // length)
    ends = (usable[::stride][:length], usable[-length:])  # what was added to a vocabulary stands at its end
    rows.extend([*before, *ids, *after] for ids in ends)
    longest = length + len(before) + len(after)
    return [row if len(row) <= longest else [*row[: longest - len(after)], *after] for row in rows]


@torch.no_grad()
def probe_scores(model: nn.Module, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return everything that ``model``, in ``eval`` mode, gives for each row."""
    found = []
    for row in rows:
        with quiet():
            output = model(**head_inputs(model, inputs_for(model, torch.tensor([list(row)]))))
        found += [value for value in output.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return found


def apart(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> tuple[float, float]:
    """Return the largest difference between scores, and the largest of the expected ones."""
    size = max(float(one.abs().max()) for one in expected)
    return max(float((one - two).abs().max()) for one, two in zip(expected, found, strict=True)), size


def require_equal(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], folder: Path) -> None:
    """Raise ``InputError`` when a merged model's scores are not those of its adapter in ``folder`` beside the base."""
    difference, size = apart(expected, found)
    if not difference <= TOLERANCE * size:
        raise InputError(
            f"The adapter in {folder} was not merged: the merged model gives other scores than the adapter beside its "
            f"base (they differ by {difference:.3g}, the largest is {size:.3g}).",
            "Merge it with the program that made it, and give the folder of the whole model.",
        )
