"""The second run on the same data: the same in every word, and never what is no longer true."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_runs import write_reviews
from tiny import tiny_folder, tiny_tokenizer
from tunesmith.config.build import build
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.data.labelled import LabelledTexts
from tunesmith.files.cache import cache_root
from tunesmith.run import RunConfig, assembly, train
from tunesmith.run.assembly import Network, TaskData, load_data, make_network
from tunesmith.run.directory import RunDirectory
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.classification import Classification

KINDS = ("rows", "prepared", "checked", "encoded")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Reviews with something of everything that reading and cleaning report."""
    path = write_reviews(tmp_path / "reviews.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    lines += [lines[1], " spaced out ,good", '"",bad', "one,cell,too many", "a text without its label,"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def config(source: Path, bert_folder: Path) -> RunConfig:
    return build(RunConfig, {"model": str(bert_folder), "data": str(source)})


def content(data: TaskData) -> dict[str, Any]:
    """Everything that a run takes from its data."""
    return {
        "task": data.task.model_dump(),
        "problems": data.problems,
        "rejected": data.rejected,
        "group": data.group,
        "passage": data.passage,
        "choices": data.prepared.choices,
        "prepared problems": data.prepared.problems,
        "hashes": dict(data.prepared.hashes),
        "rows": {split: rows[:] for split, rows in data.prepared.splits.items()},
    }


def network_of(config: RunConfig, data: TaskData) -> Network:
    loaded = config.model.load(data.task.head(), [], 0)
    return make_network(loaded, config, data.task, config.method.apply)


def built(cache: Path, kind: str) -> set[str]:
    return {path.name for path in (cache / kind).iterdir()} if (cache / kind).is_dir() else set()


def same(first: Encoded, second: Encoded) -> bool:
    def arrays(encoded: Encoded) -> Iterator[Any]:
        for values in (encoded.inputs, encoded.targets, encoded.extras):
            for name in sorted(values):
                value = values[name]
                yield from (value.values, value.offsets) if isinstance(value, Ragged) else (value,)

    pairs = zip(arrays(first), arrays(second), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def test_data_from_the_cache_is_the_same_in_every_word(config: RunConfig, cache: Path) -> None:
    first = load_data(config)
    assert {"left out", "cannot be read"} <= {
        words for words in ("left out", "cannot be read") if any(words in str(problem) for problem in first.problems)
    }
    assert first.rejected
    before = {kind: built(cache, kind) for kind in KINDS}
    assert content(load_data(config)) == content(first)
    assert {kind: built(cache, kind) for kind in KINDS} == before


def test_nothing_is_read_or_checked_twice(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    load_data(config)

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("done a second time")

    monkeypatch.setattr("tunesmith.data.readers.read_delimited", fail)
    monkeypatch.setattr(LabelledTexts, "learn", fail)
    monkeypatch.setattr(Classification, "check", fail)
    load_data(config)


def test_two_runs_have_the_same_record(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    def record(name: str) -> dict[str, Any]:
        folder = train(configured(output=str(tmp_path / name), train={"epochs": 1}))
        directory = RunDirectory(folder)
        summary = directory.read_json("training")
        return {
            "problems": summary["problems"],
            "rows": summary["rows"],
            "columns": summary["columns"],
            "data": directory.read_json("environment")["data"],
            "losses": [line for line in directory.metrics.read_text().splitlines() if '"evaluation"' in line],
        }

    assert record("first") == record("second")


@pytest.mark.parametrize(
    "change",
    [
        {"validation_fraction": 0.3},
        {"split_seed": 5},
        {"limit": 60},
        {"clean": {"duplicates": False}},
        {"clean": {"whitespace": False}},
        {"columns": {"text": "review", "label": "sentiment"}},
        {"group": "review"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_shape_the_rows_make_new_rows(
    config: RunConfig,
    source: Path,
    change: dict[str, Any],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_data(config)
    changed = build(RunConfig, {"model": config.model.name, "data": {"path": str(source), **change}})
    with_cache = content(load_data(changed))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "empty"))
    assert with_cache == content(load_data(changed))


def test_a_changed_file_is_read_again(config: RunConfig, source: Path) -> None:
    first = load_data(config)
    status = source.stat()
    text = source.read_text(encoding="utf-8")
    changed = text.replace("great", "grand")
    assert len(changed) == len(text)
    source.write_text(changed, encoding="utf-8")
    import os

    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))  # neither size nor time tells
    second = load_data(config)
    assert second.prepared.hashes != first.prepared.hashes
    assert not any("great" in text for text in second.columns("train")["text"])


def test_a_split_that_was_set_aside_is_spoken_of_only_while_it_is_there(config: RunConfig, source: Path) -> None:
    other = source.with_name("test.csv")
    other.write_text("words\nsomething else\n", encoding="utf-8")
    validation = write_reviews(source.with_name("validation.csv"), 40, seed=3)
    given = {"path": str(source), "validation": str(validation)}
    with_test = build(RunConfig, {"model": config.model.name, "data": {**given, "test": str(other)}})
    without = build(RunConfig, {"model": config.model.name, "data": given})
    assert any("set aside" in str(problem) for problem in load_data(with_test).problems)
    assert not any("set aside" in str(problem) for problem in load_data(without).problems)


@pytest.mark.parametrize("kind", ["rows", "prepared", "checked", "encoded"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_what_is_damaged_is_made_again(config: RunConfig, cache: Path, kind: str, damage: str) -> None:
    data = load_data(config)
    network = network_of(config, data)

    def encode() -> Encoded:
        return network.encode_cached(data.task, data.columns("train"), data.prepared.hashes["train"])

    first, encoded = content(data), network.encode(data.task, data.columns("train"))
    assert same(encode(), encoded)
    files = [path for path in (cache / kind).rglob("*") if path.is_file() and path.stat().st_size]
    assert files
    for path in files:
        damaged = bytearray(path.read_bytes())
        if damage == "missing":
            path.unlink()
            continue
        path.unlink()  # never into a file that is memory-mapped
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged if damage == "flipped" else damaged[: len(damaged) // 2])
    assert content(load_data(config)) == first
    assert same(encode(), encoded)


class TestEncodings:
    """Each part of the key makes new encodings; what changes nothing of them does not."""

    @pytest.fixture
    def data(self, config: RunConfig) -> TaskData:
        return load_data(config)

    @pytest.fixture
    def network(self, config: RunConfig, data: TaskData) -> Network:
        return network_of(config, data)

    @pytest.fixture
    def encode(self, cache: Path, data: TaskData, network: Network) -> Callable[..., bool]:
        """Return a function that encodes and says whether it had to be done anew; the result is always right."""
        columns, content_hash = data.columns("train"), data.prepared.hashes["train"]

        def encode(task: Any = data.task, network: Network = network, content_hash: str = content_hash) -> bool:
            before = built(cache, "encoded")
            found = network.encode_cached(task, columns, content_hash)
            assert same(found, network.encode(task, columns))
            return built(cache, "encoded") != before

        assert encode()
        assert not encode()
        return encode

    def test_the_tokenizer(self, encode: Callable[..., bool], network: Network) -> None:
        assert encode(network=replace(network, tokenizer=tiny_tokenizer("bpe")))

    def test_the_longest_row(self, encode: Callable[..., bool], network: Network) -> None:
        assert encode(network=replace(network, max_length=8))

    def test_the_content(self, encode: Callable[..., bool]) -> None:
        assert encode(content_hash="0" * 64)

    def test_the_labels(self, encode: Callable[..., bool], data: TaskData) -> None:
        assert isinstance(data.task, Classification)
        assert data.task.labels is not None
        assert encode(task=data.task.changed(labels=data.task.labels[::-1]))

    def test_the_code_of_the_task(self, encode: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assembly, "task_version", lambda task: f"another {task.name}")
        assert encode()

    def test_the_libraries(self, encode: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assembly, "version_of", lambda name: f"another {name}")
        assert encode()

    @pytest.mark.parametrize(
        "change", [{"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"focal_gamma": 2.0}, {"threshold": 0.3}]
    )
    def test_not_what_only_the_loss_reads(
        self, encode: Callable[..., bool], data: TaskData, change: dict[str, Any]
    ) -> None:
        assert set(change) <= type(data.task).not_encoded
        assert not encode(task=data.task.changed(**change))


def test_the_note_on_long_rows_is_the_tasks_own() -> None:
    encoded = Encoded({"input_ids": Ragged.from_rows([[1, 2]] * 4)}, {}, num_truncated=3)

    def note(task: Any) -> str:
        from tunesmith.run.composition import _length_notes

        (problem,) = _length_notes(task, encoded, 2)
        return problem.message

    assert "3 of 4 training rows" in note(Classification())
    assert note(Classification()).endswith("lose their end.")
    assert "oldest exchanges first" in note(CausalLM())
    assert note(CausalLM(too_long="drop")).endswith("are left out.")


PROGRAM = """
import sys
from pathlib import Path
from tunesmith.config.build import build
from tunesmith.models import load_tokenizer
from tunesmith.run import RunConfig
from tunesmith.run.assembly import load_data

def private_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

model, *files = sys.argv[1:]
tokenizer = load_tokenizer(Path(model))
for number, name in enumerate(files):
    config = build(RunConfig, {"model": model, "data": name})
    load_data(config)  # from here on from the cache
    before = private_megabytes()
    data = load_data(config)
    encoded = data.task.encode(data.columns("train"), tokenizer, 64)
    size = sum(ragged.values.nbytes + ragged.offsets.nbytes for ragged in encoded.inputs.values()) / 2**20
    size += sum(target.nbytes for target in encoded.targets.values()) / 2**20
    if number:  # the first one is for the imports
        print(len(encoded), size, private_megabytes() - before)
"""


@pytest.mark.slow
def test_memory_grows_with_nothing_but_the_encoded_arrays(tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "models")
    files = [write_reviews(tmp_path / f"{count}.csv", count) for count in (500, 100_000)]
    command = [sys.executable, "-c", PROGRAM, str(model), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    num_rows, size, growth = map(float, done.stdout.split())
    assert num_rows > 50_000
    assert growth < size + 30, done.stdout


def test_the_cache_is_where_the_environment_says(config: RunConfig, cache: Path) -> None:
    load_data(config)
    assert cache_root() == cache
    assert built(cache, "prepared")
