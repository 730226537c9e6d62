"""The column that takes what is over, in tables whose texts hold the separator and have no quotes around them.

``label,text`` above ``bad,slow, cold and late`` can be read in one way only if one column alone may hold anything: with
each of the others few values come again and again, or numbers, or dates.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.cells import is_number
from tunesmith.data.stamps import is_stamp

_FEW = 0.1
"""Share of its rows that the distinct values of a column of labels may have."""
_SHORT = 0.01
"""Share of rows that may have fewer cells than there are columns: these are bad rows."""
_LEAST_ROWS = 10
_LONG_LABEL = 40
_ALIKE = 0.95
"""Share of the rows that have the same number of cells in a table that is not ragged."""


def find_taker(rows: Sequence[Sequence[str]], width: int) -> tuple[int | None, int]:
    """Return the column that takes what is over, if any, and the number of columns."""
    num_names = len(rows[0])
    is_ragged = sum(len(row) == width for row in rows) < _ALIKE * len(rows)
    for number in (num_names, width, 2):
        # Where all rows have a cell more than the first one, it may number them.
        is_likely = is_ragged or (number == num_names and not numbers_rows(rows, width))
        taker = open_column(rows[1:], number) if is_likely else None
        if taker is not None and (number == num_names or _comes_again(rows, taker)):
            return taker, number
    return None, width


def _comes_again(rows: Sequence[Sequence[str]], taker: int) -> bool:
    """Say whether the first of some rows is one as the others: its label, before or behind the text, is theirs."""
    labels = [row[-1 if taker == 0 else 0].strip() for row in rows]
    return labels[0] in labels[1:]


def numbers_rows(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Say whether the first column, for which the names of columns have none, numbers the rows."""
    numbers = [row[0] for row in rows[1:] if len(row) == width]
    return len(rows[0]) == width - 1 and all(map(str.isdigit, numbers)) and len(set(numbers)) == len(numbers) > 1


def open_column(rows: Sequence[Sequence[str]], num_columns: int) -> int | None:
    """Return the column that takes what is over; None where no row has more cells, or nobody can say which it is."""
    whole = [row for row in rows if len(row) >= num_columns]
    has_more = any(len(row) > num_columns and any(cell.strip() for cell in row[num_columns:]) for row in whole)
    if not has_more or num_columns < 2 or len(whole) < max(_LEAST_ROWS, (1 - _SHORT) * len(rows)):
        return None
    found = [column for column in range(num_columns) if _explains(whole, num_columns, column)]
    return found[0] if len(found) == 1 else None


def _explains(rows: Sequence[Sequence[str]], num_columns: int, taker: int) -> bool:
    """Say whether all columns but one are told by what they hold, and that one is not several of such columns."""
    edges = [(row[taker], row[taker + len(row) - num_columns]) for row in rows if len(row) > num_columns]
    if any(map(_has_few_values, zip(*edges, strict=True))):
        return False
    joined = [join_cells(row, num_columns, taker, ",") for row in rows]
    others = [[row[column].strip() for row in joined] for column in range(num_columns) if column != taker]
    return all(map(_is_told, others)) and any(_has_labels(cells, rows, num_columns) for cells in others)


def _has_labels(cells: Sequence[str], rows: Sequence[Sequence[str]], num_columns: int) -> bool:
    """Say whether a column has few values, and where most rows need nothing joined, none that these do not have."""
    long = {cell for cell, row in zip(cells, rows, strict=True) if len(row) > num_columns}
    short = [cell for cell, row in zip(cells, rows, strict=True) if len(row) == num_columns]
    return _has_few_values(cells) and (2 * len(short) < len(rows) or long <= set(short))


def _is_told(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return all(map(is_number, filled)) or _has_few_values(cells) or all(map(is_stamp, filled))


def _has_few_values(cells: Sequence[str]) -> bool:
    values = set(cells)
    return 2 <= len(values) <= max(_FEW * len(cells), 2) and max(map(len, values)) <= _LONG_LABEL


def join_cells(cells: Sequence[str], num_columns: int, taker: int, delimiter: str) -> list[str]:
    """Return as many cells as there are columns; those that are over belong to the column ``taker``."""
    num_over = len(cells) - num_columns
    return [*cells[:taker], delimiter.join(cells[taker : taker + num_over + 1]), *cells[taker + num_over + 1 :]]
