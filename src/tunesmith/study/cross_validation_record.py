"""``study.json`` of a cross-validation, and the predictions of every row by a model that has not seen it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from tunesmith.evaluate import FoldInterval, fold_interval
from tunesmith.files.atomic import write_bytes
from tunesmith.metrics.ranges import RANGES
from tunesmith.readable import interval, is_fraction, metric_title, number, rival_phrase
from tunesmith.run.directory import RunDirectory
from tunesmith.study.cross_validation_config import CrossValidationConfig, Fold, folds_of
from tunesmith.study.folder import Journal, StudyFolder
from tunesmith.tasks.base import Task
from tunesmith.types import Interval

VERSION = 1
PREDICTIONS = "predictions.parquet"


@dataclass
class CrossValidationRecord:
    """Makes ``study.json`` of the journal and the run folders."""

    config: CrossValidationConfig
    folder: StudyFolder
    journal: Journal
    task: Task
    facts: Mapping[str, Any]
    """What does not change."""

    def judged(self, fold: Fold) -> dict[str, Any] | None:
        """Return what the journal says came of a fold; None where it is still to be done."""
        key = {"repeat": fold.repeat, "fold": fold.number}
        return next((event for event in self.journal.of("judged") if key.items() <= event.items()), None)

    def done(self) -> list[Fold]:
        """Return the folds that were judged and did not fail."""
        known = {fold: self.judged(fold) for fold in folds_of(self.config)}
        return [fold for fold, event in known.items() if event is not None and not event["reason"]]

    def write(self, *, is_over: bool = False) -> None:
        """Replace ``study.json`` and, at the end, write the predictions."""
        if is_over:
            self._write_predictions()
        self.folder.write_result(self._make(is_over=is_over))

    def _make(self, *, is_over: bool) -> dict[str, Any]:
        folds = [self._fold(fold) for fold in folds_of(self.config)]
        done = [one for one in folds if one["state"] == "done"]
        metric, confidence = self.task.main_metric(), self.config.evaluation.confidence
        metrics = {
            name: asdict(self._interval(done, [one["metrics"].get(name) for one in done], name))
            for name in (done[0]["metrics"] if done else ())
        }
        found: dict[str, Any] = {
            "version": VERSION,
            "kind": "cross-validation",
            "status": "finished" if is_over else "running",
            "metric": metric,
            "higher_is_better": self.task.higher_is_better[metric],
            "is_share": is_fraction(metric),
            "confidence": confidence,
            **self.facts,
            "num_folds": self.config.folds,
            "num_repeats": self.config.repeats,
            "num_rates": self.config.rates,
            "began": self.journal.events[0]["time"] if self.journal.events else None,
            "finished": datetime.now(UTC).isoformat(timespec="seconds") if is_over else None,
            "seconds": self.journal.seconds,
            "folds": folds,
            "metrics": metrics,
            "baseline": self._baseline(done, metric),
            "predictions": PREDICTIONS if is_over else None,
        }
        return found | {"verdict": _verdict(found, len(done)) if is_over else "Still going on."}

    def _fold(self, fold: Fold) -> dict[str, Any]:
        event = self.judged(fold)
        found: dict[str, Any] = {"repeat": fold.repeat, "fold": fold.number}
        if event is None:
            return found | {"state": "waiting", "reason": "", "metrics": {}}
        if event["reason"]:
            return found | {"state": "failed", "reason": event["reason"], "metrics": {}}
        directory = RunDirectory(self.folder.path / event["folder"])
        evaluation, training = directory.read_json("evaluation"), directory.read_json("training")
        beside = evaluation.get("baseline")
        tried = [one for one in self.journal.of("tried") if (one["repeat"], one["fold"]) == (fold.repeat, fold.number)]
        return found | {
            "state": "done",
            "reason": "",
            "folder": event["folder"],
            "metrics": {name: one["value"] for name, one in evaluation["metrics"].items()},
            "baseline": None
            if beside is None
            else {"name": beside["name"], "metrics": {name: one["value"] for name, one in beside["metrics"].items()}},
            "rows": training["rows"]["test"],
            "rows_by_split": training["rows"],
            "seconds": training["seconds"],
            "best_step": training["best_step"],
            "learning_rate": directory.read_config().train.learning_rate,
            "tuning": [{"learning_rate": one["rate"], "value": one["value"], "reason": one["reason"]} for one in tried],
        }

    def _interval(
        self, folds: Sequence[Mapping[str, Any]], values: Sequence[float | None], metric: str | None
    ) -> FoldInterval:
        rows = {split: fmean(one["rows_by_split"][split] for one in folds) for split in ("train", "test")}
        found = fold_interval(
            [math.nan if value is None else value for value in values],
            num_train=rows["train"],
            num_test=rows["test"],
            confidence=self.config.evaluation.confidence,
        )
        low, high = RANGES.get(metric or "", (-math.inf, math.inf))
        return FoldInterval(found.value, max(found.low, low), min(found.high, high), found.degrees_of_freedom)

    def _baseline(self, folds: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any] | None:
        """Return what stands beside the model, its mean, and the difference of the two over the folds."""
        if not folds or any(one["baseline"] is None for one in folds):
            return None
        pairs = [(one["metrics"].get(metric), one["baseline"]["metrics"].get(metric)) for one in folds]
        differences = [None if mine is None or its is None else mine - its for mine, its in pairs]
        return {
            "name": folds[0]["baseline"]["name"],
            "value": asdict(self._interval(folds, [its for _, its in pairs], metric)),
            "difference": asdict(self._interval(folds, differences, None)),
        }

    def _write_predictions(self) -> None:
        """Put the predictions of all folds into one table: every row once for every repeat, with its fold."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        for fold in self.done():
            event = self.judged(fold)
            assert event is not None
            table = pq.read_table(RunDirectory(self.folder.path / event["folder"]).predictions)
            for place, (name, value) in enumerate((("repeat", fold.repeat), ("fold", fold.number))):
                table = table.add_column(place, name, pa.array([value] * len(table), pa.int32()))
            tables.append(table)
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(tables, promote_options="permissive"), sink)
        write_bytes(self.folder.path / PREDICTIONS, sink.getvalue().to_pybytes())


def _verdict(record: Mapping[str, Any], num_done: int) -> str:
    """Return what was found, in a sentence or two."""
    metric, own = record["metric"], record["metrics"][record["metric"]]
    repeats = f", repeated {record['num_repeats']} times" if record["num_repeats"] > 1 else ""
    number_asked = record["num_folds"] * record["num_repeats"]
    said = (
        f"{metric_title(metric)} {interval(Interval(own['value'], own['low'], own['high']))} over "
        f"{record['num_folds']} folds{repeats}."
    )
    beside = record["baseline"]
    if beside is not None and math.isfinite(beside["difference"]["low"]):
        said += f" {_beside(beside, metric, higher=record['higher_is_better'])}"
    if num_done < number_asked:
        said += f" {number_asked - num_done} of {number_asked} folds could not be trained and are left out."
    return said


def _beside(beside: Mapping[str, Any], metric: str, *, higher: bool) -> str:
    """Say how the model stands to what it is judged against."""
    sign = 1 if higher else -1
    value, *ends = (sign * beside["difference"][name] for name in ("value", "low", "high"))
    low, high = sorted(ends)
    scale, unit = (100, " points") if is_fraction(metric) else (1, "")
    texts = [number(scale * one, decimals=1 if unit else 3) for one in (value, low, high)]
    what = "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    by = f"{texts[0]}{unit} [{texts[1]}, {texts[2]}]"
    rival = rival_phrase(beside["name"])
    return f"It is {what} {rival} ({by})." if low <= 0 <= high else f"It is {what} {rival} by {by}."
