"""Text files with a label before every text: told from running text by all of their lines."""

from __future__ import annotations

import random

import pytest

from tunesmith.types import InputError

SENTENCE = "rain falls on the old town while boats wait for better days at sea and nobody speaks"
WORDS = SENTENCE.split()


def texts(number: int) -> list[str]:
    draw = random.Random(number)
    return [" ".join(draw.choices(WORDS, k=7)) + f" said {row} people" for row in range(number)]


@pytest.mark.parametrize("name", ["x.txt", "x.train", "x", "x.all", "x.cfg", "x.TXT", "x.json"])
@pytest.mark.parametrize("labels", [["0", "1"], ["-1", "+1"], ["1", "2", "3", "4", "5"], ["SPAM", "HAM"],
                                    ["sport", "politics"], ["not_ok", "is_ok"]])  # fmt: skip
def test_label_first(read_text, name: str, labels: list[str]) -> None:
    lines = [f"{labels[row * 7 % len(labels)]} {text}" for row, text in enumerate(texts(60))]
    raw = read_text(name, "\n".join(lines) + "\n")
    rows = raw.splits["train"]
    assert rows["text"][:] == texts(60)
    assert set(rows["label"]) == set(labels)
    assert not raw.is_plain_text
    (guess,) = [guess for guess in raw.guesses if guess.name == "line form"]
    assert (guess.explained, guess.alternatives) == (60, (("lines without labels", 60),))
    assert read_text(name, "\n".join(lines) + "\n", passage=0).splits["train"].column_names == ["column_1", "__row__"]


def test_coarse_part_of_a_label_is_offered(read_bytes) -> None:
    labels = ["LOC:city", "LOC:river", "HUM:name"]
    lines = [f"{labels[row % 3]} où est le café {text} ?" for row, text in enumerate(texts(30))]
    raw = read_bytes("x.train", "\n".join(lines).encode("latin-1"))
    rows = raw.splits["train"]
    assert set(rows["label"]) == set(labels)
    assert set(rows["label_coarse"]) == {"LOC", "HUM"}
    assert rows["text"][0].startswith("où est le café")
    assert any("data.columns.label label_coarse" in problem.fix for problem in raw.problems)
    encoding = next(guess for guess in raw.guesses if guess.name == "encoding")
    assert encoding.explained == 30
    assert ("UTF-8", 0) in encoding.alternatives


def test_several_labels_of_fasttext(read_text) -> None:
    lines = [f"__label__{'ab'[row % 2]} {'__label__c ' if row % 5 == 0 else ''}{text}" for row, text in
             enumerate(texts(20))]  # fmt: skip
    rows = read_text("x.txt", "\n".join(lines)).splits["train"]
    assert rows["label"][:3] == [["a", "c"], ["b"], ["a"]]
    assert rows["text"][:] == texts(20)


def test_lines_without_the_label_of_the_others_are_bad_rows(read_text) -> None:
    lines = [f"{row % 2} {text}" for row, text in enumerate(texts(100))]
    lines[50:54] = ["no number here"] * 4
    with pytest.raises(InputError, match=r"4 of 100 rows .*label before text"):
        read_text("x.txt", "\n".join(lines))
    lines[50] = "0 now there is one"
    raw = read_text("x.txt", "\n".join(lines))
    assert len(raw.splits["train"]) == 97


PROSE = {
    "numbered lines": [f"{row} {text}" for row, text in enumerate(texts(60))],
    "verses": [f"{row % 20 + 1} {text}" for row, text in enumerate(texts(60))],
    "openings": [f"{('the', 'we', 'on')[row % 3]} {text}" for row, text in enumerate(texts(60))],
    "speakers": [f"{('Ann:', 'Bo:')[row % 2]} {text}" for row, text in enumerate(texts(60))],
    "words": texts(60),
    "few lines": [f"{row % 2} {text}" for row, text in enumerate(texts(6))],
}


@pytest.mark.parametrize("lines", PROSE.values(), ids=PROSE)
def test_running_text_has_no_labels(read_text, lines: list[str]) -> None:
    raw = read_text("x.txt", "\n".join(lines))
    assert raw.splits["train"]["column_1"][:] == lines
    assert raw.is_plain_text


def test_a_short_file_beside_a_labelled_one_is_read_alike(tmp_path, read_text) -> None:
    (tmp_path / "dev.txt").write_text("1 a short one\n0 another\n")
    lines = [f"{row % 2} {text}" for row, text in enumerate(texts(40))]
    raw = read_text("x.txt", "\n".join(lines), validation=str(tmp_path / "dev.txt"))
    assert raw.splits["validation"]["label"][:] == ["1", "0"]


@pytest.mark.parametrize("form", ["{text} __label__{label}", "__label__{label} , {text}", "__label__{label}\t{text}"])
@pytest.mark.parametrize("name", ["x.txt", "x.csv"])
def test_the_mark_of_fasttext_may_stand_anywhere(read_text, form: str, name: str) -> None:
    lines = [form.format(text=text, label=("hot", "cold")[row % 2]) for row, text in enumerate(texts(30))]
    rows = read_text(name, "\n".join(lines) + "\n").splits["train"]
    assert rows["label"][:2] == ["hot", "cold"]
    assert rows["text"][:] == texts(30)


def test_lines_for_vowpal_wabbit(read_text) -> None:
    lines = [f"{(1, -1)[row % 2]} 0.5 'r{row}|t {text} |n size:3 weight:0.25" for row, text in enumerate(texts(30))]
    raw = read_text("x.vw", "\n".join(lines) + "\n")
    assert raw.splits["train"]["label"][:2] == ["1", "-1"]
    assert raw.splits["train"]["text"][:] == texts(30)
    assert any("Vowpal Wabbit" in one.message for one in raw.problems)


@pytest.mark.parametrize(
    ("name", "content", "way_out"),
    [
        ("x.svm", "".join(f"{row % 2} 3:0.5 17:{row}.25 # r{row}\n" for row in range(20)), "Give the texts"),
        ("x.po", '# by me\nmsgid ""\nmsgstr ""\n\nmsgid "ship"\nmsgstr "Schiff"\n', "a column for each language"),
        ("x.tmx", '<?xml version="1.0"?>\n<tmx version="1.4"><body/></tmx>', "train.en and train.de"),
        ("x.sgm", '<refset setid="s" srclang="any">\n<doc docid="1">\n<seg id="1">a ship</seg>\n', "train.en"),
        ("x.sgml", '<ITEM ID="4" LANG="en">\n<BODY>a ship</BODY>\n</ITEM>\n', "CSV or JSONL"),
        ("x.srt", "1\n00:00:01,500 --> 00:00:03,000\nAhoy!\n", "Take the times out"),
        ("x.yml", 'version: "3.1"\nnlu:\n- intent: hi\n  examples: |\n    - hello\n', "rasa data convert"),
    ],
)
def test_other_formats_are_named_with_a_way_out(read_text, name: str, content: str, way_out: str) -> None:
    with pytest.raises(InputError, match=way_out):
        read_text(name, content)
    assert len(read_text(name, content, passage=0).splits["train"])


def test_texts_that_are_called_spreadsheets_are_read(read_text) -> None:
    raw = read_text(
        "report.xls", "text\tlabel\n" + "".join(f"{text}\t{row % 2}\n" for row, text in enumerate(texts(20)))
    )
    assert raw.splits["train"]["text"][:] == texts(20)
    with pytest.raises(InputError, match="is HTML"):
        read_text("table.xls", "<html><table><tr><td>a</td></tr></table></html>")
