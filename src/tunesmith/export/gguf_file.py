"""``gguf``: one file for llama.cpp and what is built on it; weights in 32, 16, 8 or fewer bits.

What was written is read by ``transformers``' own reader of these files, its scores are compared with the run's, and its
tokenizer with the run's on texts of many kinds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.export.gguf_mixture import BASE, Mixture, said_of_odd_rows
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import BF16, FP16, Form, Opened
from tunesmith.export.transformers_folder import TransformersFolder
from tunesmith.models.gguf_file import convert_gguf
from tunesmith.models.loading import load_tokenizer
from tunesmith.models.wrapping import inner
from tunesmith.run import Run
from tunesmith.types import InputError, MissingExtraError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

FILE = "model.gguf"
ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""Kinds of models -> what llama.cpp calls them."""
PERMUTED = frozenset({"llama", "mistral"})
"""Kinds whose queries and keys llama.cpp rotates in pairs of neighbours, where ``transformers`` has them in halves."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BY_PATTERN = {
    rf"{_CONTRACTIONS}\p{{N}}{{1,3}}{_REST}": "llama-bpe",
    rf"{_CONTRACTIONS}\p{{N}}{_REST}": "qwen2",
}
"""How a text is cut before merges apply -> llama.cpp's name for it."""

TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs, twice; it's 1,250.75 euros!",
    "  two spaces, a\ttab\nand\r\nlines\n\n\nof all kinds  ",
    "I'll say YOU'RE right: we've been there, they'd know.",
    "中文句子，没有空格。日本語も、한국어도.",
    "naïve café — “quotes” … 🙂👩‍👩‍👧",
    "def total(values):\n    return sum(v for v in values if v is not None)  # 100%",
)

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5

_FORMS = {
    "f16": Form("f16", FP16.tolerance),
    "bf16": Form("bf16", BF16.tolerance),
    **{name: Form(name, None) for name in reversed(BASE)},
    "f32": Form("f32", 1e-4),
}


class GgufFile:
    """A decoder with its tokenizer and chat template in one file."""

    name = "gguf"
    forms: Mapping[str, Form] = {
        **_FORMS,
        **{short: _FORMS[f"{short}_m"] for short in ("q3_k", "q4_k", "q5_k")},
    }
    program = "the reader of GGUF files in transformers"
    is_timed = False

    def refuse(self, run: Run, form: Form) -> None:
        for package in ("gguf", *(("libgguf",) if form.name in BASE else ())):
            if find_spec(package) is None:
                raise MissingExtraError(f"Writing a GGUF file in {form.name}", package, "gguf")
        config: Any = getattr(inner(run.network.model), "config", None)
        kind = getattr(config, "model_type", "")
        if run.summary["auto_class"] != "AutoModelForCausalLM" or kind not in ARCHITECTURES:
            raise InputError(
                f"The run in {run.folder} has a model of the kind '{kind or run.task.name}'; GGUF files are written of "
                f"language models of the kinds {', '.join(ARCHITECTURES)}.",
                "Use --to safetensors, whose folder llama.cpp's own converter reads.",
            )
        _split_name(run.network.tokenizer)

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> Sequence[str]:
        import gguf

        del run, inputs
        config: Any = plain.model.config
        architecture = getattr(gguf.MODEL_ARCH, ARCHITECTURES[config.model_type])
        writer = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[architecture])
        _describe(writer, config, form)
        _write_tokenizer(writer, plain.tokenizer, config)
        names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
        mixture = _mixture(config, form)
        odd: list[tuple[str, int, str, str]] = []
        for name, tensor in _tensors(plain):
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None:
                raise InputError(f"llama.cpp has no place for the weights '{name}'.", "Use --to safetensors.")
            values = tensor.numpy()
            kind = _kind_of(known, values, form, mixture)
            if mixture is not None and kind != "F32" and kind != mixture.wanted(known):
                odd.append((known, values.shape[-1], mixture.wanted(known), kind))
            _add_tensor(writer, known, values, kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return said_of_odd_rows(odd)

    def open(self, run: Run, folder: Path, form: Form) -> Opened:
        converted, _ = convert_gguf(folder / FILE)
        _require_same_tokens(run.network.tokenizer, load_tokenizer(converted))
        return TransformersFolder().open(run, converted, Form("fp32", form.tolerance))


def _describe(writer: Any, config: Any, form: Form) -> None:
    import gguf

    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise InputError(
            f"The model's positions are scaled ({rope['rope_type']}), which is not written into GGUF files here.",
            "Use --to safetensors, whose folder llama.cpp's own converter reads.",
        )
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(str(getattr(config, "_name_or_path", "") or "model"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or getattr(config, "rope_theta", None) or 10_000.0))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(
        getattr(gguf.LlamaFileType, "ALL_F32" if form.name == "f32" else f"MOSTLY_{form.name.upper()}")
    )


def _write_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = {index: token for token, index in tokenizer.get_vocab().items()}
    added = {entry["id"]: entry for entry in described.get("added_tokens", [])}
    names, kinds = [], []
    for index in range(config.vocab_size):
        names.append(tokens.get(index, f"[PAD{index}]"))
        entry = added.get(index)
        kind = _NORMAL if entry is None else _CONTROL if entry["special"] else _USER_DEFINED
        kinds.append(kind if index in tokens else _UNUSED)
    merges = [one if isinstance(one, str) else " ".join(one) for one in described["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split_name(tokenizer))
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    for name, value in (
        ("bos", tokenizer.bos_token_id),
        ("eos", tokenizer.eos_token_id),
        ("pad", tokenizer.pad_token_id),
    ):
        if value is not None:
            getattr(writer, f"add_{name}_token_id")(value)
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
    writer.add_add_bos_token(begins)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _split_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return llama.cpp's name for how a vocabulary cuts texts; ``InputError`` where it has none that is known here."""
    described = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    model, before = described.get("model") or {}, described.get("pre_tokenizer") or {}
    if model.get("type") == "BPE" and described.get("normalizer") in (None, {"type": "NFC"}):
        parts = before.get("pretokenizers", [before])
        kinds = [part.get("type") for part in parts]
        if kinds == ["ByteLevel"] and not parts[0].get("add_prefix_space"):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and (name := _BY_PATTERN.get(parts[0]["pattern"].get("Regex", ""))):
            return name
    raise InputError(
        "The tokenizer cuts texts in a way that llama.cpp may not know: the file would read other tokens.",
        "Use --to safetensors, whose folder llama.cpp's own converter reads.",
    )


def _tensors(plain: PlainModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield weights by their names in ``transformers``, queries and keys in llama.cpp's order; shared ones once."""
    config: Any = plain.model.config
    is_tied = bool(getattr(config, "tie_word_embeddings", False))
    for name, tensor in plain.model.state_dict().items():
        if is_tied and name == "lm_head.weight":
            continue
        if config.model_type in PERMUTED and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            turned = tensor.view(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
            yield name, turned.contiguous()
        else:
            yield name, tensor.contiguous()


def _mixture(config: Any, form: Form) -> Mixture | None:
    """Return what chooses the kind of each weight; None where all have the same."""
    if form.name not in BASE:
        return None
    shared_by = config.num_attention_heads // config.num_key_value_heads
    is_tied = bool(getattr(config, "tie_word_embeddings", False))
    return Mixture(form.name, config.num_hidden_layers, shared_by, is_tied)


def _kind_of(name: str, values: np.ndarray[Any, Any], form: Form, mixture: Mixture | None) -> str:
    """Return in which kind of numbers a tensor is kept: norms and biases stay whole."""
    if values.ndim < 2:
        return "F32"
    return form.name.upper() if mixture is None else mixture.kept(name, values.shape[-1])


def _add_tensor(writer: Any, name: str, values: np.ndarray[Any, Any], kind: str) -> None:
    import gguf

    if kind == "F32":
        writer.add_tensor(name, values.astype(np.float32))
        return
    number = gguf.GGMLQuantizationType[kind]
    if kind in ("F16", "BF16"):
        packed = gguf.quants.quantize(values, number)
    else:
        import libgguf

        packed = libgguf.quantize_rows(values, int(number))
    writer.add_tensor(name, packed, raw_dtype=number)


def _require_same_tokens(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> None:
    for text in TEXTS:
        found = [tokenizer(text, add_special_tokens=False)["input_ids"] for tokenizer in (ours, theirs)]
        if found[0] != found[1]:
            raise InputError(
                f"The run was not exported: the file's tokenizer reads {text[:40]!r} as other tokens than the run's.",
                "Use --to safetensors, whose folder llama.cpp's own converter reads.",
            )
