"""What language models forgot: loss on general text before and after fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.report.studies.records import Contest
from tunesmith.report.studies.table import Cell, draw_strip, strip_axis
from tunesmith.types import Interval

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class ForgettingRow:
    """One method: the loss before and after, and how much it rose."""

    method: str
    before: Cell
    after: Cell
    rise: Cell
    bounds: str
    strip: Markup


@dataclass(frozen=True, slots=True)
class ForgettingTable:
    """All methods on one axis, those that forgot least first."""

    rows: Sequence[ForgettingRow]
    axis: Markup


def forgetting_of(contest: Contest) -> ForgettingTable | None:
    """Return what every method forgot; ``None`` where that was not measured."""
    known = [(method.shown, method.forgetting) for method in contest.methods if method.forgetting]
    if not known:
        return None
    known.sort(key=lambda pair: pair[1].difference if math.isfinite(pair[1].difference) else math.inf)
    axis = strip_axis([*(one.interval for _, one in known), Interval(0.0, 0.0, 0.0)], is_whole=True)
    rows = []
    for name, one in known:
        rise, bounds = _signed(one.difference), ""
        if math.isfinite(one.low) and math.isfinite(one.high):
            bounds = f"[{_signed(one.low)}, {_signed(one.high)}]"
        rows.append(
            ForgettingRow(
                method=name,
                before=Cell(readable.number(one.before, decimals=3), one.before),
                after=Cell(readable.number(one.after, decimals=3), one.after),
                rise=Cell(rise, one.difference),
                bounds=bounds,
                strip=draw_strip(
                    axis,
                    one.interval,
                    says=f"{name}: {rise} {bounds}",
                    kind="rise" if one.low > 0 else "undecided",
                    has_zero=True,
                ),
            )
        )
    return ForgettingTable(rows, axis.labels())


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + readable.number(value, decimals=3)
