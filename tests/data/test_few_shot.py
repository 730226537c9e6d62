"""A few rows of each class, drawn: every draw with its own, and all judged on the same others."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import pytest

from tunesmith.data import DataConfig, RawData, prepare
from tunesmith.data.records import PreparedData
from tunesmith.data.rows import Rows
from tunesmith.files.hashing import hash_json
from tunesmith.types import ColumnChoice, InputError

Row = tuple[str, Any, str]


def rows_of(num_rows: int, labels: str = "aab") -> list[Row]:
    """Return texts with a label and a group each."""
    texts = (hashlib.sha256(str(number).encode()).hexdigest()[:12] for number in range(num_rows))
    return [(f"words {text}", labels[number % len(labels)], f"g{number}") for number, text in enumerate(texts)]


def drawn(
    rows: list[Row], *, is_number: bool = False, given: dict[str, list[Row]] | None = None, **options: Any
) -> Any:
    made = {}
    for name, listed in {"train": rows, **(given or {})}.items():
        places = [f"{name}.csv:{line}" for line in range(1, len(listed) + 1)]
        texts, labels, groups = (list(column) for column in zip(*listed, strict=True))
        columns = {"t": texts, "y": labels, "g": groups, "__row__": places}
        made[name] = Rows(pa.table(columns), hash_json([name, *map(str, listed)]))
    choices = (ColumnChoice("text", "t", "test"), ColumnChoice("label", "y", "test", is_number))
    return prepare(RawData(made, (), (), (), None), DataConfig(path="x", **options), choices)


def texts(data: PreparedData, split: str) -> list[str]:
    return sorted(data.splits[split]["text"])


def labels(data: PreparedData) -> list[Any]:
    return sorted(data.splits["train"]["label"])


def said(data: PreparedData) -> str:
    return "\n".join(problem.message for problem in data.problems)


def test_draws_have_rows_of_their_own_and_the_same_test_rows() -> None:
    rows = rows_of(150)
    draws = [drawn(rows, few_shot=4, draw=f"{number}/5") for number in range(1, 6)]
    for data in draws:
        assert labels(data) == ["a"] * 4 + ["b"] * 4
        assert "validation" not in data.splits
        assert data.hashes["test"] == draws[0].hashes["test"]
    taken = [text for data in draws for text in texts(data, "train")]
    assert len(set(taken)) == 40
    assert sorted([*taken, *texts(draws[0], "test")]) == sorted(text for text, _, _ in rows)
    assert draws[0].left_out == {"not drawn": 32}
    assert "8 rows were drawn to train on (draw 1 of 5, 4 of each of 2 classes). 110 others are test rows" in said(
        draws[0]
    )


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    rows = rows_of(60)
    first, backwards, other = (
        drawn(rows, few_shot=5),
        drawn(rows[::-1], few_shot=5),
        drawn(rows, few_shot=5, split_seed=1),
    )
    assert texts(first, "train") == texts(backwards, "train")
    assert texts(first, "test") == texts(backwards, "test")
    assert texts(first, "train") != texts(other, "train")


def test_rows_beside_a_drawn_one_are_not_judged_on() -> None:
    rows = [(text, label, f"g{number // 3}") for number, (text, label, _) in enumerate(rows_of(120))]
    group_of = {text: group for text, _, group in rows}
    data = [drawn(rows, few_shot=3, draw=f"{number}/2", group="g") for number in (1, 2)]
    used = {group_of[text] for one in data for text in texts(one, "train")}
    judged = {group_of[text] for text in texts(data[0], "test")}
    assert used.isdisjoint(judged)
    assert used | judged == set(group_of.values())


def test_test_rows_that_are_given_judge_alone_and_validation_rows_are_set_aside() -> None:
    rows = rows_of(60)
    data = drawn(rows[:30], few_shot=10, given={"validation": rows[30:45], "test": rows[45:]})
    assert labels(data) == ["a"] * 10 + ["b"] * 10  # all that there are of b
    assert len(data.splits["test"]) == 15
    assert set(data.splits) == {"train", "test"}
    assert "The 15 validation rows that were given were set aside" in said(data)


def test_classes_with_too_few_rows_keep_half_for_the_test_and_say_so() -> None:
    rows = [row for row in rows_of(60, "a") if row] + [(f"rare {number}", "b", "g") for number in range(6)]
    data = [drawn(rows, few_shot=4, draw=f"{number}/3") for number in (1, 2, 3)]
    for one in data:
        assert labels(one) == ["a"] * 4 + ["b"] * 3
        assert list(one.splits["test"]["label"]).count("b") == 3
        assert one.hashes["test"] == data[0].hashes["test"]
    assert "Of 'b' there are fewer than 4 rows to draw." in said(data[0])
    assert "Draws have rows in common" in said(data[0])


def test_rows_without_classes_are_drawn_in_all() -> None:
    numbers = [(text, number / 7, group) for number, (text, _, group) in enumerate(rows_of(50))]
    assert len(drawn(numbers, few_shot=8).splits["train"]) == 8
    whole = [(text, number % 5, group) for number, (text, _, group) in enumerate(rows_of(50))]
    assert len(drawn(whole, few_shot=4).splits["train"]) == 20
    data = drawn(whole, is_number=True, few_shot=8)
    assert len(data.splits["train"]) == 8
    assert "8 in all" in said(data)


def test_of_several_labels_the_rarest_is_the_class() -> None:
    rows = [(text, ["all", "ab"[number % 10 == 0]], group) for number, (text, _, group) in enumerate(rows_of(80))]
    data = drawn(rows, few_shot=3)
    assert labels(data) == [["all", "a"]] * 3 + [["all", "b"]] * 3


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="leave none of 2 rows to judge on"):
        drawn(rows_of(2, "ab"), few_shot=1)
    with pytest.raises(ValueError, match="expected DRAW/DRAWS"):
        DataConfig(path="x", few_shot=1, draw="3/2")
    with pytest.raises(ValueError, match="fold and few_shot cannot be used together"):
        DataConfig(path="x", few_shot=1, fold="1/2")
