"""What a model is, without its weights: config and tokenizer of a repository or folder, or a size (``8B``)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.models.base import ModelSource
from tunesmith.models.hub import download_description, is_hub_id
from tunesmith.models.loading import class_for, load_config, load_tokenizer
from tunesmith.models.location import locate
from tunesmith.models.materialise import materialise
from tunesmith.models.quiet import quiet
from tunesmith.models.samples import PREFIX
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.types import HeadSettings

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([MB])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Decoder:
    """The sizes of a published decoder."""

    title: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool

    @property
    def of_layer(self) -> int:
        """Weights of a layer, without its norms."""
        keys = self.hidden * self.key_heads // self.heads
        return 2 * self.hidden * (self.hidden + keys) + 3 * self.hidden * self.intermediate

    @property
    def of_tables(self) -> int:
        """Weights of the embeddings and the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """All of them, without norms."""
        return self.layers * self.of_layer + self.of_tables


DECODERS = (
    Decoder("SmolLM2 135M", 30, 576, 1536, 9, 3, 49152, tied=True),
    Decoder("SmolLM2 360M", 32, 960, 2560, 15, 5, 49152, tied=True),
    Decoder("Llama 3.2 1B", 16, 2048, 8192, 32, 8, 128256, tied=True),
    Decoder("Llama 3.2 3B", 28, 3072, 8192, 24, 8, 128256, tied=True),
    Decoder("Llama 3.1 8B", 32, 4096, 14336, 32, 8, 128256, tied=False),
    Decoder("Qwen 2.5 14B", 48, 5120, 13824, 40, 8, 152064, tied=False),
    Decoder("Qwen 2.5 32B", 64, 5120, 27648, 40, 8, 152064, tied=False),
    Decoder("Llama 3.1 70B", 80, 8192, 28672, 64, 8, 128256, tied=False),
)
"""What a size stands for: the nearest of these, with as many layers as make it (their published configurations)."""
NEAR = 0.08
"""Of a model's weights: so much less or more is still what its name calls it."""


@dataclass(frozen=True)
class Description:
    """A model as far as it is known without weights."""

    config: PretrainedConfig
    auto_class: str
    tokenizer: PreTrainedTokenizerBase | None
    """None where only a size was given."""
    title: str

    def bare_model(self) -> PreTrainedModel:
        """Return the model with all modules and no memory for weights: on the device ``meta``, fit to be counted."""
        import transformers

        with torch.device("meta"), quiet():
            model: PreTrainedModel = getattr(transformers, self.auto_class).from_config(self.config)
        return model


def describe(source: ModelSource, head: HeadSettings) -> Description:
    """Return what is known of a model without loading its weights.

    Only files of text are downloaded; adapters and files of other formats are made plain folders first, as for a
    training. Raises ``InputError`` where the model is not found, is trained from scratch, or has no head for the task.
    """
    if source.from_scratch:
        raise InputError(
            f"The model {source.name!r} is trained from scratch: how large it is follows from the rows.",
            "Name a pretrained model, or its size, such as --model 8B.",
        )
    size = parse_model_size(source.name)
    if size is not None and not Path(source.name).exists():
        return _by_size(size, head)
    folder = _folder(source.name, getattr(source, "revision", None))
    config = load_config(folder, head)
    auto_class = class_for(config, head) or head.auto_class
    tokenizer = load_tokenizer(folder, config) if head.reads_texts else None
    return Description(config, auto_class, tokenizer, source.name)


def parse_model_size(name: str) -> float | None:
    """Return the weights that a name such as ``8B`` or ``350M`` stands for; None where it is a name."""
    found = _SIZE.fullmatch(name.strip())
    return None if found is None else float(found[1]) * (1e9 if found[2].upper() == "B" else 1e6)


def _by_size(weights: float, head: HeadSettings) -> Description:
    from transformers import LlamaConfig

    if not 2e7 <= weights <= 1e12:
        message = f"A model of {weights:,.0f} weights: sizes from 20M to 1000B are known here."
        raise InputError(message, "Name a model, or another size.")
    one = min(DECODERS, key=lambda known: abs(math.log(known.weights / weights)))
    is_near = abs(one.weights / weights - 1) < NEAR
    layers = one.layers if is_near else max(1, round((weights - one.of_tables) / one.of_layer))
    config = LlamaConfig(
        vocab_size=one.vocabulary,
        hidden_size=one.hidden,
        intermediate_size=one.intermediate,
        num_hidden_layers=layers,
        num_attention_heads=one.heads,
        num_key_value_heads=one.key_heads,
        max_position_embeddings=131072,
        tie_word_embeddings=one.tied,
        pad_token_id=0,
    )
    auto_class = class_for(config, head)
    if auto_class is None:
        raise InputError(
            f"A size alone stands for a decoder, which has no head for this task ({' or '.join(head.auto_classes)}).",
            "Name a model that has one.",
        )
    if head.num_outputs is not None:
        config.num_labels = head.num_outputs
    title = one.title if layers == one.layers else f"{one.title} with {layers} layers"
    return Description(config, auto_class, None, title)


def _folder(name: str, revision: str | None) -> Path:
    path = Path(name).expanduser()
    if (
        not name.startswith(PREFIX)
        and not path.exists()
        and is_hub_id(name)
        and not name.startswith(("./", "../", "~"))
    ):
        return download_description(name, revision)
    place = locate(name, revision)
    return place.path if place.kind == "folder" else materialise(place).folder
