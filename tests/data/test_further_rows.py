"""Rows between the names of columns and the data, and comments above the names."""

from __future__ import annotations

import csv
import io

import pytest

from tunesmith.data.header_rows import num_further_rows

TEXTS = [f"the guide of tour {row} {('sang', 'slept', 'joked')[row % 3]} all the way" for row in range(30)]
GRADES = [("fine", "dull")[row % 2] for row in range(30)]


def table(*rows: list[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


SURVEY = [[f"{118000 + row}", f"2023-05-{row % 28 + 1:02d} 09:30", GRADES[row], TEXTS[row]] for row in range(30)]
NAMES = ["Entry", "Sent", "How was it?", "What was it like?"]


@pytest.mark.parametrize(
    "further",
    [
        [["", "", "Choice", "Open answer"]],
        [["Number of the entry", "Time (UTC)", "Choice of one", "In your own words"], ["id", "when", "q1", "q2"]],
        [["{'q': 0}", "{'q': 'a'}", "{'q': 'b'}", "{'q': 'c'}"]],
    ],
)
def test_rows_that_say_more_of_columns_are_no_data(read_text, further: list[list[str]]) -> None:
    raw = read_text("survey.csv", table(NAMES, *further, *SURVEY))
    rows = raw.splits["train"]
    assert rows["What was it like?"][:] == TEXTS
    assert rows["__row__"][0] == f"survey.csv:{2 + len(further)}"
    assert any("below the names" in one.message and one.count == len(further) for one in raw.problems)
    kept = read_text("survey.csv", table(NAMES, *further, *SURVEY), header=True)
    assert len(kept.splits["train"]) == 30 + len(further), "the user's word goes first"


@pytest.mark.parametrize(
    "first",
    [
        ["118099", "2023-05-01 09:30", "odd", "a label that comes once"],
        ["", "2023-05-01 09:30", "fine", "no number"],
        ["", "", "fine", "neither number nor time, and a label that comes again"],
        ["unknown", "", "dull", "a word for the number, and a label that comes again"],
        ["n/a", "2023-05-01 09:30", "odd", "nothing for the number"],
    ],
)
def test_odd_rows_of_data_stay(read_text, first: list[str]) -> None:
    raw = read_text("survey.csv", table(NAMES, first, *SURVEY))
    assert len(raw.splits["train"]) == 31


def test_few_rows_tell_nothing() -> None:
    assert num_further_rows([["", "Choice"], ["1", "a"], ["2", "b"], ["3", "a"]]) == 0
    assert num_further_rows([]) == 0


def test_comments_above_the_names_are_passed_over(read_text) -> None:
    content = "# made by export 7, with all columns\n# question, grade\n# free to use, see the licence\n"
    rows = [[text, grade] for text, grade in zip(TEXTS, GRADES, strict=True)]
    raw = read_text("x.csv", content + table(["text", "label"], *rows))
    assert raw.splits["train"].column_names[:2] == ["text", "label"]
    assert raw.splits["train"]["text"][:] == TEXTS
    tagged = [["#guided tour, never again", "dull"], *rows]
    assert len(read_text("y.csv", table(*tagged)).splits["train"]) == 31, "a hash may begin a text"
