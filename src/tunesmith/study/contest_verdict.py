"""The verdict of a contest in one plain sentence, and in another what to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.readable import count, interval, is_fraction, is_percentage, metric_phrase, number
from tunesmith.study.contest_statistics import Question
from tunesmith.types import Interval

CHEAPER = 0.9
"""A method takes less time than another where it takes at most this part of it."""


def verdict_of(
    methods: Sequence[Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    question: Question,
    margin: float | None,
) -> str:
    """Return what the contest shows, and no more than that: ``methods`` and ``comparisons`` are those of the record."""
    judged = {one["name"]: one for one in methods if one["state"] == "done" and _is_known(one["mean"])}
    if not judged:
        return "No method could be judged: the reason stands beside each."
    if question.reference not in judged:
        return f"{question.reference}, which all others are compared with, could not be judged."
    reference = judged[question.reference]
    if not comparisons:
        shown = interval(Interval(reference["mean"], reference["low"], reference["high"]))
        what = f"{metric_phrase(question.metric)} {shown}"
        return f"Only {_named(reference)} was judged: {what}{_basis(reference, judged, question)}."
    said = _Words(judged, comparisons, question, margin)
    return said.sentence()


class _Words:
    def __init__(
        self,
        judged: Mapping[str, Mapping[str, Any]],
        comparisons: Sequence[Mapping[str, Any]],
        question: Question,
        margin: float | None,
    ) -> None:
        self.judged, self.question, self.margin = judged, question, margin
        self.of = {verdict: [one for one in comparisons if one["verdict"] == verdict] for verdict in _VERDICTS}
        self.reference = judged[question.reference]
        self.are_models = any(one["scope"] == "models" for one in comparisons)

    def sentence(self) -> str:
        """Return the sentence for what was found, the strongest finding first."""
        text = self._better() or self._equivalent() or self._worse() or self._undecided()
        return f"{self._begun(text)}{_basis(self.reference, self.judged, self.question)}."

    def choice(self, candidates: Sequence[str]) -> dict[str, str]:
        """Return the method to take, and the sentence that says why; the reference is the method of the best mean."""
        best = self.question.reference
        equal = min(self.of["equivalent"], key=lambda one: self._seconds(one["method"]), default=None)
        if equal is not None and self._seconds(equal["method"]) <= CHEAPER * self._seconds(best):
            why = f"as good as {self._title(self.reference)}, which came out best, within {self._size(self.margin)}"
            return {"method": equal["method"], "reason": f"Take {self._name(equal)}: {why}{self._cost(equal)}."}
        others = [self._title(self.judged[name]) for name in candidates[1:]]
        value = f"{metric_phrase(self.question.metric)} {number(self.reference['mean'])}"
        if not others:
            why = f"the best of all ({value})"
        elif len(others) == sum(map(len, self.of.values())):
            why = f"it came out best ({value}), though any of the others may be better"
        else:
            why = f"it came out best ({value}), and only {_list(others)} may be better"
        return {"method": best, "reason": f"Take {self._title(self.reference)}: {why}."}

    def _begun(self, text: str) -> str:
        """Return the beginning of a sentence; the name of a method stays as it is given in configurations."""
        is_name = any(text.startswith(f"{name} ") for name in self.judged)
        return text if is_name else text[:1].upper() + text[1:]

    def _better(self) -> str:
        if not self.of["better"]:
            return ""
        sign = 1 if self.question.higher else -1
        best = max(self.of["better"], key=lambda one: sign * one["difference"])
        others = [one for one in self.of["better"] if one is not best]
        also = f"; so {_are(others)} {_list([self._name(one) for one in others])}, by less" if others else ""
        return (
            f"{self._name(best)} is better than {self._title(self.reference)} by {self._amount(best)}"
            f"{self._cost(best)}{also}"
        )

    def _equivalent(self) -> str:
        alike = self.of["equivalent"]
        if not alike:
            return ""
        within = f"within {self._size(self.margin)}"
        cheapest = min(alike, key=lambda one: self._seconds(one["method"]))
        mine, its = self._seconds(self.question.reference), self._seconds(cheapest["method"])
        if its <= CHEAPER * mine:
            others = [one for one in alike if one is not cheapest]
            also = f"; so {_are(others)} {_list([self._name(one) for one in others])}" if others else ""
            return (
                f"{self._name(cheapest)} is as good as {self._title(self.reference)} {within} "
                f"({self._amount(cheapest, signed=True)}){self._cost(cheapest)}{also}"
            )
        names = _list([self._name(one) for one in alike])
        return (
            f"{names} {_are(alike)} as good as {self._title(self.reference)} {within}, and {_none(alike)} takes less "
            "time"
        )

    def _worse(self) -> str:
        worse, undecided = self.of["worse"], self.of["undecided"]
        if not worse or undecided:
            return ""
        sign = 1 if self.question.higher else -1
        nearest = max(worse, key=lambda one: sign * one["difference"])
        if len(worse) == 1:
            return f"{self._title(self.reference)} is better than {self._name(nearest)} by {self._amount(nearest)}"
        return (
            f"{self._title(self.reference)} is better than all others, by {self._amount(nearest)} than the next, "
            f"{self._name(nearest)}"
        )

    def _undecided(self) -> str:
        open_ones = self.of["undecided"]
        names = _list([self._name(one) for one in open_ones])
        worse = self.of["worse"]
        also = f" {_list([self._name(one) for one in worse])} {_are(worse)} worse;" if worse else ""
        clearest = min(open_ones, key=lambda one: one["p"] if _is_known(one["p"]) else math.inf)
        advice = f"; {clearest['advice']}" if clearest["advice"] else ""
        differs = "differs" if len(open_ones) == 1 else "differs most clearly,"
        return (
            f"whether {names} {_are(open_ones)} as good as {self._title(self.reference)} is undecided:{also} "
            f"{self._name(clearest)} {differs} by {self._amount(clearest, signed=True)}{advice}"
        )

    # ---- words ------------------------------------------------------------------------------------

    def _name(self, one: Mapping[str, Any]) -> str:
        return self._title(self.judged[one["method"]])

    def _title(self, method: Mapping[str, Any]) -> str:
        name = _named(method)
        return f"this model of {name}" if self.are_models and method["learning_rate"] is not None else name

    def _seconds(self, name: str) -> float:
        seconds = self.judged[name]["seconds"]
        return float(seconds) if _is_known(seconds) else math.inf

    def _cost(self, one: Mapping[str, Any]) -> str:
        """Say how much of the reference's training time a method takes."""
        mine, its = self._seconds(self.question.reference), self._seconds(one["method"])
        if not (math.isfinite(mine) and math.isfinite(its) and mine > 0):
            return ""
        ratio = its / mine
        return f", in {number(ratio, decimals=2 if ratio < 10 else 0)} times its training time"

    def _size(self, value: float | None) -> str:
        if value is None:
            return "the margin"
        scale, unit = self._unit(value)
        return f"{number(value * scale, decimals=None if not unit else 0 if value * scale >= 1 else 1)}{unit}"

    def _amount(self, one: Mapping[str, Any], *, signed: bool = False) -> str:
        """Return a difference with its interval; without signs where the sentence has the direction."""
        values = [one["difference"], one["low"], one["high"]]
        if not all(map(_is_known, values)):
            return "an amount that could not be measured"
        scale, unit = self._unit(max(map(abs, values)))
        if not signed and values[0] < 0:
            values = [-values[0], -values[2], -values[1]]
        texts = [number(value * scale, decimals=1 if unit else None) for value in values]
        sign = "+" if signed and values[0] > 0 else ""
        what = "" if unit else f" in {metric_phrase(self.question.metric)}"
        return f"{sign}{texts[0]}{unit}{what} [{texts[1]}, {texts[2]}]"

    def _unit(self, largest: float) -> tuple[float, str]:
        if is_fraction(self.question.metric):
            return 100.0, " point" if abs(largest) * 100 == 1 else " points"
        return 1.0, " points" if is_percentage(self.question.metric) else ""


def choice_of(
    methods: Sequence[Mapping[str, Any]],
    beside_best: Sequence[Mapping[str, Any]],
    candidates: Sequence[str],
    question: Question,
    margin: float | None,
) -> dict[str, Any] | None:
    """Return what to take until more is known, and why: the best mean, or what is as good and takes less time.

    Args:
        methods: Those of the record.
        beside_best: Comparisons of all others with the method of the best mean, as in the record.
        candidates: Who may be the best, by their means.
        question: What the contest is about.
        margin: The difference that does not count.

    Returns:
        ``{"method", "candidates", "reason"}``; None where there is nothing to choose from.
    """
    if not candidates:
        return None
    judged = {one["name"]: one for one in methods}
    said = _Words(judged, beside_best, replace(question, reference=candidates[0]), margin)
    return {**said.choice(candidates), "candidates": list(candidates)}


_VERDICTS = ("better", "worse", "equivalent", "undecided")


def _named(method: Mapping[str, Any]) -> str:
    """Return a method as it stands in a sentence: by its name, or in words where nothing is trained for it."""
    return str(method["title"] if method["learning_rate"] is None else method["name"])


def _basis(method: Mapping[str, Any], judged: Mapping[str, Mapping[str, Any]], question: Question) -> str:
    """Say what a sentence rests on; a rival that is the reference has the seeds of those compared with it."""
    drawn = "" if question.shots is None else f"{_shots(question)}, "
    number = method["seeds"] or max((one["seeds"] for one in judged.values()), default=0)
    num_rows = question.num_rows["test"]
    rows = "1 test row" if num_rows == 1 else f"{count(num_rows)} test rows"
    return f" ({metric_phrase(question.metric)} on {rows}, {drawn}{question.seeds(number)})"


def _shots(question: Question) -> str:
    """Say how many rows every draw trains on."""
    total, shots = question.num_rows["train"], question.shots
    return f"{count(total)} training rows" if total == shots else f"{shots} training rows a class ({count(total)})"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(ones: Sequence[object]) -> str:
    return "is" if len(ones) == 1 else "are"


def _none(ones: Sequence[object]) -> str:
    return "it" if len(ones) == 1 else "none of them"


def _is_known(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
