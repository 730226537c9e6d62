"""What the files of a run say of it, while it goes on and afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tunesmith.files.jsons import finite
from tunesmith.readable import is_fraction, metric_title
from tunesmith.studio.found import Found, changed, is_finished, process_at, read_mapping
from tunesmith.studio.jobs import Jobs

State = Literal["starting", "running", "finished", "stopped", "failed"]
RECENT = 50
"""Steps whose pace says how long the others will take."""
MOST_LINES = 5000
"""Lines of a run's metrics that one answer holds."""
FAVOURITES = ("accuracy", "subset_accuracy", "macro_f1", "micro_f1", "r2", "spearman", "mae", "perplexity")
"""Metrics that are drawn first, as far as a run has them."""


def state_of(found: Found, jobs: Jobs) -> State:
    """Say where a run stands, by its files and by whether its process lives."""
    if process_at(found.folder) is not None:
        return "running"
    job = jobs.latest(found.folder, "train", "compare")
    if job is not None and jobs.is_alive(job):
        has_begun = (found.folder / "metrics.jsonl").exists() or (found.folder / "study.json").exists()
        return "running" if has_begun else "starting"
    if is_finished(found.folder):
        return "finished"
    if job is not None and jobs.exit_status(job) not in (None, 0, 143, 130):
        return "failed"
    return "stopped"


def line_of(found: Found, jobs: Jobs) -> dict[str, Any]:
    """Return a run as the list shows it."""
    return {
        "id": found.id,
        "kind": found.kind,
        "name": found.name,
        "state": state_of(found, jobs),
        "changed": changed(found.folder),
        **_what_files_say(found.folder, _stamps(found.folder)),
    }


@lru_cache(maxsize=1000)
def _what_files_say(folder: Path, stamps: tuple[int, ...]) -> dict[str, Any]:
    """Return what a run is; read again only when one of its files was written anew (``stamps``)."""
    del stamps
    config = read_config(folder)
    return finite_json(
        {
            "model": _name(config.get("model")),
            "data": _name(config.get("data"), "path"),
            "task": _name(config.get("task")),
            "method": _name(config.get("method")),
            "headline": headline(read_mapping(folder / "evaluation.json")),
            "seconds": read_mapping(folder / "training.json").get("seconds"),
        }
    )


def _stamps(folder: Path) -> tuple[int, ...]:
    found = []
    for name in ("config.yaml", "evaluation.json", "training.json"):
        try:
            found.append((folder / name).stat().st_mtime_ns)
        except OSError:
            found.append(0)
    return tuple(found)


def facts_of(found: Found, jobs: Jobs) -> dict[str, Any]:
    """Return everything that the page of a run shows at once."""
    evaluation, training = (read_mapping(found.folder / f"{name}.json") for name in ("evaluation", "training"))
    config = read_config(found.folder)
    job = jobs.latest(found.folder, "train", "compare")
    columns = _section(config, "data").get("columns") or {}
    return line_of(found, jobs) | finite_json(
        {
            "folder": str(found.folder),
            "columns": columns,
            "metrics": metrics_of(evaluation),
            "training": {
                name: training.get(name)
                for name in (
                    "status",
                    "steps",
                    "epochs",
                    "best_step",
                    "num_parameters",
                    "num_trained_parameters",
                    "peak_memory_bytes",
                    "tokens_per_second",
                    "saved_bytes",
                )
            },
            "problems": [
                {name: str(one.get(name, "")) for name in ("severity", "message", "fix")}
                for one in training.get("problems", [])
                if isinstance(one, dict)
            ],
            "rows": training.get("rows") or {},
            "has_report": (found.folder / "report.html").is_file(),
            "job": None if job is None else jobs.to_json(job),
        }
    )


def headline(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the main figure of a run with its interval, and that of what it had to beat."""
    name = evaluation.get("main_metric")
    value = _value(evaluation.get("metrics"), name)
    if value is None:
        return None
    baseline = evaluation.get("baseline") or {}
    return {
        "name": name,
        "title": metric_title(str(name)),
        "is_share": is_fraction(str(name)),
        **value,
        "rival": baseline.get("name"),
        "rival_value": (_value(baseline.get("metrics"), name) or {}).get("value"),
        "rows": evaluation.get("num_rows"),
        "split": evaluation.get("split"),
    }


def metrics_of(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every figure with its interval, and what it had to beat."""
    rival = (evaluation.get("baseline") or {}).get("metrics")
    found = []
    for name in evaluation.get("metrics") or {}:
        value = _value(evaluation["metrics"], name)
        if value is not None:
            beside = (_value(rival, name) or {}).get("value")
            found.append({"name": name, "title": metric_title(name), **value, "rival_value": beside})
    return found


def progress_of(found: Found, after: int, jobs: Jobs) -> dict[str, Any]:
    """Return what a run has written to its metrics from byte ``after`` on, and how long the rest will take."""
    steps, checks, place = read_metrics(found.folder / "metrics.jsonl", after)
    process = process_at(found.folder)
    total = total_steps(found.folder, steps)
    left = None
    if process is not None and steps and total is not None:
        recent = [float(one.get("seconds") or 0.0) for one in steps[-RECENT:]]
        left = max(total - int(steps[-1]["step"]), 0) * sum(recent) / len(recent)
    job = jobs.latest(found.folder, "train", "compare")
    return finite_json(
        {
            "state": state_of(found, jobs),
            "next": place,
            "steps": [_short(one) for one in steps],
            "checks": checks,
            "titles": _titles(checks),
            "total_steps": total,
            "seconds_left": left,
            "memory": None if process is None else process.memory,
            "doing": _doing(jobs.stderr(job)) if job is not None else "",
        }
    )


def read_metrics(path: Path, after: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Return steps and evaluations of whole lines from byte ``after`` on, and the byte to go on from.

    A file that is shorter than that was cut by a run that went on from a checkpoint: it is read from its beginning.
    """
    steps: list[dict[str, Any]] = []
    checks: list[dict[str, Any]] = []
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            place = after if 0 <= after <= size else 0
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n") or len(steps) + len(checks) >= MOST_LINES:
                    break
                place += len(line)
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and isinstance(record.get("step"), int):
                    (steps if record.get("kind") == "step" else checks).append(record)
    except OSError:
        return [], [], 0
    return steps, checks, place


def total_steps(folder: Path, steps: Sequence[Mapping[str, Any]]) -> int | None:
    """Return how many steps a run is going to make at most, by its epochs; None where nothing says so."""
    train = _section(read_config(folder), "train")
    most, epochs = train.get("max_steps"), train.get("epochs")
    found = [most] if isinstance(most, int) else []
    if isinstance(epochs, (int, float)) and steps and steps[-1].get("epoch"):
        found.append(math.ceil(round(steps[-1]["step"] / steps[-1]["epoch"] * epochs, 3)))
    return min(found) if found else None


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return ``config.yaml`` as plain values; an empty mapping where it is missing or damaged."""
    return _parsed_config(folder, _stamps(folder)[0])


@lru_cache(maxsize=100)
def _parsed_config(folder: Path, stamp: int) -> Mapping[str, Any]:
    import yaml

    del stamp
    try:
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def finite_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with null for numbers that JSON does not have."""
    found: dict[str, Any] = finite(values)
    return found


def _short(step: Mapping[str, Any]) -> dict[str, Any]:
    names = ("step", "epoch", "loss", "learning_rate", "gradient_norm", "num_tokens", "seconds", "skipped")
    return {name: step.get(name) for name in names}


def _titles(checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the metrics of evaluations with what people call them, those that say most first."""
    names = list(dict.fromkeys(name for one in checks for name in one.get("metrics") or {}))
    first = [name for name in FAVOURITES if name in names]
    return {name: metric_title(name) for name in (*first, *(name for name in names if name not in first))}


def _doing(log: str) -> str:
    """Return the last thing that a command said it was working on."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _value(metrics: Any, name: Any) -> dict[str, Any] | None:
    found = metrics.get(name) if isinstance(metrics, dict) else None
    if isinstance(found, (int, float)):
        return {"value": found, "low": None, "high": None}
    return {key: found.get(key) for key in ("value", "low", "high")} if isinstance(found, dict) else None


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _name(section: Any, key: str = "name") -> str:
    found = section.get(key) if isinstance(section, dict) else section
    return "" if found is None else str(found)
