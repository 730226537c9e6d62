"""Whether the first row of a table holds the names of its columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tunesmith.data.cells import MISSING_NUMBERS, is_decorated, is_number

_FEW_VALUES = 0.2
"""Share of its rows that the distinct values of a column with few of them may have."""

_USUAL_NAMES = """
    text sentence sentence1 sentence2 text_a text_b text1 text2 review reviews comment comments comment_text content
    message document body title headline summary abstract description question question1 question2 answer premise
    hypothesis query passage context tweet utterance post phrase label labels class category categories target
    sentiment polarity score rating stars intent topic similarity tag tags input output prompt response instruction
    source id idx index qid uid guid name date author genre split year v1 v2 y x
    messages conversations conversation dialog dialogue chat completion system tools history
    标签 类别 分类 文本 内容 评论 句子 标题 指令 问题 回答 输入 输出 对话
"""
_KNOWN_NAMES = frozenset(_USUAL_NAMES.split())
_NAME_LIKE = re.compile(r"[^\W\d][\w .:/()#-]{0,39}", re.UNICODE)


def has_known_name(cells: Sequence[str]) -> bool:
    """Say whether one of some cells is a usual name of a column."""
    return any(cell.strip().lower() in _KNOWN_NAMES for cell in cells)


def has_header(  # noqa: PLR0911 (one rule after the other)
    first: Sequence[str], rows: Sequence[Sequence[str]], like: Sequence[str]
) -> bool:
    """Say whether the first row holds names of columns; ``like`` are those of another file of the set."""
    names = [cell.strip() for cell in first]
    lowered = [name.lower() for name in names]
    if like and lowered == [name.lower() for name in like]:
        return True
    filled = [name for name in lowered if name]
    repeated = {name for name, count in Counter(filled).items() if count > 1}
    columns = [[row[index].strip() for row in rows if index < len(row)] for index in range(len(names))]
    if _are_numbers_of_columns(filled, columns):
        return True
    if not filled or repeated - _KNOWN_NAMES or any(is_number(name) for name in filled):
        return False
    if any(len(name) > 64 for name in filled):
        return max(map(len, filled)) <= _MAX_QUESTION and _is_no_value(names, columns)
    if len(set(filled) & _KNOWN_NAMES) > 1 and any([cell.strip() for cell in row] == names for row in rows):
        # Tables put one after the other, each with its names.
        return True
    if any(name and name in column for name, column in zip(names, columns, strict=True)):
        # A name is no value; a value comes again.
        return False
    is_name_like = all(_NAME_LIKE.fullmatch(name) and len(name.split()) <= 3 for name in filled)
    if is_name_like and any(name.lstrip("#") in _KNOWN_NAMES for name in filled):
        return True
    contents = [[cell for cell in column if cell.lower() not in MISSING_NUMBERS] for column in columns]
    pairs = [(name, column) for name, column in zip(names, contents, strict=True) if name and column]
    if any(all(map(_is_amount, column)) and not is_decorated(name) for name, column in pairs):
        return True
    if _is_no_value(names, columns):
        return True
    if not is_name_like or len(rows) < 2:
        return False
    lengths = [(len(name), sum(map(len, column)) / len(column)) for name, column in pairs]
    return any(mean >= 12 and mean > 3 * length for length, mean in lengths)


_MAX_QUESTION = 300
"""Characters of a question that is the name of a column."""


def _is_amount(cell: str) -> bool:
    return is_number(cell) or is_decorated(cell)


def _are_numbers_of_columns(filled: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row counts the columns from 0 on, as tables without names are written."""
    if len(filled) < 2 or list(filled) != [str(number) for number in range(len(filled))]:
        return False
    return any(column and not any(is_number(cell) for cell in column) for column in columns)


def _is_no_value(names: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Say whether the first cell of a column is none of its values: those are few, and each comes again and again."""
    for name, column in zip(names, columns, strict=True):
        values = Counter(cell for cell in column if cell)
        is_few = len(values) >= 2 and values.total() >= 20 and len(values) <= _FEW_VALUES * values.total()
        if name and is_few and name not in values and min(values.values()) > 1:
            return True
    return False


# ---- rows between the names and the data ---------------------------------------------------------

_MAX_FURTHER, _FEWEST_ROWS = 3, 8
"""Rows below the names that may say more of the columns, and the rows that it takes to tell."""
_MAX_SHAPES = 3


def num_further_rows(rows: Sequence[Sequence[str]]) -> int:
    """Return how many of the first rows below the names say more of the columns, as exports of surveys have them.

    Such a row has none of the values of columns whose values are few, and neither numbers nor dates where there is
    nothing else below: a word stands there, or nothing in several.
    """
    for number in range(_MAX_FURTHER, 0, -1):
        below = [row for row in rows[number:] if any(cell.strip() for cell in row)]
        if len(below) >= _FEWEST_ROWS and all(_says_more(row, below) for row in rows[:number]):
            return number
    return 0


def _says_more(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    num_empty = num_full = num_words = 0
    has_few = has_words = False
    for index, cell in enumerate(map(str.strip, row)):
        values = Counter(value for one in below if index < len(one) and (value := one[index].strip()))
        shapes = {_shape(value) for value in values}
        if values and len(shapes) <= _MAX_SHAPES and all(map(_is_measure, shapes)):
            if cell and _shape(cell) in shapes:
                return False
            is_full = values.total() == len(below)
            num_full += is_full
            num_empty += is_full and not cell
            num_words += cell.lower() not in MISSING_NUMBERS
        elif 2 <= len(values) <= _FEW_VALUES * max(values.total(), 20) and min(values.values()) > 1:
            if cell in values:
                return False
            has_few = has_few or bool(cell)
        else:
            has_words = has_words or bool(cell)
    return num_words > 0 or (num_empty > 1 and (has_few or (has_words and num_empty == num_full)))


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def _is_measure(shape: str) -> bool:
    """Say whether cells of a shape are numbers, dates or times, with a unit perhaps: no texts with a number in them."""
    words = re.findall(r"[^\W\d_]+", shape.lower())
    return "0" in shape and all(len(word) <= 2 or word.startswith(_MONTHS) for word in words)


def _shape(cell: str) -> str:
    """Return a cell with every number in it as 0."""
    return "0" if is_number(cell) else re.sub(r"[0-9]+", "0", cell)
