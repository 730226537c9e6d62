"""Where weights and tokenizers come from: ``MODELS`` by name, ``Pretrained`` for every other name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.files.hashing import hash_json
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.base import LoadedModel, ModelSource
from tunesmith.models.cnn import Cnn
from tunesmith.models.loading import load_config, load_reader, load_tokenizer, load_weights
from tunesmith.models.lstm import Lstm
from tunesmith.models.model_checks import check_vocabulary, length_for
from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.origin import origin
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.safety import check_model_folder
from tunesmith.models.transformer import Transformer
from tunesmith.models.vit import Vit

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from tunesmith.types import HeadSettings

__all__ = [
    "MODELS",
    "OTHER_MODELS",
    "Cnn",
    "LoadedModel",
    "Lstm",
    "ModelSource",
    "Pretrained",
    "Transformer",
    "Vit",
    "load_tokenizer",
    "load_trained",
    "record",
    "tokenizer_hash",
]

MODELS: Mapping[str, type[ModelSource]] = {"lstm": Lstm, "cnn": Cnn, "transformer": Transformer, "vit": Vit}
"""Models trained from scratch, by name."""

OTHER_MODELS: type[ModelSource] = Pretrained
"""The source of a model by any other name."""


def load_trained(folder: Path, head: HeadSettings, max_length: int | None = None) -> LoadedModel:
    """Return a full model that a run saved, with the head that it was trained with.

    Raises ``InputError`` when files are missing or damaged, or the model is not the task's.
    """
    folder = Path(folder).resolve()
    check_model_folder(folder, tokenizer=head.reads_texts)
    config = load_config(folder, head)
    tokenizer = load_reader(folder, config, head)
    model = load_weights(ModelFolder(folder, f"folder {folder}", str(folder)), config, head, 0, complete=True)
    if head.reads_texts:
        check_vocabulary(model, tokenizer)
    length = length_for(model, tokenizer, max_length, head)
    return LoadedModel(model, tokenizer, length, f"folder {folder}")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a SHA-256 over all that decides how text becomes ids.

    Vocabulary, merges, normaliser, splitting, special tokens and chat template count; padding,
    truncation and the length limit, which callers set, do not. So does what decides how images become numbers, where
    it reads some.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        content: dict[str, Any] = json.loads(backend.to_str())
        content.pop("padding", None)
        content.pop("truncation", None)
    else:
        content = {"vocabulary": tokenizer.get_vocab()}
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    template = getattr(tokenizer, "chat_template", None)
    images = getattr(tokenizer, "image_settings", None)
    seeing = {} if images is None else {"images": images}
    return hash_json({"tokenizer": content, "special_tokens": special, "chat_template": template, **seeing})


def record(model: nn.Module) -> dict[str, Any]:
    """Return what a run records of its model: architecture, commit, weights that were initialised. JSON-ready."""
    known = origin(model)
    return {
        **Anatomy.of(model).describe(),
        "revision": known.revision if known else None,
        "weights_sha256": known.weights_sha256 if known else None,
        "new_parameters": sorted(known.new_parameters) if known else [],
    }
