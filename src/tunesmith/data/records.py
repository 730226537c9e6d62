"""What reading and preparing hand on: rows with where they came from and what was wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.types import ColumnChoice, Guess, Problem

if TYPE_CHECKING:
    import numpy.typing as npt

    from tunesmith.data.rows import Rows

ROW = "__row__"
"""Column of raw rows that says where a row stands, as ``reviews.csv:17``."""

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that could not be read."""

    place: str
    """``file:line``."""
    reason: str
    content: str
    """The first characters of the row."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or one split of a hub data set, that rows were read from."""

    name: str
    split: str
    sha256: str
    """Of the file's bytes; of the source's fingerprint for hub data."""
    num_rows: int
    format: str
    encoding: str = ""


@dataclass(frozen=True, slots=True)
class RawData:
    """The user's rows with their own columns, memory-mapped, plus ``__row__``."""

    splits: Mapping[str, Rows]
    """By ``train``, ``validation`` and ``test``, as far as the user gave them."""
    problems: tuple[Problem, ...]
    sources: tuple[Source, ...]
    rejected: tuple[RejectedRow, ...] = ()
    """Every row that was left out because it could not be read."""
    group: str | None = None
    """Column that the data's own author says must not cross splits; ``data.group`` goes before it."""
    is_plain_text: bool = False
    """Whether all splits come from text files without columns, which ``data.passage`` can join into passages."""
    guesses: tuple[Guess, ...] = ()
    """How the files' forms were chosen, and what else they could have been."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Rows in a task's canonical columns (the roles) plus ``row``, the place a row came from."""

    splits: Mapping[str, Rows]
    """``train`` always; ``validation`` and ``test`` as given or cut."""
    choices: tuple[ColumnChoice, ...]
    problems: tuple[Problem, ...]
    """What was cleaned, cut and noticed here, with counts; what reading noticed stands in ``RawData.problems``."""
    hashes: Mapping[str, str]
    """SHA-256 of each split's canonical content in its order, places left out."""
    key: str = ""
    """Stands in the cache for all of this: rows with their places, and what was noticed."""
    guesses: tuple[Guess, ...] = ()
    """How the chosen columns are written, chosen by what explains most rows of all splits."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many of the rows that could be read were left out, by the reason."""
    folder: Path | None = None
    """Where all of this lies in the cache."""

    def groups(self, split: str) -> npt.NDArray[np.uint64] | None:
        """Return which rows of a split belong together: [N] numbers, equal for rows of one group; None without any."""
        return self._kept(groups_file(split))

    def sets(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return which set of a mixture each row of a split is of: [N] numbers from 0 on; None where there is none."""
        return self._kept(sets_file(split))

    def _kept(self, name: str) -> npt.NDArray[Any] | None:
        path = None if self.folder is None else self.folder / name
        return None if path is None or not path.exists() else np.load(path, allow_pickle=False)


def sets_file(split: str) -> str:
    """Return the name of the file that says which set of a mixture each row of a split is of."""
    return f"sets-{split}.npy"


def groups_file(split: str) -> str:
    """Return the name of the file that says which rows of a split belong together."""
    return f"groups-{split}.npy"


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """Return the problem as JSON-ready values."""
    return {**asdict(problem), "rows": list(problem.rows)}


def problem_from_dict(values: Mapping[str, Any]) -> Problem:
    """Return the problem that ``problem_to_dict`` described."""
    return Problem(**{**values, "rows": tuple(values["rows"])})


def guess_to_dict(guess: Guess) -> dict[str, Any]:
    """Return the guess as JSON-ready values: what readers put into ``details["guesses"]``, one after the other."""
    return {**asdict(guess), "alternatives": [list(one) for one in guess.alternatives]}


def guess_from_dict(values: Mapping[str, Any]) -> Guess:
    """Return the guess that ``guess_to_dict`` described."""
    alternatives = tuple((str(reading), int(count)) for reading, count in values.get("alternatives", ()))
    return Guess(**{**values, "alternatives": alternatives})
