"""What a column holds: its kind, and counts, by a look at rows spread over the data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tunesmith.data import cells
from tunesmith.data.image_files import is_reference
from tunesmith.data.image_lists import SHOWN
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows
from tunesmith.data.stamps import are_stamps
from tunesmith.data.tagged_columns import mark_tagged
from tunesmith.types import ColumnKind, ColumnProfile

_SAMPLE_ROWS = 2_000
_BLOCK_ROWS = 10
_NUM_EXAMPLES = 5
_MAX_CODES = 20
_EXAMPLE_CHARACTERS = 80
_SECONDS = tuple((0.8e9 * scale, 4e9 * scale) for scale in (1, 1e3, 1e6))
"""Moments from 1995 to 2096 as programs count them: in seconds since 1970, in thousandths, in millionths."""

# Runs of letters and digits; writing without spaces counts a word a character.
_WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]|[^\W\u2e80-\u9fff\uac00-\ud7af]+")
_GRADED = re.compile(r"""\[\s*\{.*["'](?:rank|score|overall_score|rating|reward)["']\s*:\s*["']?-?[0-9]""", re.DOTALL)
LABEL_NAMES = frozenset(["label", "labels", "class", "category", "intent", "target", "tag", "标签", "类别", "分类"])
"""Names of columns that hold what is to be predicted, and hardly anything else."""


def profile(rows: Rows) -> dict[str, ColumnProfile]:
    """Look at the content of every column, on up to 2,000 rows spread over the data.

    Counts refer to the rows looked at, ``num_rows`` too.
    """
    table = _spread_sample(rows)
    names = [name for name in table.column_names if name != ROW]
    return mark_tagged({name: _profile_column(name, table.column(name).to_pylist()) for name in names}, table)


def _spread_sample(rows: Rows) -> pa.Table:
    """Return short runs of rows at even distances; slices of a memory-mapped table cost nothing."""
    if len(rows) <= _SAMPLE_ROWS:
        return rows.table
    num_blocks = _SAMPLE_ROWS // _BLOCK_ROWS
    starts = [block * (len(rows) - _BLOCK_ROWS) // (num_blocks - 1) for block in range(num_blocks)]
    return pa.concat_tables([rows.table.slice(start, _BLOCK_ROWS) for start in starts])


def _profile_column(name: str, values: Sequence[Any]) -> ColumnProfile:
    present = [value for value in values if not _is_missing(value)]
    shown = list(dict.fromkeys(_show(value) for value in present))[:_NUM_EXAMPLES]
    common: dict[str, Any] = {
        "num_rows": len(values),
        "num_missing": len(values) - len(present),
        "examples": tuple(shown),
    }
    if not present or (isinstance(present[0], list) and not any(present)):
        return ColumnProfile(name, "empty", num_distinct=0, **common)
    if isinstance(present[0], bool):
        return ColumnProfile(name, "boolean", num_distinct=len(set(present)), **common)
    if isinstance(present[0], (int, float)):
        return _numeric(name, [float(value) for value in present], len(set(present)), common)
    if isinstance(present[0], list):
        return ColumnProfile(name, "list", num_distinct=len({str(value) for value in present}), **common)
    if isinstance(present[0], str):
        return _profile_text(name, [value.strip() for value in present], common)
    return ColumnProfile(name, "object", num_distinct=len({str(value) for value in present}), **common)


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())  # noqa: PLR0124 (NaN)


def _show(value: Any) -> str:
    text = str(value).strip()
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[: _EXAMPLE_CHARACTERS - 1] + "…"


def _numeric(name: str, numbers: Sequence[float], num_distinct: int, common: dict[str, Any]) -> ColumnProfile:
    kind: ColumnKind = "integer" if all(number.is_integer() for number in numbers) else "float"
    low, high = min(numbers), max(numbers)
    is_stamp = any(first <= low <= high < last for first, last in _SECONDS)
    return ColumnProfile(name, kind, num_distinct=num_distinct, low=low, high=high, is_stamp=is_stamp, **common)


def _profile_text(name: str, texts: Sequence[str], common: dict[str, Any]) -> ColumnProfile:
    if all(map(is_reference, texts)):
        return ColumnProfile(name, "image", num_distinct=len(set(texts)), **common)
    numbers = [text for text in texts if text.lower() not in cells.MISSING_NUMBERS]
    distinct = set(texts)
    values = _values_of(numbers)
    if values is not None and not _are_codes(numbers, values):
        common = {**common, "num_missing": common["num_rows"] - len(numbers)}
        return _numeric(name, values, len(set(numbers)), common)
    mean_length = sum(map(len, texts)) / len(texts)
    mean_words = sum(len(_WORD.findall(text[:10_000])) for text in texts) / len(texts)
    kind = _text_kind(texts, distinct, mean_length, mean_words)
    if kind == "text" and name.strip().lower() in LABEL_NAMES and mean_words <= 4 and 2 * len(distinct) <= len(texts):
        kind = "category"  # hundreds of labels are few where their name says what they are
    return ColumnProfile(
        name,
        kind,
        is_decorated=kind in ("text", "category")
        and bool(numbers)
        and all(map(cells.is_decorated, numbers))
        and not all(map(cells.is_number, numbers)),
        is_stamp=kind in ("text", "category") and are_stamps(texts),
        are_graded=kind == "object" and all(_GRADED.match(text) for text in texts),
        num_distinct=len(distinct),
        mean_length=mean_length,
        mean_words=mean_words,
        shows_images=any(SHOWN in text for text in distinct),
        **common,
    )


def _values_of(texts: Sequence[str]) -> list[float] | None:
    """Return the numbers that texts are, in whatever style; None where some are none."""
    if not texts:
        return None
    if all(cells.is_amount(text) for text in texts):
        return [float(text) for text in texts]
    style = None if all(map(cells.is_number, texts)) else cells.number_style(set(texts))
    return None if style is None else [float(style.plain(text)) for text in texts]


def _are_codes(texts: Sequence[str], values: Sequence[float]) -> bool:
    """Say whether numbers are names: few that recur, one of them written in two ways (sections 4.1 and 4.10)."""
    num_distinct = len(set(texts))
    is_few = num_distinct <= _MAX_CODES and num_distinct <= 0.2 * len(texts)
    return is_few and num_distinct > len(set(values)) and not _are_same_but_for_zeros(texts)


def _are_same_but_for_zeros(texts: Sequence[str]) -> bool:
    """Say whether whole numbers are merely written with and without a fraction of nothing: 5 and 5.0."""
    distinct = set(texts)
    return len({text.removesuffix(".0") for text in distinct}) == len({float(text) for text in distinct})


def _text_kind(texts: Sequence[str], distinct: set[str], mean_length: float, mean_words: float) -> ColumnKind:  # noqa: PLR0911
    if cells.are_booleans({text.lower() for text in distinct}):
        return "boolean"
    if all(text.startswith(("[", "{")) for text in texts) and all(cells.parse_list(text) is not None for text in texts):
        return "list"
    if all(text.startswith(("{", "[")) and text.endswith(("}", "]")) for text in texts):
        return "object"
    num, num_distinct = len(texts), len(distinct)
    if mean_words >= 6 or mean_length >= 50:
        comes_again = mean_length < 50 and num_distinct <= 0.2 * num and min(Counter(texts).values()) > 1
        return "category" if num_distinct <= 0.05 * num or comes_again else "text"
    if num < 20:
        return "category" if num_distinct <= 0.5 * num or (mean_words <= 2 and mean_length <= 30) else "text"
    if cells.list_separator(texts):
        return "list"
    is_few = num_distinct <= 0.5 * num and (num_distinct <= 50 or num_distinct <= 0.2 * num)
    return "category" if is_few else "text"
