"""What the runs of a contest say together: means, differences and their intervals, over rows and over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.evaluate import (
    CONTEST_RESAMPLES,
    Comparison,
    Entrant,
    Estimate,
    Scores,
    Terms,
    compare,
    estimates,
    may_be_best,
    models_p_value,
    pairs_with,
    score,
)
from tunesmith.readable import is_fraction, is_percentage
from tunesmith.run.directory import RunDirectory
from tunesmith.run.scores_file import KeptScores, read_scores
from tunesmith.tasks.base import Task

MARGIN_SHARE = 0.01
"""The margin, as a part of the reference's value, of metrics that are no shares."""


@dataclass(frozen=True, slots=True)
class Question:
    """What does not change while a contest goes on, and is known once its rows are read."""

    task: Task
    metric: str
    higher: bool
    """Whether higher values of the metric are better."""
    tuned_by: str
    """The metric on the validation rows that rates are chosen by."""
    tuned_higher: bool
    reference: str
    margin: float | None
    num_rows: Mapping[str, int]
    groups: npt.NDArray[np.uint64] | None
    """[N]: which test rows belong together."""
    rival: str
    """Who stands beside the methods without being trained here: ``tfidf``, ``rule``, ``untuned``, ``in_context`` or
    nobody."""
    confidence: float
    seed: int
    """Of the resamples."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """The same method without made rows, of each that has some."""
    shots: int | None = None
    """Rows of each class that every seed draws to train on, where few are."""

    def seeds(self, number: int) -> str:
        """Return ``1 seed``, ``3 seeds``; draws where each seed draws the rows."""
        word = "seed" if self.shots is None else "draw"
        return f"{number} {word}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that counts, as its folder tells of it."""

    seed: int
    folder: Path
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    training_hash: str
    kept: KeptScores
    scores: Scores
    points: Sequence[tuple[int, float, float | None]]
    """How it went on the validation rows: step, seconds of steps up to then, value."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the contest found."""

    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    comparisons: Sequence[Comparison] = ()
    augmentation: Sequence[Comparison] = ()
    """Methods with made rows beside the same without."""
    beside_best: Sequence[Comparison] = ()
    """All others beside the one of the best mean, which is the reference of each."""
    candidates: Sequence[str] = ()
    """The methods that may be the best, by their means."""
    margin: float | None = None


@dataclass
class ContestStatistics:
    """Reads finished runs, each once, and compares them."""

    question: Question
    _runs: dict[Path, FinishedRun] = field(default_factory=dict)

    def read(self, folder: Path, seed: int) -> FinishedRun:
        """Return the finished run in ``folder``, scored on all resamples of the test rows."""
        if folder not in self._runs:
            directory = RunDirectory(folder)
            kept = read_scores(directory.scores)
            self._runs[folder] = FinishedRun(
                seed,
                folder,
                directory.read_json("training"),
                directory.read_json("evaluation"),
                directory.read_json("environment")["data"]["hashes"]["train"],
                kept,
                self._score(kept.outputs, kept.targets),
                _points(directory, self.question.tuned_by),
            )
        return self._runs[folder]

    def findings(self, runs: Mapping[str, Sequence[FinishedRun]]) -> Findings:
        """Return means and differences of the methods that have all their runs, and of the rival beside them."""
        question = self.question
        paired = cut_by_seed(runs)
        metric = question.metric
        entrants = [
            Entrant.of(name, [run.seed for run in own], [run.scores for run in own], metric)
            for name, own in runs.items()
        ]
        if (rival := self._rival(runs, paired=paired)) is not None:
            entrants.append(rival)
        if not entrants:
            return Findings()
        terms = Terms(
            num_rows=question.num_rows["test"],
            num_units=None if question.groups is None else len(np.unique(question.groups)),
            metric=metric,
            higher_is_better=question.higher,
            confidence=question.confidence,
            paired=paired,
        )
        by_name = {one.method: one for one in estimates(entrants, terms)}
        if question.reference not in by_name or len(entrants) < 2:
            return Findings(by_name)
        terms = replace(terms, margin=self._margin(by_name[question.reference].mean))

        def compared(pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
            return compare(entrants, pairs, terms, self._p_of_models(runs, pairs))

        others = pairs_with(question.reference, entrants)
        twins = [pair for pair in question.twins.items() if set(pair) <= by_name.keys()]
        beside_best = compared(_pairs_with_best(list(by_name.values()), higher=question.higher))
        best = [beside_best[0].reference] if beside_best else []
        candidates = [*best, *may_be_best(beside_best, terms)]
        return Findings(by_name, compared(others), compared(twins), beside_best, candidates, terms.margin)

    def _score(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> Scores:
        return score(
            self.question.task,
            outputs,
            targets,
            seed=self.question.seed,
            num_resamples=CONTEST_RESAMPLES,
            groups_N=self.question.groups,
            per_label=False,
        )

    def _rival(self, runs: Mapping[str, Sequence[FinishedRun]], *, paired: bool) -> Entrant | None:
        """Return the rival: one model, or one for each seed where it learned from rows that change with the seed."""
        plain_last = sorted(runs, key=lambda name: name not in self.question.twins)  # a rival learns from the same rows
        by_seed = {run.seed: run for name in plain_last for run in runs[name] if run.kept.rival}
        if not by_seed or not self.question.rival:
            return None
        varies = paired and self.question.rival != "untuned"
        chosen = [by_seed[seed] for seed in sorted(by_seed)][: None if varies else 1]
        scores = [self._score(run.kept.rival, run.kept.targets) for run in chosen]
        return Entrant.of(
            self.question.rival, [run.seed for run in chosen] if varies else [], scores, self.question.metric
        )

    def _margin(self, reference: float) -> float | None:
        """Return the difference that counts as none; None where the reference's value gives no measure for it."""
        if self.question.margin is not None:
            return self.question.margin
        if is_fraction(self.question.metric):
            return MARGIN_SHARE
        if is_percentage(self.question.metric):
            return 100 * MARGIN_SHARE
        return MARGIN_SHARE * abs(reference) or None

    def _p_of_models(
        self, runs: Mapping[str, Sequence[FinishedRun]], pairs: Sequence[tuple[str, str]]
    ) -> dict[str, float] | None:
        """Return exact tests between single models, where every method has one seed."""
        if any(len(own) > 1 for own in runs.values()):
            return None
        question = self.question
        outputs = {name: own[0].kept.outputs for name, own in runs.items()}
        targets = next(iter(runs.values()))[0].kept.targets
        if rival := next((own[0].kept.rival for own in runs.values() if own[0].kept.rival), None):
            outputs[question.rival] = rival
        return {
            name: models_p_value(
                question.task,
                question.metric,
                outputs[name],
                outputs[reference],
                targets,
                seed=question.seed,
                groups_N=question.groups,
            )
            for name, reference in pairs
        }


def cut_by_seed(runs: Mapping[str, Sequence[FinishedRun]]) -> bool:
    """Say whether there were other training rows with every seed: drawn anew, or left by other validation rows."""
    return any(len({run.training_hash for run in own}) > 1 for own in runs.values())


def _pairs_with_best(found: Sequence[Estimate], *, higher: bool) -> list[tuple[str, str]]:
    """Return every method whose mean is known, the better ones first, with the one whose mean is best."""
    known = [one for one in found if math.isfinite(one.mean)]
    names = [one.method for one in sorted(known, key=lambda one: one.mean, reverse=higher)]
    return [(name, names[0]) for name in names[1:]]


def _points(directory: RunDirectory, metric: str) -> list[tuple[int, float, float | None]]:
    seconds, points = 0.0, []
    for record in map(json.loads, directory.metrics.read_text(encoding="utf-8").splitlines()):
        if record["kind"] == "step":
            seconds += record["seconds"]
        elif record["kind"] == "evaluation":
            points.append((record["step"], seconds, {**record["metrics"], "loss": record["loss"]}.get(metric)))
    return points
