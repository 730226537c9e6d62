"""What the files of a study say of it: the table of a contest, while it goes on and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.readable import is_fraction, metric_title
from tunesmith.studio.found import Found, changed, id_of, read_mapping
from tunesmith.studio.jobs import Jobs
from tunesmith.studio.runs import finite_json, state_of

COSTS = ("seconds", "peak_memory", "trained_parameters", "size", "latency")


def line_of_study(found: Found, jobs: Jobs) -> dict[str, Any]:
    """Return a study as the list shows it."""
    record = read_mapping(found.folder / "study.json")
    state = state_of(found, jobs)
    if state == "stopped" and record.get("status") == "finished":
        state = "finished"
    methods = [str(one.get("name")) for one in record.get("methods") or [] if isinstance(one, dict)]
    return {
        "id": found.id,
        "kind": "study",
        "name": found.name,
        "state": state,
        "changed": changed(found.folder),
        "study": str(record.get("kind") or "contest"),
        "methods": methods,
        "verdict": str(record.get("verdict") or ""),
    }


def facts_of_study(found: Found, jobs: Jobs) -> dict[str, Any]:
    """Return everything that the page of a study shows."""
    record = read_mapping(found.folder / "study.json")
    metric = str(record.get("metric") or "")
    comparisons = {one.get("method"): one for one in record.get("comparisons") or [] if isinstance(one, dict)}
    job = jobs.latest(found.folder, "compare")
    return line_of_study(found, jobs) | finite_json(
        {
            "folder": str(found.folder),
            "metric": metric,
            "title": metric_title(metric) if metric else "",
            "is_share": is_fraction(metric),
            "higher_is_better": bool(record.get("higher_is_better", True)),
            "reference": record.get("reference"),
            "lines": [
                _line(found, one, comparisons.get(one.get("name")))
                for one in record.get("methods") or []
                if isinstance(one, dict)
            ],
            "tuning": len(record.get("tuning") or []),
            "notes": [str(note) for note in record.get("notes") or []],
            "seconds": record.get("seconds"),
            "has_report": (found.folder / "report.html").is_file(),
            "job": None if job is None else jobs.to_json(job),
        }
    )


def _line(found: Found, method: Mapping[str, Any], beside: Mapping[str, Any] | None) -> dict[str, Any]:
    runs = [one for one in method.get("runs") or [] if isinstance(one, dict)]
    return {
        **{name: method.get(name) for name in ("name", "state", "reason", "mean", "low", "high", "learning_rate")},
        **{name: method.get(name) for name in COSTS},
        "verdict": None if beside is None else beside.get("verdict"),
        "runs": [
            {
                **{name: run.get(name) for name in ("seed", "state", "value", "reason")},
                "id": id_of(f"{found.name}/{run['folder']}") if isinstance(run.get("folder"), str) else None,
            }
            for run in runs
        ],
    }
