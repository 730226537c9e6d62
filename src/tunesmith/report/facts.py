"""Facts about a run, each a name with its value: what it cost, how it was trained, where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith import readable
from tunesmith.readable import MISSING
from tunesmith.report.load import RunRecord
from tunesmith.report.records import Training


@dataclass(frozen=True, slots=True)
class Fact:
    """A name with its value, and small print."""

    name: str
    value: str
    note: str = ""


def trained_share(record: RunRecord) -> Fact:
    """Return trained parameters of all: ``738k of 22.7M``, ``3.2%``."""
    training = record.training
    if training is None or not math.isfinite(training.num_trained_parameters):
        return Fact("Trained parameters", MISSING)
    trained, total = training.num_trained_parameters, training.num_parameters
    if not math.isfinite(total) or total <= 0:
        return Fact("Trained parameters", readable.compact(trained))
    if trained == total:
        return Fact("Trained parameters", readable.compact(trained), "all of them")
    share = readable.percent(trained / total)
    return Fact("Trained parameters", readable.compact(trained), f"{share} of {readable.compact(total)}")


def tiles(record: RunRecord) -> list[Fact]:
    """Return the few facts that stand under the headline."""
    training, evaluation = record.training, record.evaluation
    found: list[Fact] = []
    if training is not None:
        throughput = training.rows_per_second
        found.append(
            Fact(
                "Training time",
                readable.duration(training.seconds),
                f"{readable.number(throughput)} rows/s" if math.isfinite(throughput) else "",
            )
        )
        found.append(Fact("Peak memory", readable.size(training.peak_memory_bytes)))
        found.append(trained_share(record))
        found.append(Fact("Saved size", readable.size(training.saved_bytes)))
    if evaluation is not None and math.isfinite(evaluation.num_rows):
        found.append(Fact(f"{evaluation.split.capitalize()} rows", readable.count(evaluation.num_rows)))
    return found


def training_facts(record: RunRecord) -> list[Fact]:
    """Return how the training ended, and which step was kept."""
    training = record.training
    if training is None:
        return []
    facts = [
        Fact("Status", training.status),
        Fact("Steps", readable.count(training.steps)),
        Fact("Epochs", readable.number(training.epochs, decimals=2).removesuffix(".00")),
    ]
    if math.isfinite(training.best_step):
        best = training.best_metric
        note = f"validation {readable.metric_phrase(best.name)} {readable.number(best.value)}" if best else ""
        facts.append(Fact("Kept step", readable.count(training.best_step), note))
    return facts


def cost_facts(record: RunRecord) -> list[Fact]:
    """Return what the training took, and what it left."""
    training = record.training
    if training is None:
        return []
    share = trained_share(record)
    facts = [
        Fact("Training time", readable.duration(training.seconds), _predicted_time(training)),
        Fact("Tokens per second", readable.count(training.tokens_per_second)),
        Fact("Rows per second", readable.number(training.rows_per_second)),
        Fact("Tokens seen", readable.compact(training.tokens)),
        Fact("Peak memory", readable.size(training.peak_memory_bytes), _predicted_memory(training)),
        share,
        Fact("Saved size", readable.size(training.saved_bytes)),
    ]
    facts += _compression(training.compression)
    if training.layout:
        facts.append(Fact("Batch layout", training.layout))
    if training.precision:
        facts.append(Fact("Precision", training.precision))
    baseline = record.evaluation.baseline if record.evaluation else None
    if baseline and baseline.name != readable.UNTUNED and math.isfinite(baseline.seconds):
        size = baseline.num_parameters
        note = f"{readable.compact(size)} parameters" if math.isfinite(size) else ""
        facts.append(Fact("Baseline time", readable.duration(baseline.seconds), note))
    return facts


def _predicted_time(training: Training) -> str:
    """Return what a run said beforehand of its time."""
    found = training.predicted
    if found is None or not math.isfinite(found.seconds):
        return ""
    whole = "" if training.status == "finished" else " for all steps"
    return f"predicted: {readable.duration(found.seconds)}{whole}, {found.how}"


def _predicted_memory(training: Training) -> str:
    found = training.predicted
    if found is None or not math.isfinite(found.peak_memory):
        return ""
    return f"predicted: {readable.size(found.peak_memory)}"


def _compression(measured: Mapping[str, Mapping[str, float]]) -> list[Fact]:
    """Return what a compressed model cost before and after."""
    before, after = measured.get("before", {}), measured.get("after", {})
    if not before or not after:
        return []
    shown = {
        "Parameters": ("parameters", readable.compact),
        "Size of the weights": ("bytes", readable.size),
        "Rows scored per second": ("rows_per_second", readable.number),
    }
    return [
        Fact(name, form(after.get(key, math.nan)), f"{form(before.get(key, math.nan))} before compression")
        for name, (key, form) in shown.items()
    ]


def _plain(value: Any, name: str = "") -> str:
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return readable.size(value) if name.endswith("_bytes") else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value) or MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or MISSING
    return str(value)


def _facts(values: Mapping[str, Any]) -> list[Fact]:
    facts: list[Fact] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            facts += [Fact(f"{_title(name)}: {key}", _plain(item, str(key))) for key, item in value.items()]
        else:
            facts.append(Fact(_title(name), _plain(value, name)))
    return facts


def _title(name: str) -> str:
    words = name.removesuffix("_bytes").removeprefix("num_").replace("_", " ")
    return words[:1].upper() + words[1:]


def environment_sections(record: RunRecord) -> list[tuple[str, Sequence[Fact]]]:
    """Return what the run was made with, section by section."""
    environment = record.environment
    if environment is None:
        return []
    when: dict[str, Any] = {"started": environment.started, "finished": environment.finished, "seed": environment.seed}
    when |= {f"git {key}": value for key, value in (environment.git or {}).items()}
    sections = [
        ("Run", _facts({key: value for key, value in when.items() if value not in ("", None)})),
        ("Machine", _facts(environment.machine)),
        ("Versions", [Fact(name, _plain(value)) for name, value in environment.versions.items()]),
        (
            "Sources",
            _facts(
                {f"model {k}": v for k, v in environment.model.items()}
                | {f"data {k}": v for k, v in environment.data.items()}
                | {f"teacher {k}": v for k, v in environment.teacher.items()}
            ),
        ),
    ]
    return [(title, facts) for title, facts in sections if facts]
