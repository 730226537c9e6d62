"""Cells of messages: whatever JSON holds, reading it gives canonical messages or a reason, never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.chat_rows import Conversations
from tunesmith.data.clean import Tally
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Wishes
from tunesmith.data.message_cells import MisfitError, decode_cell
from tunesmith.data.messages import ROLES, find_flaw, read_calls, read_history, read_messages, read_tools, transcript
from tunesmith.data.rows import Rows, with_nested
from tunesmith.types import ColumnChoice

REASONS = {misfit.what for misfit in Conversations.misfits}
KEY_NAMES = """
    role from content value text type tool_calls function name arguments id tool_call_id train mask weight user
    assistant messages reasoning
"""
KEYS = st.sampled_from(KEY_NAMES.split())
WORDS = st.sampled_from(
    ["user", "human", "gpt", "assistant", "tool", "function_call", "observation", "system", "text", "tool_call", "",
     "{}", "[]", '{"name": "f", "arguments": {}}', "<tool_call>{}</tool_call>", "\ud800", "NaN", '"', "[" * 200]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system", "function_call"])},
        optional={"content": VALUES, "tool_calls": VALUES, "train": VALUES, "tool_call_id": WORDS, "name": VALUES},
    ),
    max_size=6,
)


def outcome(reading: Callable[[Any], Any], value: object) -> tuple[Any, str]:
    """Return what reading gives, or the reason why it gives nothing."""
    try:
        return reading(value), ""
    except MisfitError as error:
        return None, error.what


@settings(max_examples=150, deadline=None)
@given(VALUES | TURNS)
def test_any_value_gives_messages_or_a_reason(value: object) -> None:
    for reading in (read_messages, read_history, read_tools, read_calls):
        found, reason = outcome(reading, value)
        if reason:
            assert reason in REASONS
            continue
        if reading in (read_messages, read_history):
            assert found is not None
            assert all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in found)
            assert find_flaw(found) in REASONS | {""}
            assert isinstance(transcript(found), str)
            json.dumps(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES | TURNS, VALUES, VALUES, st.booleans()), min_size=1, max_size=4), st.booleans())
def test_any_cell_gives_a_row(cells: list[tuple[object, object, object, bool]], for_prediction: bool) -> None:
    def written(value: object, is_python: bool = False) -> str | None:
        # What a reader of files hands on: never half a character as such, though perhaps as an escape.
        text = value if isinstance(value, str) else repr(value) if is_python else json.dumps(value)
        return None if value is None else text.encode("utf-8", "replace").decode()

    table = pa.table(
        {
            "m": pa.array([written(row[0], row[3]) for row in cells], pa.string()),
            "t": pa.array([written(row[1]) for row in cells], pa.string()),
            "h": pa.array([written(row[2]) for row in cells], pa.string()),
            "__row__": pa.array([f"f:{index}" for index in range(len(cells))], pa.string()),
        }
    )
    dataset = Rows(table, "")
    for roles in ({"messages": "m", "tools": "t", "system": "h"}, {"prompt": "m", "completion": "t", "history": "h"}):
        choices = [ColumnChoice(role, column, "") for role, column in roles.items()]
        form, _ = Conversations.of([dataset], choices, Wishes(for_prediction=for_prediction))
        tally = Tally()
        (batch,) = form.batches(dataset, CleanConfig(), tally)
        batch.validate(full=True)
        assert batch.num_rows == len(cells)
        assert sum(tally.counts.get(what, 0) for what in REASONS) == len(cells) - int(form.fits(batch).sum())
        assert len(form.contents(batch)) == len(cells)


@pytest.mark.parametrize(
    "cell",
    ["[" * 100_000, '{"a":' * 50_000, "[" * 90_000 + "]" * 90_000, "(" * 5_000, "{'a': " * 5_000, "9" * 10_000,
     "['\\ud800']", '["\\ud800"]', "[0x" + "f" * 9_000 + "]", "[1j]", "[b'x']", "['\\d']", "[...]", "{1, 2}"]
)  # fmt: skip
def test_hostile_cells(cell: str) -> None:
    _, reason = outcome(lambda given: read_messages(decode_cell(given)), cell)
    # A string with an escape that Python does not know is a turn like any other.
    assert reason == ("" if cell == "['\\d']" else "no conversation")


def test_texts_that_a_reader_left_as_json_strings_lose_their_quotes() -> None:
    nested = '[{"role": "user", "content": "x"}]'
    table = pa.table({"q": ['"\\ud800"', '"a \\"b\\""', nested], "a": ["y"] * 3, "__row__": ["f:1", "f:2", "f:3"]})
    table = table.replace_schema_metadata(with_nested(table.schema, ["q"]).metadata)
    form, _ = Conversations.of(
        [Rows(table, "")], [ColumnChoice("prompt", "q", ""), ColumnChoice("completion", "a", "")], Wishes()
    )
    (batch,) = form.batches(Rows(table, ""), CleanConfig(), Tally())
    assert batch.column("text").to_pylist()[1:] == ['user: a "b"\nassistant: y', ""]
    assert form.fits(batch).tolist() == [True, True, False]


def test_deep_arguments_cost_their_row_only() -> None:
    deep: object = 1
    for _ in range(600):
        deep = {"a": deep}
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {"deep": deep}}]}
    good = json.dumps([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])
    table = pa.table({"m": [json.dumps([call]), good], "__row__": ["f:1", "f:2"]})
    form, _ = Conversations.of([Rows(table, "")], [ColumnChoice("messages", "m", "")], Wishes())
    (batch,) = form.batches(Rows(table, ""), CleanConfig(), Tally())
    assert batch.column("messages")[1].as_py() == good


ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(st.sampled_from(["human", "gpt", "system"]), ANY_TEXT), min_size=1, max_size=6))
def test_forms_of_the_same_conversation_agree(turns: list[tuple[str, str]]) -> None:
    names = {"human": "user", "gpt": "assistant", "system": "system"}
    shared = [{"from": who, "value": text} for who, text in turns]
    plain = [{"role": names[who], "content": text} for who, text in turns]
    parts = [{"role": names[who].upper(), "content": [{"type": "text", "text": letter} for letter in text]}
             for who, text in turns]  # fmt: skip
    for cell in (shared, json.dumps(shared), repr(shared), json.dumps(json.dumps(shared)), plain, parts):
        assert read_messages(decode_cell(cell)) == plain
