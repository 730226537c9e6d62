from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trees import Clean, Data, Freeze, Full, Lora, Lstm, Optimizer, Pretrained, Root, Train
from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.config.load import dump_yaml, load_yaml, merge, parse_overrides, parse_yaml

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "no",
        "on",
        "yes",
        "null",
        "~",
        "2e-5",
        "1:30",
        "010",
        "0o7",
        "2024-01-01",
        "<<",
        "=",
        "1_000",
        ".5",
        "- a",
        "a: b",
    ]
)
positive = st.integers(1, 10**12)
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(st.none() | st.booleans() | st.integers() | finite | texts, lambda x: st.lists(x, max_size=3))
methods = st.one_of(
    st.builds(Full, layer_decay=st.floats(0.001, 1)),
    st.builds(Freeze, layers=positive),
    st.builds(Lora, rank=positive, targets=st.lists(texts, max_size=3).map(tuple)),
)
roots = st.builds(
    Root,
    model=st.builds(Lstm, width=st.integers()) | st.builds(Pretrained, name=texts.filter(lambda x: x != "lstm")),
    data=st.builds(
        Data,
        path=texts.filter(lambda x: x and "*" not in x),
        columns=st.dictionaries(texts, texts, max_size=3),
        header=st.none() | st.booleans(),
        fractions=st.lists(finite, max_size=3),
        folder=st.none() | st.sampled_from([Path("a/b"), Path("/x y")]),
        clean=st.builds(Clean),
    ),
    task=st.none() | methods,
    method=methods,
    train=st.builds(
        Train,
        epochs=st.floats(1e-300, 1e300),
        optimizer=st.builds(Optimizer, name=texts, options=st.dictionaries(texts, values, max_size=3)),
    ),
    output=st.none() | texts,
)


@given(root=roots)
def test_what_is_dumped_reads_back_equal(root: Root) -> None:
    text = dump_yaml(root)
    again = build(Root, parse_yaml(text, "dump"), "dump")
    assert again == root
    assert type(again.method) is type(root.method)
    assert yaml.safe_load(text) == parse_yaml(text, "dump"), "YAML 1.1 reads something else"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("1E3", 1000.0), (".5", 0.5), ("-3.", -3.0), ("010", 10), ("0x1F", 31), ("0o17", 15),
        ("true", True), ("FALSE", False), ("no", "no"), ("on", "on"), ("y", "y"), ("null", None), ("~", None),
        ("", None), ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("1_000", "1_000"), ("=", "="),
        ("nan", "nan"), (".", "."),
        ("-", "-"), ("+", "+"), ("[1, a]", [1, "a"]), ("'7'", "7"), ("5e", "5e"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    if text == "-":
        text = "'-'"
    found = parse_yaml(f"a: {text}", "t")["a"]
    assert found == value
    assert type(found) is type(value)


def test_infinities_are_read_and_refused_by_the_configuration() -> None:
    assert parse_yaml("a: -.inf", "t")["a"] == -float("inf")
    with pytest.raises(ConfigError, match="epochs"):
        build(Train, parse_yaml("epochs: .inf", "t"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2", "line 3, column 3: the key 'b' is given twice"),
        ("a: [1, 2", "line 1, column"),
        ("a: b: c", "line 1, column 5"),
        ("\tx: 1", "line 1, column 1"),
        ("- 1\n- 2", "holds a list; expected keys and values"),
        ("just words", "holds a str; expected keys and values"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: \x00", "not valid YAML"),
        ("? [1, 2]\n: 3", "line 1, column 3"),
        ("a: *nothing", "undefined alias"),
        ("[" * 5000, "line 1, column 51: this is nested more than 50 deep"),
        ("a:\n - b\n - ? " + "- " * 60, "line 3, column"),
        ("a: &a [*a]", "a value holds itself"),
        ("a: !!bool perhaps", "line 1, column 4: 'perhaps' is no bool"),
        ("a: 1\nb: !!int 12 months", "line 2, column 4: '12 months' is no int"),
        ("a: !!float [1]", "expected a scalar node"),
        ("a: !!null 0", "'0' is no null"),
        ("a: !!timestamp 12", "could not determine a constructor"),
        ("a: !!set {x, y}", "could not determine a constructor"),
        ("a: !!omap x", "could not determine a constructor"),
        ("a: !!binary x", "could not determine a constructor"),
        ("a: 0x" + "F" * 5000, "line 1, column 4: a value of 5002 characters is no int"),
        ("{" + "a," * 20_000 + "}", "there are more than 10000 values"),
        ("a: '" + "x" * 300_000 + "'", "at most 200,000"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert message in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match="No such file"):
        load_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match="not UTF-8: byte 3 is 0xff"):
        load_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert load_yaml(path) == {"a": 1}
    path.write_bytes(b"# nothing yet\n")
    assert load_yaml(path) == {}


def test_anchors_and_merge_keys_work() -> None:
    text = "base: &b {x: 1, y: 2}\na:\n  <<: *b\n  y: 3\n"
    assert parse_yaml(text, "t")["a"] == {"x": 1, "y": 3}


@given(text=st.text(max_size=60))
def test_any_text_is_a_mapping_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_yaml(text, "t"), dict)


def test_overrides_are_typed_by_the_tree() -> None:
    pairs = [
        ("output", "2024"), ("data", "007"), ("data.columns.text", "1"), ("data.header", "null"),
        ("data.fractions", ".2,.1"), ("method.rank", "16"), ("method", "lora"), ("method.targets", "q, v"),
        ("train.epochs", "1"),
        ("train.epochs", "2e0"), ("train.optimizer", "sgd"), ("train.optimizer.options.momentum", "0.9"),
        ("data.folder", "1e3"),
        ("model", "null"),
    ]  # fmt: skip
    root = build(Root, parse_overrides(pairs, Root))
    assert root.output == "2024"
    assert root.data == Data(path="007", columns={"text": "1"}, fractions=[0.2, 0.1], folder=Path("1e3"))
    assert root.method == Lora(rank=16, targets=("q", "v"))
    assert root.train == Train(epochs=2.0, optimizer=Optimizer(name="sgd", options={"momentum": 0.9}))
    assert root.model.name == "null"
    assert parse_overrides([("output", "null")], Root) == {"output": None}


def test_overrides_that_are_not_yaml_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides([("a", "[1"), ("b", "2"), ("c", "{")])
    assert ["--a" in problem.message or "--c" in problem.message for problem in caught.value.problems] == [True, True]


def test_a_flag_that_picks_another_choice_drops_the_keys_of_the_former() -> None:
    file = {
        "method": {"name": "lora", "rank": 4, "layer_decay": 0.9},
        "data": "a.csv",
        "train": {"epochs": 1, "low": 2},
    }
    overrides = {"method": "full", "data": {"limit": 3}, "train": {"epochs": 9}}
    assert merge(file, overrides, Root) == {
        "method": {"name": "full", "layer_decay": 0.9},
        "data": {"path": "a.csv", "limit": 3},
        "train": {"epochs": 9, "low": 2},
    }
    assert merge(file, {"method": {"rank": 5}}, Root)["method"] == {"name": "lora", "rank": 5, "layer_decay": 0.9}
    assert file["method"]["rank"] == 4, "the file's own mapping must not change"


def test_flags_that_contradict_each_other_are_not_silently_dropped() -> None:
    values = parse_overrides([("method.rank", "4"), ("method", "full"), ("model", "x"), ("data", "y")], Root)
    with pytest.raises(ConfigError, match=r"method.rank belongs to method 'lora'"):
        build(Root, values)


def test_what_aliases_stand_for_counts() -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 5)}]" for i in range(1, 12)]
    start = time.process_time()
    with pytest.raises(ConfigError, match=r"line \d, column \d+: this stands for more than 10000 values"):
        parse_yaml("\n".join(lines), "t")
    merged = ["m0: &m0 {a: 1}"] + [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="stands for more than 10000 values"):
        parse_yaml("\n".join(merged), "t")
    assert time.process_time() - start < 1.0
    few = parse_yaml("base: &base {a: 1, b: [x]}\nfirst: {<<: *base, a: 2}\nsecond: *base", "t")
    assert few == {"base": {"a": 1, "b": ["x"]}, "first": {"a": 2, "b": ["x"]}, "second": {"a": 1, "b": ["x"]}}


def test_tags_of_plain_values_are_read() -> None:
    text = "a: !!str 12\nb: !!int 0x1F\nc: !!float 3\nd: !!bool true\ne: !!null ~\nf: !!seq [1]\ng: !!map {h: 1}"
    assert parse_yaml(text, "t") == {"a": "12", "b": 31, "c": 3.0, "d": True, "e": None, "f": [1], "g": {"h": 1}}


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="is no file"):
        load_yaml(tmp_path / "pipe.yaml")


def test_bytes_that_are_no_utf_8_are_told_as_such() -> None:
    with pytest.raises(ConfigError, match="which has bytes that are no UTF-8"):
        build(Data, {"path": "a\udcff.csv"})
