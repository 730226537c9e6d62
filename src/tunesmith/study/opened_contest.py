"""A contest that is over, opened: its table, its verdict, its best run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.readable import MISSING, compact, duration, interval, metric_phrase, number, size
from tunesmith.report import write_report, write_study_report
from tunesmith.run import Run
from tunesmith.study.opened import OpenedStudy
from tunesmith.types import InputError, Interval


class Study(OpenedStudy):
    """What came of comparing methods; ``study.json`` in words and tables."""

    @property
    def comparisons(self) -> Sequence[dict[str, Any]]:
        """Every method beside the reference: difference, interval, corrected p, verdict."""
        return list(self.record["comparisons"])

    @property
    def augmentation(self) -> Sequence[dict[str, Any]]:
        """Every method with made rows beside the same without, in the same form; p is corrected over these."""
        return list(self.record.get("augmentation", ()))

    @property
    def worth_of_augmentation(self) -> list[str]:
        """The same as finished lines."""
        metric = self.record["metric"]
        return [_worth(one, metric, confidence=self.record["confidence"]) for one in self.augmentation]

    @property
    def methods(self) -> Sequence[dict[str, Any]]:
        """Every method with its mean and interval, and what it costs; the best first."""
        sign = -1 if self.record["higher_is_better"] else 1
        judged = [one for one in self.record["methods"] if one["mean"] is not None]
        others = [one for one in self.record["methods"] if one["mean"] is None]
        return [*sorted(judged, key=lambda one: sign * one["mean"]), *others]

    @property
    def recommended(self) -> dict[str, Any] | None:
        """What to take until more is known; None where there is nothing to choose from.

        ``method`` and ``reason``, as a plan has them, and the ``candidates`` among which the truly best method is, at
        the contest's confidence.
        """
        found: dict[str, Any] | None = self.record.get("recommended")
        return found

    @property
    def table(self) -> list[dict[str, str]]:
        """The methods as rows of finished words: for a notebook, ``pandas.DataFrame(study.table)``."""
        verdicts = {one["method"]: one["verdict"] for one in self.comparisons}
        return [_row(one, self.record, verdicts) for one in self.methods]

    def write_reports(self) -> Path:
        """Write the page of the study, and that of each run that it leads to; return the study's."""
        for method in self.record["methods"]:
            for run in method["runs"]:
                place = self.folder / run.get("folder", "")
                if run["state"] == "done" and not (place / "report.html").exists():
                    write_report([place], place / "report.html")
        return write_study_report(self.folder)

    @property
    def best(self) -> Run:
        """The best run of the best method that was trained here, opened.

        Raises ``InputError`` where no run is done.
        """
        for method in self.methods:
            done = [run for run in method["runs"] if run["state"] == "done"]
            if method["mean"] is None or not done:
                continue
            sign = 1 if self.record["higher_is_better"] else -1
            chosen = max(done, key=lambda run: sign * run["value"])
            return Run.open(self.folder / chosen["folder"])
        raise InputError(f"No run of the study in {self.folder} is done.", "Go on with it by the same command.")


def _worth(one: dict[str, Any], metric: str, *, confidence: float) -> str:
    low, high = one["low"], one["high"]
    if one["difference"] is None or low is None or high is None:
        return f"{one['method']} beside {one['reference']}: {one['verdict']}"
    gain = interval(Interval(one["difference"], low, high))
    verdict = f"{one['verdict']}; {one['advice']}" if one["advice"] else one["verdict"]
    interval_name = f"{100 * confidence:g}% interval"
    return f"{one['method']} less {one['reference']}: {metric_phrase(metric)} {gain} ({interval_name}): {verdict}"


def _row(method: dict[str, Any], record: dict[str, Any], verdicts: dict[str, str]) -> dict[str, str]:
    mean = method["mean"]
    estimate = None
    if mean is not None:
        low, high = (float("nan") if method[end] is None else method[end] for end in ("low", "high"))
        estimate = Interval(mean, low, high)
    is_reference = method["name"] == record["reference"]
    return {
        "method": "TF-IDF" if method["name"] == "tfidf" else method["name"],
        record["metric"]: interval(estimate) if estimate else method["reason"] or method["state"],
        "verdict": "the reference" if is_reference else verdicts.get(method["name"], MISSING),
        "rate": MISSING if method["learning_rate"] is None else f"{method['learning_rate']:g}",
        "time": MISSING if method.get("seconds") is None else duration(method["seconds"]),
        "memory": MISSING if method.get("peak_memory") is None else size(method["peak_memory"]),
        "trained": MISSING if method.get("trained_parameters") is None else compact(method["trained_parameters"]),
        "size": MISSING if method.get("size") is None else size(method["size"]),
        "latency": MISSING if method.get("latency") is None else f"{number(1000 * method['latency'])} ms",
    }
