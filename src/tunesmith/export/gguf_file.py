"""``gguf``: one file for llama.cpp and what is built on it; weights in 32, 16, 8 or 4 bits.

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

from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import BF16, FP16, Form, Runtime
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
ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "qwen2": "QWEN2"}
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


class GgufFile:
    """A decoder with its tokenizer and chat template in one file."""

    name = "gguf"
    forms: Mapping[str, Form] = {
        "f16": Form("f16", FP16.tolerance),
        "bf16": Form("bf16", BF16.tolerance),
        "q8_0": Form("q8_0", None),
        "q4_0": Form("q4_0", None),
        "f32": Form("f32", 1e-4),
    }
    program = "the reader of GGUF files in transformers"

    def refuse(self, run: Run) -> None:
        if find_spec("gguf") is None:
            raise MissingExtraError("Writing a GGUF file", "gguf", "gguf")
        config: Any = getattr(inner(run.network.model), "config", None)
        kind = getattr(config, "model_type", "")
        if run.summary["auto_class"] != "AutoModelForCausalLM" or kind not in ARCHITECTURES:
            raise InputError(
                f"The run in {run.folder} has a model of the kind '{kind or run.task.name}'; GGUF files are written of "
                f"language models of the kinds {', '.join(ARCHITECTURES)}.",
                "Use --to safetensors, whose folder llama.cpp's own converter reads.",
            )
        _split_name(run.network.tokenizer)

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> None:
        import gguf

        del run, inputs

        config: Any = plain.model.config
        architecture = getattr(gguf.MODEL_ARCH, ARCHITECTURES[config.model_type])
        writer = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[architecture])
        _describe(writer, config, form)
        _write_tokenizer(writer, plain.tokenizer, config)
        names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
        for name, tensor in _tensors(plain):
            known = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if known is None:
                raise InputError(f"llama.cpp has no place for the weights '{name}'.", "Use --to safetensors.")
            values = tensor.numpy()
            kind = _kind_of(values, form)
            if kind == gguf.GGMLQuantizationType.F32:
                writer.add_tensor(known, values.astype(np.float32))
            else:
                writer.add_tensor(known, gguf.quants.quantize(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def open(self, run: Run, folder: Path, form: Form) -> Runtime:
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


def _kind_of(values: np.ndarray[Any, Any], form: Form) -> Any:
    """Return in which kind of numbers a tensor is kept: norms and what does not come out even stay whole."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    kind = getattr(kinds, form.name.upper())
    if values.ndim < 2 or form.name == "f32":
        return kinds.F32
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if values.shape[-1] % block == 0 else kinds.F16


def _require_same_tokens(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> None:
    for text in TEXTS:
        found = [tokenizer(text, add_special_tokens=False)["input_ids"] for tokenizer in (ours, theirs)]
        if found[0] != found[1]:
            raise InputError(
                f"The run was not exported: the file's tokenizer reads {text[:40]!r} as other tokens than the run's.",
                "Use --to safetensors, whose folder llama.cpp's own converter reads.",
            )
