"""Generated answers, before and after fine-tuning: long ones folded, code in blocks of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tunesmith import readable
from tunesmith.report.records import AnswerRecord

MOST_ANSWERS = 20
LONGEST_TEXT = 8_000
"""Characters of a text that are in the page at all."""
FOLDED_FROM = 900
"""Characters above which a text is folded."""
FOLDED_LINES = 16
HEAD = 480
"""Characters of a folded text that are seen."""
HEAD_LINES = 8

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a text."""

    kind: Literal["prose", "code"]
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to be read: all of it, and how it begins where it is folded."""

    name: str
    segments: Sequence[Segment]
    head: str = ""
    """What is seen of a folded text; empty where nothing is folded."""
    size: str = ""
    """``2,345 characters``."""
    note: str = ""
    absence: str = "empty"
    """What is said of a text without anything in it."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """One prompt with what was answered, and what the data says."""

    row: str
    prompt: Passage
    answers: Sequence[Passage]
    """Before and after fine-tuning, or only after."""
    reference: Passage | None


def answer_views(answers: Sequence[AnswerRecord]) -> list[AnswerView]:
    """Lay out the first answers; those before fine-tuning only where there are any."""
    has_before = any(answer.before is not None for answer in answers)
    return [_view(answer, has_before=has_before) for answer in answers[:MOST_ANSWERS]]


def _view(answer: AnswerRecord, *, has_before: bool) -> AnswerView:
    reference = answer.reference.strip()
    answers = [passage("After fine-tuning", answer.after, _note(answer.after, reference))]
    if has_before and answer.before is None:
        answers.insert(0, Passage("Before fine-tuning", (), absence="not asked for"))
    elif has_before:
        answers.insert(0, passage("Before fine-tuning", answer.before or "", _note(answer.before or "", reference)))
    return AnswerView(
        row=answer.row,
        prompt=passage("Prompt", answer.prompt),
        answers=answers,
        reference=passage("Reference", reference) if reference else None,
    )


def _note(text: str, reference: str) -> str:
    return "same as the reference" if reference and text.strip() == reference else ""


def passage(name: str, text: str, note: str = "") -> Passage:
    """Cut a text into prose and code, and fold it where it is long."""
    text = text.strip("\n").rstrip()
    shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT].rstrip()} …"
    segments = list(segments_of(shown))
    if len(text) <= FOLDED_FROM and text.count("\n") < FOLDED_LINES:
        return Passage(name, segments, note=note)
    head = "\n".join(shown[:HEAD].splitlines()[:HEAD_LINES]).rstrip()
    return Passage(name, segments, f"{head} …", f"{readable.count(len(text))} characters", note)


def segments_of(text: str) -> Iterator[Segment]:
    """Yield prose and the content of Markdown's fenced code blocks; one that is not closed goes on to the end."""
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        match = _FENCE.fullmatch(line)
        closes = match and fence and match[1].startswith(fence) and not match[2]
        if match and (closes or not fence):
            yield from _segment("code" if fence else "prose", lines)
            lines, fence = [], "" if closes else match[1]
        else:
            lines.append(line)
    yield from _segment("code" if fence else "prose", lines)


def _segment(kind: Literal["prose", "code"], lines: Sequence[str]) -> Iterator[Segment]:
    text = "\n".join(lines)
    if kind == "prose":
        text = text.strip("\n")
    if text.strip():
        yield Segment(kind, text)
