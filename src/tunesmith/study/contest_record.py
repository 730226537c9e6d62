"""``study.json``: every number of it follows from the journal and the run folders."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tunesmith.evaluate import Comparison, expected_maximum
from tunesmith.study.board import Board, Line
from tunesmith.study.contest_runs import tuning_seconds
from tunesmith.study.contest_statistics import ContestStatistics, Findings, FinishedRun
from tunesmith.study.contest_verdict import choice_of, verdict_of
from tunesmith.study.folder import Journal, StudyFolder

VERSION = 1


@dataclass
class ContestRecord:
    """Makes ``study.json`` of where a contest stands; the statistics are computed when it is over."""

    folder: StudyFolder
    journal: Journal
    board: Board
    numbers: ContestStatistics
    folders: Mapping[str, str]
    """The name of each method's folder."""
    facts: Mapping[str, Any]
    """What does not change."""

    def make(self, cuts: Sequence[str], sharing: Mapping[str, Any], *, is_over: bool) -> dict[str, Any]:
        """Return the whole record."""
        question = self.numbers.question
        runs = {name: self._runs_of(name) for name in self.folders}
        whole = {name: own for name, own in runs.items() if self.board.lines[name].state == "done" and own}
        findings = self.numbers.findings(whole) if is_over else Findings()
        methods = [self._method(line, runs.get(line.name, []), findings) for line in self.board.lines.values()]
        comparisons = [self._comparison(one) for one in findings.comparisons]
        beside_best = [asdict(one) for one in findings.beside_best]
        tuning = self._tuning()
        openings = [{"time": event["time"], "run": event["folder"]} for event in self.journal.of("opened")]
        verdict = verdict_of(methods, comparisons, question, findings.margin) if is_over else "Still going on."
        return {
            "version": VERSION,
            "kind": "contest",
            "status": "finished" if is_over else "running",
            "metric": question.metric,
            "higher_is_better": question.higher,
            "confidence": question.confidence,
            "margin": findings.margin if findings.margin is not None else question.margin,
            "reference": question.reference,
            "rows": dict(question.num_rows),
            **self.facts,
            "finished": datetime.now(UTC).isoformat(timespec="seconds") if is_over else None,
            "methods": methods,
            "comparisons": comparisons,
            "augmentation": [self._comparison(one) for one in findings.augmentation],
            "tuning": tuning,
            "tuned_by": question.tuned_by,
            "expected_maximum": self._expected_maximum(tuning),
            "curves": [
                {"method": name, "seed": run.seed, "points": run.points} for name, own in runs.items() for run in own
            ],
            "sharing": dict(sharing),
            "budget": None
            if self.board.budget is None
            else {"seconds": self.board.budget, "spent": self.journal.seconds, "cuts": list(cuts)},
            "seconds": self.journal.seconds,
            "openings": openings,
            "test_openings": len(openings),
            "notes": [event["text"] for event in self.journal.of("note")],
            "verdict": verdict,
            "recommended": choice_of(methods, beside_best, findings.candidates, question, findings.margin),
        }

    def _comparison(self, one: Comparison) -> dict[str, Any]:
        found = asdict(one)
        if self.numbers.question.shots is not None:  # every seed draws the rows
            found["advice"] = found["advice"].replace("seed", "draw")
        return found

    def _runs_of(self, name: str) -> list[FinishedRun]:
        """Return the runs of a method that are done, by seed."""
        cells = self.board.lines[name].cells
        return [
            self.numbers.read(self.folder.run(self.folders[name], seed), seed)
            for seed, cell in cells.items()
            if cell.state == "done"
        ]

    def _method(self, line: Line, runs: Sequence[FinishedRun], findings: Findings) -> dict[str, Any]:
        estimate = findings.estimates.get(line.name)
        metric = self.numbers.question.metric
        found: dict[str, Any] = {
            "name": line.name,
            "title": line.title,
            "state": line.state,
            "reason": line.reason,
            "mean": line.mean if estimate is None else estimate.mean,
            "low": None if estimate is None else estimate.low,
            "high": None if estimate is None else estimate.high,
            "variance_rows": None if estimate is None else estimate.variance_rows,
            "variance_seeds": None if estimate is None else estimate.variance_seeds,
            "seeds": len(runs),
            "learning_rate": line.chosen_rate,
            "tuning_seconds": tuning_seconds(self.journal, line.name),
            "runs": [self._run(line, seed, metric) for seed in line.cells],
        }
        if line.name not in self.folders:
            return found | {"state": "done" if estimate else line.state} | self._rival_costs()
        costs = {
            "seconds": [run.training["seconds"] for run in runs],
            "peak_memory": [run.training["peak_memory_bytes"] for run in runs],
            "trained_parameters": [run.training["num_trained_parameters"] for run in runs],
            "size": [run.training["saved_bytes"] for run in runs],
            "latency": [run.evaluation["speed"]["latency"] for run in runs],
            "throughput": [run.evaluation["speed"]["rows_per_second"] for run in runs],
        }
        return found | {name: _median(values) for name, values in costs.items()} | {"forgetting": _forgetting(runs)}

    def _run(self, line: Line, seed: int, metric: str) -> dict[str, Any]:
        cell = line.cells[seed]
        found: dict[str, Any] = {"seed": seed, "state": cell.state, "value": cell.value, "reason": line.reason}
        if cell.state != "done":
            return found
        run = self.numbers.read(self.folder.run(self.folders[line.name], seed), seed)
        values = {name: one["value"] for name, one in run.evaluation["metrics"].items()}
        return found | {
            "reason": "",
            "folder": run.folder.relative_to(self.folder.path).as_posix(),
            "value": values[metric],
            "metrics": values,
            "seconds": run.training["seconds"],
            "peak_memory": run.training["peak_memory_bytes"],
            "best_step": run.training["best_step"],
            "steps": run.training["steps"],
        }

    def _rival_costs(self) -> dict[str, Any]:
        """Return what the baseline takes, as the first run that was judged beside it says."""
        runs = (run for name in self.folders for run in self._runs_of(name))
        beside = next((run.evaluation["baseline"] for run in runs if "baseline" in run.evaluation), None)
        empty: dict[str, Any] = dict.fromkeys(
            ("peak_memory", "size", "latency", "throughput", "forgetting", "seconds", "trained_parameters")
        )
        if beside is None or self.numbers.question.rival in ("untuned", "in_context"):
            return empty
        return empty | {"seconds": beside["seconds"], "trained_parameters": beside["num_parameters"]}

    def _tuning(self) -> list[dict[str, Any]]:
        """Return every rate that was tried, as far as it was followed."""
        found: dict[tuple[str, float], dict[str, Any]] = {}
        for event in self.journal.of("tried"):
            place = self.folder.tuning(self.folders[event["method"]], event["rate"])
            found[event["method"], event["rate"]] = {
                "method": event["method"],
                "learning_rate": event["rate"],
                "stage": event["stage"],
                "value": event["value"],
                "loss": event["loss"],
                "folder": place.relative_to(self.folder.path).as_posix(),
                "state": "failed" if event["reason"] else "done",
                "reason": event["reason"],
            }
        return list(found.values())

    def _expected_maximum(self, tuning: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {}
        for one in tuning:
            values.setdefault(one["method"], []).append(math.nan if one["value"] is None else one["value"])
        higher = self.numbers.question.tuned_higher
        return {name: expected_maximum(own, higher_is_better=higher) for name, own in values.items()}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _forgetting(runs: Sequence[FinishedRun]) -> dict[str, Any] | None:
    """Return the loss on general text before and after, the mean over runs; None where it was not measured."""
    known = [run.evaluation["forgetting"] for run in runs if run.evaluation.get("forgetting")]
    if not known:
        return None
    return {
        key: statistics.fmean(one[key] for one in known) for key in ("before", "after", "difference", "low", "high")
    }
