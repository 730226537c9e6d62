"""Packed encoders: every weight comes out as the file says, and what is damaged is told."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from tunesmith.models.location import locate
from tunesmith.models.materialise import materialise
from tunesmith.models.packed_bert import BLOCK, convert_packed_bert, read_packed_bert
from tunesmith.types import InputError

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁good", "▁film", "片", "<mask>"]
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
SHORT = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}
EMBEDDED = {"word_embeddings": "emb.word", "position_embeddings": "emb.pos", "token_type_embeddings": "emb.type"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def short_name(name: str) -> str:
    kind = name.rpartition(".")[2][0]
    if name.startswith("embeddings"):
        return EMBEDDED.get(name.split(".")[1], f"emb.ln.{kind}")
    _, _, layer, part = name.rpartition(".")[0].split(".", 3)
    return f"l{layer}.{SHORT[part]}.{kind}"


def packed(weights: np.ndarray[Any, Any]) -> tuple[bytes, np.ndarray[Any, Any]]:
    """Return weights in blocks of 4 bits, and what those stand for."""
    rows = weights.reshape(-1, BLOCK)
    scales = (np.abs(rows).max(axis=1, keepdims=True).clip(1e-3) / 7).astype(np.float16)
    levels = np.clip(np.rint(rows / scales.astype(np.float32)), -8, 7).astype(np.int64) + 8
    stored = np.concatenate([scales.view(np.uint8), (levels[:, :16] | levels[:, 16:] << 4).astype(np.uint8)], axis=1)
    return stored.tobytes(), ((levels - 8) * scales.astype(np.float32)).reshape(weights.shape)


def write(path: Path) -> tuple[Path, BertModel]:
    """Write a random encoder, and return what is in the file."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(PIECES), max_position_embeddings=16, pad_token_id=1, **SIZES)
    model = BertModel(config, add_pooling_layer=False)
    encoded = [piece.encode() for piece in PIECES]
    begins = np.cumsum([0, *map(len, encoded)])
    head = b"E5S1" + struct.pack("<I7ifi", 1, 64, 2, 4, 96, len(PIECES), 16, 2, config.layer_norm_eps, BLOCK)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, begins[-1]) + begins.astype("<u4").tobytes()
    head += np.zeros(len(PIECES), "<f4").tobytes() + b"".join(encoded) + struct.pack("<iI", 1, 9) + b"123456789"
    entries, contents = [], list[bytes]()
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        is_packed = name.endswith("weight") and "LayerNorm" not in name and EMBEDDED.get(name.split(".")[1]) in (
            None,
            "emb.word",
        )  # fmt: skip
        content, stands_for = packed(values) if is_packed else (values.tobytes(), values)
        weight.copy_(torch.from_numpy(np.array(stands_for)))
        entries.append((short_name(name).encode(), is_packed, values.size, len(content)))
        contents.append(content)
    place = len(head) + 4 + sum(2 + len(name) + 1 + 4 + 16 for name, *_ in entries)
    directory = struct.pack("<i", len(entries))
    for name, is_packed, size, length in entries:
        directory += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", is_packed, size, place, length)
        place += length
    path.write_bytes(head + directory + b"".join(contents))
    return path, model


def write_tokenizer(path: Path, pieces: list[str]) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return path


def test_every_weight_comes_out_as_the_file_says(tmp_path: Path) -> None:
    path, model = write(tmp_path / "small.e5s1")
    folder, sha256 = convert_packed_bert(path, write_tokenizer(tmp_path / "tokenizer.json", PIECES))
    assert len(sha256) == 64
    loaded = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert {name: weight.tolist() for name, weight in loaded.state_dict().items()} == {
        name: weight.tolist() for name, weight in model.state_dict().items()
    }
    assert loaded.config.layer_norm_eps == pytest.approx(model.config.layer_norm_eps, rel=1e-6)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("good 片")["input_ids"][0] == 4
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.model_max_length) == (1, 7, 16)


@pytest.mark.parametrize("length", [0, 3, 30, 60, 200, 700])
def test_what_is_cut_short_is_told(tmp_path: Path, length: int) -> None:
    path, _ = write(tmp_path / "small.e5s1")
    with pytest.raises(InputError, match="packed weights") as caught:
        read_packed_bert(path.read_bytes()[:length])
    assert "Download it again" in str(caught.value)


def test_another_version_and_another_tokenizer_are_told(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "small.e5s1")
    content = bytearray(path.read_bytes())
    content[4] = 2
    with pytest.raises(InputError, match="version 2"):
        read_packed_bert(bytes(content))
    other = write_tokenizer(tmp_path / "tokenizer.json", [*PIECES[:-2], "<mask>", "片"])
    with pytest.raises(InputError, match="not the one of the packed weights"):
        convert_packed_bert(path, other)


@pytest.mark.slow
def test_the_sample_brings_translations_together() -> None:
    """Of 8 sentences, each is nearest to its own translation: mean of the tokens, as the model was trained."""
    folder = materialise(locate("sample:e5-multilingual")).folder
    model, tokenizer = AutoModel.from_pretrained(folder, add_pooling_layer=False), AutoTokenizer.from_pretrained(folder)
    pairs = {
        "The weather is lovely today.": "今天天气很好。",
        "He bought a new car.": "他买了一辆新车。",
        "Where is the railway station?": "火车站在哪里？",
        "I do not like this film.": "我不喜欢这部电影。",
        "The bank is closed on Sunday.": "银行星期天不营业。",
        "She is reading a book.": "她在看书。",
        "Water boils at a hundred degrees.": "水在一百度沸腾。",
        "The child has a fever.": "孩子发烧了。",
    }
    texts = [f"query: {text}" for text in (*pairs, *pairs.values())]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        states = model.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    cosines = vectors[:8] @ vectors[8:].T
    assert cosines.argmax(dim=1).tolist() == list(range(8))
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"] == 250037
