"""Tiny random models of every architecture family, for tests: seeded, no network, a few thousand weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

from tunesmith.engine.config import ComputeConfig, TrainConfig
from tunesmith.models.quiet import quiet

VOCABULARY = 97
HIDDEN = 16
PAD = 1
END = 2
MAX_LENGTH = 64
CHAT_VOCABULARY = 300
CHAT_MAX_LENGTH = 256

_heads = {"num_attention_heads": 2}
_stack = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "intermediate_size": 24, **_heads}
_encoder = {**_stack, "max_position_embeddings": MAX_LENGTH}
_decoder = {**_encoder, "num_key_value_heads": 1, "head_dim": 8}
_ids = {"pad_token_id": PAD, "eos_token_id": END, "bos_token_id": 3}


def _lstm(**settings: Any) -> PretrainedConfig:
    from tunesmith.models.lstm_network import LstmConfig

    return LstmConfig(**{"embedding_size": HIDDEN, "hidden_size": 8, "num_layers": 2, **settings})


def _cnn(**settings: Any) -> PretrainedConfig:
    from tunesmith.models.cnn_network import CnnConfig

    return CnnConfig(**{"embedding_size": HIDDEN, "widths": [2, 3], "num_channels": 8, **settings})


_CONFIGS: dict[str, tuple[Callable[..., PretrainedConfig], dict[str, Any]]] = {
    "bert": (BertConfig, _encoder),
    "roberta": (RobertaConfig, {**_stack, "max_position_embeddings": MAX_LENGTH + 2}),
    "distilbert": (
        DistilBertConfig,
        {"dim": HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": MAX_LENGTH},
    ),
    "modernbert": (
        ModernBertConfig,
        {**_encoder, "global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 3, "sep_token_id": END},
    ),
    "llama": (LlamaConfig, _decoder),
    "qwen3": (Qwen3Config, _decoder),
    "gpt2": (GPT2Config, {"n_embd": HIDDEN, "n_layer": 2, "n_head": 2, "n_inner": 24, "n_positions": MAX_LENGTH}),
    "bart": (
        BartConfig,
        {
            "d_model": HIDDEN,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_position_embeddings": MAX_LENGTH,
            "decoder_start_token_id": END,
            "forced_eos_token_id": END,
        },
    ),
    "t5": (
        T5Config,
        {"d_model": HIDDEN, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": PAD},
    ),
    "lstm": (_lstm, {}),
    "cnn": (_cnn, {}),
}

ARCHITECTURES: list[str] = list(_CONFIGS)
"""Every architecture ``tiny_model`` knows."""
TRANSFORMERS: list[str] = [name for name in ARCHITECTURES if name not in ("lstm", "cnn")]
"""Those that come from ``transformers``."""
NEEDS_END: frozenset[str] = frozenset({"bart", "t5"})
"""Architectures that pool at the end token: every row must hold ``END`` equally often."""


_AUTO_CLASSES = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForMaskedLM,
    "question": AutoModelForQuestionAnswering,
    "choice": AutoModelForMultipleChoice,
}


def tiny_config(arch: str, num_labels: int = 3, **settings: Any) -> PretrainedConfig:
    """Return the config; ids: padding 1, end 2, begin 3."""
    ids = {**_ids, **({} if arch in ("lstm", "cnn") else {"attn_implementation": "eager"})}
    if arch in ("lstm", "cnn"):
        ids = {"pad_token_id": PAD}
    make, sizes = _CONFIGS[arch]
    return make(**{"num_labels": num_labels, "vocab_size": VOCABULARY, **sizes, **ids, **settings})


def tiny_model(
    arch: str,
    num_labels: int = 3,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    *,
    head: str = "sequence",
    **settings: Any,
) -> PreTrainedModel:
    """Return a random model in ``eval`` mode, by default a classifier: two layers, hidden size 16, 97 tokens.

    ``head`` is ``sequence``, ``token``, ``question``, ``choice``, ``causal`` or ``masked``; ``settings`` go into the
    config (``num_hidden_layers``, ``problem_type``, ``tie_word_embeddings``, ``vocab_size``, dropouts).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _AUTO_CLASSES[head].from_config(tiny_config(arch, num_labels, **settings))
        # Norms and biases start as ones and zeros, which would hide mistakes made with them.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def tiny_batch(
    lengths: tuple[int, ...] = (9, 5, 7), seed: int = 0, *, padded_to: int | None = None
) -> dict[str, torch.Tensor]:
    """Return random ``input_ids`` and ``attention_mask``, [rows, longest], padded on the right.

    Every row ends in the end token and holds it nowhere else, so that each architecture accepts it.
    """
    generator = torch.Generator().manual_seed(seed)
    width = padded_to or max(lengths)
    input_ids = torch.full((len(lengths), width), PAD)
    attention_mask = torch.zeros((len(lengths), width), dtype=torch.long)
    for row, length in enumerate(lengths):
        input_ids[row, : length - 1] = torch.randint(5, VOCABULARY, (length - 1,), generator=generator)
        input_ids[row, length - 1] = END
        attention_mask[row, :length] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


SENTENCES = (
    "a wonderful little film, warm and funny",
    "the plot is dull and the acting is worse",
    "this movie made me laugh and cry",
    "a waste of time and money",
    "great songs, great cast, a great evening",
    "boring, slow and far too long",
    "one of the best films of the year",
    "i wanted to leave after ten minutes",
)
"""What the tiny tokenizers are trained on; four good reviews and four bad ones, in turn."""


def tiny_tokenizer(kind: str = "wordpiece") -> PreTrainedTokenizerFast:
    """Return a small real tokenizer: ``wordpiece`` with [CLS] and [SEP], ``bpe`` with <s> and </s>, or ``chat``.

    The ids of the first two fit the vocabulary of ``tiny_model`` (97). ``chat`` needs 300 (``vocab_size``):
    it reads any text, byte by byte, knows <|im_start|>, <|im_end|> (the end) and <|pad|>, and has a template.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if kind == "chat":
        return _chat_tokenizer()
    if kind == "bpe":
        special = ["<unk>", "<pad>", "</s>", "<s>"]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer: Any = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
        names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>"}
        tokenizer.train_from_iterator(SENTENCES, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]
        )
    else:
        special = ["[UNK]", "[PAD]", "[SEP]", "[CLS]", "[MASK]"]
        # Written out rather than learned: the trainer of this kind gives other ids every time.
        letters = sorted({letter for sentence in SENTENCES for letter in sentence if letter != " "})
        words = sorted({word.strip(",") for sentence in SENTENCES for word in sentence.split()} - set(letters))
        tokens = [*special, *letters, *(f"##{letter}" for letter in letters if letter != ","), *words][:VOCABULARY]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        names = {
            "unk_token": "[UNK]",
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        }
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[SEP]", 2), ("[CLS]", 3)],
        )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if kind == "wordpiece" else None
    extra = {"model_input_names": inputs} if inputs else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **names, **extra)


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML without a system message of its own."""


def _chat_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<|endoftext|>", "<|pad|>", "<|im_end|>", "<|im_start|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=CHAT_VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((*SENTENCES, "user\n", "assistant\n", "system\n"), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CHAT_MAX_LENGTH,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        unk_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    )


def chat_settings(arch: str) -> dict[str, Any]:
    """Return what a tiny model needs in its config to read what the ``chat`` tokenizer writes."""
    longest = {"gpt2": "n_positions"}.get(arch, "max_position_embeddings")
    return {"vocab_size": CHAT_VOCABULARY, longest: CHAT_MAX_LENGTH}


def tiny_folder(
    folder: Path, arch: str = "bert", *, headless: bool = True, seed: int = 0, head: str = "sequence", **settings: Any
) -> Path:
    """Save a tiny float32 model of ``arch`` and a tokenizer into ``folder/arch``; return that folder.

    With ``headless`` the weights are those of a base model, as on the hub, so that loading it for a
    task initialises a new head. A ``causal`` model is always saved whole, with the ``chat`` tokenizer.
    """
    folder = folder / arch
    kind = "wordpiece" if arch in ("bert", "distilbert", "modernbert", "lstm", "cnn") else "bpe"
    if head == "causal":
        kind, headless, settings = "chat", False, {**chat_settings(arch), **settings}
    model = tiny_model(arch, dtype=torch.float32, seed=seed, head=head, **settings)
    saved = model.base_model if headless and hasattr(model.base_model, "save_pretrained") else model
    with quiet():
        saved.save_pretrained(folder)
        tiny_tokenizer(kind).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    return folder


def gradients_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of the gradients by parameter name; those of tables may come as rows."""
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: grad.to_dense() if grad.is_sparse else grad.clone() for name, grad in found.items()}


def train_and_compute(**settings: Any) -> tuple[TrainConfig, ComputeConfig]:
    """Return the two sections that say how a training goes, each with those of ``settings`` that are its own."""
    compute = {name: settings.pop(name) for name in list(settings) if name in ComputeConfig.model_fields}
    return TrainConfig(**settings), ComputeConfig(**compute)
