"""What stands in an answer is its text; what was rejected is not learned; texts have summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.chats import assistant, load, messages_of, user, write
from tunesmith.data import DataConfig, assign_roles, prepare, profile, read, read_for_prediction
from tunesmith.data.chat_rows import Conversations
from tunesmith.data.columns import unused_columns
from tunesmith.data.marks import judge_rows
from tunesmith.data.rows import Rows
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.tasks import CausalLM, Classification, QuestionAnswering, Seq2Seq, Task, detect
from tunesmith.types import ColumnChoice, InputError

N = 24
ASKED = [f"Which things belong to order number {number}, please?" for number in range(N)]


def found_in(path: Path, task: Task | None = None, **settings: Any) -> tuple[FoundRows, Any]:
    config = DataConfig(path=str(path), validation_fraction=0, test_fraction=0, **settings)
    found = find_rows(config, task)
    return found, prepare(found.raw, found.data, found.choices, found.form)


def roles_of(found: FoundRows) -> dict[str, str]:
    return {choice.role: choice.column for choice in found.choices}


# ---- answers that are data -----------------------------------------------------------------------

DATA: dict[str, Any] = {
    "objects": lambda i: {"Größe": i, "parts": [{"id": i}]},
    "objects that look like messages": lambda i: {"from": f"depot {i}", "text": "is no message", "value": i},
    "a sender and a content": lambda i: {"role": f"clerk {i}", "content": "of the parcel"},
    "lists": lambda i: [f"part {i}", "nail"],
    "lists of objects": lambda i: [{"from": "a", "to": f"b{i}"}],
    "lists of numbers": lambda i: [i, i + 1],
    "nothing in a list": lambda i: [[], {}, i],
}


@pytest.mark.parametrize("names", [("prompt", "completion"), ("instruction", "output"), ("question", "answer")])
@pytest.mark.parametrize("kind", DATA)
def test_answers_that_are_data_are_compact_json(tmp_path: Path, kind: str, names: tuple[str, str]) -> None:
    answers = [DATA[kind](number) for number in range(N)]
    rows = [dict(zip(names, pair, strict=True)) for pair in zip(ASKED, answers, strict=True)]
    found, data = found_in(write(tmp_path / "orders.jsonl", rows))
    assert found.task.name == "causal_lm"
    assert roles_of(found) == {"prompt": names[0], "completion": names[1]}
    wanted = [json.dumps(answer, ensure_ascii=False, separators=(",", ":")) for answer in answers]
    assert messages_of(data) == [[user(q), assistant(a)] for q, a in zip(ASKED, wanted, strict=True)]
    assert any("24 rows of column" in one.message and "compact JSON" in one.message for one in data.problems)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".json"])
@pytest.mark.parametrize("kind", DATA)
def test_answers_that_are_texts_of_data_stay_as_they_are(tmp_path: Path, kind: str, suffix: str) -> None:
    answers = [json.dumps(DATA[kind](number), indent=1) for number in range(N)]
    rows = [{"instruction": q, "input": "", "output": a} for q, a in zip(ASKED, answers, strict=True)]
    found, data = found_in(write(tmp_path / f"orders{suffix}", rows))
    assert found.task.name == "causal_lm"
    assert messages_of(data) == [[user(q), assistant(a)] for q, a in zip(ASKED, answers, strict=True)]


def test_some_answers_are_data_and_some_are_texts(tmp_path: Path) -> None:
    answers: list[Any] = [
        [{"part": i}, '"in quotes"', "plain", ["a"], {"b": None}, '{"c": 1}'][i % 6] for i in range(N)
    ]
    rows = [{"prompt": q, "completion": a} for q, a in zip(ASKED, answers, strict=True)]
    _, data = found_in(write(tmp_path / "orders.jsonl", rows))
    wanted = [a if isinstance(a, str) else json.dumps(a, separators=(",", ":")) for a in answers]
    assert [row[1]["content"] for row in messages_of(data)] == wanted


def test_files_with_and_without_data_go_together(tmp_path: Path) -> None:
    nested = [{"prompt": ASKED[i], "completion": {"part": i}} for i in range(10)]
    plain = [{"prompt": ASKED[i], "completion": ["{not JSON", "plain"][i % 2]} for i in range(10, 14)]
    write(tmp_path / "train-00000-of-00002.jsonl", nested)
    write(tmp_path / "train-00001-of-00002.jsonl", plain)
    write(tmp_path / "test.jsonl", [{"prompt": ASKED[20], "completion": "[x"}])
    _, data = found_in(tmp_path)
    wanted = [f'{{"part":{i}}}' for i in range(10)] + ["{not JSON", "plain"] * 2
    assert [row[1]["content"] for row in messages_of(data)] == wanted
    assert messages_of(data, "test")[0][1]["content"] == "[x"


def test_a_prompt_that_is_data_is_text_and_never_learned(tmp_path: Path) -> None:
    rows = [{"prompt": {"order": i, "from": "x"}, "completion": f"Yes, {i}."} for i in range(N)]
    _, data = found_in(write(tmp_path / "orders.jsonl", rows))
    assert messages_of(data)[3] == [user('{"order":3,"from":"x"}'), assistant("Yes, 3.")]


def test_lists_of_messages_stay_messages(tmp_path: Path) -> None:
    rows = [{"prompt": [user(q)], "completion": [assistant('{"role": "user"}')]} for q in ASKED]
    _, data = found_in(write(tmp_path / "orders.jsonl", rows))
    assert messages_of(data)[0] == [user(ASKED[0]), assistant('{"role": "user"}')]


def test_predicting_reads_a_question_of_data_as_training_does(tmp_path: Path) -> None:
    path = write(tmp_path / "new.jsonl", [{"prompt": {"order": 1}}, {"prompt": "plain"}])
    choices = [ColumnChoice("prompt", "prompt", ""), ColumnChoice("completion", "completion", "")]
    rows = read_for_prediction(str(path), choices, DataConfig(path="x"), Conversations)
    assert [json.loads(cell) for cell in rows["messages"]] == [[user('{"order":1}')], [user("plain")]]


def test_texts_of_a_split_without_data_are_what_is_written(tmp_path: Path) -> None:
    train = [{"prompt": q, "completion": {"n": i} if i % 2 else "an answer"} for i, q in enumerate(ASKED)]
    quoted = ['"Yes," he said "no."', '"quoted"', "[1, 2]", "17"]
    test = [{"prompt": q, "completion": answer} for q, answer in zip(ASKED, quoted, strict=False)]
    path, other = write(tmp_path / "train.jsonl", train), write(tmp_path / "test.jsonl", test)
    config = DataConfig(path=str(path), test=str(other))
    found = find_rows(config, None)
    data = prepare(found.raw, found.data, found.choices, found.form)
    assert [messages[-1]["content"] for messages in messages_of(data, "test")] == quoted


def test_pieces_with_and_without_data_are_read_alike(tmp_path: Path) -> None:
    pieces = [[{"n": 1}, "one"], ['"two"', "[3]"]]
    for number, answers in enumerate(pieces):
        rows = [{"prompt": q, "completion": answer} for q, answer in zip(ASKED[2 * number :], answers, strict=False)]
        write(tmp_path / f"train-{number}.jsonl", rows)
    config = DataConfig(path=str(tmp_path), validation_fraction=0, test_fraction=0)
    found = find_rows(config, None)
    data = prepare(found.raw, found.data, found.choices, found.form)
    answers = {messages[-1]["content"] for messages in messages_of(data)}
    assert answers == {'{"n":1}', "one", '"two"', "[3]"}


# ---- a text and what was made of it --------------------------------------------------------------

LONG = [f"Somebody told somebody else about boat {i}, and then both of them went on to talk of more." for i in range(N)]
SHORT = [f"Two people speak of boat {i}." for i in range(N)]
THEMES = [["water", "land"][i % 2] for i in range(N)]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"id": [f"r{i}" for i in range(N)], "dialogue": LONG, "summary": SHORT, "topic": THEMES}, "dialogue,summary"),
        ({"article": LONG, "highlights": SHORT, "id": list(range(N))}, "article,highlights"),
        ({"summary": SHORT, "document": LONG}, "document,summary"),
        ({"text": LONG, "summary": SHORT}, "text,summary"),
        ({"source": LONG, "target": SHORT}, "source,target"),
        ({"Article": LONG, "Abstract": SHORT, "section": THEMES}, "Article,Abstract"),
        (
            {"question": SHORT, "context": LONG, "answer": [f"Of vessel {i}, it seems." for i in range(N)]},
            "question,answer",
        ),
        ({"text": LONG, "summary": SHORT, "score": [1, 5] * (N // 2)}, None),
        ({"text": LONG, "summary": SHORT, "category": THEMES}, None),
        ({"article": LONG, "summary": SHORT, "label": THEMES}, None),
        ({"source": THEMES, "text": LONG, "target": THEMES}, None),
        ({"title": SHORT, "text": LONG, "topic": THEMES}, None),
    ],
)
def test_texts_with_what_was_made_of_them(columns: dict[str, Any], wanted: str | None) -> None:
    profiles = profile(Rows(pa.table(columns), ""))
    found = detect(profiles, {} if wanted else {"label": list(columns)[-1]})
    if wanted is None:
        assert found.task is Classification
    else:
        if wanted == "question,answer":  # which stands in its context
            assert found.task is QuestionAnswering
        else:
            assert found.task is Seq2Seq
            choices = {choice.role: choice.column for choice in found.choices}
            assert f"{choices['source']},{choices['target']}" == wanted
        asked, problems = assign_roles(profiles, CausalLM.roles_for(profiles, {}), {})
        assert problems == []
        assert ",".join(choice.column for choice in asked if choice.role != "context") == wanted


# ---- rejected answers ----------------------------------------------------------------------------

GOOD = [f"Order {i} has four parts." for i in range(N)]
BAD = [f"Why do you ask me of order {i}, and at such a late hour, of all people?" for i in range(N)]


@pytest.mark.parametrize(
    ("name", "yes", "no"),
    [("label", True, False), ("answer", "accept", "reject"), ("accept", 1, 0), ("feedback", "👍", "👎"),
     ("rejected", False, True), ("flagged", "no", "yes"), ("vote", "Up", "down"), ("rating", 1, -1),
     ("Is_Correct", "True", "False"), ("thumbs", "thumbs up", "thumbs-down"), ("kto_tag", True, False)],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_marked_answers_are_learned_where_they_were_accepted(
    tmp_path: Path, name: str, yes: Any, no: Any, suffix: str
) -> None:
    rows = [{"prompt": ASKED[i], "response": [GOOD, BAD][i % 3 == 0][i], name: [yes, no][i % 3 == 0]} for i in range(N)]
    found, data = found_in(write(tmp_path / f"marked{suffix}", rows), CausalLM())
    assert roles_of(found)["accepted"] == name
    assert [row[1]["content"] for row in messages_of(data)] == [GOOD[i] for i in range(N) if i % 3]
    (problem,) = [one for one in data.problems if one.severity == "warning"]
    assert problem.count == 8
    assert "8 rows left out" in problem.message
    assert "16 rows accepted" in problem.message
    every, data = found_in(tmp_path / f"marked{suffix}", CausalLM(), columns={"accepted": "none"})
    assert "accepted" not in roles_of(every)
    assert len(messages_of(data)) == N
    assert any(one.column == name for one in every.unused)


def test_messages_with_a_mark_and_a_turn_with_one(tmp_path: Path) -> None:
    rows = [
        {"messages": [user(ASKED[i]), assistant(GOOD[i])], "status": ["approved", "rejected"][i % 2]} for i in range(N)
    ]
    _, data = found_in(write(tmp_path / "chat.jsonl", rows))
    assert len(messages_of(data)) == N // 2
    turns = [user("a"), {**assistant("bad"), "rejected": True}, user("b"), assistant("good")]
    data = load(write(tmp_path / "turns.jsonl", [{"messages": turns}] * 2))
    assert [turn.get("train") for turn in messages_of(data)[0]] == [None, False, None, None]


def test_silence_is_no_acceptance_unless_only_faults_are_marked() -> None:
    assert judge_rows("accept", [1, 0, None, "?"]).is_silent.tolist() == [False, False, True, True]
    flagged = judge_rows("rejected", [True, None, ""])
    assert (flagged.is_rejected.tolist(), flagged.is_silent.any()) == ([True, False, False], False)
    only_faults = judge_rows("feedback", ["down", None, ""])
    assert (only_faults.is_rejected.tolist(), only_faults.is_silent.any()) == ([True, False, False], False)


def test_a_split_without_the_mark_is_taken_whole(tmp_path: Path) -> None:
    rows = [{"prompt": ASKED[i], "completion": GOOD[i], "label": i % 2 == 0} for i in range(N)]
    train = write(tmp_path / "train.jsonl", rows[:20])
    test = write(tmp_path / "other.jsonl", [{key: row[key] for key in ("prompt", "completion")} for row in rows[20:]])
    _, data = found_in(train, CausalLM(), test=str(test))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "test": 4}


def test_nothing_accepted_is_an_error(tmp_path: Path) -> None:
    rows = [{"prompt": ASKED[i], "completion": BAD[i], "label": False} for i in range(N)]
    with pytest.raises(InputError, match="24 rejected"):
        found_in(write(tmp_path / "bad.jsonl", rows))


def test_reviewed_labels_are_learned_where_they_were_accepted(tmp_path: Path) -> None:
    review = ["accept", "reject", "ignore", "accept"]
    rows = [{"text": LONG[i], "label": THEMES[i // 2 % 2], "answer": review[i % 4]} for i in range(N)]
    found, data = found_in(write(tmp_path / "reviewed.jsonl", rows))
    assert roles_of(found) == {"text": "text", "label": "label", "accepted": "answer"}
    assert len(data.splits["train"]) == N // 2
    plain = [{"text": LONG[i], "label": THEMES[i], "accepted": i % 2 == 0} for i in range(N)]
    assert "accepted" not in roles_of(found_in(write(tmp_path / "plain.jsonl", plain))[0])


PAIRS = {
    "answers": lambda i: {"prompt": ASKED[i], "chosen": GOOD[i], "rejected": BAD[i]},
    "messages": lambda i: {"prompt": ASKED[i], "chosen": [assistant(GOOD[i])], "rejected": [assistant(BAD[i])]},
    "whole conversations": lambda i: {
        "chosen": [user(ASKED[i]), assistant(GOOD[i])],
        "rejected": [user(ASKED[i]), assistant(BAD[i])],
    },
    "whole conversations and their prompt": lambda i: {
        "prompt": ASKED[i],
        "chosen": [user(ASKED[i]), assistant(GOOD[i])],
        "rejected": [user(ASKED[i]), assistant(BAD[i])],
    },
    "transcripts": lambda i: {
        "chosen": f"\n\nHuman: {ASKED[i]}\n\nAssistant: {GOOD[i]}",
        "rejected": f"\n\nHuman: {ASKED[i]}\n\nAssistant: {BAD[i]}",
    },
    "other names": lambda i: {"question": ASKED[i], "response_rejected": BAD[i], "response_chosen": GOOD[i]},
}


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_of_pairs_the_better_answer_is_learned(tmp_path: Path, form: str, suffix: str) -> None:
    found, data = found_in(write(tmp_path / f"pairs{suffix}", [PAIRS[form](i) for i in range(N)]), CausalLM())
    assert messages_of(data) == [[user(q), assistant(a)] for q, a in zip(ASKED, GOOD, strict=True)]
    (rejected,) = found.unused
    assert "rejected" in rejected.column
    assert "not learned from" in rejected.reason
    assert any(f"'{rejected.column}' (answers that were rejected" in one.message for one in found.problems)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: {"chosen": GOOD[i], "rejected": BAD[i]},
        lambda i: {"id": i, "rejected": BAD[i]},
        lambda i: {"prompt": ASKED[i], "answer_1": GOOD[i], "answer_2": BAD[i]},
        lambda i: {"prompt": ASKED[i], "rejected": BAD[i]},
    ],
)
def test_what_lacks_its_question_or_its_answer_is_refused(tmp_path: Path, make: Any) -> None:
    with pytest.raises(InputError, match=r"role '(prompt|completion|text)'"):
        found_in(write(tmp_path / "pairs.jsonl", [make(i) for i in range(N)]))


def test_columns_that_are_not_used_have_a_reason() -> None:
    table = pa.table({
        "text": LONG, "label": THEMES, "nothing": [""] * N, "id": [f"x{i}" for i in range(N)], "place": THEMES[::-1],
    })  # fmt: skip
    profiles = profile(Rows(table, ""))
    choices, _ = assign_roles(profiles, Classification.roles, {})
    reasons = {choice.column: choice.reason for choice in unused_columns(profiles, choices)}
    assert reasons["nothing"] == "it is empty"
    assert "numbers or names" in reasons["id"]
    assert "no role needs it; 2 distinct values" in reasons["place"]
    assert "place" not in {choice.column for choice in unused_columns(profiles, choices, group="place")}


# ---- tables pad what is nested -------------------------------------------------------------------


def test_padding_of_nested_columns_is_taken_out(tmp_path: Path) -> None:
    def calling(i: int) -> dict[str, Any]:
        arguments = [{"town": f"t{i}"}, {"item": f"i{i}", "pair": {"left": 1}}, {}][i % 3]
        call = {"type": "function", "function": {"name": f"f{i % 3}", "arguments": arguments}}
        turns = [user(ASKED[i]), {**assistant(""), "tool_calls": [call]}, {"role": "tool", "content": "r"}]
        return {"messages": [*turns, assistant(GOOD[i])]}

    rows = [calling(i) for i in range(N)]
    assert messages_of(load(write(tmp_path / "a.parquet", rows))) == messages_of(
        load(write(tmp_path / "a.jsonl", rows))
    )
    raw = read(DataConfig(path=str(tmp_path / "a.parquet")))
    assert "null" not in raw.splits["train"]["messages"][0]
