"""Which rows are left out of what is learned and judged, and what is said of them: misfits, empty ones, repeated ones.

Rows that contradict each other stay, and are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow.compute as pc

from tunesmith.data import split as splitting
from tunesmith.data.bad_rows import NUM_SHOWN, errors_among, show_row
from tunesmith.data.clean import Tally, is_blank, plural
from tunesmith.data.config import DataConfig
from tunesmith.data.forms import Form
from tunesmith.data.marks import ACCEPTED, judge_rows
from tunesmith.data.rows import Rows, batches
from tunesmith.data.tidied_split import TidiedSplit
from tunesmith.types import MAX_ROWS_SHOWN, ColumnChoice, InputError, Problem

CONTRADICT = "have a text that stands there again with another label"
"""What is said of rows of which not all can be right."""


def drop_misfits(
    parts: Sequence[TidiedSplit], given: Mapping[str, Rows], form: Form, config: DataConfig
) -> list[Problem]:
    """Leave out the rows that do not fit their form (``make_batch`` has counted them), or refuse them if too many."""
    found: list[Problem] = []
    for part in parts:
        fits = [form.fits(batch) for batch in batches(part.dataset)]
        part.sides[~np.concatenate([np.zeros(0, dtype=np.bool_), *fits])] = -1
        shown = {misfit.what: _shown(part, given[part.name], form, misfit.what) for misfit in form.misfits}
        part.left_out |= {
            misfit.recorded or misfit.what: part.tally.counts[misfit.what]
            for misfit in form.misfits
            if misfit.what in part.tally.counts
        }
        found += form.misfit_notes(part.tally, part.name, len(part.keep), config.bad_rows, shown)
    if errors := errors_among(found):
        raise InputError(errors)
    return found


def _shown(part: TidiedSplit, dataset: Rows, form: Form, what: str) -> list[str]:
    """Return the first rows that something is wrong with as the user wrote them, by the columns that are used."""
    names = list(dict.fromkeys(name for columns in form.columns.values() for name in columns))
    shown = []
    for place in part.tally.places.get(what, [])[:NUM_SHOWN]:
        row = pc.index(part.places, place).as_py()
        cells = "; ".join(f"{name}: {dataset.table.column(name)[row].as_py()}" for name in names)
        shown.append(f"{place}: {show_row(cells)}")
    return shown


def drop_rejected(
    parts: Sequence[TidiedSplit], given: Mapping[str, Rows], choices: Sequence[ColumnChoice]
) -> list[Problem]:
    """Leave out the rows that a mark says are not to be learned from; say how many, and how many it accepts."""
    name = next((choice.column for choice in choices if choice.role == ACCEPTED.name), None)
    marked = [part for part in parts if name is not None and name in given[part.name].column_names]
    if name is None or not marked:
        return []
    # One meaning for all splits: silence of one means what it means in the others.
    values = [list(given[part.name][name]) for part in marked]
    verdicts = judge_rows(name, [value for split in values for value in split])
    total, first = Tally(), 0
    for part, split in zip(marked, values, strict=True):
        rows = slice(first, first + len(split))
        first += len(split)
        part.drop("rejected", verdicts.is_rejected[rows])
        part.drop("not accepted", verdicts.is_silent[rows])
        total.merge(part.tally)
    num_kept = sum(int(part.keep.sum()) for part in marked)
    fix = f"Learn of every row with data.columns.{ACCEPTED.name} none."
    message = f"{{rows}} left out that column '{name}' marks as rejected; {plural(num_kept)} accepted."
    silent = f"{{rows}} left out because column '{name}' neither accepts nor rejects them."
    return [
        *total.problem("rejected", message, fix, is_warning=True),
        *total.problem("not accepted", silent, fix, is_warning=True),
    ]


def drop_empty(parts: Sequence[TidiedSplit], form: Form, config: DataConfig) -> None:
    """Leave out rows without any text in one of their columns, or without a label."""
    if not config.clean.empty_rows:
        return
    for part in parts:
        texts = [np.zeros(0, dtype=np.bool_)]
        labels = [np.zeros(0, dtype=np.bool_)]
        for batch in batches(part.dataset):
            blank = np.zeros(batch.num_rows, dtype=np.bool_)
            for name in form.texts:
                blank |= is_blank(batch.column(name))
            texts.append(blank)
            if form.label is not None:
                labels.append(form.unlabelled(batch))
        part.drop("empty text", np.concatenate(texts))
        if form.label is not None:
            part.drop(form.without_label, np.concatenate(labels))


def drop_duplicates(parts: Sequence[TidiedSplit], config: DataConfig) -> None:
    """Leave out repeated rows of each split."""
    for part in parts:
        rows = np.flatnonzero(part.keep)
        if config.clean.duplicates and len(rows):
            _, first = np.unique(part.keys.identity[rows], return_index=True)
            repeated = np.zeros(len(part.keep), dtype=np.bool_)
            repeated[rows] = True
            repeated[rows[first]] = False
            part.drop("duplicate", repeated)


def contradictions(part: TidiedSplit) -> list[Problem]:
    """Report rows with the same texts and different labels."""
    rows = np.flatnonzero(part.keep)
    _, of_text, counts = np.unique(part.keys.exact[rows], return_inverse=True, return_counts=True)
    repeated = rows[counts[of_text] > 1]
    seen: dict[int, set[int]] = {}
    for row in repeated:
        seen.setdefault(int(part.keys.exact[row]), set()).add(int(part.keys.whole[row]))
    clashing = [row for row in repeated if len(seen[int(part.keys.exact[row])]) > 1]
    if not clashing:
        return []
    clashing.sort(key=lambda row: (int(part.keys.exact[row]), row))
    return [
        Problem(
            "warning",
            f"{plural(len(clashing))} of {part.name} {CONTRADICT}; kept.",
            "Decide which label is right: nothing can be learned from both.",
            count=len(clashing),
            rows=tuple(str(part.places[int(row)]) for row in clashing[:MAX_ROWS_SHOWN]),
        )
    ]


def apply_limit(part: TidiedSplit, limit: int) -> None:
    """Keep so many rows, in the same mix of labels, whatever their order."""
    rows = np.flatnonzero(part.keep & ~part.is_made)
    if len(rows) <= limit:
        return
    strata = splitting.strata([part.labels[row] for row in rows])
    keep = splitting.first_by_content(part.keys.identity[rows], strata, limit)
    beyond = np.zeros(len(part.keep), dtype=np.bool_)
    beyond[rows[~keep]] = True
    part.drop("limit", beyond, are_named=False)


def require_rows(parts: Sequence[TidiedSplit]) -> None:
    """Raise ``InputError`` where nothing is left of a split."""
    for part in parts:
        if not part.keep.any():
            reasons = ", ".join(f"{count} {what}" for what, count in part.left_out.items())
            raise InputError(
                f"Of {len(part.keep)} {part.name} rows none can be used ({reasons or 'there are none'}).",
                "Check data.columns: is the text in the chosen text column, the label in the label column?",
            )
