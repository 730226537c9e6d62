"""Pretrained models: from the hub, a local folder or GGUF file, a run, or a sample from the package index."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.base import LoadedModel, ModelSource
from tunesmith.models.failures import explained
from tunesmith.models.location import Location, locate
from tunesmith.models.origin import Origin, origin, set_origin
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import check_model_folder, check_tokenizer_parts
from tunesmith.models.weights import align
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.tasks.base import HeadSettings

CAUSAL = "AutoModelForCausalLM"
MASKED = "AutoModelForMaskedLM"

_FITTING = {CAUSAL: "sample:smollm2-135m-instruct"}

# Tokenizers without a limit of their own record a huge number.
_MAX_SANE_LENGTH = 1_000_000


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


class Pretrained(ModelSource):
    """A pretrained model: a hub id (``org/name``), a local folder or GGUF file, a run, or ``sample:minilm``.

    Of weights, only safetensors and GGUF are read, and no code that comes with a model is ever run.

    Rows are cut at ``max_length`` tokens. Without it, the limit is the smallest of the tokenizer's
    limit, the model's number of positions, and the task's own (512 where whole rows are classified:
    attention over longer rows costs more than it usually gains). A longer ``max_length`` may be
    given up to the model's number of positions.
    """

    revision: str | None = None
    """Branch, tag or commit of the hub repository."""

    def load(self, head: HeadSettings, texts: Iterable[str], seed: int) -> LoadedModel:  # noqa: ARG002
        """Return the model in float32 with the task's head, in ``eval`` mode.

        Weights that the files lack (the head; sometimes the pooler) are initialised from ``seed``;
        equal seeds give equal weights, and the global random state is left as it was.

        Raises:
            InputError: The model is not found, refused (``tunesmith.models.safety``), damaged, or
                does not fit the task or ``max_length``.
        """
        location = locate(self.name, self.revision)
        check_model_folder(location.folder)
        location = location.identified()
        config = load_config(location.folder, head, dropout=self.dropout)
        tokenizer = load_tokenizer(location.folder, config)
        model = load_weights(location, config, head, seed)
        if self.dropout is not None:
            set_dropout(model, self.dropout)
        check_vocabulary(model, tokenizer)
        let_padding_learn(model, tokenizer)
        check_computing(model, tokenizer, location.folder)
        if head.auto_class == CAUSAL:
            check_causal(model, location.folder)
        max_length = choose_max_length(model, tokenizer, self.max_length, head.default_max_length)
        tokenizer.model_max_length = max_length
        check_saving(model, location.folder)
        return LoadedModel(model, tokenizer, max_length, location.source)

    def load_again(self, loaded: LoadedModel, seed: int) -> LoadedModel:
        """Return what ``load`` with another seed would give for the head of ``loaded``, which ``load`` has just given.

        Weights that come from files share their memory with those of ``loaded``.
        """
        model = load_weights_again(loaded.model, seed)
        if self.dropout is not None:
            set_dropout(model, self.dropout)
        let_padding_learn(model, loaded.tokenizer)
        return replace(loaded, model=model)


def load_config(folder: Path, head: HeadSettings, *, dropout: float | None = None) -> PretrainedConfig:
    """Return the folder's model config with the task's settings and the dropout in it."""
    import transformers
    from transformers import AutoConfig

    with _loading("config", folder), quiet():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **_OUTPUTS)
    auto_class = getattr(transformers, head.auto_class)
    # What BART and its kin predict at a place was never meant to be read there without a shifted second input.
    unfit = head.auto_class == MASKED and getattr(config, "is_encoder_decoder", False)
    if type(config) not in auto_class._model_mapping or unfit:
        raise InputError(
            f"The model in {folder} (model_type {config.model_type!r}) has no head for this task ({head.auto_class}).",
            f"Choose a model of another type, such as {_FITTING.get(head.auto_class, 'sample:minilm')}.",
        )
    loaded: PretrainedConfig = config
    apply_head(loaded, head)
    if head.auto_class in ("AutoModelForSequenceClassification", "AutoModelForTokenClassification"):
        config.use_cache = False  # keys and values are kept for generation only
    if dropout is not None:
        for key in _dropout_settings(config):
            setattr(config, key, dropout)
    return loaded


def apply_head(config: PretrainedConfig, head: HeadSettings) -> None:
    """Write what the task asks of the model into its config."""
    if head.num_outputs is not None:
        config.num_labels = head.num_outputs
    for key, value in head.config.items():
        setattr(config, key, {int(index): name for index, name in value.items()} if key == "id2label" else value)


def load_tokenizer(folder: Path, config: PretrainedConfig | None = None) -> PreTrainedTokenizerBase:
    """Return the folder's tokenizer, padding on the right and with a padding token.

    A tokenizer without one (GPT-2, Llama) pads with its end token; ``config`` then learns it too. That
    is safe here: what is padding is told by the length of a row and never by the token that stands
    there, so that real end tokens are read and trained (see also ``let_padding_learn``).
    Padding and truncation that a tokenizer file asks for by itself are switched off.
    """
    from transformers import AutoTokenizer

    with _loading("tokenizer", folder), quiet():
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
    with _loading("tokenizer", folder), quiet():
        check_tokenizer(tokenizer)
    if backend is not None:
        with _loading("tokenizer", folder):
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
    location: Location, config: PretrainedConfig, head: HeadSettings, seed: int, *, complete: bool = False
) -> PreTrainedModel:
    """Return the model of ``config`` with the folder's weights in float32, the rest initialised from ``seed``.

    Only the head and what stands between the layers and it (a pooler) may be missing; with
    ``complete`` nothing may.
    """
    import transformers

    auto_class = getattr(transformers, head.auto_class)
    with _loading("weights", location.folder), quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        model, found = auto_class.from_pretrained(
            location.folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # a head for other labels; anything else is refused below
            output_loading_info=True,
        )
    mismatched = {key for key, *_ in found["mismatched_keys"]}
    new = frozenset({*found["missing_keys"], *mismatched} & {name for name, _ in model.named_parameters()})
    set_origin(model, Origin(location.name, location.revision, new, location.weights_sha256))
    model.name_or_path = config.name_or_path = location.name
    _check_complete(model, location.folder, new, mismatched, complete=complete)
    align(model)
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_weights_again(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return a model that ``load_weights`` gave once more, its new weights initialised from another seed.

    The other weights share their memory with those of ``model``.
    """
    known = origin(model)
    assert known is not None
    weights = {name: tensor for name, tensor in model.state_dict().items() if name not in known.new_parameters}
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        again = type(model).from_pretrained(
            None, config=copy.deepcopy(model.config), state_dict=weights, dtype=torch.float32
        )
    set_origin(again, known)
    again.name_or_path = model.name_or_path
    if hasattr(model, "generation_config"):
        again.generation_config = copy.deepcopy(model.generation_config)
    loaded: PreTrainedModel = again.eval()  # type: ignore[no-untyped-call]
    return loaded


def let_padding_learn(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Where the padding token has another meaning too (an end token that pads), let its embedding be trained.

    Torch gives the embedding at ``padding_idx`` no gradient, and ``transformers`` sets that from the config.
    """
    other = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, tokenizer.sep_token_id)
    table = model.get_input_embeddings()
    if isinstance(table, nn.Embedding) and table.padding_idx is not None and table.padding_idx in other:
        table.padding_idx = None


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


@torch.no_grad()
def check_computing(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raise ``InputError`` when the model fails on a few tokens: its config has values that only computing shows."""
    fix = "Correct config.json, download or save the model again, or choose another one."
    with explained(f"The model in {folder} ({type(model).__name__}) cannot compute", fix), quiet():
        encoded = tokenizer("one word", return_tensors="pt")
        model(input_ids=encoded["input_ids"].long(), attention_mask=encoded["attention_mask"].long())


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
    with _loading("config", folder), tempfile.TemporaryDirectory(prefix="tunesmith-") as place, quiet():
        model.config.save_pretrained(place)


def _can_be_saved(settings: GenerationConfig) -> bool:
    try:
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as place, quiet():
            settings.save_pretrained(place)
    except Exception:  # whatever a release checks when it writes
        return False
    return True


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set the probability of every dropout module of ``model``."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = probability


def _dropout_settings(config: PretrainedConfig) -> list[str]:
    """Return the names of a config's dropout probabilities (layer drop and stochastic depth are none)."""
    return [
        key
        for key, value in config.to_dict().items()
        if ("dropout" in key or key.endswith("pdrop"))
        and not isinstance(value, bool)
        and (isinstance(value, (int, float)) or (value is None and key == "classifier_dropout"))
    ]


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


def _loading(what: str, folder: Path) -> AbstractContextManager[None]:
    """Explain whatever goes wrong inside the ``with`` block as a failure to load this part of a folder's model."""
    fix = "Download or save the model again, or choose another one."
    return explained(f"The model's {what} in {folder} cannot be loaded", fix)
