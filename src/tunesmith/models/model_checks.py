"""Whether a loaded model can be trained: computes, saves, knows its tokens and how long a row may be."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from tunesmith.models.failures import explained, loading
from tunesmith.models.head_scores import head_inputs
from tunesmith.models.image_reader import text_part
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inputs_for, takes_images
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.types import HeadSettings


# Tokenizers without a limit of their own record a huge number.
_MAX_SANE_LENGTH = 1_000_000


@torch.no_grad()
def check_computing(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise ``InputError`` when the model fails on a few tokens: its config has values that only computing shows."""
    fix = "Correct config.json, download or save the model again, or choose another one."
    with explained(f"The model in {folder} ({type(model).__name__}) cannot compute", fix), quiet():
        probe = getattr(tokenizer, "probe_inputs", None)
        if probe is not None:
            model(**head_inputs(model, probe()))
            return
        size = getattr(tokenizer, "size", None) if takes_images(model) else None
        images = {} if size is None else {"pixel_values": torch.zeros(1, 3, *size)}
        texts: Any = text_part(tokenizer)
        if texts is None:
            model(**images)
            return
        encoded = texts("one word", return_tensors="pt")
        ids, mask = (encoded[name].long() for name in ("input_ids", "attention_mask"))
        model(**head_inputs(model, inputs_for(model, ids, mask)), **images)


@torch.no_grad()
def check_causal(model: PreTrainedModel, folder: Path) -> None:
    """Raise ``InputError`` when the scores of a token depend on the tokens after it.

    ``transformers`` gives encoders (BERT) a causal head too. Trained so, they see the very token
    they are to predict: a loss of zero, and nothing learned.
    """
    rows = _num_embeddings(model)
    with quiet():
        first, second = (model(input_ids=torch.tensor([[0, 1 % rows, last]])).logits[0, :2] for last in (0, rows - 1))
    if (first - second).abs().max() > 1e-3 * first.abs().max().clamp(min=1e-6):
        raise InputError(
            f"The model in {folder} ({type(model).__name__}) reads to the right too: it cannot write a text one token "
            "after another.",
            "Choose a decoder, such as sample:smollm2-135m-instruct; --task masked_lm goes on with the pretraining "
            "of an encoder.",
        )


def check_saving(model: PreTrainedModel, folder: Path) -> None:
    """Make sure that what stands beside the weights can be written when training is over; ``InputError`` if not.

    ``transformers`` reads settings of generation that it refuses to write: a temperature, say, where nothing is
    sampled. They are taken at their word, then: sampling is switched on. What is still refused goes, but for tokens.
    """
    from transformers import GenerationConfig

    given = getattr(model, "generation_config", None)
    if given is not None and not _can_be_saved(given):
        given.do_sample = True
        if not _can_be_saved(given):
            tokens = {key: value for key, value in given.to_dict().items() if key.endswith("_token_id")}
            model.generation_config = GenerationConfig(**tokens)  # type: ignore[no-untyped-call]
    with loading("config", folder), tempfile.TemporaryDirectory(prefix="tunesmith-") as place, quiet():
        model.config.save_pretrained(place)


def _can_be_saved(settings: GenerationConfig) -> bool:
    try:
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as place, quiet():
            settings.save_pretrained(place)
    except Exception:  # whatever a release checks when it writes
        return False
    return True


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ``InputError`` when the tokenizer can give ids that the model has no embedding for."""
    rows = _num_embeddings(model)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise InputError(
            f"Tokenizer and weights do not belong together: the tokenizer gives ids up to {largest}, the model has "
            f"embeddings for {rows}.",
            "Copy the tokenizer's files from where the weights came from.",
        )


def _num_embeddings(model: PreTrainedModel) -> int:
    table = model.get_input_embeddings().weight
    assert isinstance(table, torch.Tensor)
    return len(table)


def length_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None, head: HeadSettings
) -> int:
    """Return the longest row in tokens; of images alone, the places that one takes."""
    if not head.reads_texts:
        return int(cast("Any", tokenizer).num_positions)
    return choose_max_length(model, tokenizer, wanted, head.default_max_length)


def choose_max_length(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None = None, default: int = 512
) -> int:
    """Return the longest row in tokens, as ``Pretrained`` states; ``InputError`` when ``wanted`` is out of range."""
    limit = position_limit(model)
    if wanted is None:
        limits = [default, limit, tokenizer.model_max_length]
        return min(int(length) for length in limits if length is not None and 0 < length < _MAX_SANE_LENGTH)
    if limit is not None and wanted > limit:
        raise InputError(
            f"model.max_length is {wanted}, but the model has only {limit} positions.",
            f"Set model.max_length to {limit} or less, or choose a model for longer texts.",
        )
    least = tokenizer.num_special_tokens_to_add(pair=False) + 1
    if wanted < least:
        raise InputError(
            f"model.max_length is {wanted}; with this tokenizer's special tokens it must be at least {least}."
        )
    return wanted


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the number of tokens the model has positions for, or nothing when it has no limit (T5).

    RoBERTa and its relatives number positions from ``padding_idx + 1``, so that a table of 514
    positions serves 512 tokens.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
        if is_table and module.padding_idx is not None and module.num_embeddings == limit:
            return limit - int(module.padding_idx) - 1
    return limit
