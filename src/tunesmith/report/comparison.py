"""The table that sets several runs side by side, each task and main metric on an axis of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith import readable
from tunesmith.readable import MISSING, Verdict, metric_title
from tunesmith.report.facts import Fact, trained_share
from tunesmith.report.load import RunRecord
from tunesmith.report.records import Baseline
from tunesmith.report.results import BASELINE_COLOUR, MODEL_COLOUR, verdict_of
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers
from tunesmith.report.titles import method_title, model_title, task_name, task_title


@dataclass(frozen=True, slots=True)
class Cost:
    """A number of the table with the value it is sorted by."""

    text: str
    sort: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One run, or what runs were judged against."""

    name: str
    link: str
    method: str
    model: str
    parameters: Cost
    value: str
    bounds: str
    sort: float
    strip: Markup
    verdict: Verdict | None
    seconds: Cost
    memory: Cost
    saved: Cost
    is_baseline: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs that share a task and a main metric."""

    title: str
    metric: str
    interval_name: str
    rows: Sequence[ComparisonRow]
    axis: Markup
    rival: str
    """What the runs were judged against, in a sentence."""
    warnings: Sequence[str]


def compare(records: Sequence[RunRecord], names: Sequence[str], keys: Sequence[str]) -> list[Comparison]:
    """Group runs by task and main metric, in the order given, and lay each group out as a table.

    A run without an evaluation stands with the others of its task.
    """
    metrics = [(record.evaluation.main_metric if record.evaluation else None) or "" for record in records]
    tasks = [task_name(record) for record in records]
    groups: dict[tuple[str, str], list[int]] = {}
    for index, task in enumerate(tasks):
        alike = (other for i, other in enumerate(metrics) if other and tasks[i] == task)
        groups.setdefault((task, metrics[index] or next(alike, "")), []).append(index)
    return [
        _comparison(metric, [(records[i], names[i], keys[i]) for i in chosen]) for (_, metric), chosen in groups.items()
    ]


def _comparison(metric: str, runs: Sequence[tuple[RunRecord, str, str]]) -> Comparison:
    judged = [record for record, _, _ in runs if record.evaluation and record.evaluation.metrics]
    evaluations = [record.evaluation for record in judged if record.evaluation]
    baselines = _baselines(judged, metric)
    ends = [evaluation.metrics[metric].interval for evaluation in evaluations]
    ends += [baseline.metrics[metric].interval for baseline, _ in baselines]
    domain = whisker_domain(ends, floor=0.0 if readable.is_fraction(metric) else None)
    rows = [_row(record, name, key, metric, domain) for record, name, key in runs]
    rows += [_baseline_row(baseline, model, metric, domain) for baseline, model in baselines]
    is_untuned = bool(baselines) and all(baseline.name == readable.UNTUNED for baseline, _ in baselines)
    higher = readable.is_higher_better(metric, evaluations[0].higher_is_better if evaluations else None)
    return Comparison(
        title=next((task_title(record) for record in judged), task_title(runs[0][0])),
        metric=(metric_title(metric) + ("" if higher else " (lower is better)")) if metric else "Not evaluated yet",
        interval_name=f"{readable.percent(evaluations[0].confidence)} interval" if evaluations else "",
        rows=rows,
        axis=whisker_axis(domain) if ends else Markup(""),
        rival="the model before fine-tuning" if is_untuned else "the baseline",
        warnings=_warnings([record for record, _, _ in runs]),
    )


def _baselines(records: Sequence[RunRecord], metric: str) -> list[tuple[Baseline, str]]:
    """Return each distinct baseline once (runs on the same data share it), with its model where that is the run's."""
    distinct: dict[tuple[str, float], tuple[Baseline, str]] = {}
    for record in records:
        baseline = record.evaluation.baseline if record.evaluation else None
        if baseline and metric in baseline.metrics:
            model = model_title(record) if baseline.name == readable.UNTUNED else ""
            distinct.setdefault((baseline.name, round(baseline.metrics[metric].value, 9)), (baseline, model))
    return list(distinct.values())


def _warnings(records: Sequence[RunRecord]) -> list[str]:
    """Say when the runs were not tested on the same rows, so that their numbers do not compare."""
    tests = set()
    for record in records:
        hashes = record.environment.data.get("hashes") if record.environment else None
        split = record.evaluation.split if record.evaluation else "test"
        if record.evaluation and isinstance(hashes, dict) and hashes.get(split):
            tests.add(str(hashes[split]))
    sizes = {
        record.evaluation.num_rows
        for record in records
        if record.evaluation and math.isfinite(record.evaluation.num_rows)
    }
    if len(tests) > 1 or len(sizes) > 1:
        return ["These runs were tested on different rows: their numbers cannot be compared with each other."]
    return []


def _row(record: RunRecord, name: str, key: str, metric: str, domain: tuple[float, float]) -> ComparisonRow:
    training, evaluation = record.training, record.evaluation
    estimate = evaluation.metrics[metric].interval if evaluation and metric in evaluation.metrics else None
    share: Fact = trained_share(record)
    seconds = training.seconds if training else math.nan
    memory = training.peak_memory_bytes if training else math.nan
    saved = training.saved_bytes if training else math.nan
    return ComparisonRow(
        name=name,
        link=f"#{key}",
        method=method_title(record),
        model=model_title(record),
        parameters=Cost(share.value, training.num_trained_parameters if training else math.nan, share.note),
        value=readable.number(estimate.value) if estimate else "not evaluated",
        bounds=readable.bounds(estimate) if estimate else "",
        sort=estimate.value if estimate else math.nan,
        strip=whiskers([Whisker(name, estimate, MODEL_COLOUR)], domain) if estimate else Markup(""),
        verdict=verdict_of(evaluation, metric) if evaluation and estimate else None,
        seconds=Cost(readable.duration(seconds), seconds),
        memory=Cost(readable.size(memory), memory),
        saved=Cost(readable.size(saved), saved),
    )


def _baseline_row(baseline: Baseline, model: str, metric: str, domain: tuple[float, float]) -> ComparisonRow:
    estimate = baseline.metrics[metric].interval
    return ComparisonRow(
        name=baseline.name,
        link="",
        method="none" if baseline.name == readable.UNTUNED else "baseline",
        model=model,
        parameters=Cost(readable.compact(baseline.num_parameters), baseline.num_parameters),
        value=readable.number(estimate.value),
        bounds=readable.bounds(estimate),
        sort=estimate.value,
        strip=whiskers([Whisker(baseline.name, estimate, BASELINE_COLOUR)], domain),
        verdict=None,
        seconds=_baseline_time(baseline),
        memory=Cost(MISSING, math.nan),
        saved=Cost(MISSING, math.nan),
        is_baseline=True,
    )


def _baseline_time(baseline: Baseline) -> Cost:
    seconds = math.nan if baseline.name == readable.UNTUNED else baseline.seconds  # nothing was trained
    return Cost(readable.duration(seconds), seconds)
