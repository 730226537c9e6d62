"""Rows that repeat or contradict others: the same texts, nearly the same, the same under another label."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from tunesmith.data.near_duplicates import find_near_pairs
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import AuditOptions, Finding
from tunesmith.data_audit.survey import Survey

IntArray = npt.NDArray[np.int64]


def repeated_rows(rows: AuditedRows, survey: Survey, options: AuditOptions) -> list[Finding]:
    """Return exact duplicates, near duplicates and contradictions, within each split and across them."""
    found: list[Finding] = []
    filled = np.flatnonzero(survey.lengths > 0)
    if "duplicate" in options.checks:
        first = _first_of_key(survey.texts, survey.whole, filled)
        repeated = np.flatnonzero(first >= 0)
        found += _by_splits(rows, repeated, first[repeated], None, survey)
    if "contradiction" in options.checks and rows.form.label is not None:
        found += _contradictions(rows, survey, filled)
    if "near_duplicate" in options.checks and len(filled):
        _, firsts = np.unique(survey.texts[filled], return_index=True)
        distinct = np.sort(filled[firsts])
        pairs = find_near_pairs(survey.bands, distinct, rows.read, options.similarity)
        found += _by_splits(rows, pairs.second, pairs.first, pairs.similarity, survey)
    return found


def _first_of_key(keys_N: npt.NDArray[np.uint64], whole_N: npt.NDArray[np.uint64], rows: IntArray) -> IntArray:
    """[N]: the first row with the same key as each of ``rows``, -1 for it itself and for all others.

    Among rows of one key, one with the same label goes before another.
    """
    result = np.full(len(keys_N), -1, dtype=np.int64)
    for keys in (keys_N, whole_N):
        _, first, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
        partner = rows[first[inverse]]
        repeats = partner != rows
        result[rows[repeats]] = partner[repeats]
    return result


def _by_splits(
    rows: AuditedRows, second: IntArray, first: IntArray, similarity: npt.NDArray[np.float64] | None, survey: Survey
) -> list[Finding]:
    """Return a finding for each split, and for each two splits, that have such rows."""
    names, found = rows.split_names(), []
    of_first, of_second = rows.sides(first), rows.sides(second)
    kind = "duplicate" if similarity is None else "near_duplicate"
    what = "repeat another row's text" if similarity is None else "are nearly the same as another row"
    for one, other in [*((side, side) for side in range(len(names))), *combinations(range(len(names)), 2)]:
        chosen = np.flatnonzero((of_first == one) & (of_second == other))
        if not len(chosen):
            continue
        crossing = one != other
        size = int(rows.starts[other + 1] - rows.starts[other])
        values = None if similarity is None else similarity[chosen]
        if values is not None:
            chosen = chosen[np.argsort(-values, kind="stable")]
        where = f"{names[other]} rows {what} of {names[one]}" if crossing else f"{names[other]} rows {what}"
        agree = survey.labels[first[chosen]] == survey.labels[second[chosen]]
        details = {"splits": [names[one], names[other]], "with_another_label": int((~agree).sum())}
        if similarity is not None:
            details["similarities"] = [round(float(value), 4) for value in similarity[chosen]]
        found.append(
            Finding(
                kind,
                f"{len(chosen):,} of {size:,} {where}" + (": the figures will be too good." if crossing else "."),
                second[chosen],
                len(chosen) / size,
                f"share of the {names[other]} rows",
                _remedy(names[one], names[other], crossing=crossing),
                details,
                first[chosen],
            )
        )
    return found


def _remedy(first: str, second: str, *, crossing: bool) -> str:
    if crossing and first == "train":
        return f"Leave the {first} rows of these pairs out: --fix FILE does it; the {second} rows stay as they are."
    if crossing:
        return f"Cut the data anew, so that no text stands in both {first} and {second}."
    return "Keep one row of each: --fix FILE does it." if second == "train" else "Judge on one row of each."


def _contradictions(rows: AuditedRows, survey: Survey, filled: IntArray) -> list[Finding]:
    """Return rows of the same texts, as they are, with different labels, the partner being the first such row."""
    _, of_text = np.unique(survey.exact[filled], return_inverse=True)
    order = np.lexsort((filled, of_text))
    text, row = of_text[order], filled[order]
    starts = np.flatnonzero(np.concatenate(([True], text[1:] != text[:-1])))
    lowest = np.minimum.reduceat(survey.whole[row], starts) if len(starts) else survey.whole[:0]
    highest = np.maximum.reduceat(survey.whole[row], starts) if len(starts) else survey.whole[:0]
    clashes = np.flatnonzero(lowest != highest)
    if not len(clashes):
        return []
    ends = np.concatenate((starts[1:], [len(row)]))
    groups = [row[starts[clash] : ends[clash]] for clash in clashes]
    concerned = np.concatenate(groups)
    partners = np.concatenate([np.where(group == group[0], group[1], group[0]) for group in groups])
    return [
        Finding(
            "contradiction",
            f"{len(concerned):,} rows have one of {len(groups):,} texts that stand there with different labels.",
            concerned,
            len(concerned) / len(rows),
            "share of all rows",
            "Decide which label is right: nothing can be learned from both. --fix FILE keeps the label that most rows "
            "of a text have, and leaves a text out where there is none.",
            {"texts": len(groups)},
            partners,
        )
    ]
