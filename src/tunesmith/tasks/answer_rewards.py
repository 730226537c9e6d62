"""What an answer is worth: the parts that a reward is made of.

Shapes: A answers, P parts of a reward.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tunesmith.config.base import Config
from tunesmith.metrics.answers import answered_number, normalised
from tunesmith.tasks.asked_question import Question
from tunesmith.tasks.judge import FloatArray
from tunesmith.tasks.reward_function import RewardFunction
from tunesmith.types import InputError

Kind = Literal["number", "text", "regex", "length", "function", "run"]
KINDS: tuple[Kind, ...] = ("number", "text", "regex", "length", "function", "run")

_NEEDS: Mapping[str, str] = {"regex": "pattern", "length": "most", "function": "function", "run": "run"}
"""The field that a kind cannot do without."""
_OWN: Mapping[str, Kind] = {
    "pattern": "regex",
    "counts": "regex",
    "most": "length",
    "margin": "length",
    "function": "function",
    "run": "run",
}
"""The kind that a field belongs to."""
_IS_NUMBER = re.compile(r"[-+$€£¥]*\d[\d,]*\.?\d*%?")


class RewardPart(Config):
    """One part of the reward of an answer."""

    by: Kind
    """How it is found: the exact `number` or the exact `text` of the reference; a `regex` that the answer fits; its
    `length`; a `function` of a Python file; a `run` of the task `reward` as judge."""
    weight: float = 1.0
    """What it is multiplied by before all parts are added up."""
    pattern: str | None = None
    """The regular expression of `regex`; a dot stands for line ends, too."""
    counts: Literal["whole", "anywhere", "share"] = "whole"
    """What of `regex` is worth 1: that the whole answer fits, or some part of it; or the share of the answer's
    characters that lie in parts that fit."""
    most: Annotated[int, Field(ge=1)] | None = None
    """The tokens up to which a `length` is worth 1."""
    margin: Annotated[int, Field(ge=0)] = 0
    """Tokens beyond `most` over which it falls evenly to 0 (as in DAPO, Yu et al. 2025, eq. 13)."""
    function: str | None = None
    """`FILE.py:NAME`: called with those of `prompt`, `answer`, `reference`, `row` that it takes; gives a number."""
    run: str | None = None
    """The folder of a finished run that scores answers."""
    sha256: str | None = None
    """Of the function's file: written by the program."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        """Read `number`, `regex:PATTERN`, `length:200`, `run:FOLDER`, `FILE.py:NAME`."""
        if not isinstance(given, str):
            return given
        kind, _, rest = given.strip().partition(":")
        if kind in _NEEDS and rest:
            return {"by": kind, _NEEDS[kind]: rest}
        if kind.endswith(".py"):
            return {"by": "function", "function": given.strip()}
        return {"by": given.strip()}

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = _NEEDS.get(self.by)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"{self.by} needs {needed}: {{by: {self.by}, {needed}: ...}}")
        fields = type(self).model_fields
        for name, kind in _OWN.items():
            if kind != self.by and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} belongs to {kind}, and this part is {self.by}")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"pattern is no regular expression: {error}") from error
        if self.function is not None:
            file, _, name = self.function.rpartition(":")
            if not file.endswith(".py") or not name.isidentifier():
                raise ValueError(f"function is {self.function!r}; expected FILE.py:NAME")
        return self

    def settled(self) -> RewardPart:
        """Return the part with its file or run as it is found from anywhere, and the file's hash.

        Raises ``InputError`` where there is no such function, or the file is another one than it was.
        """
        if self.run is not None:
            return self.changed(run=str(Path(self.run).expanduser().absolute()))
        if self.function is None:
            return self
        found = RewardFunction.of(self.function, self.sha256)
        return self.changed(function=found.full_name, sha256=found.sha256)

    def scorer(self) -> Callable[[str, int, Question], float]:
        """Return what gives an answer of so many tokens its worth; nan where only a model can say.

        What it returns raises ``RunError`` where a function of the user's fails.
        """
        if self.function is not None:
            own = RewardFunction.of(self.function, self.sha256)
            return lambda answer, _, question: own(answer, question)
        ways: Mapping[str, Callable[[str, int, str | None], float]] = {
            "number": lambda answer, _, reference: float(has_number(answer, reference)),
            "text": lambda answer, _, reference: float(has_text(answer, reference)),
            "regex": lambda answer, *_: self._fit(answer),
            "length": lambda _, length, *__: self._brevity(length),
            "run": lambda *_: np.nan,
        }
        way = ways[self.by]
        return lambda answer, length, question: way(answer, length, question.reference)

    def _fit(self, answer: str) -> float:
        pattern = re.compile(self.pattern or "", re.DOTALL)
        if self.counts == "share":
            return sum(len(match[0]) for match in pattern.finditer(answer)) / max(len(answer), 1)
        return float((pattern.fullmatch if self.counts == "whole" else pattern.search)(answer) is not None)

    def _brevity(self, length: int) -> float:
        assert self.most is not None
        return min(max(1 - (length - self.most) / (self.margin + 1), 0.0), 1.0)


def has_number(answer: str, reference: str | None) -> bool:
    """Say whether an answer comes to the number that the reference comes to: see ``metrics.answers``."""
    wanted = None if reference is None else answered_number(reference)
    return wanted is not None and answered_number(answer) == wanted


def has_text(answer: str, reference: str | None) -> bool:
    """Say whether an answer is the reference, letter case and white space put aside."""
    return reference is not None and normalised(answer) == normalised(reference)


def is_right(answer: str, reference: str | None) -> float:
    """Return 1 for a right answer, 0 for a wrong one, nan without a reference.

    A reference that is a number, or has a last line ``#### 42``, stands for that number; any other is compared as text.
    """
    if reference is None:
        return np.nan
    if "####" in reference or _IS_NUMBER.fullmatch(reference.strip()):
        return float(has_number(answer, reference))
    return float(has_text(answer, reference))


def names_of(parts: Sequence[RewardPart]) -> list[str]:
    """Return what the parts are called in records, each by its kind or function; those of one name are numbered."""
    plain = [part.by if part.function is None else part.function.rpartition(":")[2] for part in parts]
    counts = {name: plain.count(name) for name in plain}
    return [
        name if counts[name] == 1 else f"{name}_{plain[: index + 1].count(name)}" for index, name in enumerate(plain)
    ]


def score_answers(
    parts: Sequence[RewardPart],
    answers: Sequence[str],
    lengths: Sequence[int],
    questions: Sequence[Question],
    judged: Mapping[str, FloatArray],
) -> FloatArray:
    """Return [A, P]: what each part gives each answer.

    ``judged`` holds, by the names of the parts, the scores [A] of those that only a model can give.
    """
    found = np.empty((len(answers), len(parts)))
    for column, (name, part) in enumerate(zip(names_of(parts), parts, strict=True)):
        if name in judged:
            found[:, column] = judged[name]
            continue
        rows, score = zip(answers, lengths, questions, strict=True), part.scorer()
        found[:, column] = [score(answer, length, question) for answer, length, question in rows]
    return found


def require_parts(parts: Sequence[RewardPart]) -> None:
    """Raise ``InputError`` where nothing says what an answer is worth."""
    if not parts:
        raise InputError(
            "task.rewards is empty: nothing says what an answer is worth.",
            "Give --task.rewards number (the reference's number), text, regex:PATTERN, length:200, rewards.py:score (a "
            "function of yours), run:RUN (a reward model), or several in a list with weights.",
        )
