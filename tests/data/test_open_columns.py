"""Tables whose texts hold the separator without quotes: read where only one column can take what is over."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tunesmith.data import RawData
from tunesmith.data.open_columns import join_cells, open_column
from tunesmith.types import InputError

NUM_ROWS = 60
MOODS = [("calm", "upset", "none at all")[row % 3] for row in range(NUM_ROWS)]


def texts(separator: str) -> list[str]:
    """Sentences in which the separator stands from one to four times."""
    draw = random.Random(3)
    return [
        f"he asked{separator} {f'then{separator} ' * draw.randrange(4)}left by door {row}" for row in range(NUM_ROWS)
    ]


FORMS: dict[str, tuple[str, Callable[[int, str, str], list[str]], int]] = {
    "label first": ("mood text", lambda row, text, mood: [mood, text], 1),
    "label last": ("text mood", lambda row, text, mood: [text, mood], 0),
    "between": ("id text mood", lambda row, text, mood: [str(row), text, mood], 1),
    "label and date first": ("mood day text", lambda row, text, mood: [mood, f"2021-05-{row % 28 + 1:02}", text], 2),
}


@pytest.mark.parametrize("separator", [",", ";", "|", "，"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_what_is_over_belongs_to_the_text(
    read_text: Callable[..., RawData], separator: str, form: str, suffix: str
) -> None:
    names, cells, taker = FORMS[form]
    rows = [cells(row, text, MOODS[row]) for row, text in enumerate(texts(separator))]
    lines = [names.split(), *rows]
    raw = read_text(f"x{suffix}", "".join(separator.join(line) + "\n" for line in lines))
    columns = raw.splits["train"]
    assert list(columns[names.split()[taker]][:]) == texts(separator)
    assert list(columns["mood"][:]) == MOODS
    assert not raw.rejected
    assert any("what is over was read as part of 'text'" in one.message for one in raw.problems)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("is_first", [True, False])
def test_without_names(read_text: Callable[..., RawData], separator: str, is_first: bool) -> None:
    rows = [[mood, text] if is_first else [text, mood] for text, mood in zip(texts(separator), MOODS, strict=True)]
    raw = read_text("x.txt", "".join(separator.join(line) + "\n" for line in rows))
    columns = raw.splits["train"]
    assert list(columns["column_2" if is_first else "column_1"][:]) == texts(separator)
    assert list(columns["column_1" if is_first else "column_2"][:]) == MOODS


def test_two_open_columns_are_a_question(read_text: Callable[..., RawData]) -> None:
    lines = [f"{text},{text[::-1]},{mood}" for text, mood in zip(texts(","), MOODS, strict=True)]
    with pytest.raises(InputError, match=r"columns where \d+ were expected"):
        read_text("x.csv", "\n".join(["one,two,mood", *lines]) + "\n")


def test_running_text_stays_lines(read_text: Callable[..., RawData]) -> None:
    lines = [f"On day {row % 31}, {text}" if row % 7 else f"Then {text}" for row, text in enumerate(texts(","))]
    rows = read_text("x.txt", "\n".join(lines) + "\n").splits["train"]
    assert list(rows["column_1"][:]) == lines


def test_labels_in_several_cells_are_a_question(read_text: Callable[..., RawData]) -> None:
    lines = [",".join([f"he left by door {row}", *["calm", "upset", "late"][: 1 + row % 3]]) for row in range(NUM_ROWS)]
    with pytest.raises(InputError, match="columns where 2 were expected"):
        read_text("x.csv", "\n".join(["text,mood", *lines]) + "\n")


def test_which_column_takes_what_is_over() -> None:
    rows = [["a", "b", "c", "x"], ["e", "d", "y"]] * 20
    assert open_column(rows, 3) is None, "all may be"
    rows = [[str(row % 2), *["word"] * (1 + row % 3), f"w{row}"] for row in range(20)]
    assert open_column(rows, 2) == 1
    assert open_column([row[:2] for row in rows], 2) is None, "nothing is over"
    assert open_column(rows[:5], 2) is None
    rows = [[f"w{row}", "yn"[row % 2]] for row in range(40)]
    assert open_column([*rows, ["a", "b", "n"]], 2) == 0
    assert open_column([*rows, ["a", "b", "c"]], 2) is None, "no other row has such a label"
    assert join_cells(["a", "b", "c", "d"], 3, 1, ";") == ["a", "b;c", "d"]


def test_single_quotes(read_text: Callable[..., RawData]) -> None:
    quoted = [text.replace(" ", " ''", 1) for text in texts(",")]  # an inner quote is doubled
    lines = [f"'{text}','{mood}'" for text, mood in zip(quoted, MOODS, strict=True)]
    raw = read_text("x.csv", "\n".join(["'text','mood'", *lines]) + "\n")
    assert list(raw.splits["train"]["text"][:]) == [text.replace(" ", " '", 1) for text in texts(",")]
    assert list(raw.splits["train"]["mood"][:]) == MOODS
    assert not raw.rejected
    raw = read_text(
        "y.csv", "text,mood\n" + "".join(f"{MOODS[row]} 'tis {row},it's '{row}\n" for row in range(NUM_ROWS))
    )
    assert raw.splits["train"]["mood"][3] == "it's '3"


@pytest.mark.parametrize(
    "above",
    ["Guests,\n", "Guests of 2021,,\n,,\nmade by,Ann,\n", "from,1.5.2021,\nto,3.5.2021,\n", "Guests,,\n\nrows,60,\n\n"],
)
def test_titles_with_a_value_beside_them(read_text: Callable[..., RawData], above: str) -> None:
    lines = [f"{text},{row % 5 + 1},{MOODS[row]}" for row, text in enumerate(texts(" -"))]
    raw = read_text("x.csv", above + "\n".join(["said,points,mood", *lines]) + "\n")
    assert list(raw.splits["train"]["said"][:]) == texts(" -")
    assert not raw.rejected


def test_rows_with_few_cells_filled_are_rows(read_text: Callable[..., RawData]) -> None:
    lines = [
        f"{text},{row % 5 + 1 if row > 3 else ''},{MOODS[row] if row > 2 else ''}"
        for row, text in enumerate(texts(" -"))
    ]
    assert len(read_text("x.csv", "\n".join(["said,points,mood", *lines]) + "\n").splits["train"]) == NUM_ROWS
    assert len(read_text("y.csv", "\n".join(lines) + "\n").splits["train"]) == NUM_ROWS
