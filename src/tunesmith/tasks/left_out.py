"""Rows that encoding refused, and what it remarked, in words for whoever gave them."""

from __future__ import annotations

from tunesmith.data.bad_rows import NUM_SHOWN, BadRows, LeftOut, judge_all, show_row
from tunesmith.data.encoded import Encoded
from tunesmith.tasks.base import Columns
from tunesmith.tasks.columns import place, places
from tunesmith.types import Problem


def num_refused(encoded: Encoded) -> dict[str, int]:
    """Return how many rows encoding left out, by the reason, as it is told of other rows that were left out."""
    return {reason.removeprefix("are "): len(rows) for reason, rows in encoded.left_out.items()}


def encoding_problems(encoded: Encoded, columns: Columns, split: str, bad_rows: BadRows) -> list[Problem]:
    """Return warnings of the rows left out as far as ``bad_rows`` allows, errors beyond that, and the remarks."""
    total = encoded.num_data_rows
    texts = next(iter(columns.values()))  # the first column holds what is read
    found = [
        LeftOut(
            f"The {split} rows",
            len(rows),
            total,
            reason,
            places(split, columns, rows),
            tuple(f"{place(split, columns, row)}: {show_row(texts[row])}" for row in rows[:NUM_SHOWN]),
            fix="mend or remove these rows, or use another template (task.template)",
        )
        for reason, rows in encoded.left_out.items()
    ]
    remarks = [
        Problem("note", f"{count} of {total} {split} rows {words}", count=count)
        for words, count in encoded.remarks.items()
    ]
    return [*judge_all(found, bad_rows), *remarks]
