"""Whatever a file holds: rows, or an InputError; never another exception, never a hang."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import DataConfig, assign_roles, prepare, profile, read
from tunesmith.types import InputError, Role

ROLES = (
    Role("text", ("text",), ("text", "category")),
    Role("text_pair", ("text_pair",), ("text", "category"), required=False),
    Role("label", ("label",), ("category", "boolean", "list", "integer", "float")),
)
NAMES = ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.txt", "x", "x.parquet", "x.csv.gz"]


def go_through(name: str, content: bytes, **options) -> None:
    """Read the content, and go all the way to prepared rows when it can be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        config = DataConfig(path=str(path), **options)
        try:
            raw = read(config)
            for dataset in raw.splits.values():
                assert all(place.startswith(name) for place in dataset["__row__"])
            choices, problems = assign_roles(profile(raw.splits["train"]), ROLES, {})
            if not problems:
                prepared = prepare(raw, config, choices)
                assert all(len(rows) for rows in prepared.splits.values())
        except InputError:
            return  # refused with a reason, which is fine


@settings(max_examples=120, deadline=10_000)
@given(st.binary(max_size=400), st.sampled_from(NAMES))
def test_any_bytes(content, name):
    go_through(name, content)


snippets = st.sampled_from(
    [b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"}", b"[",
     b"]", b"\\", b"\\ud800", b"\xed\xa0\x80", b"\x1f\x8b", b"NaN", b"1e999", b"-", b";", b"null", b'{"text":',
     b"9" * 5000, b"[" * 3000, b"sep=;\n", b"\x80\x04", b"PAR1"]
)  # fmt: skip

TABLE = [
    {"text": f'words, "quoted" {row}', "label": ["a", "b", 3, None, ["c"], {"d": 1}][row % 6]} for row in range(40)
]
SEEDS = {
    "x.csv": "text,label\n" + "".join(f'"words, ""quoted""\n {row}",{"ab"[row % 2]}\n' for row in range(40)),
    "x.tsv": "".join(f'some "words" {row}\t{row / 7}\tother words {row}\n' for row in range(40)),
    "x.jsonl": "\n".join(json.dumps(row) for row in TABLE),
    "x.json": json.dumps(TABLE, indent=1),
    "y.json": json.dumps({"data": TABLE}),
    "z.json": json.dumps({"text": [row["text"] for row in TABLE], "label": [row["label"] for row in TABLE]}),
}


@settings(max_examples=250, deadline=10_000)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_mutated_files(name, data):
    content = bytearray(SEEDS[name].encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 40))
        content[place : place + length] = data.draw(st.one_of(snippets, st.binary(max_size=8)))
    go_through(name, bytes(content))


@settings(max_examples=60, deadline=10_000)
@given(st.data())
def test_damaged_parquet_and_archives(data):
    table = pa.table({"text": [f"some words {row}" for row in range(50)], "label": ["a", "b"] * 25})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    packed = gzip.compress(SEEDS["x.csv"].encode())
    name, content = data.draw(st.sampled_from([("x.parquet", sink.getvalue().to_pybytes()), ("x.csv.gz", packed)]))
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    go_through(name, bytes(damaged))


HOSTILE = {
    "quotes": (b'""', 150_000, b'"'),
    "quote lines": (b'"\n', 100_000, b""),
    "triple quotes": (b'"""\n', 60_000, b'"'),
    "open quotes": (b'a,"b\n', 50_000, b""),
    "one long line": (b"x", 40_000_000, b""),
    "commas": (b",", 100_000, b""),
    "words": (b"a\n", 200_000, b""),
    "returns": (b"\r", 200_000, b""),
}
"""Name -> (what is repeated, how often, what comes last)."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sizes_end(name, part):
    piece, times, end = HOSTILE[name]
    content = piece * (times // part) + end
    go_through("x.csv", b"text,label\n" + content)
    go_through("x.csv", content)
