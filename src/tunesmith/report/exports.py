"""Exports of a run: where each is, and how it compared with the run, in finished words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.readable import MISSING
from tunesmith.report.records import ExportRecord, TimesRecord


@dataclass(frozen=True, slots=True)
class ExportView:
    """One export."""

    folder: str
    form: str
    """Program and form: ``onnx, int8``."""
    size: str
    difference: str
    same: str
    metric: str
    before: str
    after: str
    change: str
    row: str
    """Time of one row, before and after."""
    batch: str


def export_views(records: Sequence[ExportRecord]) -> list[ExportView]:
    """Put exports into words, in the order in which they were made."""
    return [
        ExportView(
            folder=one.folder,
            form=f"{one.target}, {one.form}",
            size=f"{readable.size(one.size_before)} → {readable.size(one.size)}",
            difference=f"{one.max_difference:.1g}",
            same=readable.percent(one.same_answers),
            metric=readable.metric_title(one.metric),
            before=readable.number(one.metric_before),
            after=readable.number(one.metric_after),
            change=f"{readable.number(one.metric_change.value)} {readable.bounds(one.metric_change.interval)}",
            row=_times((one.latency or {}).get("row")),
            batch=_times((one.latency or {}).get("batch")),
        )
        for one in records
    ]


def _times(found: TimesRecord | None) -> str:
    if found is None:
        return MISSING
    several = f" ({readable.count(found.rows)} rows)" if found.rows > 1 else ""
    return f"{readable.latency(found.before)} → {readable.latency(found.after)}{several}"
