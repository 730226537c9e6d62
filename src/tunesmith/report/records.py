"""The files of a run directory as frozen records.

Only what the report shows is named here; keys it does not know are ignored, so that a
run written by a later version still renders. Every part may be absent.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tunesmith.types import Interval


def _to_text(value: object) -> str:
    """Return a label or row as text; several labels of one row are joined."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_to_text, value)) or "(none)"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _to_float(value: object) -> object:
    """Read JSON's null, which stands for an undefined number, as nan."""
    return math.nan if value is None else value


def _to_interval(value: object) -> object:
    """Read ``{"value", "low", "high"}``, or a bare number without an interval."""
    if isinstance(value, int | float) or value is None:
        return {"value": value}
    return value


Text = Annotated[str, BeforeValidator(_to_text)]
Number = Annotated[float, BeforeValidator(_to_float)]


class Record(BaseModel):
    """Base of the records: frozen, and silent about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class EstimateRecord(Record):
    """A number with the ends of its confidence interval; nan where one is not known."""

    value: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan

    @property
    def interval(self) -> Interval:
        return Interval(self.value, self.low, self.high)


Estimate = Annotated[EstimateRecord, BeforeValidator(_to_interval)]


class LabelScores(Record):
    """Scores of one label."""

    label: Text
    precision: Estimate = EstimateRecord()
    recall: Estimate = EstimateRecord()
    f1: Estimate = EstimateRecord()
    support: Number = math.nan


class Curve(Record):
    """A ROC or precision-recall curve of one label."""

    label: Text = ""
    points: tuple[tuple[Number, Number], ...] = ()
    area: Number = math.nan


class CalibrationBin(Record):
    """Rows whose confidence lies in one bin."""

    low: Number
    high: Number
    confidence: Number = math.nan
    accuracy: Number = math.nan
    count: Number = 0


class Curves(Record):
    """The curves of a classification."""

    roc: tuple[Curve, ...] = ()
    precision_recall: tuple[Curve, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()


class SpanRecord(Record):
    """A piece of a row's text with its label: an entity, or a single token."""

    text: Text = ""
    label: Text
    start: int
    end: int


Answer = Annotated[tuple[SpanRecord, ...] | Text, Field(union_mode="left_to_right")] | None
"""What is true of a row or predicted for it: a text, or spans of its text; None where there is no such thing."""


class Mistake(Record):
    """One wrong prediction, one large error, or one row that was little expected."""

    row: Text = ""
    text: Text = ""
    text_pair: str | None = None
    label: Answer = None
    prediction: Answer = None
    score: Number = math.nan
    """Probability of a wrong prediction."""
    error: Number = math.nan
    """Predicted minus true value."""
    loss: Number = math.nan
    perplexity: Number = math.nan


class AnswerRecord(Record):
    """What the model answered to the prompt of a row, before fine-tuning (where that was asked for) and after."""

    row: Text = ""
    prompt: Text = ""
    reference: Text = ""
    before: str | None = None
    after: Text = ""


class Residuals(Record):
    """A histogram of prediction minus truth."""

    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()


class Baseline(Record):
    """What the run has to beat: a simple model, or its own model before fine-tuning."""

    name: str = "Baseline"
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    seconds: Number = math.nan
    num_parameters: Number = math.nan


class SetRecord(Record):
    """One set of a mixture, judged apart."""

    name: Text = ""
    num_rows: Number = math.nan
    metrics: dict[str, Estimate] = Field(default_factory=dict)


class BesideRecord(Record):
    """What was judged on the same rows: a teacher, or one of the runs that something was made of."""

    name: Text = ""
    num_parameters: Number = math.nan
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    difference: dict[str, Estimate] = Field(default_factory=dict)
    """The run minus this one."""


class Evaluation(Record):
    """``evaluation.json``."""

    task: str = ""
    title: str = ""
    """The task in words."""
    split: str = "test"
    num_rows: Number = math.nan
    confidence: float = 0.95
    num_resamples: Number = math.nan
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    chosen_metric: str | None = Field(default=None, alias="main_metric")
    higher_is_better: dict[str, bool] = Field(default_factory=dict)
    labels: tuple[Text, ...] = ()
    confusion_matrix: tuple[tuple[float, ...], ...] | tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Rows are the truth. For several labels a row: one 2 by 2 matrix per label."""
    counted: str = "rows"
    """What the matrix and the labels' support count: rows, entities, tokens."""
    unmatched: str | None = None
    """The label that stands, in the matrix, for things that only the truth or only the prediction has."""
    per_label: tuple[LabelScores, ...] = ()
    curves: Curves | None = None
    """None where the task has no curves."""
    mistakes: tuple[Mistake, ...] = ()
    answers: tuple[AnswerRecord, ...] = ()
    scatter: tuple[tuple[Number, Number], ...] = ()
    residuals: Residuals | None = None
    baseline: Baseline | None = None
    difference: dict[str, Estimate] = Field(default_factory=dict)
    beside: tuple[BesideRecord, ...] = ()
    sets: tuple[SetRecord, ...] = ()

    @property
    def main_metric(self) -> str | None:
        """The metric the task names as its main one, else the first."""
        return self.chosen_metric if self.chosen_metric in self.metrics else next(iter(self.metrics), None)


class BestMetric(Record):
    """The validation metric by which the kept step was chosen."""

    name: str
    value: Number = math.nan


class ProblemRecord(Record):
    """One thing found in the data or the run."""

    severity: str = "note"
    message: str = ""
    fix: str = ""
    count: Number = 1
    rows: tuple[Text, ...] = ()


class ColumnRecord(Record):
    """Which of the user's columns fills a role, and why."""

    role: str = ""
    column: str = ""
    reason: str = ""


class PredictedRecord(Record):
    """What a run said of itself after its first steps, if it makes all of them."""

    seconds: Number = math.nan
    peak_memory: Number = math.nan
    how: Text = ""


class MadeOf(Record):
    """Which runs something was made of."""

    how: str = ""
    members: tuple[dict[str, Any], ...] = ()


class Training(Record):
    """``training.json``."""

    status: str = "unknown"
    steps: Number = math.nan
    epochs: Number = math.nan
    best_step: Number = math.nan
    best_metric: BestMetric | None = None
    num_parameters: Number = math.nan
    num_trained_parameters: Number = math.nan
    seconds: Number = math.nan
    tokens: Number = math.nan
    tokens_per_second: Number = math.nan
    rows_per_second: Number = math.nan
    peak_memory_bytes: Number = math.nan
    predicted: PredictedRecord | None = None
    saved_bytes: Number = math.nan
    compression: dict[str, dict[str, Number]] = Field(default_factory=dict)
    layout: str | None = None
    precision: str | None = None
    rows: dict[str, Number] = Field(default_factory=dict)
    left_out: dict[str, Number] = Field(default_factory=dict)
    problems: tuple[ProblemRecord, ...] = ()
    columns: tuple[ColumnRecord, ...] = ()
    made_of: MadeOf | None = None
    """None for what was trained."""


class StepRecord(Record):
    """One optimizer step of ``metrics.jsonl``."""

    step: int
    epoch: Number = math.nan
    loss: Number = math.nan
    learning_rate: Number = math.nan
    gradient_norm: Number = math.nan
    skipped: str = ""


class Fit(Record):
    """How the model does on some training rows at an evaluation, and what they are better by."""

    loss: Number = math.nan
    metric: str = ""
    value: Number = math.nan
    gap: Estimate = EstimateRecord()


class CheckRecord(Record):
    """One evaluation during training, of ``metrics.jsonl``."""

    step: int
    epoch: Number = math.nan
    split: str = "validation"
    loss: Number = math.nan
    metrics: dict[str, Number] = Field(default_factory=dict)
    fit: Fit | None = None


class Environment(Record):
    """``environment.json``: every section as it stands, shown as a table."""

    versions: dict[str, Any] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    git: dict[str, Any] | None = None
    started: Text = ""
    finished: Text = ""


class TimesRecord(Record):
    """Seconds that some rows take, before and after an export."""

    rows: Number = math.nan
    before: Number = math.nan
    after: Number = math.nan


class ExportRecord(Record):
    """A line of ``exports.jsonl``: the run in the form of another program, compared with it."""

    folder: Text = ""
    target: Text = ""
    form: Text = ""
    rows: Number = math.nan
    max_difference: Number = math.nan
    same_answers: Number = math.nan
    metric: Text = ""
    metric_before: Number = math.nan
    metric_after: Number = math.nan
    metric_change: Estimate = EstimateRecord()
    size: Number = math.nan
    size_before: Number = math.nan
    latency: dict[str, TimesRecord] | None = None
