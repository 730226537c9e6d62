"""Workbooks, databases, YAML and tables of other programs: read as what they would be exported as."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import orc
from tests.workbooks import write_workbook

from tunesmith.data import DataConfig, read
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.types import InputError

NUM_ROWS = 24
TEXTS = [f"the {('hull', 'mast', 'keel')[row % 3]} of boat {row}, as we found it" for row in range(NUM_ROWS)]
LABELS = [("sound", "rotten")[row % 2] for row in range(NUM_ROWS)]
ROWS = list(zip(TEXTS, LABELS, strict=True))
DAY = datetime(2023, 5, 1, 8, 30)  # noqa: DTZ001 (sheets know no zones)


def found_in(path: Path | str) -> FoundRows:
    return find_rows(DataConfig(path=str(path)), None)


def content_of(found: FoundRows, split: str = "train") -> list[tuple[str, str]]:
    columns = {choice.role: choice.column for choice in found.choices}
    rows = found.raw.splits[split]
    return list(zip(rows[columns["text"]][:], map(str, rows[columns["label"]][:]), strict=True))


# ---- databases -----------------------------------------------------------------------------------


def write_database(path: Path, tables: dict[str, list[tuple[str, str]]], *more: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for name, rows in tables.items():
            quoted = '"' + name.replace('"', '""') + '"'
            database.execute(f"CREATE TABLE {quoted} (key INTEGER PRIMARY KEY, remark TEXT, state TEXT, photo BLOB)")
            database.executemany(f"INSERT INTO {quoted} (remark, state) VALUES (?, ?)", rows)
        for order in more:
            database.execute(order)
        database.commit()
    return path


@pytest.mark.parametrize("name", ["survey.sqlite3", "survey.bin2"])
def test_a_database_of_one_table(tmp_path: Path, name: str) -> None:
    more = ("CREATE VIEW good AS SELECT * FROM boats", "CREATE TABLE unused (x)", 'UPDATE boats SET photo = x"ff"')
    path = write_database(tmp_path / name, {"boats": ROWS}, *(order.replace('"', "'") for order in more))
    found = found_in(path)
    assert content_of(found) == ROWS
    assert found.raw.sources[0].format == "database"
    assert any("binary columns were not read: photo" in one.message for one in found.raw.problems)


def test_of_several_tables_one_is_named_or_they_are_splits(tmp_path: Path) -> None:
    path = write_database(tmp_path / "x.db", {"boats": ROWS, "sa'il\"s": ROWS[:5]})
    with pytest.raises(InputError, match=r"(?s)2 tables: 'boats' \(24 rows\).*x\.db:boats"):
        found_in(path)
    with pytest.raises(InputError, match="2 tables"):
        found_in(f"{path}:masts")
    assert content_of(found_in(f"{path}:boats")) == ROWS
    assert len(read(DataConfig(path=f"{path}:sa'il\"s")).splits["train"]) == 5
    path = write_database(tmp_path / "y.db", {"boats_train": ROWS[:18], "boats_test": ROWS[18:], "crew": ROWS[:2]})
    found = found_in(path)
    assert content_of(found) == ROWS[:18]
    assert content_of(found, "test") == ROWS[18:]
    assert any("Not read of y.db: the rows of crew" in one.message for one in found.raw.problems)


def test_rows_that_are_not_in_the_database_yet_are_not_lost(tmp_path: Path) -> None:
    path = write_database(tmp_path / "x.db", {"boats": ROWS})
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO boats (remark) VALUES ('late')")
        database.commit()
        with pytest.raises(InputError, match=r"(?s)x\.db-wal beside it.*wal_checkpoint"):
            found_in(path)
    assert len(found_in(path).raw.splits["train"]) == NUM_ROWS + 1


def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "thumbs.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(InputError, match="cannot be read as a SQLite database"):
        found_in(path)


# ---- YAML ----------------------------------------------------------------------------------------

LISTED = "".join(f"- remark: {text}\n  state: {label}\n" for text, label in ROWS)
YAML_FORMS = {
    "a list": LISTED,
    "a list within": "made: 2023-05-01\nboats:\n" + LISTED,
    "documents": "".join(f"---\nremark: >\n  {text}\nstate: {label}\n" for text, label in ROWS),
    "columns": "remark:\n"
    + "".join(f"- {one}\n" for one in TEXTS)
    + "state:\n"
    + "".join(f"- {one}\n" for one in LABELS),
}


@pytest.mark.parametrize("content", YAML_FORMS.values(), ids=YAML_FORMS)
def test_yaml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "boats.yml"
    path.write_text(content, encoding="utf-8")
    assert [(text.strip(), label) for text, label in content_of(found_in(path))] == ROWS


def test_yes_and_no_are_words_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "boats.yaml"
    path.write_text("".join(f"- [{text!r}, {('no', 'yes')[row % 2]}]\n" for row, text in enumerate(TEXTS)))
    assert content_of(found_in(path))[:2] == [(TEXTS[0], "no"), (TEXTS[1], "yes")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- remark: a\n- state: [b\n- c: }\n", r"line 3: not valid YAML"),
        ("- !!python/object/apply:os.getcwd []\n", r"line 1: not valid YAML"),
        ("a: &a [1, *a]\n", r"no plain values|recursive"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 20}]\n" for n in range(1, 9)), r"aliases"),
    ],
    ids=["broken", "code", "endless", "bomb"],
)
def test_yaml_that_is_no_data_is_told_of(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        found_in(path)


# ---- workbooks -----------------------------------------------------------------------------------

HEAD = ["remark", "seen", "state", "score"]
SHEET: list[list[Any]] = [
    [text, DAY + timedelta(days=row), label, "=A1"] for row, (text, label) in enumerate(ROWS)
]  # fmt: skip


@pytest.fixture
def write_sheets(tmp_path: Path) -> Callable[..., Path]:
    pytest.importorskip("python_calamine")

    def run(sheets: dict[str, list[list[Any]]], name: str = "boats.xlsx", **more: Any) -> Path:
        write_workbook(tmp_path / name, sheets, **more)
        return tmp_path / name

    return run


@pytest.mark.parametrize("name", ["boats.xlsx", "boats.csv"])
def test_a_workbook_of_one_sheet(write_sheets, name: str) -> None:
    found = found_in(write_sheets({"Sheet1": [HEAD, *SHEET]}, name, hidden_rows=[3, 4]))
    assert content_of(found) == ROWS
    rows = found.raw.splits["train"]
    assert rows["seen"][1] == "2023-05-02 08:30:00"
    assert set(rows["score"][:]) == {"3"}
    assert rows["__row__"][0] == f"{name}:2"


def test_titles_gaps_and_hidden_sheets(write_sheets) -> None:
    sheet = [["The boats of 2023"], [], [None, *HEAD[:3]], *([None, *row[:3]] for row in SHEET[:9]), []]
    sheet += [[None, *row[:3]] for row in SHEET[9:]]
    found = found_in(write_sheets({"boats": sheet, "lists": [["a", "b"], ["c", "d"]]}, hidden_sheets=["lists"]))
    assert content_of(found) == ROWS
    assert any("hidden sheets were not read: lists" in one.message for one in found.raw.problems)


def test_merged_cells_are_each_rows(write_sheets) -> None:
    sheet = [
        ["state", "remark"],
        *([label if row % 4 == 0 else None, TEXTS[row]] for row, label in enumerate("aaaabbbb" * 3)),
    ]
    merged = [f"A{row + 2}:A{row + 5}" for row in range(0, NUM_ROWS, 4)]
    found = found_in(write_sheets({"boats": sheet}, merged=merged))
    assert content_of(found) == list(zip(TEXTS, "aaaabbbb" * 3, strict=True))
    assert any("6 cells that are merged over several rows" in one.message for one in found.raw.problems)


def test_of_several_sheets_one_is_named_or_they_are_splits(write_sheets) -> None:
    path = write_sheets({"boats": [HEAD, *SHEET], "notes": [["a", "b"], ["c", "d"]]})
    with pytest.raises(InputError, match=r"(?s)2 sheets: 'boats' \(25 rows\).*boats\.xlsx:boats"):
        found_in(path)
    assert content_of(found_in(f"{path}:boats")) == ROWS
    found = found_in(write_sheets({"Train": [HEAD, *SHEET[:18]], "Dev": [HEAD, *SHEET[18:]]}))
    assert content_of(found) == ROWS[:18]
    assert content_of(found, "validation") == ROWS[18:]


def test_a_damaged_workbook_is_told_of(write_sheets) -> None:
    path = write_sheets({"boats": [HEAD, *SHEET]})
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="cannot be read as a workbook"):
        found_in(path)


def test_what_reads_workbooks_is_named_where_it_is_missing(tmp_path: Path, monkeypatch) -> None:
    write_workbook(tmp_path / "x.xlsx", {"boats": [HEAD, *SHEET]})
    monkeypatch.setattr("tunesmith.data.foreign_tables.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"(?s)python-calamine.*tunesmith\[sheets\]"):
        found_in(tmp_path / "x.xlsx")


# ---- columns -------------------------------------------------------------------------------------


def test_orc_and_stata(tmp_path: Path) -> None:
    orc.write_table(pa.table({"remark": TEXTS, "state": LABELS}), tmp_path / "x.orc")
    assert content_of(found_in(tmp_path / "x.orc")) == ROWS
    frame = pd.DataFrame({"remark": TEXTS, "state": pd.Categorical(LABELS)})
    for version in (114, 118):
        frame.to_stata(tmp_path / "x.dta", write_index=False, version=version)
        assert content_of(found_in(tmp_path / "x.dta")) == ROWS
    for name in ("x.orc", "x.dta"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:150])
        with pytest.raises(InputError, match=r"cannot be read as (ORC|a file of Stata)"):
            found_in(path)
