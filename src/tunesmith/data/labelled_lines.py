"""Text files with a label before the text of every line: ``1 a fine film``, ``DESC:def What is …``, ``__label__x …``.

Whether a file is one is told by all of its lines: labels are few, come again and again, and are
no words of the texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tunesmith.data.cells import is_number
from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import Guess, Problem

Kind = Literal["fasttext", "vowpal", "number", "code", "word"]

LABEL, COARSE, TEXT = "label", "label_coarse", "text"

_PREFIX = "__label__"
_MARKED = re.compile(r"(?:^|\s)__label__\S")
_VOWPAL = re.compile(r"(?P<label>[+-]?[\w.]+)(?:\s+[\d.]+){0,2}\s*(?:'\S*\s*)?\|(?P<features>.*)")
"""``label [importance [base]] ['tag]|namespace words``, as Vowpal Wabbit reads it."""
_CODE = re.compile(r"[A-Za-z0-9][\w.+/&-]*:[\w.+/&-]+|[A-Z][A-Z0-9_+/&-]+|[A-Za-z][A-Za-z0-9]*[_/-][\w/-]+")
"""``COARSE:fine``, ``POSITIVE``, ``not_spam``: what is hardly ever the first word of a sentence."""
_WORD = re.compile(r"[a-z]+")
_MAX_LABELS = 1_000
_FEW_LABELS = 20
_NEEDED = 0.95
"""Share of the lines that must have a label: more than 1% without one are an error later, not another form."""
_MIN_LINES = 10
_LOOKED_AT = 2_000
"""Lines after which running text is told by the many words that begin one of them only."""
_REMEMBERED = 4_000
"""Lines of which the words are looked at."""


@dataclass(frozen=True, slots=True)
class LineForm:
    """How the labels of a file's lines are written."""

    kind: Kind
    num_lines: int
    """Lines that are not blank."""
    explained: int
    is_multiple: bool = False
    """Whether some line has several labels, or none."""
    has_coarse: bool = False
    """Whether every label has a coarse part before a colon."""


@dataclass
class _Survey:
    """What stands first in the lines of a file."""

    num_lines: int = 0
    num_marked: int = 0
    """Lines with ``__label__`` before a word, at the beginning or the end."""
    num_vowpal: int = 0
    """Lines that have a label before a bar, as Vowpal Wabbit reads them."""
    is_multiple: bool = False
    firsts: Counter[str] = field(default_factory=Counter)
    num_consecutive: int = 0
    """Lines that begin with a number one higher than that of the line before."""
    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.num_lines += 1
        if _MARKED.search(line):
            self.num_marked += 1
            self.is_multiple |= line.count(_PREFIX) > 1
            return
        self.num_vowpal += _VOWPAL.fullmatch(line) is not None
        first, _, rest = line.partition(" ")
        if not rest.strip():
            return
        self.firsts[first] += 1
        if first.isdecimal() and self.lines and self.lines[-1].partition(" ")[0] == str(int(first[:18]) - 1):
            self.num_consecutive += 1
        if len(self.lines) < _REMEMBERED:
            self.lines.append(line)
        elif first.isdecimal():
            self.lines[-1] = line

    @property
    def is_hopeless(self) -> bool:
        """Whether there are too many different beginnings for labels, or too many that come once."""
        if self.num_lines == _LOOKED_AT:
            once = sum(number == 1 for number in self.firsts.values())
            return once > max(50, 0.3 * len(self.firsts))
        return len(self.firsts) > _MAX_LABELS


def find_line_form(path: Path, encoding: str, like: tuple[str, ...]) -> LineForm | None:
    """Return how labels stand before the texts of a file's lines (or after them, as fastText allows); None without any.

    ``like`` holds the columns of the training file: what was read so there is less doubtful here.
    """
    survey = _Survey()
    with open_text(path, encoding) as text:
        for line in Lines(text):
            stripped = line.lstrip("\ufeff").strip()
            if stripped:
                survey.add(stripped)
                if survey.is_hopeless and not survey.num_marked and not survey.num_vowpal:
                    return None
    total = survey.num_lines
    if survey.num_marked and survey.num_marked >= 0.5 * total:
        return LineForm("fasttext", total, survey.num_marked, survey.is_multiple or survey.num_marked < total)
    if survey.num_vowpal >= max(_NEEDED * total, 1) and (total >= _MIN_LINES or like[:1] == (LABEL,)):
        return LineForm("vowpal", total, survey.num_vowpal)
    is_known = like[:1] == (LABEL,) and TEXT in like
    tests: dict[Kind, Callable[[str], bool]] = {
        "number": lambda first: is_number(first.removeprefix("+")),
        "code": lambda first: _CODE.fullmatch(first) is not None,
        "word": lambda first: _WORD.fullmatch(first) is not None,
    }
    for kind, test in tests.items():
        labels = Counter({first: number for first, number in survey.firsts.items() if test(first)})
        explained = labels.total()
        if explained >= _NEEDED * total and explained and (is_known or _are_labels(labels, kind, survey)):
            has_coarse = all(":" in label for label in labels)
            return LineForm(kind, total, explained, has_coarse=has_coarse)
    return None


def _are_labels(labels: Counter[str], kind: Kind, survey: _Survey) -> bool:
    """Say whether the first words of lines, all of one kind, are labels of what follows."""
    num_lines = labels.total()
    if num_lines < _MIN_LINES or len(labels) < 2 or len(labels) > num_lines / 4:
        return False
    if kind == "number":
        # Numbered lines count up; ratings do not.
        return len(labels) <= max(_FEW_LABELS, num_lines // 20) and survey.num_consecutive < 0.75 * num_lines
    once = sum(number == 1 for number in labels.values())
    if kind == "code":
        return once <= 0.2 * len(labels)
    if once or len(labels) > _FEW_LABELS or len(labels) > num_lines / 10:
        return False
    # What opens sentences again and again (the, we, it) also stands inside of them.
    known = {label.lower() for label in labels}
    inside = sum(bool(known.intersection(line.lower().split()[1:])) for line in survey.lines)
    return inside <= 0.25 * len(survey.lines)


def read_labelled_lines(
    path: Path, name: str, encoding: str, form: LineForm, *, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's lines to ``target``: ``label`` (a list where a line has several), ``text``, ``__row__``.

    Where every label has a coarse part (``DESC:def``), that is a column of its own.
    """
    labels = pa.list_(pa.string()) if form.is_multiple else pa.string()
    fields = [(LABEL, labels), (TEXT, pa.string()), (ROW, pa.string())]
    if form.has_coarse:
        fields.insert(1, (COARSE, pa.string()))
    with open_text(path, encoding) as text, TableWriter(target, pa.schema(fields)) as writer:
        lines = Lines(text)
        for line in lines:
            if not line.strip():
                continue
            place = f"{name}:{lines.number}"
            found, rest, reason = _split(line.lstrip("\ufeff").strip(), form)
            if lines.is_cut:
                reason = "the line is too long"
            elif has_marks(line):
                reason = describe_mark(line, encoding)
            if reason:
                rejected.add(place, reason, line)
                continue
            label: Any = found if form.is_multiple else found[0]
            coarse = [found[0].partition(":")[0]] if form.has_coarse else []
            writer.add([label, *coarse, rest, place], len(line))
    others = (("lines without labels", form.num_lines),)
    guess = Guess("line form", "label before text", form.explained, others, "data.passage 0")
    return {"format": "text with labels", "guesses": [guess_to_dict(guess)]}, list(_notes(name, form))


def _split(line: str, form: LineForm) -> tuple[list[str], str, str]:
    """Return the labels of a line, its text, and why it cannot be read."""
    if form.kind == "fasttext":
        return _split_marked(line, is_multiple=form.is_multiple)
    if form.kind == "vowpal":
        return _split_vowpal(line)
    first, _, rest = line.partition(" ")
    if not rest.strip():
        return [], "", "a label without a text"
    if form.kind == "number" and not is_number(first.removeprefix("+")):
        return [], "", f"{first!r} stands where a number is the label of other lines"
    if form.has_coarse and ":" not in first:
        return [], "", f"{first!r} stands where the label of other lines has a colon"
    return [first], rest.strip(), ""


def _split_marked(line: str, *, is_multiple: bool) -> tuple[list[str], str, str]:
    """Return the labels of a line that ``__label__`` stands before, wherever they are, and the rest as its text."""
    words = re.split(r"(\s+)", line)
    labels = [word.removeprefix(_PREFIX) for word in words[::2] if word.startswith(_PREFIX)]
    start = next((place for place in range(0, len(words), 2) if not words[place].startswith(_PREFIX)), len(words))
    rest = "".join(words[start:])
    if labels and words[start : start + 1] == [","]:  # as fastText's own normalised files have it
        rest = rest[1:].lstrip()
    if _PREFIX in rest:
        rest = " ".join(word for word in rest.split() if not word.startswith(_PREFIX))
    if not labels and not is_multiple:
        return [], "", f"no label ({_PREFIX}…) before the text"
    return labels, rest, ""


def _split_vowpal(line: str) -> tuple[list[str], str, str]:
    """Return label and words of a line for Vowpal Wabbit; names of namespaces and features with values are no words."""
    found = _VOWPAL.fullmatch(line)
    if found is None:
        return [], "", "no label before a bar"
    spaces = [space if space[:1].isspace() else space.partition(" ")[2] for space in found["features"].split("|")]
    words = [word for space in spaces for word in space.split() if not re.fullmatch(r"\S*:[+-]?[\d.]+", word)]
    return ([found["label"]], " ".join(words), "") if words else ([], "", "a label without words")


def _notes(name: str, form: LineForm) -> Iterator[Problem]:
    what = f"{_PREFIX}…" if form.kind == "fasttext" else "the first word"
    if form.kind == "vowpal":
        message = f"{name}: read as Vowpal Wabbit has it: the label first, then the words behind the bars."
        yield Problem("note", message, "Importance, tags and features with a value are not read.")
        return
    yield Problem(
        "note",
        f"{name}: {what} of every line was read as its label.",
        "If they are lines of text without labels: data.passage 0.",
    )
    if form.has_coarse:
        yield Problem(
            "note",
            f"{name}: labels have a coarse part before a colon, which is in a column of its own.",
            f"Learn that instead: data.columns.label {COARSE}.",
        )
