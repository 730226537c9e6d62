"""Plain text files read as passages of several lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import DataConfig, prepare, read
from tunesmith.data.encodings import Lines
from tunesmith.data.passages import SOON, _passages
from tunesmith.types import ColumnChoice, InputError

LINES = [f"Line {number} of the story{' so far' * (number % 3)}." for number in range(40)]
STORY = "A title\n\n" + "".join(f"{line}\n" + "\n" * (number % 4 == 3) for number, line in enumerate(LINES))


def texts(raw, column="column_1"):
    return raw.splits["train"][column][:]


def test_without_a_size_every_line_is_a_row(read_text):
    for options in ({}, {"passage": 0}):
        raw = read_text("story.txt", STORY, **options)
        assert raw.is_plain_text
        assert texts(raw)[:3] == ["A title", "", LINES[0]]


@pytest.mark.parametrize("name", ["story.txt", "story.text", "story", "story.md", "story.en", "story.train"])
def test_passages_end_at_empty_lines_and_know_their_place(read_text, name):
    raw = read_text(name, STORY, passage=100)
    assert raw.is_plain_text
    assert raw.sources[0].format == "plain text"
    assert texts(raw)[0] == "A title\n\n" + "\n".join(LINES[:4])
    assert texts(raw)[1].startswith("Line 4 ")
    assert raw.splits["train"]["__row__"][:3] == [f"{name}:1", f"{name}:8", f"{name}:13"]
    assert "\n\n".join(texts(raw)) == STORY.rstrip("\n")


def test_without_empty_lines_they_end_as_soon_as_they_are_long_enough(read_text):
    lines = [f"line number {number:04}" for number in range(100)]
    raw = read_text("x.txt", "\n".join(lines), passage=64)
    assert texts(raw) == ["\n".join(lines[start : start + 4]) for start in range(0, 100, 4)]
    assert raw.splits["train"]["__row__"][1] == "x.txt:5"


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_are_kept_inside_as_line_feeds(read_bytes, end):
    raw = read_bytes("x.txt", f"one{end}{end}two{end}three{end}".encode("utf-8-sig"), passage=1000)
    assert texts(raw) == ["one\n\ntwo\nthree"]


def test_lines_that_cannot_be_used_end_their_passage(read_bytes):
    content = "".join(f"líne {number}\n" for number in range(20)).encode()
    content = content.replace("líne 7\n".encode(), b"l\xffne 7\n")
    raw = read_bytes("x.txt", content, passage=10_000)
    assert [row.place for row in raw.rejected] == ["x.txt:8"]
    assert raw.splits["train"]["__row__"][:] == ["x.txt:1", "x.txt:9"]
    (problem,) = raw.problems
    assert "1 of 20 rows cannot be read" in problem.message
    with pytest.raises(InputError, match=r"x\.txt:8"):
        read_bytes("x.txt", content, passage=10_000, bad_rows="refuse")


def test_other_files_are_read_as_ever(read_text):
    table = "text,label\nsome nice words,a\nother good words,b\nthe last words,a\n"
    raw = read_text("x.csv", table, passage=100)
    assert not raw.is_plain_text
    assert len(raw.splits["train"]) == 3
    assert not read_text("y.txt", table.replace(",", "\t")).is_plain_text
    assert not read_text("z.txt", '{"text": "some words"}\n{"text": "others"}\n', passage=100).is_plain_text
    assert not read_text("h.txt", "text\nsome words here\nand others there\n").is_plain_text
    assert read_text("t.txt", "Moby Dick\nCall me Ishmael, if you must.\nSome years ago I went.\n").is_plain_text


def test_splits_of_a_folder(tmp_path):
    for name in ("train.txt", "valid.txt", "test.txt"):
        (tmp_path / name).write_text(f"{name}\n" + STORY, encoding="utf-8")
    raw = read(DataConfig(path=str(tmp_path), passage=200))
    assert raw.is_plain_text
    assert set(raw.splits) == {"train", "validation", "test"}
    (tmp_path / "labelled.csv").write_text("text,label\nsome words,a\nother words,b\n", encoding="utf-8")
    mixed = read(DataConfig(path=str(tmp_path / "train.txt"), test=str(tmp_path / "labelled.csv")))
    assert not mixed.is_plain_text


def test_passages_are_prepared_as_texts(tmp_path):
    (tmp_path / "x.txt").write_text("  indented\n" + STORY, encoding="utf-8")
    config = DataConfig(path=str(tmp_path / "x.txt"), passage=100)
    data = prepare(read(config), config, [ColumnChoice("text", "column_1", "")])
    rows = {row["row"]: row["text"] for split in data.splits.values() for row in split}
    assert rows["x.txt:1"].startswith("indented\nA title\n\nLine 0")
    assert next(iter(data.splits.values())).column_names == ["text", "row"]
    assert any("rows were cut from the training rows (by content);" in problem.message for problem in data.problems)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "a", "bb ccc", "   ", "dddddddddd"]), max_size=40), st.integers(1, 30))
def test_nothing_but_empty_lines_is_lost(lines, size):
    found = list(_passages(Lines(f"{line}\n" for line in lines), size))
    full = [line.strip() for line in lines if line.strip()]
    assert [line.strip() for passage in found for line in passage.lines if line.strip()] == full
    for passage in found:
        assert lines[passage.line - 1].strip()
        assert passage.lines[0] == f"{lines[passage.line - 1]}\n"
    longest = size + max(map(len, lines), default=0) + 1
    for passage in found[:-1]:
        num_characters = sum(map(len, passage.lines))
        assert size <= num_characters <= longest + SOON * size + longest


@pytest.mark.skipif("TUNESMITH_TEST_DATA" not in os.environ, reason="TUNESMITH_TEST_DATA is not set")
def test_real_texts():
    folder = Path(os.environ["TUNESMITH_TEST_DATA"])
    shakespeare = read(DataConfig(path=str(folder / "tiny_shakespeare" / "input.txt.gz"), passage=1000))
    lengths = [len(text) for text in texts(shakespeare)]
    assert sum(lengths) == pytest.approx(1_115_394, rel=0.01)
    assert 1000 <= sum(lengths) / len(lengths) < 1300
    for name, num_rows in (("wiki_demo.txt.gz", 30), ("c4_demo.jsonl.gz", 300)):
        raw = read(DataConfig(path=str(folder / "llamafactory_demos" / name), passage=1000))
        assert raw.is_plain_text == name.startswith("wiki")
        assert len(raw.splits["train"]) == num_rows


PROGRAM = """
import sys
from pathlib import Path
import datasets
from tunesmith.data import DataConfig, read

def private_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

read(DataConfig(path=sys.argv[1], passage=2000))  # imports
before = private_megabytes()
rows = read(DataConfig(path=sys.argv[2], passage=2000)).splits["train"]
print(len(rows), private_megabytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_text_takes_little_memory(tmp_path):
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_text(STORY, encoding="utf-8")
    with large.open("w", encoding="utf-8") as file:
        for number in range(2_000_000):
            file.write(f"line {number} of a long story that goes on and on and on and never ends\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small), str(large)], capture_output=True, text=True, check=True
    )
    num_rows, megabytes = map(int, done.stdout.split())
    assert num_rows > 50_000
    assert megabytes < 80
