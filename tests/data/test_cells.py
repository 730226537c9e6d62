"""How numbers are written, and what nobody can say of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.config.build import build
from tunesmith.data import DataConfig
from tunesmith.data.cells import number_of, number_style
from tunesmith.run import RunConfig
from tunesmith.run.assembly import load_data
from tunesmith.run.rows import find_rows


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300]),
        (["2,5", "7"], [2.5, 7]),
        (["745,68", "1.231,07", "12.000"], [745.68, 1231.07, 12000]),
        (["745.68", "1,231.07", "12,000"], [745.68, 1231.07, 12000]),
        (["1,234,567", "12"], [1234567, 12]),
        (["12 345,5", "7,25"], [12345.5, 7.25]),
        (["12\u202f345", "950"], [12345, 950]),
        (["1'234.50", "-2’500"], [1234.5, -2500]),
        (["1,234", "950"], None),  # a fraction, or thousands
        (["12 345", "555 123 456"], None),  # as phone numbers are written
        (["1.234,5", "2,345.6"], None),
        (["1.23.456,0"], None),
        (["01.234,50"], None),
        (["1,234.5.6"], None),
        (["1.234.567.890.123.456,1"], None),  # more digits than a double holds
        (["12.5", "about 3"], None),
    ],
)
def test_numbers_are_read_in_the_one_style_that_explains_all(texts: list[str], numbers: list[float] | None) -> None:
    style = number_style(texts)
    assert (None if style is None else [float(style.plain(text)) for text in texts]) == numbers


def test_a_number_by_itself_shows_its_style_or_is_none() -> None:
    assert [number_of(text) for text in (" 1.234,50 ", "1,234.5", "2,5", "1.5")] == [1234.5, 1234.5, 2.5, 1.5]
    assert number_of("1,234") is None
    assert number_of("12 km") is None


def prices(folder: Path, cells: list[str]) -> RunConfig:
    """Write a table of texts and prices, one of them missing, without a name that is usual."""
    rows = [f'"a flat, number {row}";"{cell}"' for row, cell in enumerate(["", *cells])]
    (folder / "prices.csv").write_text("\n".join(["Beschreibung;Preis", *rows]), encoding="utf-8")
    section = {"path": str(folder / "prices.csv"), "validation_fraction": 0.2, "test_fraction": 0.2}
    return build(RunConfig, {"model": "cnn", "data": section})


def test_prices_with_thousands_set_apart_are_learned_as_they_are(tmp_path: Path) -> None:
    written = [f"{1 + row % 3}.{row:03d},50" if row % 2 else f"{row},25" for row in range(60)]
    data = load_data(prices(tmp_path, written))
    assert data.task.name == "regression"
    found = {value for split in data.prepared.splits for value in data.columns(split)["label"]}
    assert found == {1000 * (1 + row % 3) + row + 0.5 if row % 2 else row + 0.25 for row in range(60)}


def test_points_that_may_stand_between_thousands_are_told(tmp_path: Path) -> None:
    def warnings(cells: list[str]) -> list[str]:
        data = load_data(prices(tmp_path, cells))
        return [problem.message for problem in data.problems if "thousands" in problem.message]

    (warning,) = warnings([f"{row}.500" if row % 2 else f"{row}00" for row in range(1, 61)])
    assert "30 rows have labels such as" in warning
    assert "read as fractions" in warning
    assert not warnings([f"{row}.500" if row % 2 else f"{row}.25" for row in range(1, 61)])
    assert not warnings([f"0.{row:03d}" for row in range(1, 61)])


def test_amounts_with_units_show_which_row_is_the_header(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "Strecke;Weg\n" + "".join(f"von hier nach dort {row};{row},5 km\n" for row in range(30)), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"Column 'Weg' holds amounts that are not written as plain numbers"):
        find_rows(DataConfig(path=str(tmp_path / "x.csv")), None)
