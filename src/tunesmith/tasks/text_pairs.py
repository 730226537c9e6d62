"""What is known of sources and targets as pairs: whether their lengths go together, and rows with several targets.

Shapes: N rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Encoded
from tunesmith.tasks.base import Columns
from tunesmith.tasks.columns import places
from tunesmith.types import Problem

SHORT = 0.5
"""Targets with less than this share of their sources' length are summaries, and no translations."""
STRIKING = 5.0
"""So many times as long as usual beside its source, or as short, a translation is hardly one."""
FEWEST_ROWS = 100
"""Rows that it takes to tell whether lengths go together."""
UNRELATED = 0.2
"""Correlation of lengths up to which lines do not seem to belong together: of translations it is above 0.7."""

Texts = Sequence[Sequence[str] | None]


def usual_ratio(sources: Sequence[str | None], targets: Texts) -> float:
    """Return the length of a first target beside its source, in the middle of all rows; 1 without any."""
    ratios = _ratios(sources, targets)
    known = ratios[np.isfinite(ratios)]
    return float(np.median(known)) if len(known) else 1.0


def unfit(sources: Sequence[str | None], targets: Texts, usual: float, most: float) -> tuple[int, ...]:
    """Return the rows of which one side is over ``most`` times as long as usual beside the other one."""
    ratios = _ratios(sources, targets) / usual
    with np.errstate(invalid="ignore"):
        found = (ratios > most) | (ratios < 1 / most)
    return tuple(np.flatnonzero(found).tolist())


def check(split: str, columns: Columns, usual: float, *, are_translations: bool) -> list[Problem]:
    """Report translations of striking length, and lines that do not seem to belong together at all."""
    if not are_translations:
        return []
    sources, targets = list(columns["source"]), list(columns["target"])
    found = []
    if len(sources) >= FEWEST_ROWS and (problem := _unrelated(split, sources, targets)) is not None:
        found.append(problem)
    if striking := unfit(sources, targets, usual, STRIKING):
        message = f"{len(striking)} of {len(sources)} {split} rows have sides of lengths that do not fit: more than "
        message += f"{STRIKING:g} times as long, or as short, as usual beside each other."
        fix = f"Look at them, or leave them out with task.most_length_ratio {STRIKING:g}."
        found.append(Problem("warning", message, fix, len(striking), places(split, columns, striking)))
    return found


def _unrelated(split: str, sources: Sequence[str | None], targets: Texts) -> Problem | None:
    """Return a warning where long sources have no longer targets than short ones; better a line or two away, maybe."""
    lengths = [np.array([_length(text or "") for text in sources], dtype=np.float64)]
    lengths.append(np.array([_length(texts[0]) if texts else 0 for texts in targets], dtype=np.float64))
    own = _correlation(*lengths)
    if own is None or own > UNRELATED:
        return None
    moved = {}
    for step in (-2, -1, 1, 2):
        starts = max(-step, 0), max(step, 0)
        kept = len(sources) - abs(step)
        moved[step] = _correlation(*(side[start : start + kept] for side, start in zip(lengths, starts, strict=True)))
    best = max(moved, key=lambda step: moved[step] or 0.0)
    message = f"The {split} rows do not seem to belong together: long sources have no longer targets than short ones "
    message += f"(their correlation is {own:.2f})"
    if (moved[best] or 0.0) > 0.5:
        message += f"; with the target {abs(best)} row{'s' if abs(best) > 1 else ''} "
        message += f"{'later' if best > 0 else 'earlier'} it is {moved[best]:.2f}"
    return Problem("warning", f"{message}.", "Check that line by line both files hold the same text.", len(sources))


def _correlation(first_N: npt.NDArray[np.float64], second_N: npt.NDArray[np.float64]) -> float | None:
    """Return Pearson's correlation of logarithms of lengths; None where one side has but one length."""
    first_N, second_N = np.log1p(first_N), np.log1p(second_N)
    if first_N.std() < 0.05 or second_N.std() < 0.05:
        return None
    return float(np.corrcoef(first_N, second_N)[0, 1])


def _length(text: str) -> int:
    """Return the UTF-8 bytes of a text: a Chinese character, which has three, says as much as several letters."""
    return len(text.encode("utf-8", "surrogatepass"))


def _ratios(sources: Sequence[str | None], targets: Texts) -> npt.NDArray[np.float64]:
    """Return [N]: the length of the first target beside its source; nan where a side is empty."""
    pairs = [
        (_length(source or ""), _length(texts[0]) if texts else 0)
        for source, texts in zip(sources, targets, strict=True)
    ]
    found = [second / first if first and second else np.nan for first, second in pairs]
    return np.array(found, dtype=np.float64)


# ---- rows with several targets -------------------------------------------------------------------


def regrouped(encoded: Encoded, counts: Sequence[int]) -> Encoded:
    """Return what was encoded target by target as rows that have so many targets each."""
    of_row = np.repeat(np.arange(len(counts)), counts)
    borders = np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))])
    rows = borders if encoded.rows is None else encoded.rows[borders]
    is_one_each = len(rows) - 1 == len(encoded) and bool((np.diff(rows) == 1).all())
    left_out = {
        reason: tuple(dict.fromkeys(int(of_row[place]) for place in found))
        for reason, found in encoded.left_out.items()
    }
    return replace(encoded, rows=None if is_one_each else rows, left_out=left_out)


def with_left_out(encoded: Encoded, left_out: Mapping[str, tuple[int, ...]]) -> Encoded:
    """Return the same with further rows noted as left out."""
    return replace(encoded, left_out={**encoded.left_out, **left_out}) if left_out else encoded


# ---- usage ---------------------------------------------------------------------------------------


def usage_code(
    prefix: str, source_language: str | None, target_language: str | None, search: Mapping[str, object]
) -> tuple[str, ...]:
    """Return the lines that write a text for a text with an encoder-decoder, in plain ``transformers``.

    The settings of the search are named although a whole model knows them: an adapter's base may have others.
    """
    more = "".join(f", {name}={value!r}" for name, value in search.items())
    text = json.dumps(f"{prefix}Your text.", ensure_ascii=False)
    return (
        *([f"tokenizer.src_lang = {source_language!r}"] if source_language else ()),
        *([f"tokenizer.tgt_lang = {target_language!r}"] if target_language else ()),
        f'inputs = tokenizer({text}, return_tensors="pt", truncation=True)',
        'inputs.pop("token_type_ids", None)',
        f"written = model.generate(**inputs, max_new_tokens=256{more})",
        "print(tokenizer.decode(written[0], skip_special_tokens=True))",
    )
