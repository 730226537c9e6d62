"""``study.json`` as frozen records: what a contest, a cross-validation or a search has found so far.

As for runs, keys that are not known are ignored and every part may be absent; a number that is not known is nan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from tunesmith import readable
from tunesmith.report.records import EstimateRecord, Number, Record, Text
from tunesmith.types import Interval

T = TypeVar("T")


def _to_items(value: object) -> object:
    """Read JSON's null, where a list is expected, as an empty one."""
    return () if value is None else value


def _to_mapping(value: object) -> object:
    """Read JSON's null, where a mapping is expected, as an empty one."""
    return {} if value is None else value


def _to_rows(value: object) -> object:
    """Read a bare number of rows as that of all rows."""
    return {"all": value} if isinstance(value, int | float) else _to_mapping(value)


def _to_test_rows(value: object) -> object:
    """Read the rows of a fold by split as those it was judged on."""
    rows = value.get("test") if isinstance(value, Mapping) else value
    return math.nan if rows is None else rows


def _to_machine(value: object) -> object:
    """Read a machine as a text or as what is known of it: ``AMD EPYC, 2 cores, 25 GB``."""
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    cores, memory = (value.get(key) for key in ("num_cores", "memory_bytes"))
    parts = [value.get("processor"), value.get("accelerator")]
    parts.append(f"{readable.count(cores)} cores" if isinstance(cores, int | float) else None)
    parts.append(readable.size(memory) if isinstance(memory, int | float) else None)
    parts.append(value.get("system"))
    return ", ".join(str(part) for part in parts if part)


Items = Annotated[tuple[T, ...], BeforeValidator(_to_items)]
Numbers = Annotated[Mapping[str, Number], BeforeValidator(_to_mapping)]
Values = Annotated[Mapping[str, Any], BeforeValidator(_to_mapping)]
Rows = Annotated[Mapping[str, Number], BeforeValidator(_to_rows)]


class RunOfMethod(Record):
    """One final run of a method."""

    seed: Number = math.nan
    folder: Text = ""
    state: str = "done"
    value: Number = math.nan
    metrics: Numbers = Field(default_factory=dict)
    seconds: Number = math.nan
    peak_memory: Number = math.nan
    best_step: Number = math.nan
    steps: Number = math.nan
    reason: Text = ""


class Forgetting(Record):
    """Loss on general text before and after fine-tuning, and the difference with its interval."""

    before: Number = math.nan
    after: Number = math.nan
    difference: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan

    @property
    def interval(self) -> Interval:
        return Interval(self.difference, self.low, self.high)


class Method(Record):
    """One method of a contest: how good, and at what cost."""

    name: Text
    title: Text = ""
    state: str = "done"
    reason: Text = ""
    mean: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan
    seeds: Number = math.nan
    learning_rate: Number = math.nan
    seconds: Number = math.nan
    peak_memory: Number = math.nan
    trained_parameters: Number = math.nan
    size: Number = math.nan
    latency: Number = math.nan
    throughput: Number = math.nan
    variance_rows: Number = math.nan
    variance_seeds: Number = math.nan
    tuning_seconds: Number = math.nan
    forgetting: Forgetting | None = None
    runs: Items[RunOfMethod] = ()

    @property
    def shown(self) -> str:
        """What the method is called on the page."""
        return self.title or self.name

    @property
    def interval(self) -> Interval:
        return Interval(self.mean, self.low, self.high)


class Comparison(Record):
    """The difference of a method from the reference."""

    method: Text
    reference: Text = ""
    difference: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan
    p: Number = math.nan
    verdict: Text = "undecided"
    variance_rows: Number = math.nan
    variance_seeds: Number = math.nan
    degrees_of_freedom: Number = math.nan
    advice: Text = ""
    rows_to_resolve: Number = math.nan
    """About how many test rows would tell a difference of the margin; nan where those there do."""


class TuningTrial(Record):
    """One rate that was tried, judged on the validation rows after some steps."""

    method: Text
    learning_rate: Number = math.nan
    stage: str = "whole"
    value: Number = math.nan
    steps: Number = math.nan
    folder: Text = ""
    state: str = "done"
    reason: Text = ""


class LearningCurve(Record):
    """Validation metric of one run as it learned; a point is step, seconds, value."""

    method: Text
    seed: Number = math.nan
    points: Items[tuple[Number, Number, Number]] = ()


class SharedPart(Record):
    """One thing that runs shared."""

    what: Text = ""
    made: Number = math.nan
    reused: Number = math.nan
    seconds: Number = math.nan


class Sharing(Record):
    """What sharing saved."""

    saved_seconds: Number = math.nan
    parts: Items[SharedPart] = ()


class Budget(Record):
    """The time that was given and spent, and what was left out for it."""

    seconds: Number = math.nan
    spent: Number = math.nan
    cuts: Items[Text] = ()


class Opening(Record):
    """One opening of the test rows."""

    time: Text = ""
    run: Text = ""


class Study(Record):
    """What all studies say."""

    version: Number = 1
    kind: str
    status: str = "finished"
    metric: str = ""
    higher_is_better: bool | None = None
    is_share: bool | None = None
    confidence: float = 0.95
    task: Text = ""
    model: Text = ""
    data: Text = ""
    machine: Annotated[str, BeforeValidator(_to_machine)] = ""
    rows: Rows = Field(default_factory=dict)
    began: Text = ""
    finished: Text = ""
    notes: Items[Text] = ()
    verdict: Text = ""


class Recommended(Record):
    """What a contest says to take."""

    method: Text = ""
    reason: Text = ""
    candidates: Items[Text] = ()


class Contest(Study):
    """``study.json`` of a contest between methods."""

    recommended: Recommended | None = None

    margin: Number = math.nan
    reference: Text = ""
    seeds: Items[Number] = ()
    methods: Items[Method] = ()
    comparisons: Items[Comparison] = ()
    augmentation: Items[Comparison] = ()
    """Methods with made rows beside the same without."""
    tuning: Items[TuningTrial] = ()
    tuned_by: str = ""
    """The validation metric that rates are chosen by, where it is not that of the study."""
    expected_maximum: Annotated[Mapping[str, Items[Number]], BeforeValidator(_to_mapping)] = Field(default_factory=dict)
    curves: Items[LearningCurve] = ()
    sharing: Sharing | None = None
    budget: Budget | None = None
    openings: Items[Opening] = ()
    test_openings: Number = math.nan

    def method(self, name: str) -> Method | None:
        """Return the method of that name."""
        return next((method for method in self.methods if method.name == name), None)

    def shown(self, name: str) -> str:
        """Return what a method is called on the page; its name where it is not among the methods."""
        method = self.method(name)
        return method.shown if method else name


class Fold(Record):
    """One fold of a cross-validation."""

    repeat: Number = 0
    fold: Number = math.nan
    metrics: Numbers = Field(default_factory=dict)
    rows: Annotated[float, BeforeValidator(_to_test_rows)] = math.nan
    folder: Text = ""
    seconds: Number = math.nan
    state: str = "done"
    reason: Text = ""


class FoldEstimate(EstimateRecord):
    """A metric over the folds with its corrected interval."""

    degrees_of_freedom: Number = math.nan


class CrossValidation(Study):
    """``study.json`` of a cross-validation."""

    method: Text = ""
    folds: Items[Fold] = ()
    metrics: Annotated[Mapping[str, FoldEstimate], BeforeValidator(_to_mapping)] = Field(default_factory=dict)


class Trial(Record):
    """One configuration that a search tried."""

    number: Number = math.nan
    state: str = "done"
    values: Values = Field(default_factory=dict)
    value: Number = math.nan
    seconds: Number = math.nan
    folder: Text = ""
    reason: Text = ""


class Search(Study):
    """``study.json`` of a search."""

    method: Text = ""
    trials: Items[Trial] = ()
    best: Trial | None = None
    importance: Numbers = Field(default_factory=dict)


KINDS: Mapping[str, type[Study]] = {"contest": Contest, "cross-validation": CrossValidation, "search": Search}
