"""Every chat form in every kind of file; what is left out and why; files to predict on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.chats import SUFFIXES, assistant, choose, load, messages_of, user, write
from tunesmith.data import DataConfig, assign_roles, conversation_roles, profile, read, read_for_prediction
from tunesmith.data.chat_rows import Conversations
from tunesmith.data.rows import Rows
from tunesmith.tasks import CausalLM, detect
from tunesmith.types import ColumnChoice, InputError

QUESTIONS = [f"What comes after the number {number}, please tell me?" for number in range(8)]
ANSWERS = [f"After {number} there comes the number {number + 1}, as always." for number in range(8)]
PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))
PLAIN = [[user(question), assistant(answer)] for question, answer in PAIRS]
PRECEDED = [[{"role": "system", "content": "Be brief."}, *row] for row in PLAIN]
PREVIOUS = [user("Hi"), assistant("Hello")]

FORMS: dict[str, tuple[Any, list[list[dict[str, Any]]], str]] = {
    "messages": (lambda q, a: {"messages": [user(q), assistant(a)]}, PLAIN, "messages"),
    "conversation with a system column": (
        lambda q, a: {"conversation": [user(q), assistant(a)], "system": "Be brief."},
        PRECEDED,
        "messages",
    ),
    "parts of content": (
        lambda q, a: {"messages": [{"role": "user", "content": [{"type": "text", "text": q[:4]},
                                                                {"type": "text", "text": q[4:]}]},
                                 {"role": "assistant", "content": [{"type": "text", "text": a}]}]},
        PLAIN,
        "messages",
    ),
    "sharegpt": (
        lambda q, a: {"id": q, "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
        PLAIN,
        "sharegpt",
    ),
    "sharegpt with its own system": (
        lambda q, a: {"system": "Never used.", "conversations": [{"from": "system", "value": "Be brief."},
                                          {"from": "human", "value": q}, {"from": "gpt", "value": a}]},
        PRECEDED,
        "sharegpt",
    ),
    "turns": (lambda q, a: {"dialog": [q, a]}, PLAIN, "texts by turns"),
    "pairs": (lambda q, a: {"conversation": [{"human": q, "assistant": a}]}, PLAIN, "objects of question and answer"),
    "alpaca": (
        lambda q, a: {"instruction": q.split(", ")[0] + ",", "input": q.split(", ")[1], "output": a},
        [[user(q.replace(", ", ",\n")), row[1]] for (q, _), row in zip(PAIRS, PLAIN, strict=True)],
        "alpaca",
    ),
    "alpaca with history": (
        lambda q, a: {"instruction": q, "input": "", "output": a, "history": [["Hi", "Hello"]]},
        [[*PREVIOUS, *row] for row in PLAIN],
        "alpaca",
    ),
    "prompt and completion": (
        lambda q, a: {"prompt": q, "completion": a, "system_prompt": "Be brief."},
        PRECEDED,
        "prompt and completion",
    ),
    "lists of messages": (
        lambda q, a: {"prompt": [user("Hi"), assistant("Hello"), user(q)], "completion": [assistant(a)]},
        [[PREVIOUS[0], {**PREVIOUS[1], "train": False}, *row] for row in PLAIN],
        "prompt and completion",
    ),
    "question and answer": (lambda q, a: {"question": q, "answer": a}, PLAIN, "question and answer"),
    "Chinese names": (lambda q, a: {"问题": q, "回答": a}, PLAIN, "问题 and 回答"),
    "preferences": (
        lambda q, a: {"conversations": [{"from": "human", "value": q}], "chosen": {"from": "gpt", "value": a},
                      "rejected": {"from": "gpt", "value": "no"}},
        PLAIN,
        "conversations and chosen",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_form_gives_the_same_messages(tmp_path: Path, form: str, suffix: str) -> None:
    make, wanted, name = FORMS[form]
    data = load(write(tmp_path / f"chat{suffix}", [make(question, answer) for question, answer in PAIRS]))
    assert messages_of(data) == wanted
    mean = sum(map(len, wanted)) / len(wanted)
    notes = [problem.message for problem in data.problems]
    assert f"Rows are conversations ({name}): 8 rows, {mean:.1f} messages each." in notes
    assert not [problem for problem in data.problems if problem.severity == "warning"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    make, wanted, _ = FORMS["sharegpt"]
    data = load(write(tmp_path / f"chat{suffix}", [make(question, answer) for question, answer in PAIRS]))
    assert messages_of(data) == wanted
    assert data.splits["train"].column_names == ["text", "messages", "row"]
    assert data.splits["train"]["text"][0] == f"user: {QUESTIONS[0]}\nassistant: {ANSWERS[0]}"


def test_cells_as_python_writes_them(tmp_path: Path) -> None:
    rows = [{"messages": str([user("It's " + question), assistant(answer)])} for question, answer in PAIRS]
    assert messages_of(load(write(tmp_path / "chat.csv", rows)))[0] == [user("It's " + QUESTIONS[0]), PLAIN[0][1]]


def test_names_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path / "chat.csv", [{"frage": question, "antwort": answer} for question, answer in PAIRS])
    assert messages_of(load(path, choose(path, prompt="frage", completion="antwort"))) == PLAIN


# ---- tools ---------------------------------------------------------------------------------------

CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
CALLING = [
    user("What is 1 + 2?"),
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "content": '{"sum": 3}'},
    assistant("It is 3."),
]
OPENAI = [
    CALLING[0],
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {**CALL, "arguments": '{"a": 1, "b": 2}'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "name": "add", "content": {"sum": 3}},
    CALLING[3],
]
SHAREGPT = [
    {"from": "human", "value": "What is 1 + 2?"},
    {"from": "function_call", "value": json.dumps(CALL)},
    {"from": "observation", "value": '{"sum": 3}'},
    {"from": "gpt", "value": "It is 3."},
]
HERMES = [
    {"from": "human", "value": "What is 1 + 2?"},
    {"from": "gpt", "value": f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"},
    {"from": "tool", "value": '<tool_response>\n{"sum": 3}\n</tool_response>'},
    {"from": "gpt", "value": "It is 3."},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("tools", [TOOL, {"type": "function", "function": TOOL}], ids=["bare", "wrapped"])
def test_calls_in_sharegpt(tmp_path: Path, suffix: str, tools: Any) -> None:
    rows = [{"conversations": SHAREGPT, "tools": json.dumps([tools])}]
    rows += [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}], "tools": ""}
             for q, a in PAIRS]  # fmt: skip
    data = load(write(tmp_path / f"chat{suffix}", rows))
    assert messages_of(data) == [CALLING, *PLAIN]
    schemas = data.splits["train"]["tools"][:]
    assert json.loads(schemas[0]) == [{"type": "function", "function": TOOL}]
    assert schemas[1:] == [None] * len(PAIRS)
    transcript = 'user: What is 1 + 2?\nassistant: add({"a": 1, "b": 2})\ntool: {"sum": 3}\nassistant: It is 3.'
    assert data.splits["train"]["text"][0] == transcript


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_calls_in_the_text_of_turns_stay_text(tmp_path: Path, suffix: str) -> None:
    others = ["[TOOL_CALLS] add(1, 2)", 'Action: add\nAction Input: {"a": 1}', '{"name": "add", "arguments": {}}']
    rows = [{"conversations": HERMES}]
    rows += [{"conversations": [HERMES[0], {"from": "gpt", "value": text}, *HERMES[2:]]} for text in others]
    found = messages_of(load(write(tmp_path / f"chat{suffix}", rows)))
    assert [[turn["content"] for turn in row] for row in found] == [
        [turn["value"] for turn in row["conversations"]] for row in rows
    ]
    assert not any("tool_calls" in turn for row in found for turn in row)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_calls_as_objects_and_as_text(tmp_path: Path, suffix: str) -> None:
    data = load(write(tmp_path / f"chat{suffix}", [{"messages": OPENAI}, *({"messages": row} for row in PLAIN)]))
    found = messages_of(data)[0]
    assert found[1]["tool_calls"] == [{"type": "function", "function": CALL, "id": "c1"}]
    assert found[2] == {"role": "tool", "content": '{"sum": 3}', "name": "add", "tool_call_id": "c1"}


# ---- misfits -------------------------------------------------------------------------------------


def messages(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


MISFITS = {
    "no conversation": [{"messages": "just words"}, {"messages": None}, {"messages": []}, {"messages": {"a": 1}},
                        messages({"content": "who?"}), messages(user("x"), "y"), messages({"role": 3, "content": "x"})],
    "other form": [{"messages": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
                   {"messages": ["x", "y"]}],
    "unknown role": [messages(user("x"), {"role": "narrator", "content": "y"})],
    "content": [messages({"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}, assistant("y")),
                messages({"role": "user", "content": {"a": 1}}, assistant("y"))],
    "call": [messages(user("x"), {**assistant(""), "tool_calls": [{"function": {"arguments": {}}}]}),
             messages(user("x"), {**assistant(""), "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}),
             messages({**user("x"), "tool_calls": [CALL]}, assistant("y"))],
    "empty turn": [messages(user(" "), assistant("y")), messages(user("x"), assistant("")),
                   messages(user("x"), {"role": "assistant", "content": None})],
    "no call": [messages(user("x"), {"role": "tool", "content": "r"}, assistant("y")),
                messages(*CALLING, user("x"), {"role": "tool", "content": "r"}, assistant("y")),
                messages(*OPENAI[:2], {"role": "tool", "tool_call_id": "c2", "content": "r"}, assistant("y"))],
    "no result": [messages(*CALLING[:2], user("x"), assistant("y"))],
    "no answer": [messages(user("x")), messages({"role": "system", "content": "s"}),
                  messages(user("x"), {**assistant("y"), "train": False})],
}  # fmt: skip
WORDS = {
    "no conversation": "no conversation",
    "other form": "written otherwise than most rows",
    "unknown role": "a role that is not known ('narrator')",
    "content": "other than text",
    "call": "lacks its name",
    "empty turn": "is empty",
    "no call": "follows no call",
    "no result": "left without a result",
    "no answer": "no turn of the assistant",
}


@pytest.mark.parametrize("what", MISFITS)
def test_misfits_are_named_with_their_places_or_refused(tmp_path: Path, what: str) -> None:
    good = [messages(*row) for row in PLAIN]
    path = write(tmp_path / "chat.jsonl", [*good[:2], *MISFITS[what], *good[2:]])
    data = load(path, bad_rows="quarantine")
    assert messages_of(data) == PLAIN
    (problem,) = [problem for problem in data.problems if problem.severity == "warning"]
    assert WORDS[what] in problem.message
    assert problem.count == len(MISFITS[what])
    assert problem.rows == tuple(f"chat.jsonl:{line}" for line in range(3, 3 + problem.count))[:5]
    with pytest.raises(InputError) as caught:
        load(path, bad_rows="refuse")
    assert WORDS[what] in str(caught.value)
    assert "chat.jsonl:3" in str(caught.value)


@pytest.mark.parametrize("names", [("prompt", "completion"), ("instruction", "output")])
def test_answers_to_sums_are_answers_though_they_look_like_numbers_of_rows(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    pairs = [(f"What is {number} plus {number + 1}?", str(2 * number + 1)) for number in range(30)]
    path = write(tmp_path / "sums.jsonl", [dict(zip(names, pair, strict=True)) for pair in pairs])
    assert messages_of(load(path)) == [[user(question), assistant(answer)] for question, answer in pairs]


def test_a_file_that_turns_into_another_form(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [messages(*row) for row in PLAIN]
    rows += [{"prompt": question, "completion": answer} for question, answer in PAIRS[:3]]
    data = load(write(tmp_path / "chat.jsonl", rows))
    assert len(messages_of(data)) == 8
    assert [problem.rows for problem in data.problems if problem.severity == "warning"] == [
        ("chat.jsonl:9", "chat.jsonl:10", "chat.jsonl:11")
    ]


def test_misfits_of_instructions(tmp_path: Path) -> None:
    good = [{"instruction": q, "output": a, "history": [], "tools": None} for q, a in PAIRS]
    bad = [
        {"instruction": "", "output": "y"},
        {"instruction": "x", "output": None},
        {"instruction": [user("x")], "output": "y"},
        {"instruction": "x", "output": "y", "history": [["only one"]]},
        {"instruction": "x", "output": "y", "tools": [{"no": "name"}]},
    ]
    data = load(write(tmp_path / "chat.jsonl", [*good, *bad]), bad_rows="quarantine")
    assert messages_of(data) == PLAIN
    found = {problem.rows[0]: problem.message for problem in data.problems if problem.severity == "warning"}
    assert {place.split(":")[1] for place in found} == {"9", "10", "11", "12", "13"}
    assert "is empty" in found["chat.jsonl:9"]
    assert "no turn of the assistant" in found["chat.jsonl:10"]
    assert "otherwise" in found["chat.jsonl:11"]
    assert "pairs" in found["chat.jsonl:12"]
    assert "schemas" in found["chat.jsonl:13"]


@pytest.mark.parametrize(
    ("mark", "train"),
    [({"train": False}, False), ({"loss": 0}, False), ({"weight": 1}, True), ({"loss_weight": 0.0}, False),
     ({"mask": True}, False), ({"masked": 0}, True), ({"train": "false"}, False), ({"weight": None}, None)],
)  # fmt: skip
def test_marks_of_what_is_learned(tmp_path: Path, mark: dict[str, Any], train: bool | None) -> None:
    rows = [messages(user(q), {**assistant("First."), **mark}, user("And?"), assistant(a)) for q, a in PAIRS]
    found = messages_of(load(write(tmp_path / "chat.jsonl", rows)))[0]
    assert [turn.get("train") for turn in found] == [None, train, None, None]


def test_cleaning_reaches_every_turn(tmp_path: Path) -> None:
    rows = [messages(user(q), assistant(a)) for q, a in PAIRS]
    rows[0] = messages({"role": "system", "content": " \0"}, user("  Cafe\u0301\0 "), assistant("kept \n\n inside\n"))
    path = write(tmp_path / "chat.jsonl", rows)
    data = load(path)
    assert messages_of(data)[0] == [user("Café"), assistant("kept \n\n inside")]
    said = "\n".join(problem.message for problem in data.problems)
    assert "1 row brought to one Unicode form" in said
    assert "removed from 1 row" in said
    off = {"unicode": "none", "control_characters": False, "whitespace": False}
    assert messages_of(load(path, clean=off))[0][1:] == [user("  Cafe\u0301\0 "), assistant("kept \n\n inside\n")]


def test_repeats_and_leaks_are_found_by_the_transcript(tmp_path: Path) -> None:
    rows = [messages(*row) for row in PLAIN]
    train = write(tmp_path / "train.jsonl", [*rows, rows[0], messages(user(QUESTIONS[1]), assistant("Another one."))])
    test = write(tmp_path / "test.jsonl", [messages(user(QUESTIONS[2].upper()), assistant(ANSWERS[2]))])
    data = load(train, test=str(test))
    said = "\n".join(map(str, data.problems))
    assert "1 row left out because they repeat another row" in said
    assert "1 of 1 test rows have a text that also stands in train" in said
    assert "test.jsonl:1 = train.jsonl:3" in said
    assert "another label" not in said
    assert "names the label" not in said
    assert len(load(train, test=str(test), clean={"leaks": True}).splits["train"]) == 8


def test_hashes_follow_what_the_transcript_leaves_out(tmp_path: Path) -> None:
    rows = [messages(*row) for row in PLAIN]
    first = load(write(tmp_path / "a.jsonl", rows)).hashes
    rows[3] = messages(PLAIN[3][0], {**PLAIN[3][1], "train": True})
    assert load(write(tmp_path / "b.jsonl", rows)).hashes != first


# ---- which columns are conversations -------------------------------------------------------------

N = 40
WORDY = [f"this is a sentence with the number {row} in it" for row in range(N)]
OTHER = [f"and that is quite another one, number {row}" for row in range(N)]
FEW = ["yes", "no"] * (N // 2)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"text": WORDY, "label": FEW}, None),
        ({"question": WORDY, "label": FEW}, None),
        ({"question": WORDY, "answer": FEW}, None),
        ({"question": WORDY, "answer": OTHER, "label": FEW}, None),
        ({"conversation": WORDY, "label": FEW}, None),
        ({"text": WORDY}, None),
        ({"input": WORDY, "score": list(range(N))}, None),
        ({"sentence1": WORDY, "sentence2": OTHER, "label": FEW}, None),
        ({"question": WORDY, "answer": OTHER}, {"prompt": "question", "completion": "answer"}),
        ({"instruction": WORDY, "output": FEW}, {"prompt": "instruction", "completion": "output"}),
        (
            {"instruction": WORDY, "context": OTHER, "response": OTHER, "category": FEW},
            {"prompt": "instruction", "context": "context", "completion": "response"},
        ),
        (
            {"output": OTHER, "input": WORDY, "instruction": ["Answer this question, please."] * N},
            {"prompt": "instruction", "context": "input", "completion": "output"},
        ),
        ({"input": WORDY, "output": OTHER}, {"prompt": "input", "completion": "output"}),
        ({"dialog": [[text, "yes"] for text in WORDY]}, {"messages": "dialog"}),
        (
            {"prompt": WORDY, "completion": OTHER, "operating system": WORDY},
            {"prompt": "prompt", "completion": "completion"},
        ),
    ],
)
def test_conversations_are_told_from_other_tables(columns: dict[str, Any], wanted: dict[str, str] | None) -> None:
    profiles = profile(Rows(pa.table(columns), ""))
    roles = conversation_roles(profiles)
    assert (roles is not None) == (wanted is not None)
    if roles is not None:
        choices, problems = assign_roles(profiles, roles, {})
        assert not problems
        assert {choice.role: choice.column for choice in choices} == wanted


# ---- rows to predict on --------------------------------------------------------------------------

AS_MESSAGES = (ColumnChoice("messages", "messages", ""), ColumnChoice("tools", "tools", ""))
AS_ALPACA = tuple(
    ColumnChoice(role, column, "")
    for role, column in (("prompt", "instruction"), ("context", "input"), ("completion", "output"))
)


class TestPrediction:
    def read(self, path: Path, choices: tuple[ColumnChoice, ...] = AS_MESSAGES, **settings: Any) -> list[Any]:
        rows = read_for_prediction(str(path), choices, DataConfig(path="x", **settings), Conversations)
        return [json.loads(cell) for cell in rows["messages"]]

    def test_with_and_without_an_answer(self, tmp_path: Path) -> None:
        rows = [messages(*PLAIN[0]), messages(user("and?")), messages(*CALLING[:2]), messages(user(""))]
        assert self.read(write(tmp_path / "new.jsonl", rows)) == [row["messages"] for row in rows]

    def test_the_answer_column_may_be_missing_or_partly_empty(self, tmp_path: Path) -> None:
        only = write(tmp_path / "a.csv", [{"instruction": "one two", "input": "three"}, {"instruction": "x y"}])
        assert self.read(only, AS_ALPACA) == [[user("one two\nthree")], [user("x y")]]
        partly = write(tmp_path / "b.csv", [{"instruction": "x", "output": "y"}, {"instruction": "z", "output": ""}])
        assert self.read(partly, AS_ALPACA) == [[user("x"), assistant("y")], [user("z")]]

    @pytest.mark.parametrize("choices", [AS_MESSAGES, AS_ALPACA])
    def test_plain_texts(self, tmp_path: Path, choices: tuple[ColumnChoice, ...]) -> None:
        (tmp_path / "new.txt").write_text("What is it?\nAnd what is that?\n", encoding="utf-8")
        wanted = [[user("What is it?")], [user("And what is that?")]]
        assert self.read(tmp_path / "new.txt", choices) == wanted
        assert self.read(write(tmp_path / "a.csv", [{"id": 1, "text": "What?"}]), choices) == [[user("What?")]]

    def test_another_form_than_in_training(self, tmp_path: Path) -> None:
        shared = [
            {"conversations": [{"from": "human", "value": "x"}]},
            {"conversations": [{"from": "gpt", "value": "y"}]},
        ]
        assert self.read(write(tmp_path / "a.jsonl", shared), AS_ALPACA) == [[user("x")], [assistant("y")]]
        asked = [{"id": "a", "prompt": "one two"}, {"id": "b", "prompt": "three"}]
        assert self.read(write(tmp_path / "b.jsonl", asked)) == [[user("one two")], [user("three")]]

    def test_what_cannot_be_read_is_refused_with_its_place(self, tmp_path: Path) -> None:
        rows = [messages(user("x")), messages({"role": "narrator", "content": "y"}), {"messages": "words"}]
        with pytest.raises(InputError, match=r"narrator(.|\n)*new\.jsonl:2") as caught:
            self.read(write(tmp_path / "new.jsonl", rows))
        assert {problem.rows for problem in caught.value.problems} == {("new.jsonl:2",), ("new.jsonl:3",)}

    def test_a_file_without_a_question(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no column 'messages'"):
            self.read(write(tmp_path / "new.csv", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]))


# ---- real data -----------------------------------------------------------------------------------

REAL = {
    "llamafactory_demos/alpaca_en_demo.json.gz": (999, 0, "alpaca"),
    "llamafactory_demos/alpaca_zh_demo.json.gz": (1000, 0, "alpaca"),
    "llamafactory_demos/identity.json.gz": (91, 0, "alpaca"),
    "llamafactory_demos/glaive_toolcall_en_demo.json.gz": (300, 0, "sharegpt"),
    # Two rows have a result of a call that was never made.
    "llamafactory_demos/glaive_toolcall_zh_demo.json.gz": (298, 2, "sharegpt"),
    "llamafactory_demos/kto_en_demo.json.gz": (300, 150, "messages"),
    "llamafactory_demos/dpo_zh_demo.json.gz": (300, 0, "conversations and chosen"),
    "small_instruction_sets/rasbt_instruction_1100.json": (1100, 0, "alpaca"),
    "small_instruction_sets/rasbt_preference_1100.json": (1100, 0, "alpaca"),
    "small_instruction_sets/sqlgen_train.json": (1000, 0, "alpaca"),
    "gsm8k": (8792, 0, "question and answer"),
}


@pytest.mark.skipif("TUNESMITH_TEST_DATA" not in os.environ, reason="TUNESMITH_TEST_DATA is not set")
@pytest.mark.parametrize("path", REAL)
def test_real_chats(path: str) -> None:
    num_rows, num_left_out, form = REAL[path]
    full = Path(os.environ["TUNESMITH_TEST_DATA"]) / path
    data = load(full, clean={"duplicates": False})
    (note,) = [problem.message for problem in data.problems if "Rows are conversations" in problem.message]
    assert f"({form}): {num_rows} rows" in note
    warned = {problem.count: "marks as rejected" in problem.message for problem in data.problems
              if "left out" in problem.message}  # fmt: skip
    assert sum(warned) == num_left_out
    num_rejected = sum(count for count, is_rejected in warned.items() if is_rejected)
    assert sum(map(len, data.splits.values())) == num_rows - num_rejected
    conversations = [row for split in data.splits for row in messages_of(data, split)]
    assert all(turn["role"] in ("system", "user", "assistant", "tool") for row in conversations for turn in row)
    if "toolcall" in path:
        assert sum("tool_calls" in turn for row in conversations for turn in row) > 200
        assert sum(cell is not None for cell in data.splits["train"]["tools"]) > 100


@pytest.mark.skipif("TUNESMITH_TEST_DATA" not in os.environ, reason="TUNESMITH_TEST_DATA is not set")
@pytest.mark.parametrize("path", ["banking77", "stsb", "sst2_sentences", "chnsenticorp", "sms_spam", "weibo_ner",
                                  "llamafactory_demos/c4_demo.jsonl.gz", "llamafactory_demos/wiki_demo.txt.gz",
                                  "small_instruction_sets/mlx_wikisql_train.jsonl"])  # fmt: skip
def test_real_sets_of_other_kinds_are_no_chats(path: str) -> None:
    raw = read(DataConfig(path=str(Path(os.environ["TUNESMITH_TEST_DATA"]) / path)))
    assert conversation_roles(profile(raw.splits["train"])) is None


def test_turns_of_customers_and_agents(tmp_path: Path) -> None:
    """Call centres name who speaks by what they are, and what is said an utterance."""
    rows = [
        {
            "call": f"c{number}",
            "turns": [
                {"speaker": "client", "utterance": question, "at": number},
                {"speaker": "agent", "utterance": f"Number {number} is free.", "at": number + 1},
            ],
        }
        for number, question in enumerate(QUESTIONS)
    ]
    data = load(write(tmp_path / "calls.jsonl", rows))
    assert messages_of(data)[0] == [user(QUESTIONS[0]), assistant("Number 0 is free.")]


@pytest.mark.parametrize("names", [("q", "a"), ("Q", "A"), ("问", "答")])
def test_letters_may_stand_for_questions_and_answers(names: tuple[str, str]) -> None:
    columns = {
        names[1]: [f"Press button {i} twice." for i in range(40)],
        names[0]: [f"How is {i} reset?" for i in range(40)],
    }
    found = detect(profile(Rows(pa.table(columns), "")))
    assert found.task is CausalLM
    assert {choice.role: choice.column for choice in found.choices} == {"prompt": names[0], "completion": names[1]}
