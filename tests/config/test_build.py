from __future__ import annotations

from typing import Any

import pytest

from trees import Data, Freeze, Full, Lora, Lstm, Pretrained, Root, Train
from tunesmith.config.base import Config, ConfigError
from tunesmith.config.build import build
from tunesmith.config.keys import describe, list_keys

GOOD: dict[str, Any] = {"model": "x/y", "data": "a.csv"}


def messages(values: dict[str, Any], cls: type[Config] = Root) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build(cls, values)
    return [str(problem) for problem in caught.value.problems]


def test_shorthands_and_defaults() -> None:
    root = build(Root, GOOD)
    assert root == Root(model=Pretrained(name="x/y"), data=Data(path="a.csv"))
    assert isinstance(root.model, Pretrained)
    assert root.method == Full()
    root = build(Root, {**GOOD, "model": "lstm", "method": "lora", "train": {"optimizer": "sgd"}})
    assert root.model == Lstm()
    assert root.method == Lora()
    assert root.train.optimizer.name == "sgd"
    assert build(Root, {**GOOD, "train": None, "task": None}) == build(Root, GOOD)


def test_a_section_may_be_built_already() -> None:
    root = build(Root, {**GOOD, "method": Lora(rank=4), "train": Train(epochs=1), "data": Data(path="b")})
    assert root.method == Lora(rank=4)
    assert root.train.epochs == 1
    assert root.changed(output="x").method == Lora(rank=4), "a copy keeps the class of every section"


def test_all_problems_of_the_tree_are_reported_at_once() -> None:
    found = messages(
        {
            "model": {"name": "lstm", "width": "wide"},
            "data": {"colums": {}, "clean": {"unicode": "NFD", "duplicates": 7}},
            "method": {"name": "lora", "rank": 0, "rnak": 4},
            "train": {"epochs": -1, "batch_size": True},
            "outptu": "x",
        }
    )
    assert len(found) == 10
    text = "\n".join(found)
    for part in (
        'model.width is "wide"; expected: whole number.',
        "data.colums is not a known key.\n  → Did you mean 'data.columns'?",
        "data.clean.unicode is \"NFD\"; expected: NFC | NFKC | none.\n  → Did you mean 'NFC'?",
        "data.clean.duplicates is 7; expected: true | false.",
        "data.path is missing; expected: text not empty.\n  → Give --data.path: Where the rows are.",
        "method.rank is 0; expected: whole number > 0.",
        "method.rnak is not a known key.\n  → Did you mean 'method.rank'?",
        "train.epochs is -1; expected: number > 0.",
        "train.batch_size is true; expected: whole number > 0.",
        "outptu is not a known key.\n  → Did you mean 'output'?",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 5}, "epochs is not a known key.\n  → Did you mean 'train.epochs'?"),
        ({"train": {"targets": 5}}, "train.targets is not a known key.\n  → Did you mean 'method.targets'?"),
        ({"train": {"epoch_count": 5}}, "train.epoch_count is not a known key.\n  → Known here: epochs, batch_size"),
        (
            {"method": {"rank": 4}},
            "or 11 others, and the method is 'full'.\n  → Choose --method lora, or remove",
        ),
        ({"method": {"name": "freeze", "rank": 4}}, "method.rank belongs to method 'lora' or 'rslora' or 'dora' or 1"),
        ({"model": {"name": "x/y", "width": 4}}, "model.width belongs to model 'lstm', and the model is 'x/y'"),
        (
            {"method": "lorra"},
            "There is no method 'lorra'; there is 'full', 'freeze' or 'lora'.\n  → Did you mean 'lora'?",
        ),
        ({"method": 3}, "method is 3; expected the name of a method: 'full', 'freeze' or 'lora'."),
        ({"method": {"name": ["lora"]}}, 'method.name is ["lora"]; expected the name of a method'),
        ({"task": {"rank": 3}}, "task has no name; expected the name of a task"),
        ({"train": [1]}, "train is [1]; expected a section with keys of its own."),
        ({"train": {"low": 11}}, "train: low (11) must not exceed high (10)."),
        ({"data": "*.csv"}, "data.path: globs are not supported."),
        (
            {"data": {"path": 7}},
            'data.path is 7; expected: text not empty.\n  → To mean the text, put it in quotes: path: "7"',
        ),
        ({"data": {"path": "a", "columns": {"text": 3}}}, "data.columns.text is 3; expected: a valid string."),
        ({"data": {"path": "a", "fractions": ["x"]}}, 'data.fractions.0 is "x"; expected: a valid number'),
        ({"train": {"epochs": float("nan")}}, "train.epochs is NaN"),
        ({"train": {"epochs": "x" * 1000}}, "…; expected: number > 0."),
        ({3: 4}, "3 is not a known key."),
    ],
)
def test_one_problem_is_one_clear_message(values: dict[str, Any], message: str) -> None:
    (found,) = messages({**GOOD, **values})
    assert message in found


def test_missing_sections_name_what_they_need() -> None:
    first, second = messages({})
    assert first.startswith("data.path is missing; expected: text not empty.")
    assert second.startswith("model is missing; expected: the name of a model: 'lstm' or another model.")


def test_the_source_starts_every_message() -> None:
    with pytest.raises(ConfigError) as caught:
        build(Root, {"a": 1}, "config.yaml")
    assert all(problem.message.startswith("config.yaml: ") for problem in caught.value.problems)


def test_keys_of_the_tree_say_which_choices_know_them() -> None:
    keys = {(key.path, key.choices) for key in list_keys(Root)}
    assert ("method.layer_decay", ()) in keys
    assert ("method.rank", ("lora",)) in keys
    assert ("model.width", ("lstm",)) in keys
    assert ("model.revision", ("…",)) in keys
    assert ("model.max_length", ()) in keys
    assert {("data", ()), ("data.clean.unicode", ()), ("method", ()), ("train.optimizer.options", ())} <= keys
    assert not {"method.name", "data.path", "train"} & {path for path, _ in keys}


@pytest.mark.parametrize(
    ("cls", "name", "words"),
    [
        (Root, "output", "text or null"),
        (Pretrained, "max_length", "whole number ≥ 8 or null"),
        (Freeze, "layer_decay", "number > 0 and ≤ 1"),
        (Freeze, "layers", "whole number > 0"),
        (Lora, "targets", "list of text"),
        (Data, "columns", "mapping of text to text"),
        (Data, "header", "true | false or null"),
    ],
)
def test_values_are_described_in_words(cls: type[Config], name: str, words: str) -> None:
    assert describe(cls.model_fields[name]) == words


def test_bytes_that_are_no_text_are_named() -> None:
    (message,) = messages({**GOOD, "data": {"path": "a\udcafb.csv"}})
    assert "bytes that are no UTF-8" in message


def test_names_of_encodings_that_are_no_text_are_named() -> None:
    from tunesmith.data import DataConfig

    (message,) = messages({"path": "a.csv", "encoding": "u\udcaf]8"}, DataConfig)
    assert "bytes that are no UTF-8" in message
