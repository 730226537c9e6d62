"""What can be wrong with the labels of a split, said with the rows concerned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tunesmith.config.base import nearest
from tunesmith.tasks.base import Columns
from tunesmith.tasks.columns import places
from tunesmith.tasks.labels import LabelCells
from tunesmith.types import Problem

MAX_NAME = 40
"""Characters of a label that a message shows."""
MAX_UNKNOWN = 10
"""Unknown labels that are reported one by one; the rest are counted."""
MIN_TEXTS = 20
"""From this many labels on, labels that mostly occur once are taken for free text."""

Names = Sequence[tuple[str, ...]]
"""The label names of each distinct cell."""


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """Return names in quotes: the first few of many, and the beginning of long ones."""
    shown = ", ".join(f"'{shortened(name)}'" for name in names[:limit])
    return shown + (f", … ({len(names)} in all)" if len(names) > limit else "")


def shortened(name: str) -> str:
    """Return a name short enough for a message."""
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def rows_without_one_label(split: str, columns: Columns, labels: LabelCells, names_D: Names) -> list[Problem]:
    """Report rows with no label or several, where exactly one is expected."""
    problems = []
    missing = labels.rows_where([not names for names in names_D])
    several = labels.rows_where([len(names) > 1 for names in names_D])
    for rows, what, fix in (
        (missing, "no label", "Fill in the label or remove the rows."),
        (several, "several labels", "Set task.multi_label to true, or give one label a row."),
    ):
        if rows:
            have = "row has" if len(rows) == 1 else "rows have"
            message = f"{len(rows)} {split} {have} {what}; each row needs exactly one."
            problems.append(Problem("error", message, fix, count=len(rows), rows=places(split, columns, rows)))
    return problems


def unknown_labels(
    split: str, columns: Columns, labels: LabelCells, names_D: Names, known: Sequence[str]
) -> list[Problem]:
    """Report each label that the task does not know, with its rows, in the order in which they first come."""
    is_known = set(known)
    cells: dict[str, list[int]] = {}
    for cell, names in enumerate(names_D):
        for name in names:
            if name not in is_known:
                cells.setdefault(name, []).append(cell)
    rows = {name: labels.rows_of(found) for name, found in cells.items()}
    return unknown_names(split, columns, rows, known)


def unknown_names(
    split: str, columns: Columns, rows: Mapping[str, Sequence[int]], known: Sequence[str], what: str = "label"
) -> list[Problem]:
    """Report labels (or tags) that the task does not know, given the rows of each: the first few one by one."""
    where = "is not among task.labels" if split == "train" else "was not seen in training"
    fix = f"Correct the {what}, train on rows that have it, or try another data.split_seed if the rows were cut here."
    problems = [
        Problem(
            "error",
            f"{what.capitalize()} '{shortened(name)}' of the {split} rows {where} (known: {quoted(known)}).",
            f"{nearest(name, list(known))} {fix}".strip(),
            count=len(found),
            rows=places(split, columns, found),
        )
        for name, found in list(rows.items())[:MAX_UNKNOWN]
    ]
    rest = [row for found in list(rows.values())[MAX_UNKNOWN:] for row in found]
    if rest:
        message = f"{len(rows) - MAX_UNKNOWN} more {what}s of the {split} rows are unknown."
        fix = "Check that data.columns names the right column."
        problems.append(Problem("error", message, fix, count=len(rest), rows=places(split, columns, rest)))
    return problems


def lopsided_labels(
    counts: Mapping[str, int], num_rows: int, labels: Sequence[str], *, multi_label: bool
) -> list[Problem]:
    """Report training labels nothing can be learned of: the only one, those on no row, those on every row.

    ``counts`` say how many of the rows have a label.
    """
    counts = Counter(counts)
    present = [label for label in labels if counts[label]]
    if not multi_label and len(present) == 1:
        message = f"Every training row has the same label, '{present[0]}': there is nothing to learn."
        fix = "Check data.columns.label, or add rows with another label."
        return [Problem("error", message, fix, count=num_rows)]
    if len(labels) >= MIN_TEXTS and len(labels) > 0.5 * num_rows:
        message = f"The {num_rows} training rows have {len(labels)} labels, such as {quoted(labels, 3)}: free text?"
        return [Problem("error", message, "Check data.columns.label: labels have to recur.", count=len(labels))]
    absent = [label for label in labels if not counts[label]]
    problems = []
    if absent:
        message = f"No training row has the label {quoted(absent)}: it will hardly ever be predicted."
        problems.append(Problem("warning", message, "Remove it from task.labels or add rows.", count=len(absent)))
    always = [label for label in labels if multi_label and counts[label] == num_rows]
    if always:
        message = f"Every training row has the label {quoted(always)}: it tells nothing."
        problems.append(Problem("warning", message, "Remove the label, or add rows without it.", count=len(always)))
    return problems
