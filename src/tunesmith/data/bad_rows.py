"""How many rows may be left out because of their form, and what is said of them.

A few bad rows are the file's fault; many are the fault of a wrong guess about how it is
written. One rule for everybody who leaves rows out for their form: readers, forms of rows,
and tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith.types import MAX_ROWS_SHOWN, Problem

BadRows = Literal["auto", "quarantine", "refuse"]

MAX_ROWS = 3
"""So many rows may be left out of any file..."""
MAX_SHARE = 0.01
"""...and of a large one this share of its rows."""
NUM_SHOWN = 3
_SHOWN_CHARACTERS = 120

_QUARANTINE = "leave them out with data.bad_rows quarantine"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows of one file or split that cannot be used because of their form."""

    source: str
    """The file, or the split."""
    count: int
    total: int
    """Rows in all, these among them."""
    what: str = "cannot be read"
    """What is wrong with them, as it follows on "3 of 200 rows"."""
    places: tuple[str, ...] = ()
    """Of the first ones, as ``file:line``."""
    shown: tuple[str, ...] = ()
    """The first ones themselves, each with its reason."""
    guess: str = ""
    """How the file was taken to be written, in words; empty where nothing was guessed."""
    flag: str = ""
    """The option, or options, that decide it instead: ``data.delimiter``."""
    fix: str = ""
    """Another way to mend it, as an instruction."""

    @property
    def are_few(self) -> bool:
        """Whether they can be the file's fault: not more than three of them, or than 1%, and not most rows."""
        return _are_few(self.count, self.total)


def _are_few(count: int, total: int) -> bool:
    return count <= max(MAX_ROWS, MAX_SHARE * total) and count <= total / 2


def judge_all(found: Sequence[LeftOut], bad_rows: BadRows) -> list[Problem]:
    """Return what is to be said of rows of one file or split that are left out for several reasons.

    What may be left out is counted for all reasons together.
    """
    if bad_rows == "auto" and found and not _are_few(sum(one.count for one in found), found[0].total):
        bad_rows = "refuse"
    return [judge(one, bad_rows) for one in found]


def judge(left_out: LeftOut, bad_rows: BadRows) -> Problem:
    """Return the warning that the rows were left out, or the error that they cannot be.

    ``auto`` lets a few go; ``quarantine`` any number, as long as one is left; ``refuse`` none.
    """
    is_allowed = {"auto": left_out.are_few, "quarantine": left_out.count < left_out.total, "refuse": False}[bad_rows]
    places = left_out.places[:MAX_ROWS_SHOWN]
    share = f" ({left_out.count / left_out.total:.1%})" if left_out.count > MAX_ROWS else ""
    message = f"{left_out.source}: {left_out.count} of {left_out.total} rows{share} {left_out.what}"
    if is_allowed:
        first = f"; the first: {left_out.shown[0]}" if left_out.shown else ""
        message = f"{message} and were left out{first}."
        fix = "Mend them, or refuse them with data.bad_rows refuse."
        return Problem("warning", message, fix, left_out.count, places)
    guess = f"; it was read with {left_out.guess}" if left_out.guess else ""
    rows = f". The first: {'; '.join(left_out.shown[:NUM_SHOWN])}" if left_out.shown else ""
    return Problem("error", f"{message}{guess}{rows}.", _ways_out(left_out), left_out.count, places)


def _ways_out(left_out: LeftOut) -> str:
    ways = [f"If that is wrong, give {left_out.flag}"] if left_out.flag else []
    ways.append(left_out.fix or "mend them")
    if left_out.count < left_out.total:
        ways.append(_QUARANTINE)
    words = ", or ".join([*filter(None, [", ".join(ways[:-1])]), ways[-1]])
    return f"{words[0].upper()}{words[1:]}."


def show_row(content: object, reason: str = "") -> str:
    """Return a row as it stands in a message: its first characters in quotes, and what is wrong with it."""
    text = " ".join(str(content).split())
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
    return f"“{text}” ({reason})" if reason else f"“{text}”"


def errors_among(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems that are errors."""
    return [problem for problem in problems if problem.severity == "error"]
