"""Tidying, column by column and vectorised: every change is counted, none is made where it is switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.bounded import marks
from tunesmith.data.config import CleanConfig
from tunesmith.types import MAX_ROWS_SHOWN, Problem, Severity

# NUL and the other C0 and C1 controls but for tab and line ends, and the byte order mark.
_CONTROLS = "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f\\x{80}-\\x{9f}\\x{feff}]"
WHITE_SPACE = "".join(chr(code) for code in (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"

_LONG_TEXT = 8_000
"""Bytes of a text that may hold enough combining marks in a row to take long; see ``bounded.marks``."""

BoolArray = npt.NDArray[np.bool_]


@dataclass
class Tally:
    """Rows of one split that something happened to: how many, and the first places."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, mask: BoolArray, rows: pa.Array) -> None:
        """Count the rows in ``mask``; ``rows`` holds all places."""
        count = int(mask.sum())
        if not count:
            return
        self.counts[what] = self.counts.get(what, 0) + count
        shown = self.places.setdefault(what, [])
        for index in np.flatnonzero(mask)[: MAX_ROWS_SHOWN - len(shown)]:
            shown.append(str(rows[int(index)]))

    def merge(self, other: Tally) -> None:
        """Add what another split counted."""
        for what, count in other.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
            self.places[what] = (self.places.get(what, []) + other.places[what])[:MAX_ROWS_SHOWN]

    def problem(
        self, what: str, message: str, fix: str = "", *, is_warning: bool = False, shows_places: bool = True
    ) -> list[Problem]:
        """Return a note (or warning) on ``what`` if it happened; the first ``{rows}`` of the message is filled in."""
        if what not in self.counts:
            return []
        count = self.counts[what]
        severity: Severity = "warning" if is_warning else "note"
        places = tuple(self.places[what]) if shows_places else ()
        return [Problem(severity, message.replace("{rows}", plural(count), 1), fix, count, places)]


def plural(count: int) -> str:
    """Return ``1 row`` or ``n rows``."""
    return "1 row" if count == 1 else f"{count} rows"


def tidy_text(texts: pa.Array, config: CleanConfig, tally: Tally, rows: pa.Array) -> pa.Array:
    """Return a text column brought to one Unicode form, without control characters and outer white space."""
    for what, changed, differs in _tidied(texts, config):
        tally.add(what, differs, rows)
        texts = changed
    return texts


def tidy_parts(parts_N: Sequence[Sequence[str]], config: CleanConfig, tally: Tally, rows: pa.Array) -> list[list[str]]:
    """Tidy every one of the texts that each row consists of as ``tidy_text`` does; a row is counted once."""
    lengths = [len(parts) for parts in parts_N]
    row_of = np.repeat(np.arange(len(parts_N)), lengths)
    flat = pa.array([part for parts in parts_N for part in parts], pa.string())
    for what, changed, differs in _tidied(flat, config):
        mask = np.zeros(len(parts_N), dtype=np.bool_)
        mask[row_of[differs]] = True
        tally.add(what, mask, rows)
        flat = changed
    tidied = iter(flat.to_pylist())
    return [list(islice(tidied, length)) for length in lengths]


def _with_marks_in_order(texts: pa.Array, form: Literal["NFC", "NFKC"]) -> pa.Array:
    is_long = pc.fill_null(pc.greater(pc.binary_length(texts), _LONG_TEXT), False)
    if not pc.any(is_long).as_py():
        return texts
    ordered = [marks.in_order(text, form) for text in texts.filter(is_long).to_pylist()]
    return pc.replace_with_mask(texts, is_long, pa.array(ordered, texts.type))


def _tidied(texts: pa.Array, config: CleanConfig) -> Iterator[tuple[str, pa.Array, BoolArray]]:
    """Yield, for every step that changes something: its name, all texts after it, and which it changed."""
    steps: list[tuple[str, Callable[[pa.Array], pa.Array]]] = []
    if config.unicode != "none":
        form = config.unicode
        steps.append(("unicode", lambda array: pc.utf8_normalize(_with_marks_in_order(array, form), form=form)))
    if config.control_characters:
        steps.append(("controls", lambda array: pc.replace_substring_regex(array, _CONTROLS, "")))
    if config.whitespace:
        steps.append(("whitespace", lambda array: pc.utf8_trim(array, characters=WHITE_SPACE)))
    for what, step in steps:
        changed = step(texts)
        differs = pc.fill_null(pc.not_equal(changed, texts), False)
        if pc.any(differs).as_py():
            yield what, changed, differs.to_numpy(zero_copy_only=False)
            texts = changed


def tidy_notes(tally: Tally) -> list[Problem]:
    """Return what ``tidy_text`` counted as notes."""
    return [
        *tally.problem(
            "unicode", "{rows} brought to one Unicode form.", "Keep them as they are: data.clean.unicode none."
        ),
        *tally.problem(
            "controls",
            "Control characters (such as NUL) removed from {rows}.",
            "Keep them: data.clean.control_characters false.",
        ),
        *tally.problem(
            "whitespace",
            "White space around texts or labels removed in {rows}.",
            "Keep it: data.clean.whitespace false.",
        ),
        *tally.problem(
            "empty text",
            "{rows} without text left out.",
            "Keep them: data.clean.empty_rows false.",
            is_warning=True,
        ),
        *tally.problem(
            "empty label",
            "{rows} without a label left out.",
            "Keep them: data.clean.empty_rows false.",
            is_warning=True,
        ),
        *tally.problem(
            "duplicate",
            "{rows} left out because they repeat another row of their split (same text, same label).",
            "Keep them: data.clean.duplicates false.",
        ),
        *tally.problem(
            "leak",
            "{rows} left out of the training rows because their text also stands in validation or test.",
            "Keep them: data.clean.leaks false.",
        ),
        *tally.problem(
            "tokens",
            "Unicode form, control characters or white space of tokens mended in {rows}.",
            "Keep them as they are: data.clean.unicode none, control_characters false, whitespace false.",
        ),
        *tally.problem("limit", "{rows} not used, because of data.limit.", shows_places=False),
    ]


def is_blank(texts: pa.Array) -> BoolArray:
    """[N]: whether a text is missing or has nothing but white space and control characters."""
    visible = pc.utf8_trim(pc.replace_substring_regex(texts, _CONTROLS, ""), characters=WHITE_SPACE)
    blank: BoolArray = pc.fill_null(pc.equal(pc.utf8_length(visible), 0), True).to_numpy(zero_copy_only=False)
    return blank


def is_unlabelled(labels: pa.Array) -> BoolArray:
    """[N]: whether a label is missing: null, blank or not a number. An empty list is a label (none of them)."""
    if pa.types.is_string(labels.type):
        return is_blank(labels)
    missing = pc.is_null(labels, nan_is_null=True) if pa.types.is_floating(labels.type) else pc.is_null(labels)
    mask: BoolArray = missing.to_numpy(zero_copy_only=False)
    return mask
