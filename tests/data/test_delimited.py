from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import DataConfig, read
from tunesmith.types import InputError

TEXTS = [
    "A fine film, well made.",
    'He said "no" and left.',
    "Two lines\nof text",
    "Three;semicolons;here; and | a bar",
    "Grüße aus München",
    "今天天气很好，我们去公园。",
]


def rows_of(raw, split="train"):
    dataset = raw.splits[split]
    names = [name for name in dataset.column_names if name != "__row__"]
    return [tuple(row[name] for name in names) for row in dataset]


def as_csv(rows, delimiter=",", **options):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, **options).writerows(rows)
    return stream.getvalue()


TABLE = [("text", "label"), *((text, label) for text, label in zip(TEXTS, "ababab", strict=True))]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_separator_and_line_ends_are_found(read_text, delimiter, line_end):
    raw = read_text("data.csv", as_csv(TABLE, delimiter, lineterminator=line_end))
    assert raw.splits["train"].column_names == ["text", "label", "__row__"]
    assert rows_of(raw) == TABLE[1:]


def test_row_places_are_lines_of_the_file_whatever_the_quoted_line_ends(read_text):
    content = 'text,label\n"one\ntwo\nthree",a\nfour,b\n\n"five\r\nsix",a\nseven,b\n'
    raw = read_text("reviews.csv", content)
    assert raw.splits["train"]["__row__"][:] == ["reviews.csv:2", "reviews.csv:5", "reviews.csv:7", "reviews.csv:9"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Grüße, 中文, emoji 🎉"),
        ("utf-8-sig", "Grüße, 中文, emoji 🎉"),
        ("utf-16", "Grüße, 中文, emoji 🎉"),
        ("utf-16-le", "plain words without a mark, and Grüße"),
        ("utf-32", "Grüße, 中文"),
        ("gb18030", "这家酒店的服务很好，房间也很干净，下次还会再来。早餐一般"),
        ("cp1252", "Déjà vu – l'été à Genève, “très bien”, naïve façade, cœur"),
        ("latin-1", "Der Zug fährt über die Brücke nach München, schöne Grüße"),
    ],
)
def test_encodings_are_found(read_bytes, encoding, text):
    rows = [("text", "label"), *((f"{text} {number}", "ab"[number % 2]) for number in range(20))]
    raw = read_bytes(f"{encoding}.csv", as_csv(rows).encode(encoding))
    assert rows_of(raw) == rows[1:]
    is_guess = encoding in {"gb18030", "cp1252", "latin-1"}
    assert any("is not UTF-8" in problem.message for problem in raw.problems) == is_guess


CYRILLIC = {
    "Russian": "это хороший фильм, но слишком длинный для вечера",
    "capitals": "ЭТО ХОРОШИЙ ФИЛЬМ НО СЛИШКОМ ДЛИННЫЙ ДЛЯ ВЕЧЕРА",
    "Bulgarian": "този филм беше хубав, но твърде дълъг за една вечер",
}


@pytest.mark.parametrize("encoding", ["koi8-r", "cp1251"])
@pytest.mark.parametrize("text", CYRILLIC.values(), ids=CYRILLIC)
def test_cyrillic_encodings_are_told_by_their_commonest_letters(read_bytes, text: str, encoding: str) -> None:
    """Each reads the other's letters as letters, small ones as capitals."""
    lines = [f"{text.replace(',', '')} {number},{'ab'[number % 2]}" for number in range(20)]
    content = "\n".join(["text,label", *lines]).encode(encoding)
    assert rows_of(read_bytes("x.csv", content))[0] == (f"{text.replace(',', '')} 0", "a")


def test_a_given_encoding_is_used(read_bytes):
    content = "text,label\nпривет мир,a\nещё текст,b\n".encode("koi8-r")
    assert rows_of(read_bytes("x.csv", content, encoding="koi8-r"))[0] == ("привет мир", "a")


def test_one_bad_byte_costs_one_row(read_bytes):
    lines = [f"sch\u00f6n {number},a".encode() for number in range(30)]
    lines[7] = "schön,a".encode("latin-1")
    raw = read_bytes("x.csv", b"text,label\n" + b"\n".join(lines))
    assert len(raw.splits["train"]) == 29
    (rejected,) = raw.rejected
    assert rejected.place == "x.csv:9"
    assert "0xF6" in rejected.reason
    assert "UTF-8" in rejected.reason
    assert raw.problems[0].severity == "warning"
    assert raw.problems[0].rows == ("x.csv:9",)


def test_nul_bytes_are_read_and_left_to_cleaning(read_bytes):
    raw = read_bytes("x.csv", b"text,label\nab\0cd and more,x\nplain words,y\n")
    assert rows_of(raw)[0] == ("ab\0cd and more", "x")


def test_compressed_files_are_read_whatever_the_suffix(read_bytes):
    content = as_csv(TABLE).encode()
    for name, compress in (("a.csv.gz", gzip.compress), ("b.csv.bz2", bz2.compress), ("c.csv.xz", lzma.compress)):
        assert rows_of(read_bytes(name, compress(content))) == TABLE[1:]
    assert rows_of(read_bytes("d.csv", gzip.compress(content))) == TABLE[1:]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_cut_archive_is_named(read_bytes, compress):
    with pytest.raises(InputError, match=r"x\.csv\.gz is a damaged or cut compressed file"):
        read_bytes("x.csv.gz", compress(as_csv(TABLE * 500).encode())[:-30])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_that_grows_out_of_all_proportion_is_refused(read_bytes, monkeypatch, compress):
    monkeypatch.setattr("tunesmith.data.encodings._SMALL", 1 << 20)
    with pytest.raises(InputError, match="more than 500 times its size"):
        read_bytes("bomb.csv.gz", compress(b"ab,c\n" * 1_000_000))
    assert len(read_bytes("good.csv.gz", compress(b"ab,c\n" * 10_000)).splits["train"]) == 10_000


class TestHeader:
    def test_a_file_without_one_gets_numbered_columns(self, read_text):
        raw = read_text("SMSData", "ham\tGo until jurong point\nspam\tFree entry in 2\nham\tOk lar joking\n")
        assert raw.splits["train"].column_names == ["column_1", "column_2", "__row__"]
        assert len(raw.splits["train"]) == 3

    @pytest.mark.parametrize(
        "content",
        [
            "a stirring film\t1\nanother one\t0\n",
            "great movie,positive\nbad movie,negative\nfine movie,positive\n",
            '"3","Wall St. Bears Claw Back","Short-sellers are seeing green again."\n"1","Other","Some text."\n',
        ],
    )
    def test_values_are_no_names(self, read_text, content):
        raw = read_text("x.tsv" if "\t" in content else "x.csv", content)
        assert raw.splits["train"].column_names[0] == "column_1"

    @pytest.mark.parametrize(
        "header",
        ["text,label", "Review Text,Class", "Satz,Klasse", "评论,标签", "id,comment_text", "v1,v2"],
    )
    def test_names_are_found(self, read_text, header):
        body = "".join(f"these are some longer words number {number},{'ab'[number % 2]}\n" for number in range(9))
        raw = read_text("x.csv", f"{header}\n{body}")
        assert raw.splits["train"].column_names[:2] == header.split(",")

    def test_the_user_decides(self, read_text):
        assert len(read_text("x.csv", "ham,hello\nham,you\n", header=True).splits["train"]) == 1
        assert len(read_text("y.csv", "text,label\nhello you,ham\n", header=False).splits["train"]) == 2

    def test_blank_and_repeated_names_become_usable(self, read_text):
        raw = read_text("x.csv", ",text,text,__row__\n0,some words,more words,3\n1,other words,again more,4\n")
        assert raw.splits["train"].column_names == ["column_1", "text", "text_2", "__row___2", "__row__"]


class TestQuotes:
    def test_they_are_literal_in_a_tsv_that_uses_them_as_text(self, read_text):
        rows = ['"Hello" he said\ta', "plain text\tb", 'an "inner" one\ta', '"unbalanced start\tb']
        raw = read_text("x.tsv", "\n".join(rows) + "\n", header=False)
        assert [row[0] for row in rows_of(raw)] == [line.split("\t")[0] for line in rows]

    def test_they_wrap_cells_in_a_tsv_that_needs_them(self, read_text):
        raw = read_text("x.tsv", as_csv(TABLE, "\t"))
        assert rows_of(raw) == TABLE[1:]

    def test_backslash_escapes_are_found(self, read_text):
        body = "".join(f'"He said \\"no, {number}\\", twice",{"ab"[number % 2]}\n' for number in range(10))
        raw = read_text("x.csv", f"text,label\n{body}")
        assert rows_of(raw)[3] == ('He said "no, 3", twice', "b")

    def test_one_that_is_never_closed_costs_one_row(self, read_text):
        good = "".join(f'"some, quoted text {number}",a\n' for number in range(5))
        raw = read_text("x.csv", f'text,label\n{good}"an open quote,b\nafter it,a\nand more,b\nlast row,a\n')
        assert len(raw.splits["train"]) == 8
        (rejected,) = raw.rejected
        assert rejected.place == "x.csv:7"
        assert "not closed" in rejected.reason

    def test_one_that_is_closed_by_a_later_row_costs_few_rows(self, read_text):
        lines = [f"plain words {number},a" for number in range(20)]
        lines[3] = '"open quote,b'
        lines[12] = '"a good, quoted text",b'
        raw = read_text("x.csv", "text,label\n" + "\n".join(lines) + "\n")
        assert [row.place for row in raw.rejected] == ["x.csv:5"]
        assert len(raw.splits["train"]) == 19


def test_a_single_quoted_column_is_not_cut_at_its_commas(read_text):
    cells = [f'[{{""role"": ""user"", ""content"": ""number {row}""}}]' for row in range(9)]
    rows = read_text("x.csv", "messages\n" + "".join(f'"{cell}"\n' for cell in cells)).splits["train"]
    assert rows["messages"][:] == [cell.replace('""', '"') for cell in cells]


class TestRaggedRows:
    def test_extra_columns_of_a_tsv_are_tolerated_and_counted(self, read_text):
        lines = [f"genre\t{number}.5\tfirst text\tsecond text" for number in range(20)]
        lines[4:8] = [f"{line}\tsource one\tsource two" for line in lines[4:8]]
        raw = read_text("x.tsv", "\n".join(lines))
        assert len(raw.splits["train"]) == 20
        assert raw.splits["train"].column_names[-2:] == ["column_4", "__row__"]
        assert any(problem.count == 4 and problem.rows[0] == "x.tsv:5" for problem in raw.problems)

    def test_extra_columns_of_a_csv_are_bad_rows_unless_blank(self, read_text):
        raw = read_text("x.csv", "text,label\none,a\ntwo, with comma,b\nthree,a,,\nfour,b\n")
        assert rows_of(raw) == [("one", "a"), ("three", "a"), ("four", "b")]
        assert [row.place for row in raw.rejected] == ["x.csv:3"]
        assert "3 columns where 2" in raw.rejected[0].reason

    def test_missing_columns_are_bad_rows(self, read_text):
        raw = read_text("x.csv", "text,label\none,a\ntwo\nthree,b\nfour,a\n")
        assert [row.place for row in raw.rejected] == ["x.csv:3"]
        assert raw.rejected[0].content == "two"

    def test_refusing_names_the_rows(self, read_text):
        with pytest.raises(
            InputError, match=r"1 of 4 rows cannot be read.*x\.csv:3: “two” \(1 columns where 2"
        ) as caught:
            read_text("x.csv", "text,label\none,a\ntwo\nthree,b\nfour,a\n", bad_rows="refuse")
        assert caught.value.problems[0].count == 1

    def test_a_file_of_mostly_bad_rows_is_refused_in_any_case(self, read_text):
        with pytest.raises(InputError, match="3 of 4 rows"):
            read_text("x.csv", "text,label\na,b,c\none,a\nd,e,f\ng,h,i\n", header=True)


def test_plain_text_lines_are_one_column(read_text):
    raw = read_text("x.txt", "First line, with comma.\nSecond; line | here\n\nFourth line.\n")
    assert [row[0] for row in rows_of(raw)] == ["First line, with comma.", "Second; line | here", "", "Fourth line."]


def test_excels_separator_line_is_obeyed(read_text):
    raw = read_text("x.csv", "sep=;\ntext;label\nsome, words;a\nother, words;b\n")
    assert rows_of(raw) == [("some, words", "a"), ("other, words", "b")]
    assert raw.splits["train"]["__row__"][0] == "x.csv:3"


def test_a_second_read_comes_from_the_cache(read_text, monkeypatch):
    raw = read_text("x.csv", as_csv(TABLE))
    monkeypatch.setattr("tunesmith.data.readers._read_into", lambda *args: pytest.fail("read again"))
    again = read_text("x.csv", as_csv(TABLE))
    assert rows_of(again) == rows_of(raw)
    assert again.splits["train"].fingerprint == raw.splits["train"].fingerprint


def test_rows_lie_on_disk(read_text):
    read_text("x.csv", as_csv(TABLE))
    before = pa.total_allocated_bytes()
    rows = read_text("x.csv", as_csv(TABLE)).splits["train"]
    assert len(rows) > 0
    assert pa.total_allocated_bytes() == before


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(cell, cell, st.sampled_from("abc")), min_size=1, max_size=12),
    st.sampled_from([",", ";"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_the_csv_module_writes_is_read_back(rows, delimiter, line_end):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
            writer.writerows([("first", "second", "third"), *rows])
        raw = read(DataConfig(path=str(path), delimiter=delimiter, header=True, encoding="utf-8"))
        assert rows_of(raw) == rows
        lines = path.read_bytes().decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for place in raw.splits["train"]["__row__"]:
            assert lines[int(place.rpartition(":")[2]) - 1].startswith('"')
