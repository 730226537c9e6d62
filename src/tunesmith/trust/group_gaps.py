"""How a run does on each group of rows, and whether groups differ by more than chance explains.

Intervals are those of the bootstrap over all rows; tests permute which group a row is of, so that they are exact
whatever the group's size, and are corrected for all that are made (Holm 1979). A group with few rows is named, and gets
no gap: what could be said of it would be chance.

Fairness is measured for each label as is usual: who gets it (demographic parity), who of those that have it gets it
(equal opportunity), who gets it of those that do not have it (with the one before: equalised odds; Hardt, Price and
Srebro 2016). A difference is the largest rate of a group less the smallest.

Shapes: N rows, G groups, R resamples, P permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.row_groups import Grouping
from tunesmith.evaluate.comparisons import holm
from tunesmith.tasks.base import FloatArray
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.types import InputError

MIN_ROWS = 30
"""A group with fewer rows has no gap."""
MIN_OF_RATE = 10
"""A rate of fewer rows of a group is not known."""
NUM_PERMUTATIONS = 2000
_BLOCK = 200

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of rows, as a value of some rows."""

    criterion: str
    label: str
    counts: BoolArray
    """Rows that the share is of."""
    hits: BoolArray
    """Those that get the label."""


def group_report(rows: JudgedRows, grouping: Grouping, *, min_rows: int = MIN_ROWS) -> dict[str, Any]:
    """Return what is known of the groups of one column, without corrections for other columns (``correct``).

    Raises ``InputError`` where fewer than two groups have enough rows.
    """
    sizes = grouping.sizes()
    few = [place for place in range(len(sizes)) if sizes[place] < min_rows]
    kept = [place for place in range(len(sizes)) if sizes[place] >= min_rows]
    if len(kept) < 2:
        shown = ", ".join(f"{grouping.names[place]} ({sizes[place]})" for place in few[:8])
        more = ", …" if len(few) > 8 else ""
        raise InputError(
            f"--group {grouping.column}: too few rows to compare groups. Fewer than {min_rows} have: {shown}{more}.",
            "Give more rows (--data FILE), a column with fewer groups, or a smaller --min-rows.",
        )
    weights = rows.weights()
    inside = [grouping.of_row == place for place in kept]
    report: dict[str, Any] = {
        "column": grouping.column,
        "metric": rows.metric,
        "groups": _groups(rows, grouping, kept, inside, weights),
        "too_few": [{"name": grouping.names[place], "rows": int(sizes[place])} for place in few],
    }
    if rows.has_labels:
        names = [grouping.names[place] for place in kept]
        report["rates"] = [_rate_report(rows, rate, names, inside, weights) for rate in rates(rows)]
        report["equalized_odds"] = _equalized_odds(report["rates"])
    return report


def correct(reports: Sequence[dict[str, Any]]) -> None:
    """Correct the p-values of all reports for being so many: of the gaps together, and of the rates together."""
    for of in ("groups", "rates"):
        entries = [entry for report in reports for entry in report.get(of, ())]
        for entry, corrected in zip(entries, holm([entry["p"] for entry in entries]), strict=True):
            entry["p_holm"] = corrected


def _groups(
    rows: JudgedRows, grouping: Grouping, kept: Sequence[int], inside: Sequence[BoolArray], weights: FloatArray
) -> list[dict[str, Any]]:
    """Return each group's metrics, and how far its main metric is from that of all other rows."""
    found = []
    for place, is_in in zip(kept, inside, strict=True):
        own = rows.measured(weights * is_in)
        gap = rows.main(weights * is_in) - rows.main(weights * ~is_in)
        found.append(
            {
                "name": grouping.names[place],
                "rows": int(is_in.sum()),
                "metrics": {name: rows.interval(values) for name, values in own.items()},
                "gap": rows.interval(gap),
                "p": _p_of_gap(rows, is_in, float(gap[0])),
            }
        )
    return found


def _p_of_gap(rows: JudgedRows, is_in_N: BoolArray, gap: float) -> float:
    """Return how often rows drawn at random, as many as a group has, differ from the others by as much."""
    if not np.isfinite(gap):
        return float("nan")
    if rows.metric == "accuracy":
        return p_of_range(rows.errors() == 0, [is_in_N, ~is_in_N], rows.seed)
    random, as_far = np.random.default_rng(rows.seed), 0
    for _ in range(NUM_PERMUTATIONS // _BLOCK):
        masks = np.stack([random.permutation(is_in_N) for _ in range(_BLOCK)]).astype(np.float64)
        gaps = rows.main(masks) - rows.main(1.0 - masks)
        as_far += int((~(np.abs(gaps) < abs(gap) - 1e-12)).sum())
    return (1 + as_far) / (1 + NUM_PERMUTATIONS)


def rates(rows: JudgedRows) -> Iterator[Rate]:
    """Yield the shares that fairness is judged by, of every label; of two labels those of the second tell all."""
    names, answers, truths = rows.task.answer_names, rows.answers(), rows.truths()
    everybody = np.ones(len(rows), dtype=np.bool_)
    for label, name in enumerate(names):
        if len(names) == 2 and label == 0:
            continue
        gets, has = answers == label, truths == label
        yield Rate("demographic_parity", name, everybody, gets)
        yield Rate("equal_opportunity", name, has, gets)
        yield Rate("false_positives", name, ~has, gets)


def _rate_report(
    rows: JudgedRows, rate: Rate, names: Sequence[str], inside: Sequence[BoolArray], weights: FloatArray
) -> dict[str, Any]:
    """Return the rate of every group, the difference of the largest and the smallest, and how likely chance has it."""
    of_groups: dict[str, Any] = {}
    known: list[BoolArray] = []
    for name, is_in in zip(names, inside, strict=True):
        counted = rate.counts & is_in
        if counted.sum() < MIN_OF_RATE:
            of_groups[name] = {"rows": int(counted.sum()), "rate": None}
            continue
        known.append(counted)
        total = weights[:, counted].sum(axis=1)
        hits = weights[:, counted & rate.hits].sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_groups[name] = {"rows": int(counted.sum()), "rate": rows.interval(hits / total)}
    values = {name: one["rate"]["value"] for name, one in of_groups.items() if one["rate"] is not None}
    entry: dict[str, Any] = {"criterion": rate.criterion, "label": rate.label, "groups": of_groups}
    if len(values) < 2:
        return {**entry, "difference": None, "p": float("nan")}
    highest, lowest = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return {
        **entry,
        "difference": values[highest] - values[lowest],
        "highest": highest,
        "lowest": lowest,
        "p": p_of_range(rate.hits, known, rows.seed),
    }


def p_of_range(hits_N: BoolArray, groups: Sequence[BoolArray], seed: int, number: int = NUM_PERMUTATIONS) -> float:
    """Return the p-value of the largest difference of shares among groups of rows: permutations of who is where."""
    of_row = np.concatenate([np.full(int(mask.sum()), place) for place, mask in enumerate(groups)])
    values = np.concatenate([hits_N[mask] for mask in groups]).astype(np.float64)
    sizes = np.bincount(of_row)
    random, as_far = np.random.default_rng(seed), 0

    def spread(values: FloatArray) -> float:
        shares = np.bincount(of_row, weights=values) / sizes
        return float(shares.max() - shares.min())

    observed = spread(values)
    for _ in range(number):
        as_far += spread(random.permutation(values)) >= observed - 1e-12
    return (1 + as_far) / (1 + number)


def _equalized_odds(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each label the larger of the differences of both kinds of rows."""
    listed = []
    for label in dict.fromkeys(entry["label"] for entry in found):
        both = [
            entry["difference"]
            for entry in found
            if entry["label"] == label and entry["criterion"] in ("equal_opportunity", "false_positives")
        ]
        known = [difference for difference in both if difference is not None]
        listed.append({"label": label, "difference": max(known) if len(known) == len(both) else None})
    return listed
