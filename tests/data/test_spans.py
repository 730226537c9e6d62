"""Spans: many ways to write them, and how their places are counted is what their own words say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.data.spans import Span, find_offsets, parse_spans, place, tag_spans, text_of

TEXT = "Ann Lee met 王芳 in New Delhi"
PLACES = [(0, 7, "PER"), (12, 14, "PER"), (18, 27, "LOC")]


def surface(start: int, end: int) -> str:
    return TEXT[start:end]


@pytest.mark.parametrize(
    "cell",
    [
        [{"start": a, "end": b, "label": name} for a, b, name in PLACES],
        [{"start_offset": a, "end_offset": b, "labels": [name], "id": 7} for a, b, name in PLACES],
        [{"offset": a, "length": b - a, "type": name, "text": surface(a, b)} for a, b, name in PLACES],
        [{"start_idx": a, "end_idx": b, "type": name, "entity": surface(a, b)} for a, b, name in PLACES],
        [{"entity_index": {"begin": a, "end": b}, "entity_type": name} for a, b, name in PLACES],
        [{"span": [a, b], "category": name, "start": None} for a, b, name in PLACES],
        [[a, b, name] for a, b, name in PLACES],
        [[name, a, b] for a, b, name in PLACES],
        [["T1", name, [[a, b]]] for a, b, name in PLACES],
        [[a, b, name, surface(a, b)] for a, b, name in PLACES],
        [[surface(a, b), a, b, name] for a, b, name in PLACES],
        {"entities": [[a, b, name] for a, b, name in PLACES]},
        {"PER": {"Ann Lee": [[0, 7]], "王芳": [[12, 14]]}, "LOC": {"New Delhi": [[18, 27]]}},
        {"PER": [[0, 7], [12, 14]], "LOC": [[18, 27]]},
        [{"result": [{"value": {"start": a, "end": b, "labels": [name]}, "type": "labels"} for a, b, name in PLACES]}],
        [{"start": a, "end": b, "label": name} for a, b, name in PLACES + PLACES[:1]],
    ],
)
def test_many_dialects_say_the_same(cell: Any) -> None:
    for written in (cell, json.dumps(cell)):
        spans = parse_spans(written)
        assert spans is not None
        assert [(span.start, span.end, span.label) for span in spans] == PLACES
        assert {span.surface for span in spans} <= {"", "Ann Lee", "王芳", "New Delhi"}
        assert tag_spans(TEXT, spans)[2] == ["B-PER", "I-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC"]


@pytest.mark.parametrize(
    "cell",
    [
        "nonsense",
        [{"start": 0}],
        {"start": 0},
        [[0, 2, ""]],
        [[True, 2, "A"]],
        [[0, 2, "A", 4]],
        [["A", "B", "C"]],
        {"joy": 0.5},
        {"PER": ["Ann"]},
        [{"role": "user", "content": "0"}],
        [["T1", "PER", [[0, 3], [9, 12]]]],
        "[" * 50_000,
    ],
)
def test_other_things_are_no_spans(cell: Any) -> None:
    assert parse_spans(cell) is None


def test_nothing_is_no_spans_and_annotations_beside_spans_are_passed_over() -> None:
    assert parse_spans(None) == parse_spans("") == parse_spans([]) == parse_spans({}) == []
    value = {"start": 0, "end": 3, "labels": ["PER"]}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    cancelled = {"was_cancelled": True, "result": [{"value": {**value, "labels": ["LOC"]}, "from_name": "label"}]}
    assert parse_spans([{"result": [{"value": value, "from_name": "x"}, relation]}, cancelled]) == [Span(0, 3, "PER")]


def test_spans_that_overlap_make_no_tags() -> None:
    assert tag_spans("abcdef", [Span(0, 3, "A"), Span(2, 4, "B")])[2] is None


def shifted(start: int, end: int) -> list[tuple[str, list[Span]]]:
    return [(TEXT, [Span(a + start, b + end, name, surface(a, b)) for a, b, name in PLACES])]


@pytest.mark.parametrize(
    ("rows", "offsets"),
    [
        (shifted(0, 0), "exclusive"),
        (shifted(0, -1), "inclusive"),
        (shifted(1, 0), "from_one"),
        # Without their words, whole words of the text tell.
        ([(TEXT, [Span(0, 6, "PER"), Span(18, 26, "LOC")])], "inclusive"),
        ([(TEXT, [Span(0, 7, "PER")])], "exclusive"),
        ([("😀 Ann", [Span(3, 6, "PER")])], "utf16"),
        ([("é Ann", [Span(3, 6, "PER", "Ann")])], "bytes"),
        ([("我在北京", [Span(2, 4, "LOC")])], "exclusive"),
    ],
)
def test_how_places_are_counted_is_found(rows: list[tuple[str, list[Span]]], offsets: str) -> None:
    found, guess = find_offsets([*rows, ("nothing", []), ("broken", None)])
    assert found == offsets
    assert guess is not None
    assert (guess.explained, guess.flag) == (1, "data.span_offsets")
    text, spans = rows[0]
    assert all(
        text[span.start : span.end] == (span.surface or span_words(text, span)) for span in place(text, spans, found)
    )


def span_words(text: str, span: Span) -> str:
    return text[span.start : span.end].strip()


def test_the_users_word_on_places_goes_first() -> None:
    assert find_offsets(shifted(0, 0), "inclusive")[0] == "inclusive"
    assert find_offsets([("nothing", [])]) == ("exclusive", None)
    # A place inside of a character is none.
    assert place("😀", [Span(0, 1, "A")], "utf16") == [Span(0, -1, "A")]


def test_texts_may_stand_in_an_object() -> None:
    assert text_of('{"text": "a b", "meta": "c"}') == "a b"
    assert text_of('{"a": 1}') == '{"a": 1}'
    assert text_of("{not json") == "{not json"
    assert text_of(None) == ""
