"""Preferences in every usual form: found by their columns, read to one form, bad rows named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chats import assistant, system, user
from data.chats import write
from tunesmith.data import DataConfig, prepare, read_for_prediction
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.tasks import CausalLM, Preference
from tunesmith.types import InputError

N = 24
ASKED = [f"Which things belong to order number {number}, please?" for number in range(N)]
GOOD = [f"Order {i} has four parts." for i in range(N)]
BAD = [f"Why do you ask me of order {i}, and at such a late hour, of all people?" for i in range(N)]
EARLIER = [user("Good morning, is anybody there?"), assistant("Yes, how can I help?")]


def found_in(path: Path, task: Any = None, **settings: Any) -> tuple[FoundRows, Any]:
    config = DataConfig(path=str(path), validation_fraction=0, test_fraction=0, **settings)
    found = find_rows(config, task)
    return found, prepare(found.raw, found.data, found.choices, found.form)


def rows_of(data: Any) -> list[tuple[list[Any], list[list[Any]], list[int]]]:
    columns = data.splits["train"].columns()
    cells = zip(columns["prompt"], columns["answers"], columns["ranks"], strict=True)
    return [(json.loads(prompt), json.loads(answers), json.loads(ranks)) for prompt, answers, ranks in cells]


def whole(i: int, answer: str) -> list[Any]:
    return [system("Be kind."), *EARLIER, user(ASKED[i]), assistant(answer)]


FORMS: dict[str, Any] = {
    "texts": lambda i: {"prompt": ASKED[i], "chosen": GOOD[i], "rejected": BAD[i]},
    "other names": lambda i: {"question": ASKED[i], "response_rejected": BAD[i], "response_chosen": GOOD[i]},
    "a context": lambda i: {
        "instruction": ASKED[i].split(" order")[0], "input": f"order{ASKED[i].split(' order')[1]}", "output": "x",
        "rejected": BAD[i], "chosen": GOOD[i],
    },
    "messages": lambda i: {
        "prompt": [user(ASKED[i])], "chosen": [assistant(GOOD[i])], "rejected": [assistant(BAD[i])]
    },
    "answers that are messages": lambda i: {
        "conversations": [{"from": "human", "value": ASKED[i]}],
        "chosen": {"from": "gpt", "value": GOOD[i]},
        "rejected": {"from": "gpt", "value": BAD[i]},
    },
    "whole conversations": lambda i: {"chosen": whole(i, GOOD[i]), "rejected": whole(i, BAD[i])},
    "whole conversations and their prompt": lambda i: {
        "prompt": ASKED[i], "chosen": whole(i, GOOD[i]), "rejected": whole(i, BAD[i])
    },
    "transcripts": lambda i: {
        "chosen": f"\n\nHuman: {ASKED[i]}\n\nAssistant: {GOOD[i]}",
        "rejected": f"\n\nHuman: {ASKED[i]}\n\nAssistant: {BAD[i]}",
    },
    "ranked": lambda i: {"prompt": ASKED[i], "responses": [GOOD[i], BAD[i]]},
    "scored": lambda i: {"prompt": ASKED[i], "answers": [BAD[i], GOOD[i]], "scores": [0.5, 2]},
    "numbered": lambda i: {"prompt": ASKED[i], "answers": [BAD[i], GOOD[i]], "rank": [2, 1]},
    "objects with scores": lambda i: {
        "prompt": ASKED[i],
        "completions": [{"response": BAD[i], "overall_score": 1.5}, {"response": GOOD[i], "overall_score": 8}],
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_better_and_a_worse_answer_are_found_in_every_form(tmp_path: Path, form: str, suffix: str) -> None:
    found, data = found_in(write(tmp_path / f"pairs{suffix}", [FORMS[form](i) for i in range(N)]))
    assert found.task.name == "preference"
    for i, (prompt, answers, ranks) in enumerate(rows_of(data)):
        assert [turn["content"] for turn in prompt if turn["role"] == "user"][-1].replace("\n", " ") == ASKED[i]
        assert len(prompt) == (4 if "whole" in form else 1)
        assert (answers, ranks) == ([[assistant(GOOD[i])], [assistant(BAD[i])]], [0, 1])
    assert any("Rows are preferences" in one.message and "24 rows" in one.message for one in data.problems)
    messages = [json.loads(cell) for cell in data.splits["train"]["messages"]]
    assert [turns[-1] for turns in messages] == [assistant(answer) for answer in GOOD]


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [("label", True, False), ("kto_tag", "true", "false"), ("thumbs", "👍", "👎"), ("label", 1, 0)],
)
@pytest.mark.parametrize("are_messages", [False, True])
def test_answers_with_thumbs(tmp_path: Path, name: str, yes: Any, no: Any, are_messages: bool) -> None:
    rows = []
    for i in range(N):
        answer, thumb = (GOOD[i], yes) if i % 3 else (BAD[i], no)
        asked = {"messages": [*EARLIER, user(ASKED[i]), assistant(answer)]}
        rows.append({**(asked if are_messages else {"prompt": ASKED[i], "completion": answer}), name: thumb})
    found, data = found_in(write(tmp_path / "thumbs.jsonl", rows))
    assert (found.task.name, found.task.bind(data.splits["train"].columns()).loss) == ("preference", "kto")
    for i, (prompt, answers, ranks) in enumerate(rows_of(data)):
        assert prompt[-1] == user(ASKED[i])
        assert (answers, ranks) == ([[assistant((GOOD if i % 3 else BAD)[i])]], [int(not i % 3)])
    last = [json.loads(cell)[-1]["role"] for cell in data.splits["train"]["messages"]]
    assert last == ["assistant" if i % 3 else "user" for i in range(N)], "a bad answer is no reference"


def test_ranks_are_kept_with_ties(tmp_path: Path) -> None:
    rows = [{"prompt": ASKED[i], "answers": [BAD[i], GOOD[i], "?", "!"], "scores": [1, 3, 1, 2]} for i in range(N)]
    _, data = found_in(write(tmp_path / "ranked.jsonl", rows))
    _, answers, ranks = rows_of(data)[0]
    assert [answer[0]["content"] for answer in answers] == [GOOD[0], "!", BAD[0], "?"]
    assert ranks == [0, 1, 2, 2]


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "equal": ({"prompt": "a?", "chosen": "yes", "rejected": "yes "}, "the same"),
    "apart": ({"chosen": [user("a?"), assistant("b")], "rejected": [user("c?"), assistant("d")]}, "same question"),
    "empty": ({"prompt": "a?", "chosen": "yes", "rejected": " "}, "empty|no turn of the assistant"),
    "one": ({"prompt": "a?", "answers": ["yes"], "scores": [1]}, "fewer than two"),
    "tied": ({"prompt": "a?", "answers": ["yes", "no"], "scores": [1, 1]}, "none is better"),
    "scores": ({"prompt": "a?", "answers": ["yes", "no"], "scores": [1]}, "one score"),
    "no thumb": ({"prompt": "a?", "completion": "yes", "label": None}, "neither yes nor no"),
    "role": (
        {"chosen": [user("a?"), {"role": "owl", "content": "b"}], "rejected": [user("a?"), assistant("d")]},
        "owl",
    ),
}
SOUND: dict[str, Any] = {
    "apart": FORMS["whole conversations"],
    "role": FORMS["whole conversations"],
    **dict.fromkeys(("one", "tied", "scores"), FORMS["scored"]),
    "no thumb": lambda i: {"prompt": ASKED[i], "completion": GOOD[i], "label": i % 2 == 0},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_bad_rows_are_counted_named_and_left_out_or_refused(tmp_path: Path, fault: str) -> None:
    bad, words = BROKEN[fault]
    rows = [SOUND.get(fault, FORMS["texts"])(i) for i in range(N)]
    rows.insert(4, bad)
    path = write(tmp_path / "pairs.jsonl", rows)
    _, data = found_in(path)
    assert len(rows_of(data)) == N
    (warning,) = [one for one in data.problems if one.severity == "warning"]
    assert warning.count == 1
    assert warning.rows == ("pairs.jsonl:5",)
    assert re.search(words, warning.message)
    with pytest.raises(InputError, match=words):
        found_in(path, bad_rows="refuse")
    many = write(tmp_path / "many.jsonl", [*rows, *[bad] * 8])
    with pytest.raises(InputError, match="quarantine"):
        found_in(many)
    assert len(rows_of(found_in(many, bad_rows="quarantine")[1])) == N


def test_what_is_asked_suffices_to_predict(tmp_path: Path) -> None:
    found, _ = found_in(write(tmp_path / "pairs.jsonl", [FORMS["transcripts"](i) for i in range(N)]))
    config = DataConfig(path="unused")
    bare = write(tmp_path / "bare.jsonl", [{"prompt": text} for text in ASKED])
    read = read_for_prediction(str(bare), found.choices, config, found.form)
    assert [json.loads(cell) for cell in read["messages"]] == [[user(text)] for text in ASKED]
    assert "answers" not in read.column_names
    again = read_for_prediction(str(tmp_path / "pairs.jsonl"), found.choices, config, found.form)
    assert set(Preference.truths) <= set(again.column_names)


def test_pairs_can_still_be_learned_by_their_better_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [FORMS["texts"](i) for i in range(N)])
    found, data = found_in(path, CausalLM())
    assert found.task.name == "causal_lm"
    assert json.loads(data.splits["train"]["messages"][0]) == [user(ASKED[0]), assistant(GOOD[0])]


@pytest.mark.parametrize(
    ("row", "task"),
    [
        (lambda i: {"question": ASKED[i], "answer": GOOD[i], "label": i % 2}, "classification"),
        (lambda i: {"text": GOOD[i], "label": "ab"[i % 2], "answer": ["accept", "reject"][i % 2]}, "classification"),
        (lambda i: {"question": ASKED[i], "context": BAD[i], "answers": [GOOD[i]]}, "question_answering"),
    ],
)
def test_other_columns_are_no_preferences(tmp_path: Path, row: Any, task: str) -> None:
    path = write(tmp_path / "other.jsonl", [row(i) for i in range(N)])
    assert find_rows(DataConfig(path=str(path)), None).task.name == task
