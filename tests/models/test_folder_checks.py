"""What a model folder may hold: whatever would fail after training, or never end, is refused before it."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import tiny_batch, tiny_folder, tiny_tokenizer
from tunesmith.methods import Full
from tunesmith.models import Pretrained
from tunesmith.models.quiet import quiet
from tunesmith.types import HeadSettings, InputError, RunError

HEAD = HeadSettings("AutoModelForSequenceClassification", 3)
CAUSAL = HeadSettings("AutoModelForCausalLM", None)


def load(folder: Path, head: HeadSettings = HEAD) -> Any:
    return Pretrained(name=str(folder)).load(head, [], 0)


def edit(path: Path, **changes: Any) -> None:
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**before, **changes}), encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose path is short: those of sockets must be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
        Path(path.name).replace(path)


STRANGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pipe": (os.mkfifo, "is a named pipe; a file was expected"),
    "a folder": (Path.mkdir, "is a folder; a file was expected"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a device; a file was expected"),
    "a broken link": (lambda path: path.symlink_to("nowhere"), "is a link to a file that is not there"),
    "a socket": (_socket, "is a socket; a file was expected"),
    "too large": (lambda path: (path.touch(), os.truncate(path, 200_000_001)), "has 200,000,001 bytes"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja"])
@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_is_named(what: str, name: str, here: Path) -> None:
    folder = tiny_folder(here)
    make, message = STRANGE[what]
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(InputError, match=rf"{name} {message}"):
        load(folder)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["model.safetensors", "adapter_config.json", "adapter_model.safetensors"])
def test_pipes_among_weights_and_adapters_are_named(name: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    if name.startswith("adapter"):
        (folder / "config.json").unlink()
        edit(folder / "adapter_config.json", peft_type="LORA")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name} is a named pipe"):
        load(folder)


TOKENS: dict[str, tuple[str, Any]] = {
    "text": ("eos_token_id", "</s>"),
    "list of texts": ("eos_token_id", [2, "[SEP]"]),
    "number with a point": ("bos_token_id", 3.0),
    "yes": ("pad_token_id", True),
    "mapping": ("decoder_start_token_id", {"id": 2}),
}


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("case", TOKENS)
def test_tokens_that_are_no_numbers_are_refused(case: str, file: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", head="causal")
    key, value = TOKENS[case]
    if isinstance(value, dict):
        key, value = "forced_eos_token_id", "2"
    edit(folder / file, **{key: value})
    with pytest.raises(InputError, match=f"{file}: {key} is .*; the number of a token was expected"):
        load(folder, CAUSAL)


@pytest.mark.parametrize("value", ["BertModel", 7, [1], {"a": 1}])
def test_architectures_that_are_no_names_are_refused(value: Any, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "config.json", architectures=value)
    with pytest.raises(InputError, match="a list of names of classes was expected"):
        load(folder)


@pytest.mark.parametrize("value", [["NoSuchModel"], [], None])
def test_architectures_that_nobody_knows_do_not_matter(value: Any, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "config.json", architectures=value)
    load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("vocab_size", 10**12),
        ("intermediate_size", 10**11),
        ("max_position_embeddings", 10**13),
        ("hidden_size", 10**10),
        ("num_hidden_layers", -3),
    ],
)
@pytest.mark.timeout(60)
def test_sizes_that_no_file_beside_them_could_have_are_refused(key: str, value: int, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "config.json", **{key: value})
    with pytest.raises(InputError, match=f"{key} is {value}, which does not fit the weights beside it"):
        load(folder)


OUTPUTS = [
    {"return_dict": False},
    {"return_dict": False, "output_attentions": True},
    {"output_attentions": True},
    {"output_hidden_states": True},
]


@pytest.mark.parametrize("settings", OUTPUTS, ids="-".join)
@pytest.mark.parametrize("arch", ["bert", "llama", "t5"])
def test_what_a_config_wants_a_model_to_return_changes_nothing(arch: str, settings: Any, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, arch)
    with torch.no_grad():
        expected = load(folder).model(**tiny_batch()).logits
        edit(folder / "config.json", **settings)
        output = load(folder).model(**tiny_batch())
    assert torch.equal(output.logits, expected)
    assert output.get("attentions") is None
    assert output.get("hidden_states") is None


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.5, "do_sample": False}, {"top_p": 0.3, "top_k": 5, "do_sample": False}, {"temperature": -1.0}],
)
def test_settings_of_generation_that_cannot_be_written_do_not_end_a_run(settings: Any, tmp_path: Path) -> None:
    """``transformers`` reads them, and refuses to write them when training is over."""
    folder = tiny_folder(tmp_path, "llama", head="causal")
    edit(folder / "generation_config.json", eos_token_id=2, **settings)
    model = load(folder, CAUSAL).model
    assert model.generation_config.eos_token_id == 2
    Full().save(model, tmp_path / "saved")
    assert load_again(tmp_path / "saved").generation_config.eos_token_id == 2


def load_again(folder: Path) -> Any:
    with quiet():
        tiny_tokenizer("chat").save_pretrained(folder)
    return load(folder, CAUSAL).model


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": -1}, {"chunk_size_feed_forward": 1_000_000}, {"num_attention_heads": 3}]
)
def test_a_config_that_cannot_be_computed_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "config.json", **change)
    with pytest.raises(InputError, match=r"cannot (compute|be loaded)"):
        load(folder)


@pytest.mark.parametrize("name", ["unk_token", "sep_token"])
def test_special_tokens_without_a_text_are_none(name: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "tokenizer_config.json", **{name: ""})
    tokenizer = load(folder).tokenizer
    assert getattr(tokenizer, name) is None
    assert tokenizer("film")["input_ids"]


@pytest.mark.parametrize("value", [0, 0.5, -3, "many"])
def test_a_length_that_is_no_number_of_tokens_is_refused(value: Any, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit(folder / "tokenizer_config.json", model_max_length=value)
    with pytest.raises(InputError, match="model_max_length"):
        load(folder)


def test_a_tokenizer_without_a_token_for_the_unknown_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for kind in ("WordPiece", "WordLevel"):
        vocabulary = {token: index for token, index in content["model"]["vocab"].items() if token != "[UNK]"}
        model = {"type": kind, "unk_token": "[UNK]", "vocab": vocabulary}
        if kind == "WordPiece":
            model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
        added = [token for token in content["added_tokens"] if token["content"] != "[UNK]"]
        path.write_text(json.dumps({**content, "model": model, "added_tokens": added}), encoding="utf-8")
        edit(folder / "tokenizer_config.json", unk_token=None)
        with pytest.raises(InputError, match=rf"The model's tokenizer in {folder} cannot be loaded: .*"):
            load(folder)


def test_a_panic_of_the_tokenizers_library_is_a_message() -> None:
    from tunesmith.models.failures import explained, tokenizing

    class PanicException(BaseException):
        """What the bindings raise, which is no ``Exception`` either."""

    with pytest.raises(InputError, match=r"cannot be loaded: index out of bounds"), explained("cannot be loaded", ""):
        raise PanicException("index out of bounds: the len is 3 but the index is 5")
    with pytest.raises(InputError, match="cannot read these texts: WordPiece error"), tokenizing("a model"):
        raise Exception("WordPiece error: Missing [UNK] token from the vocabulary")
    for error in (KeyError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)), tokenizing("a model"):
            raise error


def test_no_number_in_a_configuration_is_damage(here: Path) -> None:
    folder = tiny_folder(here, "bert")
    edit(folder / "config.json", hidden_dropout_prob=math.nan)
    with pytest.raises(InputError, match=r"config\.json is not valid JSON: NaN"):
        load(folder)


NO_SENSE: list[dict[str, Any]] = [
    {"target_modules": 10**30}, {"r": math.inf}, {"lora_alpha": -math.inf}, {"rank_pattern": 3}, {"alpha_pattern": "x"},
    {"rank_pattern": ["query"]},
]  # fmt: skip


@pytest.mark.parametrize("changed", NO_SENSE)
def test_adapters_of_no_sense_are_refused(here: Path, changed: dict[str, Any]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = tiny_folder(here, "bert")
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(base)
        config = LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
        get_peft_model(model, config).save_pretrained(here / "adapter")
    edit(here / "adapter" / "adapter_config.json", base_model_name_or_path=str(base), **changed)
    with pytest.raises((InputError, RunError)):
        load(here / "adapter")
