"""How many rows may be left out for their form, whoever leaves them out."""

from __future__ import annotations

import json

import pytest

from tunesmith.data import DataConfig, prepare, read
from tunesmith.data.bad_rows import LeftOut, judge, judge_all
from tunesmith.data.tagged_rows import TaggedTokens
from tunesmith.types import ColumnChoice, InputError


@pytest.mark.parametrize(
    ("count", "total", "is_allowed"),
    [(1, 10, True), (3, 10, True), (4, 10, False), (3, 4, False), (4, 399, False), (4, 400, True), (10, 1_000, True),
     (11, 1_000, False), (100, 10_000, True), (101, 10_000, False)],
)  # fmt: skip
def test_three_rows_or_one_in_a_hundred(count: int, total: int, is_allowed: bool) -> None:
    problem = judge(LeftOut("x.csv", count, total), "auto")
    assert (problem.severity == "warning") is is_allowed
    assert judge(LeftOut("x.csv", count, total), "quarantine").severity == "warning"
    assert judge(LeftOut("x.csv", count, total), "refuse").severity == "error"


def test_reasons_count_together() -> None:
    several = [LeftOut("x.csv", 2, 100, what) for what in ("lack a column", "have no label")]
    assert {problem.severity for problem in judge_all(several, "auto")} == {"error"}
    assert {problem.severity for problem in judge_all(several[:1], "auto")} == {"warning"}


def test_nothing_is_not_a_rest() -> None:
    assert judge(LeftOut("x.csv", 5, 5), "quarantine").severity == "error"


def test_the_error_names_guess_rows_and_flag(read_text) -> None:
    lines = [f"row {number} of these; good" for number in range(40)]
    lines[4:10] = ["a; b; c"] * 6
    with pytest.raises(InputError) as caught:
        read_text("x.csv", "text;label\n" + "\n".join(lines))
    error = caught.value.problems[0]
    assert "6 of 40 rows (15.0%)" in error.message
    assert "delimiter semicolon" in error.message
    assert error.message.count("“a; b; c” (3 columns where 2 were expected") == 3
    assert "data.delimiter" in error.fix
    assert "data.bad_rows quarantine" in error.fix


def test_misfits_go_by_the_same_rule_and_are_counted(tmp_path) -> None:
    path = tmp_path / "tags.jsonl"
    rows = [{"tokens": ["to", f"Rome{row}"], "tags": ["O", "B-LOC"]} for row in range(20)]
    rows += [{"tokens": ["one"], "tags": ["O", "O"]}] * 5
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choices = [ColumnChoice("tokens", "tokens", ""), ColumnChoice("tags", "tags", "")]
    config = DataConfig(path=str(path))
    with pytest.raises(InputError, match=r"5 of 25 rows \(20\.0%\).*not as many tags as tokens.*“tokens: \['one'\]"):
        prepare(read(config), config, choices, TaggedTokens)
    config = config.changed(bad_rows="quarantine")
    assert prepare(read(config), config, choices, TaggedTokens).left_out == {"not as many tags as tokens": 5}


def test_rows_left_out_on_purpose_have_no_places(tmp_path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "".join(f"text number {row},{row % 2}\n" for row in range(40)))
    config = DataConfig(path=str(path), limit=20)
    choices = [ColumnChoice("text", "text", ""), ColumnChoice("label", "label", "")]
    prepared = prepare(read(config), config, choices)
    (note,) = [problem for problem in prepared.problems if "data.limit" in problem.message]
    assert note.rows == ()
    assert prepared.left_out == {"limit": 20}
