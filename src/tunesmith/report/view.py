"""What the page says about one run, in finished words: templates only lay it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.readable import MISSING
from tunesmith.report.answers import AnswerView, answer_views
from tunesmith.report.beside import Beside, beside, sets_apart
from tunesmith.report.errors import Confusion, LabelRow, confusion, label_rows
from tunesmith.report.exports import ExportView, export_views
from tunesmith.report.facts import Fact, cost_facts, environment_sections, tiles, training_facts
from tunesmith.report.figures import Figure, curve_figures, regression_figures, training_figures
from tunesmith.report.load import RunRecord
from tunesmith.report.mistakes import WrongRow, mistakes_title, wrong_row
from tunesmith.report.records import Evaluation, ProblemRecord, Training
from tunesmith.report.results import Headline, MetricGroup, headline, interval_name, metric_groups
from tunesmith.report.titles import data_title, is_multi_label, method_title, model_title, task_title

if TYPE_CHECKING:
    from markupsafe import Markup

SECTIONS = {
    "results": "Results",
    "answers": "Answers",
    "training": "Training",
    "errors": "Errors",
    "cost": "Cost",
    "exports": "Exports",
    "data": "Data",
    "configuration": "Configuration",
    "environment": "Environment",
}
"""Anchor -> heading, in the order of the page."""
GOOD_ENDS = ("finished", "stopped early")


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
    beside: Beside | None
    sets: Beside | None
    """Its teacher, or the runs that it was made of."""
    baseline_name: str
    rival_label: str
    """The same in a word or two, for narrow screens."""
    interval_name: str
    answers: Sequence[AnswerView]
    training: Sequence[Figure]
    training_facts: Sequence[Fact]
    confusion: Confusion | None
    curves: Sequence[Figure]
    counted: str
    """What confusion and labels count: rows, entities, tokens."""
    labels: Sequence[LabelRow]
    label_axis: Markup
    mistakes: Sequence[WrongRow]
    mistakes_title: str
    cost: Sequence[Fact]
    exports: Sequence[ExportView]
    split_rows: Sequence[Fact]
    columns: Sequence[tuple[str, str, str]]
    problems: Sequence[ProblemRecord]
    config_text: str
    environment: Sequence[tuple[str, Sequence[Fact]]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Part of the page -> sentence that says why it is not there; empty where it is, or is not to be expected."""

    @property
    def sections(self) -> dict[str, str]:
        """Those of ``SECTIONS`` that the page has: answers, errors, exports only where there is something to show."""
        errors = (self.confusion, self.curves, self.labels, self.mistakes)
        said = (self.missing[part] for part in ("results", "confusion", "curves", "mistakes"))
        has = {"answers": bool(self.answers), "exports": bool(self.exports), "errors": any(errors) or any(said)}
        return {anchor: title for anchor, title in SECTIONS.items() if has.get(anchor, True)}


def build_view(record: RunRecord, name: str, key: str) -> RunView:
    """Put one run into words and drawings; ``key`` prefixes the page's anchors."""
    evaluation = record.evaluation or Evaluation()
    title = " on ".join(part for part in (model_title(record), data_title(record)) if part)
    labels, label_axis = label_rows(evaluation)
    multi_label = is_multi_label(record)
    training = record.training
    return RunView(
        key=key,
        name=name,
        title=title,
        eyebrow=" · ".join(part for part in (task_title(record), method_title(record)) if part != MISSING),
        notices=_notices(record),
        headline=headline(evaluation),
        tiles=tiles(record),
        metrics=metric_groups(evaluation),
        beside=beside(evaluation),
        sets=sets_apart(evaluation),
        baseline_name=evaluation.baseline.name if evaluation.baseline else "",
        rival_label=_rival_label(evaluation),
        interval_name=interval_name(evaluation),
        answers=answer_views(evaluation.answers),
        training=training_figures(record),
        training_facts=training_facts(record),
        confusion=confusion(evaluation),
        curves=[*curve_figures(evaluation.curves, multi_label=multi_label), *regression_figures(evaluation)],
        counted=evaluation.counted,
        labels=labels,
        label_axis=label_axis,
        mistakes=[wrong_row(mistake) for mistake in evaluation.mistakes],
        mistakes_title=mistakes_title(evaluation.mistakes),
        cost=cost_facts(record),
        exports=export_views(record.exports),
        split_rows=_row_facts(training) if training else (),
        columns=[(c.role, c.column, c.reason) for c in training.columns] if training else (),
        problems=_by_severity(training.problems) if training else (),
        config_text=record.config_text,
        environment=environment_sections(record),
        missing=_missing(record),
    )


def _rival_label(evaluation: Evaluation) -> str:
    name = evaluation.baseline.name if evaluation.baseline else ""
    return "Before" if name == readable.UNTUNED else "Baseline"


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


def _missing(record: RunRecord) -> dict[str, str]:
    """Say, by part of the page, what is not there and why."""
    missing = dict.fromkeys((*SECTIONS, "validation", "confusion", "curves", "mistakes"), "")
    evaluation = record.evaluation
    if evaluation is None:
        missing["results"] = "This run has not been evaluated yet: there is no evaluation.json."
    else:
        missing |= _missing_in(evaluation, multi_label=is_multi_label(record))
    made = record.training is not None and record.training.made_of is not None
    if made:
        missing["training"] = "It was not trained, but made of runs: see their own reports."
    elif not record.steps:
        missing["training"] = "No training steps are recorded: metrics.jsonl is missing or has none."
    if not record.checks and not made:
        missing["validation"] = "No validation is recorded: the run had no validation rows, or was cut off before."
    if record.training is None:
        missing["cost"] = "Cost is recorded when training ends; there is no training.json yet."
    if not record.config_text:
        missing["configuration"] = "There is no config.yaml."
    if record.environment is None:
        missing["environment"] = "There is no environment.json."
    return missing


def _missing_in(evaluation: Evaluation, *, multi_label: bool) -> dict[str, str]:
    """Say what an evaluation lacks, of all that its other parts let one expect."""
    missing: dict[str, str] = {}
    if not evaluation.metrics:
        missing["results"] = "The evaluation holds no metrics."
    if evaluation.per_label and not evaluation.confusion_matrix:
        missing["confusion"] = (
            "With several labels a row there is no confusion matrix: see the scores by label."
            if multi_label
            else "The evaluation holds no confusion matrix."
        )
    if evaluation.curves is not None and not curve_figures(evaluation.curves):
        missing["curves"] = "The evaluation holds no curves."
    if "mistakes" in evaluation.model_fields_set and not evaluation.mistakes:
        missing["mistakes"] = f"No mistakes on the {evaluation.split} rows."
    return missing


def _row_facts(training: Training) -> list[Fact]:
    """Return the rows of every split, then those that were left out, by the reason."""
    splits = [Fact(split, readable.count(number)) for split, number in training.rows.items()]
    return splits + [Fact(f"left out: {what}", readable.count(number)) for what, number in training.left_out.items()]
