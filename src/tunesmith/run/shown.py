"""A finished run as a notebook shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.publish.in_notebooks import block
from tunesmith.readable import bounds, compact, count, duration, metric_title, number
from tunesmith.types import Interval


def run_html(
    title: str, summary: Mapping[str, Any], judged: Mapping[str, Any] | None, *, page: Path, folder: Path
) -> str:
    """Return what a run is, what it took and what it reached, as HTML.

    ``summary`` and ``judged`` are the contents of ``training.json`` and ``evaluation.json``.
    """
    rows = list(_metrics(judged)) if judged is not None else []
    on = f" on {count(judged['num_rows'])} {judged['split']} rows" if judged is not None else ""
    return block(
        title,
        said="" if judged is not None else "Nothing says how good it is: there were no rows to judge it on.",
        facts=_facts(summary),
        rows=[{("metric" + on if name == "metric" else name): cell for name, cell in row.items()} for row in rows],
        page=page,
        folder=folder,
    )


def _facts(summary: Mapping[str, Any]) -> dict[str, str]:
    rows = ", ".join(f"{count(number_)} {split}" for split, number_ in (summary.get("rows") or {}).items())
    trained = summary.get("num_trained_parameters")
    found = {
        "rows": rows,
        "steps": count(summary["steps"]) if summary.get("steps") is not None else "",
        "trained": f"{compact(trained)} parameters" if trained is not None else "",
        "time": duration(summary["seconds"]) if summary.get("seconds") is not None else "",
    }
    return {name: value for name, value in found.items() if value}


def _metrics(judged: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield a row for every metric, the main one first, beside the rival's where there is one."""
    main = judged.get("main_metric")
    rival = judged.get("baseline") or {}
    for name in sorted(judged["metrics"], key=lambda one: one != main):
        values = judged["metrics"][name]
        if values.get("value") is None:
            continue
        row = {"metric": metric_title(name), "value": number(values["value"]), "interval": bounds(_estimate(values))}
        if rival:
            other = (rival.get("metrics") or {}).get(name) or {}
            row[str(rival.get("name", "rival"))] = number(other.get("value"))
        yield row


def _estimate(values: Mapping[str, Any]) -> Interval:
    low, high = (math.nan if values.get(end) is None else float(values[end]) for end in ("low", "high"))
    return Interval(float(values["value"]), low, high)
