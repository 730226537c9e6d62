"""What the page says about one run, in finished words: templates only lay it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from tunesmith import readable
from tunesmith.readable import MISSING, Verdict, metric_title
from tunesmith.report.errors import Confusion, LabelRow, WrongRow, confusion, label_rows, wrong_row
from tunesmith.report.figures import Figure, curve_figures, regression_figures, training_figures
from tunesmith.report.load import RunRecord
from tunesmith.report.records import Evaluation, ProblemRecord
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers
from tunesmith.types import Interval

MODEL_COLOUR, BASELINE_COLOUR = 0, -1
TASK_TITLES = {
    "classification": "Text classification",
    "regression": "Text regression",
    "token_classification": "Token classification",
}
SECTIONS = ("results", "training", "validation", "confusion", "mistakes", "cost", "config", "environment")
GOOD_ENDS = ("finished", "stopped early")


@dataclass(frozen=True, slots=True)
class Fact:
    """A name with its value, and small print."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of the model and of the baseline."""

    title: str
    strip: Markup
    value: str
    bounds: str
    baseline: str
    baseline_bounds: str
    verdict: Verdict | None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """Metrics that share an axis; ``axis`` is empty where each has its own."""

    rows: Sequence[MetricRow]
    axis: Markup


@dataclass(frozen=True, slots=True)
class Headline:
    """The main metric against the baseline."""

    metric: str
    value: str
    bounds: str
    verdict: Verdict | None
    strips: Sequence[tuple[str, Markup, str]]
    axis: Markup
    footnote: str


@dataclass(frozen=True, slots=True)
class RunView:
    """All that the page says about one run."""

    key: str
    name: str
    title: str
    eyebrow: str
    notices: Sequence[str]
    headline: Headline | None
    tiles: Sequence[Fact]
    metrics: Sequence[MetricGroup]
    baseline_name: str
    interval_name: str
    training: Sequence[Figure]
    training_facts: Sequence[Fact]
    confusion: Confusion | None
    curves: Sequence[Figure]
    labels: Sequence[LabelRow]
    label_axis: Markup
    mistakes: Sequence[WrongRow]
    is_regression: bool
    cost: Sequence[Fact]
    split_rows: Sequence[Fact]
    columns: Sequence[tuple[str, str, str]]
    problems: Sequence[ProblemRecord]
    config_text: str
    environment: Sequence[tuple[str, Sequence[Fact]]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Section -> sentence that says why it is empty; empty where it is not."""


def short_name(name: str) -> str:
    """Return the last part of a path, and other names as they are."""
    looks_like_path = name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1
    return PurePath(name.replace("\\", "/")).name or name if looks_like_path else name


def method_title(record: RunRecord) -> str:
    """Return the method in words: ``LoRA (rank 16)``, ``full fine-tuning``."""
    name = record.setting("method", "name")
    if not name:
        return MISSING
    if name == "lora":
        rank = record.setting("method", "rank")
        return f"LoRA (rank\N{NO-BREAK SPACE}{rank})" if rank else "LoRA"
    return {"full": "Full fine-tuning", "freeze": "Frozen body"}.get(str(name), str(name))


def model_title(record: RunRecord) -> str:
    """Return the model's name without the folders before it."""
    name = str(record.setting("model", "name", "") or "")
    return {"lstm": "LSTM from scratch", "cnn": "CNN from scratch"}.get(name, short_name(name) if name else "model")


def data_title(record: RunRecord) -> str:
    """Return the data's file name or hub name; empty when it is not known."""
    path = record.setting("data", "path")
    if not path and record.environment:
        path = record.environment.data.get("source")
    if isinstance(path, list):
        path = path[0] if path else None
    if not path:
        return ""
    is_named = str(path).startswith(("hub:", "sample:"))
    return str(path) if is_named else PurePath(str(path).replace("\\", "/")).name


def task_title(record: RunRecord) -> str:
    """Return the task in words: ``Text classification``."""
    name = str(record.setting("task", "name") or (record.evaluation.task if record.evaluation else "") or "")
    return TASK_TITLES.get(name, name.replace("_", " ").capitalize() or "Run")


def is_multi_label(record: RunRecord) -> bool:
    """Say whether rows may have several labels."""
    return record.setting("task", "multi_label") is True


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


def build_view(record: RunRecord, name: str, key: str) -> RunView:
    """Put one run into words and drawings; ``key`` prefixes the page's anchors."""
    evaluation = record.evaluation
    title = " on ".join(part for part in (model_title(record), data_title(record)) if part)
    is_regression = bool(evaluation and (evaluation.scatter or evaluation.residuals or evaluation.task == "regression"))
    labels, label_axis = label_rows(evaluation) if evaluation else ((), Markup(""))
    training = record.training
    return RunView(
        key=key,
        name=name,
        title=title,
        eyebrow=" · ".join(part for part in (task_title(record), method_title(record)) if part != MISSING),
        notices=_notices(record),
        headline=_headline(evaluation) if evaluation else None,
        tiles=_tiles(record),
        metrics=metric_groups(evaluation) if evaluation else (),
        baseline_name=evaluation.baseline.name if evaluation and evaluation.baseline else "",
        interval_name=_interval_name(evaluation) if evaluation else "",
        training=training_figures(record),
        training_facts=_training_facts(record),
        confusion=confusion(evaluation) if evaluation else None,
        curves=[*curve_figures(evaluation.curves, multi_label=is_multi_label(record)), *regression_figures(evaluation)]
        if evaluation
        else (),
        labels=labels,
        label_axis=label_axis,
        mistakes=[wrong_row(mistake, is_regression) for mistake in evaluation.mistakes] if evaluation else (),
        is_regression=is_regression,
        cost=_cost(record),
        split_rows=[Fact(s, readable.count(n)) for s, n in training.rows.items()] if training else (),
        columns=[(c.role, c.column, c.reason) for c in training.columns] if training else (),
        problems=_by_severity(training.problems) if training else (),
        config_text=record.config_text,
        environment=_environment(record),
        missing=_missing(record, is_regression),
    )


def _by_severity(problems: Sequence[ProblemRecord]) -> list[ProblemRecord]:
    order = {"error": 0, "warning": 1}
    return sorted(problems, key=lambda problem: order.get(problem.severity, 2))


def _notices(record: RunRecord) -> list[str]:
    training = record.training
    if training is None:
        done = f" {readable.count(len(record.steps))} steps are recorded." if record.steps else ""
        return [f"Training has not ended, or was cut off: there is no training.json yet.{done}"]
    if training.status not in GOOD_ENDS:
        after = f" after {readable.count(training.steps)} steps" if math.isfinite(training.steps) else ""
        return [f"Training did not finish: its status is “{training.status}”{after}."]
    return []


def _missing(record: RunRecord, is_regression: bool) -> dict[str, str]:
    """Say, by section, what is not there and why."""
    missing = dict.fromkeys(SECTIONS, "")
    evaluation = record.evaluation
    if evaluation is None:
        missing["results"] = "This run has not been evaluated yet: there is no evaluation.json."
    elif not evaluation.metrics:
        missing["results"] = "The evaluation holds no metrics."
    if not record.steps:
        missing["training"] = "No training steps are recorded: metrics.jsonl is missing or has none."
    if not record.checks:
        missing["validation"] = "No validation is recorded: the run had no validation rows, or was cut off before."
    if evaluation and not is_regression and not evaluation.confusion_matrix:
        missing["confusion"] = (
            "With several labels a row there is no confusion matrix: see the scores by label."
            if is_multi_label(record)
            else "The evaluation holds no confusion matrix."
        )
    if evaluation and not evaluation.mistakes:
        missing["mistakes"] = f"No mistakes on the {evaluation.split} rows."
    if record.training is None:
        missing["cost"] = "Cost is recorded when training ends; there is no training.json yet."
    if not record.config_text:
        missing["config"] = "There is no config.yaml."
    if record.environment is None:
        missing["environment"] = "There is no environment.json."
    return missing


def _interval_name(evaluation: Evaluation) -> str:
    return f"{readable.percent(evaluation.confidence)} interval"


def _footnote(evaluation: Evaluation) -> str:
    resamples = evaluation.num_resamples
    how = f" from {readable.count(resamples)} bootstrap resamples" if math.isfinite(resamples) else ""
    rows = (
        f" of {readable.count(evaluation.num_rows)} {evaluation.split} rows"
        if math.isfinite(evaluation.num_rows)
        else f" of the {evaluation.split} rows"
    )
    return f"{_interval_name(evaluation)}s in brackets{how}{rows}."


def verdict_of(evaluation: Evaluation, name: str) -> Verdict | None:
    """Judge the paired difference from the baseline; ``None`` where none was recorded."""
    difference = evaluation.difference.get(name)
    if difference is None or evaluation.baseline is None:
        return None
    return readable.judge(
        name,
        difference.interval,
        higher_is_better=readable.is_higher_better(name, evaluation.higher_is_better),
        confidence=evaluation.confidence,
    )


def _floor(name: str) -> float | None:
    return 0.0 if readable.is_fraction(name) else None


def _headline(evaluation: Evaluation) -> Headline | None:
    name = evaluation.main_metric
    if name is None:
        return None
    model = evaluation.metrics[name].interval
    lines = [Whisker("this run", model, MODEL_COLOUR)]
    baseline = evaluation.baseline
    if baseline and name in baseline.metrics:
        lines.append(Whisker(baseline.name, baseline.metrics[name].interval, BASELINE_COLOUR))
    domain = whisker_domain([line.estimate for line in lines], floor=_floor(name))
    return Headline(
        metric=metric_title(name),
        value=readable.number(model.value),
        bounds=readable.bounds(model),
        verdict=verdict_of(evaluation, name),
        strips=[
            (line.name[:1].upper() + line.name[1:], whiskers([line], domain), readable.interval(line.estimate))
            for line in lines
        ],
        axis=whisker_axis(domain),
        footnote=_footnote(evaluation),
    )


def metric_groups(evaluation: Evaluation) -> list[MetricGroup]:
    """Return the metrics: shares of 1 on one axis, each of the others on its own."""
    names = [name for name, estimate in evaluation.metrics.items() if math.isfinite(estimate.value)]
    baseline = evaluation.baseline.metrics if evaluation.baseline else {}
    shared = [name for name in names if readable.is_fraction(name)]
    others = [name for name in names if name not in shared]
    groups: list[MetricGroup] = []
    if shared:
        ends = [source[name].interval for name in shared for source in (evaluation.metrics, baseline) if name in source]
        domain = whisker_domain(ends, floor=0.0)
        groups.append(MetricGroup([_metric_row(evaluation, name, domain) for name in shared], whisker_axis(domain)))
    if others:
        rows = []
        for name in others:
            ends = [source[name].interval for source in (evaluation.metrics, baseline) if name in source]
            rows.append(_metric_row(evaluation, name, whisker_domain(ends)))
        groups.append(MetricGroup(rows, Markup("")))
    return groups


def _metric_row(evaluation: Evaluation, name: str, domain: tuple[float, float]) -> MetricRow:
    model = evaluation.metrics[name].interval
    lines = [Whisker("This run", model, MODEL_COLOUR)]
    baseline: Interval | None = None
    if evaluation.baseline and name in evaluation.baseline.metrics:
        baseline = evaluation.baseline.metrics[name].interval
        lines.append(Whisker(evaluation.baseline.name, baseline, BASELINE_COLOUR))
    higher = readable.is_higher_better(name, evaluation.higher_is_better)
    return MetricRow(
        title=metric_title(name),
        strip=whiskers(lines, domain, grid=4 if readable.is_fraction(name) else 0),
        value=readable.number(model.value),
        bounds=readable.bounds(model),
        baseline=readable.number(baseline.value) if baseline else MISSING,
        baseline_bounds=readable.bounds(baseline) if baseline else "",
        verdict=verdict_of(evaluation, name),
        hint="" if higher else "lower is better",
    )


def _tiles(record: RunRecord) -> list[Fact]:
    training, evaluation = record.training, record.evaluation
    tiles: list[Fact] = []
    if training is not None:
        throughput = training.rows_per_second
        tiles.append(
            Fact(
                "Training time",
                readable.duration(training.seconds),
                f"{readable.number(throughput)} rows/s" if math.isfinite(throughput) else "",
            )
        )
        tiles.append(Fact("Peak memory", readable.size(training.peak_memory_bytes)))
        tiles.append(trained_share(record))
        tiles.append(Fact("Saved size", readable.size(training.saved_bytes)))
    if evaluation is not None and math.isfinite(evaluation.num_rows):
        tiles.append(Fact(f"{evaluation.split.capitalize()} rows", readable.count(evaluation.num_rows)))
    return tiles


def _training_facts(record: RunRecord) -> list[Fact]:
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


def _cost(record: RunRecord) -> list[Fact]:
    training = record.training
    if training is None:
        return []
    share = trained_share(record)
    facts = [
        Fact("Training time", readable.duration(training.seconds)),
        Fact("Tokens per second", readable.count(training.tokens_per_second)),
        Fact("Rows per second", readable.number(training.rows_per_second)),
        Fact("Tokens seen", readable.compact(training.tokens)),
        Fact("Peak memory", readable.size(training.peak_memory_bytes)),
        share,
        Fact("Saved size", readable.size(training.saved_bytes)),
    ]
    if training.layout:
        facts.append(Fact("Batch layout", training.layout))
    if training.precision:
        facts.append(Fact("Precision", training.precision))
    baseline = record.evaluation.baseline if record.evaluation else None
    if baseline and math.isfinite(baseline.seconds):
        facts.append(
            Fact(
                "Baseline time",
                readable.duration(baseline.seconds),
                f"{readable.compact(baseline.num_parameters)} parameters",
            )
        )
    return facts


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


def _environment(record: RunRecord) -> list[tuple[str, Sequence[Fact]]]:
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
            ),
        ),
    ]
    return [(title, facts) for title, facts in sections if facts]
