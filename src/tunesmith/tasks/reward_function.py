"""A function of the user's that says what an answer is worth."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tunesmith.files.hashing import hash_file
from tunesmith.types import InputError, RunError

if TYPE_CHECKING:
    from tunesmith.tasks.asked_question import Question

KNOWN = ("prompt", "answer", "reference", "row")
"""What a function may take, by these names."""


@dataclass(frozen=True)
class RewardFunction:
    """A function of a Python file, run as the user wrote it."""

    path: Path
    name: str
    sha256: str
    """Of the file."""
    function: Callable[..., Any]
    takes: tuple[str, ...]

    @classmethod
    def of(cls, spelled: str, sha256: str | None = None) -> Self:
        """Return the function ``FILE.py:NAME``; the file is run the first time.

        Raises ``InputError`` where there is none, it takes something else than it is given, or the file is not that of
        the hash.
        """
        file, _, name = spelled.rpartition(":")
        path = Path(file).expanduser().absolute()
        if not path.is_file():
            raise InputError(f"task.rewards: there is no file {file}.", "Give the Python file and a function of it.")
        found = hash_file(path)
        if sha256 is not None and found != sha256:
            raise InputError(
                f"task.rewards: {path} has changed since the run was started.",
                "Bring the file back as it was, or start a new run with --output.",
            )
        function, takes = _loaded(path, name, found)
        return cls(path, name, found, function, takes)

    @property
    def full_name(self) -> str:
        """The same as ``of`` reads it, from whatever folder."""
        return f"{self.path}:{self.name}"

    def __call__(self, answer: str, question: Question) -> float:
        """Return what the function gives an answer; ``RunError``, with the row, where it gives no number."""
        given = {"prompt": question.prompt, "answer": answer, "reference": question.reference, "row": question.row}
        try:
            value = self.function(**{name: given[name] for name in self.takes})
        except Exception as error:
            raise RunError(
                f"{self.full_name} failed on an answer to {question.place}{_line(error, self.path)}: "
                f"{type(error).__name__}: {error}. The answer was: {_shown(answer)}\n"
                "  → Mend the function, so that it gives every answer a number."
            ) from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise RunError(
                f"{self.full_name} gave {value!r} for an answer to {question.place}; expected a finite number, or true "
                f"or false. The answer was: {_shown(answer)}\n  → Let it return a number for every answer."
            )
        return number


@cache
def _loaded(path: Path, name: str, sha256: str) -> tuple[Callable[..., Any], tuple[str, ...]]:  # noqa: ARG001 (a key)
    """Run a file of this content, once, and return its function with what that takes."""
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), namespace)  # noqa: S102 (the user's own file)
    except Exception as error:
        message = f"task.rewards: {path} cannot be run{_line(error, path)}: {type(error).__name__}: {error}."
        raise InputError(message, "Mend the file; python FILE shows the same.") from error
    function = namespace.get(name)
    if not callable(function):
        known = sorted(one for one, value in namespace.items() if inspect.isfunction(value) and one[0] != "_")
        listed = ", ".join(known) or "none"
        raise InputError(f"task.rewards: {path} has no function {name}.", f"Functions there: {listed}.")
    return function, _names_taken(inspect.signature(function).parameters, path, name)


def _names_taken(parameters: Mapping[str, inspect.Parameter], path: Path, name: str) -> tuple[str, ...]:
    kinds = {one.kind for one in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return KNOWN
    named = [one for one in parameters.values() if one.kind is not inspect.Parameter.VAR_POSITIONAL]
    unknown = [one.name for one in named if one.name not in KNOWN and one.default is inspect.Parameter.empty]
    unfit = [one.name for one in named if one.kind is inspect.Parameter.POSITIONAL_ONLY]
    if unknown or unfit:
        raise InputError(
            f"task.rewards: {path}:{name} asks for {', '.join(unknown or unfit)}; it is given, by name, those of "
            f"{', '.join(KNOWN)} that it takes.",
            f"Write def {name}(prompt, answer, reference, row): ...",
        )
    return tuple(one.name for one in named if one.name in KNOWN)


def _line(error: Exception, path: Path) -> str:
    """Say on which line of the file an error arose."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f" (line {lines[-1]})" if lines else ""


def _shown(answer: str) -> str:
    text = repr(answer)
    return text if len(text) <= 200 else f"{text[:199]}…"
