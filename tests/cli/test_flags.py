from __future__ import annotations

import click
import pytest

from trees import Data, Freeze, Lora, Lstm, Optimizer, Root
from tunesmith.cli.flags import FlagTree, ParsedFlags, build_config, split_flags, write_help
from tunesmith.config.base import ConfigError

TREE = FlagTree(Root)
OWN = {"--resume": False, "--limit": True, "--help": False}


def split(*arguments: str) -> ParsedFlags:
    return split_flags(arguments, TREE, OWN)


def build(*arguments: str, base: dict[str, object] | None = None) -> Root:
    return build_config(Root, split(*arguments), base or {})


def test_flags_and_the_commands_own_arguments_are_told_apart() -> None:
    parsed = split("c.yaml", "--train.epochs", "5", "--resume", "--limit", "3", "--method.rank=16", "--model", "x/y")
    assert parsed.pairs == (("train.epochs", "5"), ("method.rank", "16"), ("model", "x/y"))
    assert parsed.rest == ("c.yaml", "--resume", "--limit", "3")
    assert parsed.problems == ()
    assert split("--", "--train.epochs").rest == ("--", "--train.epochs")


def test_values_may_look_like_anything() -> None:
    root = build("--model=a=b", "--data", "-", "--train.low", "-5", "--output", "no", "--data.columns.text", "a b")
    assert root.model.name == "a=b"
    assert root.data == Data(path="-", columns={"text": "a b"})
    assert root.train.low == -5
    assert root.output == "no"
    assert build("--model=x", "--data=y", "--output=").output == ""


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--data.clean.duplicates"], True),
        (["--data.clean.duplicates", "--output", "x"], True),
        (["--data.clean.duplicates", "false"], False),
        (["--data.clean.duplicates=false"], False),
        (["--data.clean.duplicates", "config.yaml"], True),
    ],
)
def test_a_true_or_false_flag_may_stand_alone(arguments: list[str], value: bool) -> None:
    parsed = split("--model", "m", "--data", "d", *arguments)
    assert build_config(Root, parsed, {}).data.clean.duplicates is value
    assert ("config.yaml" in parsed.rest) == ("config.yaml" in arguments)


def test_dashes_count_as_underscores_and_choices_have_shorthands() -> None:
    root = build(
        "--model", "lstm", "--model.max-length", "64", "--data", "d", "--method=lora", "--train.batch-size", "8"
    )
    assert root.model == Lstm(max_length=64)
    assert root.method == Lora()
    assert root.train.batch_size == 8
    root = build(
        "--model.name", "lstm", "--data.path", "d", "--train.optimizer", "sgd", "--train.optimizer.options.m", "1"
    )
    assert root.train.optimizer == Optimizer(name="sgd", options={"m": 1})


def test_flags_go_before_the_file() -> None:
    base: dict[str, object] = {"model": "lstm", "data": {"path": "a"}, "method": {"name": "lora", "rank": 4}}
    root = build("--method", "freeze", "--data.header", base=base)
    assert root.method == Freeze()
    assert root.data == Data(path="a", header=True)


@pytest.mark.parametrize(
    ("flag", "guess"),
    [
        ("--train.epocs", "--train.epochs"),
        ("--epochs", "--train.epochs"),
        ("--width", "--model.width"),
        ("--resme", "--resume"),
        ("--modle", "--model"),
        ("--data.clean.duplicate", "--data.clean.duplicates"),
        ("--train.width=3", "--model.width"),
        ("--no-data.clean.duplicates", "--data.clean.duplicates"),
    ],
)
def test_an_unknown_flag_names_the_nearest(flag: str, guess: str) -> None:
    (problem,) = split(flag).problems
    assert problem.message == f"There is no option {flag.split('=', maxsplit=1)[0]}."
    assert problem.fix == f"Did you mean {guess}?"


def test_all_problems_of_flags_file_and_values_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build("--nonsense", "1", "--train.epochs", "[", "--method.rank", "x", "--method", "lora", base={"tain": {}})
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for part in (
        "There is no option --nonsense.",
        "--train.epochs line 1",
        'method.rank is "x"; expected: whole number > 0.',
        "tain is not a known key.\n  → Did you mean 'train'?",
        "data.path is missing",
        "model is missing",
    ):
        assert part in text


def test_only_some_sections_may_be_flags() -> None:
    tree = FlagTree(Root, ("data",))
    parsed = split_flags(["--data.header", "--model", "x"], tree, {})
    assert parsed.pairs == (("data.header", "true"),)
    assert [problem.message for problem in parsed.problems] == ["There is no option --model."]


@pytest.mark.parametrize("width", [80, 120])
def test_help_lists_every_key_in_its_group_and_fits(width: int) -> None:
    formatter = click.HelpFormatter(width=width)
    write_help(formatter, TREE)
    text = formatter.getvalue()
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for part in (
        "--train.epochs Passes over the rows. [number > 0; default: 3.0]",
        "--model Hub id or folder. [lstm | any other model; required]",
        "--model.max_length Longest row in tokens. [whole number ≥ 8; not set]",
        "--method [full | freeze | lora; default: full]",
        "method, only for lora: --method.rank Rank of the update. [whole number > 0; default: 8]",
        "model, only for other models: --model.revision Version on the hub. [text; not set]",
        "--data Where the rows are. [text not empty; required]",
        "--data.fractions Shares of validation and test. [list of number; default: 0.1, 0.1]",
        "--train.optimizer Name in torch.optim. [text; default: adamw]",
        "--data.clean.duplicates Leave out repeated rows. [true | false; default: true]",
    ):
        assert part in flat
    assert flat.count("--method.layer_decay") == 1, "keys that all choices know are listed once"
