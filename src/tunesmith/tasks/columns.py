"""What the tasks share about columns: the text roles, where a row comes from, what numbers look like."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith.tasks.base import Columns
from tunesmith.types import MAX_ROWS_SHOWN, ColumnProfile, Role

_TEXT_NAMES = """
    text sentence review content comment message body document tweet query question premise sentence1 sentence_1
    text1 text_1 text_a question1 utterance description title input 文本 内容 內容 评论 句子 texte texto kommentar
    commentaire comentario avis reseña текст отзыв комментарий テキスト レビュー 텍스트 리뷰
"""
_PAIR_NAMES = """
    text_pair sentence2 sentence_2 hypothesis text2 text_2 text_b question2 second_text passage paragraph context
"""

TEXT = Role("text", tuple(_TEXT_NAMES.split()), ("text", "category"), purpose="what is read")
TEXT_PAIR = Role(
    "text_pair",
    tuple(_PAIR_NAMES.split()),
    ("text", "category"),
    required=False,
    purpose="a second text, read together with the first",
)

MAX_LABEL_NUMBERS = 20
"""A column with more distinct numbers than this is taken for amounts, not labels."""
MIN_ROWS_PER_LABEL = 5


def place(split: str, columns: Columns, row: int) -> str:
    """Return where a row stands in the user's files, or its number in the split when that is not known."""
    known = columns.get("row")
    return str(known[row]) if known is not None else f"{split}:{row}"


def places(split: str, columns: Columns, rows: Sequence[int]) -> tuple[str, ...]:
    """Return the places of the first few rows."""
    return tuple(place(split, columns, row) for row in rows[:MAX_ROWS_SHOWN])


def numbers_are_labels(profile: ColumnProfile) -> bool:
    """Say whether a numeric column holds labels written as numbers: whole, few, and each many times."""
    if profile.kind == "float" and not all(_is_whole(example) for example in profile.examples):
        return False
    enough_rows = max(profile.num_rows, 2 * MIN_ROWS_PER_LABEL)
    return profile.num_distinct <= MAX_LABEL_NUMBERS and profile.num_distinct * MIN_ROWS_PER_LABEL <= enough_rows


def _is_whole(example: str) -> bool:
    try:
        number = float(example)
    except ValueError:
        return False
    return math.isfinite(number) and number.is_integer()
