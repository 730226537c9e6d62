"""Model folders and adapters that ask for any amount of time or memory, or wait for ever."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_folder
from tunesmith.models import Pretrained, load_tokenizer, safety
from tunesmith.models.safety import check_adapter_folder, check_model_folder
from tunesmith.types import InputError


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "_TRIAL_SECONDS", 0.5)


def with_tokenizer(tmp_path: Path, **parts: Any) -> Path:
    folder = tiny_folder(tmp_path, "bert")
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, **parts}))
    return folder


def replaced(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


DOUBLED = {"type": "Sequence", "normalizers": [replaced({"String": "e"}, "ee")] * 30}
SLOW = {
    "type": "Split", "pattern": {"Regex": r"(?:(a|aa|aaa)+)+$|(?=(a+)+b)"}, "behavior": "Isolated", "invert": False,
}  # fmt: skip
GROWING = {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": "."}, "content": "ab" * 40}]}


@pytest.mark.parametrize("parts", [{"normalizer": DOUBLED}, {"normalizer": GROWING}, {"pre_tokenizer": SLOW}])
def test_tokenizers_that_blow_up_are_refused(tmp_path: Path, parts: dict[str, Any]) -> None:
    folder = with_tokenizer(tmp_path, **parts)
    with pytest.raises(InputError, match=r"The tokenizer in .* cannot be used: it (makes|takes|asks|breaks off)"):
        load_tokenizer(folder)


def test_usual_parts_of_tokenizers_are_not_refused(tmp_path: Path) -> None:
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    split = {"type": "Split", "pattern": {"Regex": gpt2}, "behavior": "Isolated", "invert": False}
    cleaning = {"type": "Sequence", "normalizers": [replaced({"String": "``"}, '"'), replaced({"Regex": " {2,}"}, " ")]}
    folder = with_tokenizer(tmp_path, normalizer=cleaning, pre_tokenizer=split)
    assert load_tokenizer(folder)("one  film")["input_ids"]


def test_a_tokenizer_without_a_token_for_unknown_words_is_refused(tmp_path: Path) -> None:
    model = {"type": "WordLevel", "vocab": {"one": 0, "[PAD]": 1}, "unk_token": "[UNK]"}
    folder = with_tokenizer(tmp_path, model=model, added_tokens=[], post_processor=None)
    with pytest.raises(InputError, match="UNK"):
        load_tokenizer(folder)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name", ["special_tokens_map.json", "chat_template.jinja", "merges.txt", "generation_config.json"]
)
def test_a_pipe_in_a_model_folder_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = tiny_folder(tmp_path, "bert")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match="is a named pipe; a file was expected"):
        check_model_folder(folder)
    with pytest.raises(InputError, match="is a named pipe; a file was expected"):
        check_adapter_folder(folder)
    with pytest.raises(InputError, match="is a named pipe; a file was expected"):
        build_model(folder)


def build_model(folder: Path) -> None:
    from tunesmith.tasks import Classification

    Pretrained(name=str(folder)).load(Classification(labels=("a", "b")).head(), [], 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"megatron_core": "antigravity", "megatron_config": {"a": 1}}, "Megatron"),
        ({"megatron_core": "os"}, "Megatron"),
        ({"base_model_name_or_path": {"a": 1}}, "base_model_name_or_path is"),
        ({"revision": 3}, "revision is 3"),
    ],
)
def test_adapters_that_name_what_they_should_not(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    described = {"peft_type": "LORA", "base_model_name_or_path": "x", "megatron_core": "megatron.core"}
    save_file({"a": np.zeros(2, dtype=np.float32)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    check_adapter_folder(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**described, **changed}))
    with pytest.raises(InputError, match=words):
        check_adapter_folder(tmp_path)


@pytest.mark.parametrize("length", ["long", [1], {"a": 1}])
def test_a_length_of_a_tokenizer_that_is_no_number(tmp_path: Path, length: Any) -> None:
    folder = tiny_folder(tmp_path, "bert")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": length}))
    with pytest.raises(InputError, match="model_max_length"):
        load_tokenizer(folder)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("arch", "key"), [("lstm", "num_layers"), ("bert", "num_hidden_layers")])
def test_more_layers_than_there_are_weights_are_not_built(tmp_path: Path, arch: str, key: str) -> None:
    folder = tiny_folder(tmp_path, arch)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: 10**6}))
    with pytest.raises(InputError, match="which does not fit the weights beside it"):
        build_model(folder)
