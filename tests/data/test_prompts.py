"""Questions in every usual form, with a right answer or without, and all that stands beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chats import assistant, system, user
from data.chats import write
from tunesmith.data import DataConfig, prepare, read_for_prediction
from tunesmith.data.prompt_rows import Prompts
from tunesmith.run.rows import find_rows
from tunesmith.tasks.grpo import GRPO
from tunesmith.types import InputError

N = 24
ASKED = [f"How many parts has order number {number}, please?" for number in range(N)]
RIGHT = [f"It has {i}.\n#### {i}" for i in range(N)]

FORMS: dict[str, tuple[Any, bool]] = {
    "gsm8k": (lambda i: {"question": ASKED[i], "answer": RIGHT[i]}, True),
    "other names": (lambda i: {"instruction": ASKED[i], "ground_truth": RIGHT[i], "level": i % 3}, True),
    "numbers": (lambda i: {"prompt": ASKED[i], "answer": i * 5 % 7}, True),
    "alone": (lambda i: {"prompt": ASKED[i], "level": i % 3}, False),
    "messages": (lambda i: {"messages": [system("Be kind."), user(ASKED[i]), assistant(RIGHT[i])]}, True),
    "messages without an answer": (lambda i: {"messages": [user(ASKED[i])], "level": i % 3}, False),
    "prompts of messages": (lambda i: {"prompt": [user(ASKED[i])], "answer": RIGHT[i]}, True),
    "texts": (lambda i: {"text": ASKED[i]}, False),
}


def prepared(path: Path, **settings: Any) -> Any:
    config = DataConfig(path=str(path), validation_fraction=0, test_fraction=0, **settings)
    found = find_rows(config, GRPO(rewards="number"))
    assert found.form is Prompts
    return found, prepare(found.raw, found.data, found.choices, found.form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_questions_are_found_with_what_stands_beside_them(tmp_path: Path, form: str, suffix: str) -> None:
    make, has_answer = FORMS[form]
    rows = [make(i) for i in range(N)]
    path = write(tmp_path / f"questions{suffix}", rows)
    found, data = prepared(path)
    columns = data.splits["train"].columns()
    messages = [json.loads(cell) for cell in columns["messages"]]
    assert [next(turn["content"] for turn in turns if turn["role"] == "user") for turns in messages] == ASKED
    last = [turns[-1] for turns in messages]
    assert all((turn["role"] == "assistant") == has_answer for turn in last)
    if has_answer:
        assert last[3]["content"] in (RIGHT[3], "1")
    given = json.loads(columns["given"][3])
    assert {name: given[name] for name in rows[3]} == rows[3]
    again = read_for_prediction(str(path), found.choices, found.data, found.form)
    assert list(again["messages"]) == list(columns["messages"])


def test_rows_without_a_question_are_counted_and_named(tmp_path: Path) -> None:
    rows: list[Any] = [{"question": ASKED[i], "answer": RIGHT[i]} for i in range(N)]
    rows[4] = {"question": " ", "answer": RIGHT[4]}
    rows[7] = {"question": ASKED[7], "answer": None}
    _, data = prepared(write(tmp_path / "questions.jsonl", rows))
    assert len(data.splits["train"]) == N - 1, "one has no right answer, and is a question all the same"
    assert any("questions.jsonl:5" in str(problem) for problem in data.problems)


def test_columns_that_ask_nothing_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "numbers.jsonl", [{"size": i, "weight": i / 2} for i in range(N)])
    with pytest.raises(InputError, match="prompt"):
        prepared(path)
