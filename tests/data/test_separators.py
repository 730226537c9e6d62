"""Separators, quoting and headers are those that explain most of the file, alternatives counted."""

from __future__ import annotations

import csv
import random

import pytest

from tunesmith.data import DataConfig, RawData, read
from tunesmith.types import InputError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def guess(raw: RawData, name: str) -> tuple[str, int, dict[str, int]]:
    (found,) = [one for one in raw.guesses if one.name == name]
    return found.chosen, found.explained, dict(found.alternatives)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".CSV", ".dat"])
@pytest.mark.parametrize("name", SEPARATORS)
@pytest.mark.parametrize("other", SEPARATORS)
def test_what_explains_every_row_wins(read_text, suffix: str, name: str, other: str) -> None:
    """Another separator stands once in half of the rows, or in all of them but the header."""
    if name == other:
        pytest.skip("there is one separator only")
    for share in (2, 1):
        rows = [f"word {row}{SEPARATORS[other] if row % share == 0 else ''} and more{SEPARATORS[name]}{row % 3}"
                for row in range(60)]  # fmt: skip
        raw = read_text(f"x{suffix}", "\n".join([f"text{SEPARATORS[name]}label", *rows]) + "\n")
        assert raw.splits["train"].column_names == ["text", "label", "__row__"]
        assert raw.splits["train"]["text"][0] == f"word 0{SEPARATORS[other]} and more".strip()
        chosen, explained, others = guess(raw, "delimiter")
        assert (chosen, explained) == (name, 61)
        assert others == {other: 60 // share}
        assert not raw.rejected


SIGNS = ["::", "||", " ||| ", "_!_", " +++$+++ ", " => ", " -> ", " [SEP] ", "<sep>", "@@@", "\x01", "^", "¦"]


@pytest.mark.parametrize("sign", SIGNS)
def test_signs_that_stand_in_every_line_separate(read_text, sign: str) -> None:
    """One of them may stand in every text, too: a comma."""
    rows = [f"{row}{sign}a word, number {row} -- and more{sign}{('good', 'bad')[row % 2]}" for row in range(40)]
    raw = read_text("x.txt", "\n".join(rows) + "\n")
    columns = raw.splits["train"]
    assert columns["column_2"][3].strip() == "a word, number 3 -- and more"
    assert columns["column_3"][3].strip() == "bad"
    assert not raw.rejected


def test_bytes_of_another_encoding_separate_nothing(tmp_path) -> None:
    """They stand for themselves in a text that is read as UTF-8, and are no signs."""
    (tmp_path / "x.csv").write_bytes(
        b"text;label\n" + b"".join(b"a \xe9\xe9 b %d;%d\n" % (row, row % 2) for row in range(9))
    )
    with pytest.raises(InputError, match="rows"):
        read(DataConfig(path=str(tmp_path / "x.csv"), encoding="utf-8"))


PROSE = [
    "well -- yes",
    "wait... what",
    "no!! never",
    "see http://a.b/c",
    "<|user|>hi<|end|>",
    "== A heading ==",
    "(a) (b)",
]


@pytest.mark.parametrize("line", PROSE)
def test_signs_of_prose_separate_nothing(read_text, line: str) -> None:
    raw = read_text("x.txt", "".join(f"{line} {row}\n" for row in range(40)))
    assert len(raw.splits["train"].column_names) == 2


@pytest.mark.parametrize("sign", ["|", " | ", "\t", " ||| "])
def test_commas_of_sentences_give_way_to_what_separates(read_text, sign: str) -> None:
    """A comma stands in every row as often as what separates, and a space follows it."""
    lines = [f"{row % 3}{sign}a film, number {row}" for row in range(40)]
    columns = read_text("x.txt", "\n".join(lines) + "\n").splits["train"]
    assert [columns["column_1"][3].strip(), columns["column_2"][3].strip()] == ["0", "a film, number 3"]


@pytest.mark.parametrize(
    "line",
    [
        "[{day:02d}.03.24, 10:{row:02d}:11] Ann: message number {row}",
        "It was {row}, or so they said",
        "{day}/12/2023, 09:{row:02d} - Bob: see you at {row}",
    ],
)
def test_commas_of_chats_and_sentences_separate_nothing(read_text, line: str) -> None:
    lines = [line.format(row=row, day=1 + row % 9) for row in range(60)]
    columns = read_text("x.txt", "\n".join(lines) + "\n").splits["train"]
    assert columns[columns.column_names[0]][:] == lines


@pytest.mark.parametrize("line", ["good, what a film {row}", "{row}, 3.5, 0.25, setosa"])
def test_commas_with_spaces_separate_labels_and_numbers(read_text, line: str) -> None:
    lines = [line.format(row=row).replace("good", ("good", "bad")[row % 2]) for row in range(60)]
    assert len(read_text("x.txt", "\n".join(lines) + "\n").splits["train"].column_names) > 2


def test_the_end_of_the_file_counts(read_text) -> None:
    """What the first thousands of lines do not hold may be what explains the rest."""
    first = [f"a{row},b;{row % 2}" for row in range(6_000)]
    rest = [f"a{row} b;{row % 2}" for row in range(6_000)]
    raw = read_text("x.csv", "\n".join(["text;label", *first, *rest]))
    assert guess(raw, "delimiter") == ("semicolon", 12_001, {"comma": 6_000})


def test_decimal_commas_are_numbers_where_semicolons_separate(read_text) -> None:
    raw = read_text("x.csv", "text;price;amount\n" + "".join(f"item {row};{row},5;1{row}\n" for row in range(12)))
    assert raw.splits["train"]["price"][:3] == ["0.5", "1.5", "2.5"]
    assert raw.splits["train"]["amount"][0] == "10"
    assert any("decimal comma" in problem.message for problem in raw.problems)
    raw = read_text("y.csv", "text;marks\n" + "".join(f"item {row};{row},5,3\n" for row in range(12)))
    assert raw.splits["train"]["marks"][0] == "0,5,3"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("form", ['"{text}"{separator}"{label}"', '"{text}"{separator}{label}'])
@pytest.mark.parametrize("names", [("text", "label"), ("Beschreibung", "Klasse")])
def test_commas_within_quotes_do_not_hide_the_separator(read_text, separator, form, names) -> None:
    """Whoever writes all texts in quotes has commas in them: these files have two columns, not one."""
    cells = [names, *((f"a film, number {row}", ("good", "bad")[row % 2]) for row in range(40))]
    lines = [form.format(text=text, label=label, separator=separator) for text, label in cells]
    raw = read_text("x.csv", "\n".join(lines))
    rows = raw.splits["train"]
    assert [(rows[names[0]][row], rows[names[1]][row]) for row in (0, 39)] == [cells[1], cells[40]]


def test_one_column_in_quotes_stays_one(read_text) -> None:
    for inner in ("a film, number {}", 'a ""film"", number {}', "a film,\nnumber {}; x"):
        rows = read_text("x.csv", "\n".join(['"text"', *(f'"{inner.format(row)}"' for row in range(40))]))
        assert rows.splits["train"]["text"][7] == inner.format(7).replace('""', '"')
        assert len(rows.splits["train"]) == 40


def test_quoting_is_what_explains_most(read_text) -> None:
    quoted = "".join(f'"a, {row}",b\n' for row in range(20))
    assert guess(read_text("x.csv", "text,label\n" + quoted), "delimiter")[:2] == ("comma", 21)
    literal = "".join(f'"{row} they said,b\n' for row in range(20))
    raw = read_text("y.csv", "text,label\n" + literal)
    assert guess(raw, "quoting")[:2] == ("none", 21)
    assert raw.splits["train"]["text"][3] == '"3 they said'


def test_most_rows_bad_by_every_separator_is_an_error(read_text) -> None:
    draw = random.Random(0)
    rows = [f"so{',' * draw.randrange(4)} many words;{row}" if row % 3 else f"few; words; {row}" for row in range(60)]
    with pytest.raises(InputError, match=r"of 60 rows .* cannot be read; it was read with delimiter semicolon"):
        read_text("x.csv", "text;label\n" + "\n".join(rows))


def test_numbers_of_rows_without_a_name(read_text) -> None:
    """As R writes tables: the header lacks the first column."""
    raw = read_text("x.csv", "text,label\n" + "".join(f"{row},words {row},{row % 2}\n" for row in range(1, 9)))
    assert raw.splits["train"].column_names == ["column_1", "text", "label", "__row__"]
    assert not raw.rejected


def test_cells_of_any_length_are_read_alike(read_text) -> None:
    long = "x" * 200_000
    before = csv.field_size_limit()
    for name, content in (("x.csv", f'text,label\n"{long}",a\nshort,b\n'), ("x.jsonl", f'{{"text": "{long}"}}\n')):
        assert read_text(name, content).splits["train"]["text"][0] == long
    assert csv.field_size_limit() == before


def test_every_guess_knows_its_file(tmp_path) -> None:
    for name, separator in (("train.txt", ";"), ("dev.txt", "|")):
        rows = [f"a text of {name} {row}{separator}{'ab'[row % 2]}" for row in range(20)]
        (tmp_path / name).write_text("\n".join([f"text{separator}label", *rows]))
    guesses = read(DataConfig(path=str(tmp_path))).guesses
    found = {(guess.source, guess.chosen) for guess in guesses if guess.name == "delimiter"}
    assert found == {("train.txt", "semicolon"), ("dev.txt", "pipe")}
