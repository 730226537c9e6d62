from __future__ import annotations

import json

import pytest

from tunesmith.types import InputError

ROWS = [{"text": f"words {number}", "label": "ab"[number % 2], "score": number / 2} for number in range(6)]


def plain(raw):
    return [{key: value for key, value in row.items() if key != "__row__"} for row in raw.splits["train"]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", "\n".join(json.dumps(row) for row in ROWS)),
        ("x.ndjson", "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in ROWS)),
        ("x.json", "\n".join(json.dumps(row) for row in ROWS)),
        ("x.json", json.dumps(ROWS)),
        ("x.json", json.dumps(ROWS, indent=2)),
        ("x.jsonl", json.dumps(ROWS, indent=2)),
        ("x.json", json.dumps({"version": "1", "data": ROWS})),
        ("x.json", json.dumps({"data": ROWS}, indent=1)),
        ("x.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("x.json", json.dumps({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]})),
        ("x.txt", json.dumps(ROWS)),
        ("x", "\n".join(json.dumps(row) for row in ROWS)),
    ],
)
def test_every_form_gives_the_same_rows(read_text, name, content):
    assert plain(read_text(name, content)) == ROWS


def test_places_are_lines(read_text):
    raw = read_text("x.jsonl", '{"a": "one"}\n\n{"a": "two"}\n')
    assert raw.splits["train"]["__row__"][:] == ["x.jsonl:1", "x.jsonl:3"]
    raw = read_text("y.json", json.dumps(ROWS, indent=2))
    assert raw.splits["train"]["__row__"][:3] == ["y.json:2", "y.json:7", "y.json:12"]


def test_bad_rows_are_named(read_text):
    good = [json.dumps(row) for row in ROWS]
    lines = [*good, '{"text": "cut', "[1, 2]", '"words"', "3", "null", '{"text": "half \\ud800"}', *good]
    with pytest.raises(InputError, match=r"x\.jsonl: 6 of 18 rows \(33\.3%\) cannot be read.*“{\"text\": \"cut”"):
        read_text("x.jsonl", "\n".join(lines))
    raw = read_text("x.jsonl", "\n".join(lines), bad_rows="quarantine")
    assert len(raw.splits["train"]) == 12
    reasons = {row.place: row.reason for row in raw.rejected}
    assert sorted(reasons) == ["x.jsonl:10", "x.jsonl:11", "x.jsonl:12", "x.jsonl:7", "x.jsonl:8", "x.jsonl:9"]
    assert "not valid JSON" in reasons["x.jsonl:7"]
    assert "a list where an object" in reasons["x.jsonl:8"]
    assert "null where an object" in reasons["x.jsonl:11"]
    assert "surrogate" in reasons["x.jsonl:12"]


def test_a_bad_first_row_does_not_hide_the_rest(read_text):
    good = "\n".join(json.dumps(row) for row in ROWS)
    for bad in ('{"text": "cut', "[1, 2]", "words"):
        raw = read_text("x.jsonl", f"{bad}\n{good}")
        assert len(raw.splits["train"]) == 6
        assert raw.rejected[0].place == "x.jsonl:1"


@pytest.mark.parametrize("cut", [1, 30, 200, 330])
def test_a_broken_list_is_refused_with_its_line(read_text, cut):
    content = json.dumps(ROWS, indent=2)
    with pytest.raises(InputError, match=r"x\.json, line \d+: not valid JSON"):
        read_text("x.json", content[:cut])
    with pytest.raises(InputError, match=r"x\.json, line 20: .*not valid JSON|not valid JSON"):
        read_text("y.json", content + "\n]")


def test_deep_nesting_is_a_bad_row(read_text):
    deep = '{"text": ' + "[" * 5000 + "]" * 5000 + "}"
    raw = read_text("x.jsonl", "\n".join([*(json.dumps(row) for row in ROWS), deep]))
    assert raw.rejected[0].reason == "nested too deeply"


def test_large_elements_and_many_of_them(read_text):
    rows = [{"text": "x" * size, "label": "a"} for size in (10, 400_000, 3, 900_000, 5)] + ROWS * 3000
    raw = read_text("x.json", json.dumps(rows))
    assert len(raw.splits["train"]) == len(rows)
    assert [len(text) for text in raw.splits["train"]["text"][:5]] == [10, 400_000, 3, 900_000, 5]


class TestTypes:
    def test_values_keep_theirs(self, read_text):
        rows = [
            {"s": "a", "i": 1, "f": 1, "b": True, "l": ["x", "y"], "n": None},
            {"s": None, "i": 2, "f": 2.5, "b": False, "l": [], "n": None},
        ]
        assert plain(read_text("x.jsonl", "\n".join(map(json.dumps, rows)))) == rows

    def test_mixed_columns_become_text_and_say_so(self, read_text):
        raw = read_text("x.jsonl", '{"label": 1}\n{"label": "one"}\n{"label": true}\n')
        assert [row["label"] for row in plain(raw)] == ["1", "one", "true"]
        assert any("mixes" in problem.message for problem in raw.problems)

    def test_a_scalar_among_lists_is_a_list_of_one(self, read_text):
        raw = read_text("x.jsonl", '{"label": ["a", "b"]}\n{"label": "c"}\n')
        assert [row["label"] for row in plain(raw)] == [["a", "b"], ["c"]]

    def test_nested_records_become_json_text(self, read_text):
        raw = read_text("x.jsonl", '{"m": [{"role": "user"}], "t": "a"}\n{"m": "b", "t": "c"}\n')
        assert [row["m"] for row in plain(raw)] == ['[{"role": "user"}]', '"b"']

    def test_missing_keys_and_huge_numbers(self, read_text):
        raw = read_text("x.jsonl", '{"a": 1}\n{"b": 100000000000000000000}\n{"a": NaN}\n')
        assert [row["b"] for row in plain(raw)] == [None, "1" + "0" * 20, None]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_a_single_conversation_is_a_row(read_text, indent, keys):
    turns = [dict(zip(keys, ("user", f"words {number}"), strict=True)) for number in range(2)]
    (row,) = plain(read_text("x.json", json.dumps({"messages": turns, "tools": [{}, {}]}, indent=indent)))
    assert json.loads(row["messages"]) == turns


def test_an_object_without_rows_is_explained(read_text):
    with pytest.raises(InputError, match="holds no rows: its keys are 'a', 'b'"):
        read_text("x.json", '{\n"a": 1,\n"b": [1, 2]\n}')
