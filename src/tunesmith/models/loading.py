"""A folder of a model, read: its config with the head that a task asks for, its tokenizer, its weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.failures import loading
from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.origin import Origin, origin, set_origin
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import check_tokenizer_parts
from tunesmith.models.sentence_folder import read_sentence_settings
from tunesmith.models.streamed_loading import load_streamed, stream_again
from tunesmith.models.streaming import StreamSettings, stream_of
from tunesmith.models.vision_reader import IMAGE_TEXT, load_vision_reader
from tunesmith.models.weights import align
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.types import HeadSettings

CAUSAL = "AutoModelForCausalLM"
MASKED = "AutoModelForMaskedLM"
BASE = "AutoModel"
"""No head at all: the last hidden states are what is asked for."""

SEQ2SEQ = "AutoModelForSeq2SeqLM"
_READING = tuple(
    f"AutoModelFor{kind}"
    for kind in ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice")
)
"""Classes of models that write nothing."""

_FITTING = {
    **dict.fromkeys((CAUSAL, SEQ2SEQ), "sample:smollm2-135m-instruct"),
    **dict.fromkeys(("AutoModelForImageClassification", "AutoModelForVisualQuestionAnswering"), "vit"),
    IMAGE_TEXT: "llava-hf/llava-interleave-qwen-0.5b-hf",
}
"""A model that has a head of the class; an encoder of texts for all others."""

_PROBE_TEXTS = (
    "The quick brown fox: 1,250 (or so)\n\tjumps; isn't it?",
    "Zażółć gęślą jaźń, Ωμέγα, Ёлка, مرحبا, שלום, नमस्ते",
    "机器学习。こんにちは 안녕하세요 ไทย",
    "\u2603 \U0001f600\u200d\U0001f680 \u0301\u0301 \u00a0\u3000\ufffd \u0001 ﬁ ½",
    "",
    " ",
    "a" * 400,
)

_OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""What a model gives for a batch: whatever its config says, all that is read here is scores and last states."""


def load_config(folder: Path, head: HeadSettings, *, dropout: float | None = None) -> PretrainedConfig:
    """Return the folder's model config with the task's settings and the dropout in it."""
    from transformers import AutoConfig

    with loading("config", folder), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **_OUTPUTS)
    if class_for(config, head) is None:
        raise InputError(
            f"The model in {folder} (model_type {config.model_type!r}) has no head for this task "
            f"({' or '.join(head.auto_classes)}).",
            f"Choose a model of another type, such as {_FITTING.get(head.auto_class, 'sample:minilm')}.",
        )
    loaded: PretrainedConfig = config
    apply_head(loaded, head)
    if head.auto_class in (BASE, *_READING):
        config.use_cache = False  # keys and values are kept for generation only
    if dropout is not None:
        for key in _dropout_settings(config):
            setattr(config, key, dropout)
    return loaded


def class_for(config: PretrainedConfig, head: HeadSettings) -> str | None:
    """Return the first auto class of ``head`` that has a model for ``config``; None where none has."""
    import transformers

    for name in head.auto_classes:
        # What BART and its kin predict at a place was never meant to be read there without a shifted second input.
        unfit = name in (MASKED, BASE) and getattr(config, "is_encoder_decoder", False)
        if type(config) in getattr(transformers, name)._model_mapping and not unfit:
            return name
    return None


def apply_head(config: PretrainedConfig, head: HeadSettings) -> None:
    """Write what the task asks of the model into its config."""
    if head.num_outputs is not None:
        config.num_labels = head.num_outputs
    for key, value in head.config.items():
        setattr(config, key, {int(index): name for index, name in value.items()} if key == "id2label" else value)


def _dropout_settings(config: PretrainedConfig) -> list[str]:
    """Return the names of a config's dropout probabilities (layer drop and stochastic depth are none)."""
    return [
        key
        for key, value in config.to_dict().items()
        if ("dropout" in key or key.endswith("pdrop"))
        and not isinstance(value, bool)
        and (isinstance(value, (int, float)) or (value is None and key == "classifier_dropout"))
    ]


def load_tokenizer(folder: Path, config: PretrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer, padding on the right and with a padding token.

    A tokenizer without one (GPT-2, Llama) pads with its end token; ``config`` then learns it too. That
    is safe here: what is padding is told by the length of a row and never by the token that stands
    there, so that real end tokens are read and trained (see also ``let_padding_learn``).
    Padding and truncation that a tokenizer file asks for by itself are switched off.
    """
    from transformers import AutoTokenizer

    with loading("tokenizer", folder), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if not isinstance(tokenizer.model_max_length, int | float) or not tokenizer.model_max_length >= 1:
        message = (
            f"The tokenizer in {folder} has a model_max_length that is no number of tokens: "
            f"{tokenizer.model_max_length!r:.80}."
        )
        raise InputError(message, "Correct it in tokenizer_config.json.")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        check_tokenizer_parts(backend, folder)  # before anything is read by it here, where nothing limits it
    _forget_empty_tokens(tokenizer)
    with loading("tokenizer", folder), quiet():
        check_tokenizer(tokenizer)
    if backend is not None:
        with loading("tokenizer", folder):
            backend.encode("a \U0010fffd")  # what has no word for an unknown one, or panics, does it here
        backend.no_padding()
        backend.no_truncation()
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise InputError(
                f"The tokenizer in {folder} has neither a padding token nor an end token.",
                "Name a pad_token in its tokenizer_config.json.",
            )
        tokenizer.pad_token = tokenizer.eos_token
    if config is not None:
        config.pad_token_id = tokenizer.pad_token_id
        inner = config.get_text_config()
        if inner is not config:
            inner.pad_token_id = tokenizer.pad_token_id
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def load_reader(folder: Path, config: PretrainedConfig, head: HeadSettings) -> PreTrainedTokenizerBase:
    """Return what a model of this head reads with: the folder's tokenizer or, for images, an ``ImageReader``."""
    tokenizer = load_tokenizer(folder, config) if head.reads_texts else None
    if head.auto_class == IMAGE_TEXT:
        assert tokenizer is not None, "such a model writes"
        seeing: Any = load_vision_reader(folder, config, tokenizer)
        return cast("PreTrainedTokenizerBase", seeing)
    if head.reads_images:
        from tunesmith.models.image_reader import load_image_reader

        reader: Any = load_image_reader(folder, config, tokenizer)
        return cast("PreTrainedTokenizerBase", reader)
    assert tokenizer is not None, "a model reads texts, images or both"
    return tokenizer


def _forget_empty_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Take special tokens without a text for none: looking their number up would never end."""
    for name in tokenizer.SPECIAL_TOKENS_ATTRIBUTES:
        if getattr(tokenizer, name, None) == "":
            setattr(tokenizer, name, None)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise whatever reading texts of all kinds raises: vocabularies lack the token for what is unknown to them."""
    for text in _PROBE_TEXTS:
        ids = tokenizer(text)["input_ids"]
        if any(token is None for token in ids):
            raise ValueError(f"it has no token for what is unknown to it, as in {text!r}")
    tokenizer(_PROBE_TEXTS[0], _PROBE_TEXTS[1])
    tokenizer.decode(tokenizer(_PROBE_TEXTS[0])["input_ids"])


def load_weights(
    place: ModelFolder,
    config: PretrainedConfig,
    head: HeadSettings,
    seed: int,
    *,
    complete: bool = False,
    streaming: StreamSettings | None = None,
) -> PreTrainedModel:
    """Return the model of ``config`` with the folder's weights in float32, the rest initialised from ``seed``.

    Only the head and what stands between the layers and it (a pooler) may be missing; with
    ``complete`` nothing may. With ``streaming``, what is in the files stays there (``tunesmith.models.streaming``).
    """
    import transformers

    auto_class = getattr(transformers, head.auto_class)
    with loading("weights", place.folder), quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        if streaming is None:
            model, found = auto_class.from_pretrained(
                place.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # a head for other labels; anything else is refused below
                output_loading_info=True,
            )
        else:
            model, found = load_streamed(auto_class, place, config, streaming)
    if head.num_outputs is not None and Anatomy.of(model).base is model:
        raise InputError(
            f"The model in {place.folder} ({type(model).__name__}) has no part that could be run without its head.",
            f"Choose a model of another type, such as {_FITTING.get(head.auto_class, 'sample:minilm')}.",
        )
    if head.auto_class == BASE:
        leave_out_pooler(model)
    mismatched = {key for key, *_ in found["mismatched_keys"]}
    new = frozenset({*found["missing_keys"], *mismatched} & {name for name, _ in model.named_parameters()})
    sentences = read_sentence_settings(place.folder)
    set_origin(model, Origin(place.name, place.revision, new, place.weights_sha256, sentences))
    model.name_or_path = config.name_or_path = place.name
    _check_complete(model, place.folder, new, mismatched, complete=complete)
    align(model)
    loaded: PreTrainedModel = model.eval()
    return loaded


def leave_out_pooler(model: nn.Module) -> None:
    """Leave out what a base model makes of a row besides its hidden states, where these are all that is asked for."""
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.register_module("pooler", None)


def load_weights_again(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a model that ``load_weights`` gave once more, its new weights initialised from another seed.

    The other weights share their memory, or their files, with those of ``model``.
    """
    known = origin(model)
    assert known is not None
    if (stream := stream_of(model)) is not None:
        stream.let_go()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in known.new_parameters}
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        again = type(model).from_pretrained(
            None, config=copy.deepcopy(model.config), state_dict=weights, dtype=torch.float32
        )
    if getattr(model, "pooler", again) is None:
        leave_out_pooler(again)
    stream_again(model, again)
    set_origin(again, known)
    again.name_or_path = model.name_or_path
    if hasattr(model, "generation_config"):
        again.generation_config = copy.deepcopy(model.generation_config)
    loaded: PreTrainedModel = again.eval()  # type: ignore[no-untyped-call]
    return loaded


def _check_complete(
    model: PreTrainedModel, folder: Path, new: frozenset[str], mismatched: set[str], *, complete: bool
) -> None:
    anatomy = Anatomy.of(model)
    base = {id(parameter) for parameter in anatomy.base.parameters()}
    within = tuple(f"{prefix}." for _, prefix in anatomy.layers)
    embeddings = tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, nn.Embedding) and name
    )
    wrong = sorted(
        name
        for name, parameter in model.named_parameters()
        if name in new
        and (complete or (id(parameter) in base and (name in mismatched or name.startswith(within + embeddings))))
    )
    if wrong:
        what = "have another shape than config.json says" if set(wrong) <= mismatched else "are missing from its files"
        raise InputError(
            f"The model folder {folder} is no complete {type(model).__name__}: {len(wrong)} of its weights {what} "
            f"({', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}).",
            "Download or save the model again; config.json and weights must belong together.",
        )
