"""Single rows that went wrong, in finished words: what is true, what was predicted, and where the two differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.report.records import Mistake, SpanRecord

LONGEST_TEXT = 1_200
"""Characters of a wrongly predicted text that are shown."""
LONGEST_ANSWER = 400
"""Characters of a label that are shown: some are whole texts."""
MOST_ALIKE = 6
"""Spans that truth and prediction share are listed up to this many, and only counted above."""
NOTHING = "(none)"


@dataclass(frozen=True, slots=True)
class SpanView:
    """A piece of the text with its label."""

    text: str
    label: str
    is_right: bool
    """Whether the other side has it too."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is true, or what was predicted: a text, or spans of the row's text."""

    name: str
    text: str
    note: str = ""
    spans: Sequence[SpanView] = ()
    num_alike: int = 0
    """Spans that the other side has too and that are not listed."""


@dataclass(frozen=True, slots=True)
class WrongRow:
    """One mistake."""

    row: str
    text: str
    text_pair: str | None
    sides: Sequence[Side]

    @property
    def has_spans(self) -> bool:
        """Whether a side lists spans, which need room."""
        return any(side.spans or side.num_alike for side in self.sides)


def mistakes_title(mistakes: Sequence[Mistake]) -> str:
    """Return what the list shows, which the numbers of its entries tell."""
    if any(math.isfinite(mistake.error) for mistake in mistakes):
        return "Largest errors"
    if any(math.isfinite(number) for mistake in mistakes for number in (mistake.loss, mistake.perplexity)):
        return "Least expected rows"
    return "Most confident mistakes"


def wrong_row(mistake: Mistake) -> WrongRow:
    """Put one mistake into words; long texts are cut."""
    name, value = _size(mistake)
    label, prediction = mistake.label, mistake.prediction
    # Many texts would do as an answer: one that differs from the reference is no wrong prediction.
    is_text = math.isfinite(mistake.perplexity)
    sides = []
    if label is not None:
        sides.append(_side("reference" if is_text else "true", label, prediction))
    if prediction is not None:
        note = f"{value} sure" if name == "score" else f"{name} {value}".strip()
        sides.append(_side("answer" if is_text else "predicted", prediction, label, note))
    elif name:
        sides.append(Side(name, value))
    return WrongRow(
        row=mistake.row,
        text=_clip(mistake.text, LONGEST_TEXT),
        text_pair=_clip(mistake.text_pair, LONGEST_TEXT) if mistake.text_pair else None,
        sides=sides,
    )


def _size(mistake: Mistake) -> tuple[str, str]:
    """Return how large the mistake is, as a name with a value; both empty where nothing says."""
    if math.isfinite(mistake.error):
        return "error", readable.number(abs(mistake.error))
    if math.isfinite(mistake.score):
        return "score", readable.percent(mistake.score)
    if math.isfinite(mistake.perplexity):
        return "perplexity", readable.number(mistake.perplexity)
    return ("loss", readable.number(mistake.loss)) if math.isfinite(mistake.loss) else ("", "")


def _side(
    name: str, answer: str | tuple[SpanRecord, ...], other: str | tuple[SpanRecord, ...] | None, note: str = ""
) -> Side:
    if isinstance(answer, str) or not answer:
        return Side(name, _clip(answer, LONGEST_ANSWER) if isinstance(answer, str) and answer else NOTHING, note)
    known = {_key(span) for span in other} if isinstance(other, tuple) else set()
    spans = [SpanView(span.text, span.label, _key(span) in known) for span in answer]
    num_alike = sum(span.is_right for span in spans)
    if num_alike <= MOST_ALIKE:
        return Side(name, "", note, spans)
    return Side(name, "", note, [span for span in spans if not span.is_right], num_alike)


def _key(span: SpanRecord) -> tuple[int, int, str]:
    return span.start, span.end, span.label


def _clip(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest].rstrip()} … ({readable.count(len(text))} characters)"
