"""What single cells mean: numbers, truth values, lists, nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

INTEGER = r"[+-]?(?:0|[1-9][0-9]{0,17})"
"""No leading zeros: 007 is a name, not a number."""
FLOAT = r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
MISSING_NUMBERS = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "-nan"})
"""What stands for no number in a column of numbers, in lower case."""

MISSING_LABELS = ("NaN", "<NA>", "#N/A", "-NaN")
"""What stands for no label among labels that are words, written so; ``none`` and ``nan`` may be names of classes."""
NO_LABEL = "-"
"""What stands for no label beside labels that are words, as where annotators did not agree; beside signs it is one."""
DECIMAL_COMMA = r"[+-]?(?:0|[1-9][0-9]*),[0-9]+"
MAX_DIGITS = 15
"""Whole numbers of more digits are names: not all of them differ as doubles."""

_INTEGER = re.compile(INTEGER)
_FLOAT = re.compile(FLOAT)
_COMMA = re.compile(DECIMAL_COMMA)
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}")
MAX_LIST = 10_000
"""Characters of a cell that may be a list."""
_ARRAY_ITEM = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_ARRAY = re.compile(r"""\[\s*(?:'[^']*'|"[^"]*")(?:\s+(?:'[^']*'|"[^"]*"))+\s*\]""")
_SET = re.compile(r"\{[^{}\[\]:\n]*\}")
_SIGN = r"[$€£¥₹₽₩]|USD|EUR|GBP|CHF|CNY|RMB"
_DIGITS = r"(?:[0-9]{1,3}(?:[.,'’ \u00a0\u202f][0-9]{3})+|[0-9]+)(?:[.,][0-9]+)?"
_UNIT = r"(?:k|m|c|d|µ)?[gmsl]|[kKMG]B?|h|min|px|pt|lbs?|oz|ft|in"
_DECORATED = re.compile(
    rf"\(?\s?(?:[+−-]\s?)?(?:{_SIGN})?\s?(?:[+−-])?{_DIGITS}(?:[eE][+-]?[0-9]+)?"
    rf"(?:\s?(?:{_SIGN}|[%‰°元]|{_UNIT})|\s[^\W\d_]{{1,4}}[²³]?)?\s?\)?"
)
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"})
_SEPARATORS = "|;；、\n,，"
_CERTAIN_SEPARATORS = "|;；、\n"
"""Those that seldom stand in a name."""


def is_number(text: str) -> bool:
    """Say whether the text is written as a number."""
    return len(text) <= 64 and _FLOAT.fullmatch(text) is not None


def is_amount(text: str) -> bool:
    """Say whether the text is written as a number, and is no name made of very many digits."""
    return is_number(text) and not _is_long(text)


def _is_long(text: str) -> bool:
    digits = text.lstrip("+-")
    return len(digits) > MAX_DIGITS and digits.isdigit()


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How the numbers of a column are written."""

    decimal: str = "."
    """What stands before a fraction."""
    groups: str = ""
    """What may stand between thousands: one or several characters, each of which may."""

    def plain(self, text: str) -> str:
        """Return a number of this style with a decimal point and nothing between its digits."""
        for character in self.groups:
            text = text.replace(character, "")
        return text.replace(self.decimal, ".")


_SPACES, _NARROW_SPACES, _APOSTROPHES = " \u00a0\u202f", "\u00a0\u202f", "'’"
_GROUPED = (
    NumberStyle(",", "."),
    NumberStyle(".", ","),
    NumberStyle(",", _SPACES),
    NumberStyle(".", _SPACES),
    NumberStyle(".", _APOSTROPHES),
    NumberStyle(",", _APOSTROPHES),
)


def number_style(texts: Collection[str]) -> NumberStyle | None:
    """Return the style in which all texts are numbers; None where there is none, or nobody can say which.

    Thousands set apart by a point or comma have to show themselves: by a fraction behind them (``1.234,50``), or by a
    second group (``1,234,567``). ``1,234`` alone may be either.
    """
    if all(map(is_number, texts)):
        return NumberStyle()
    if have_decimal_commas(texts):
        return NumberStyle(",")
    return next((style for style in _GROUPED if _is_written_in(style, texts)), None)


def _is_written_in(style: NumberStyle, texts: Collection[str]) -> bool:
    group, decimal = f"[{re.escape(style.groups)}]", re.escape(style.decimal)
    grouped = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}((?:{group}[0-9]{{3}})+)({decimal}[0-9]+)?")
    other = re.compile(rf"[+-]?(?:0|[1-9][0-9]*)(?:{decimal}[0-9]+)?")
    is_certain = False
    for text in texts:
        found = grouped.fullmatch(text)
        if (found is None and not other.fullmatch(text)) or sum(map(str.isdigit, text)) > MAX_DIGITS:
            return False
        if found is not None:
            by_fraction, by_groups = found[2] is not None, len(found[1]) > 4 and style.groups != _SPACES
            marks = {letter for letter in found[1] if not letter.isdigit()}
            is_certain = is_certain or by_fraction or by_groups or bool(marks & {*_NARROW_SPACES, *_APOSTROPHES})
    return is_certain


def may_be_thousands(text: str) -> bool:
    """Say whether the text is a number with a point that may as well stand between thousands: ``9.500``."""
    return _THOUSANDS.fullmatch(text) is not None


def have_decimal_commas(texts: Collection[str]) -> bool:
    """Say whether all texts are numbers, and those with a fraction have a comma before it: ``2,5``.

    Where each fraction has three digits nobody can say whether it is one, or thousands are set apart.
    """
    fractions = [text for text in texts if "," in text]
    return (
        bool(fractions)
        and all(_COMMA.fullmatch(text) or (_INTEGER.fullmatch(text) and not _is_long(text)) for text in texts)
        and not all(len(text) - text.index(",") == 4 for text in fractions)
    )


def is_decorated(text: str) -> bool:
    """Say whether the text is an amount with what no number has: a unit, a currency, digits in groups of three."""
    return (
        len(text) <= 40
        and not text.isdigit()
        and text.count("(") == text.count(")")
        and _DECORATED.fullmatch(text) is not None
    )


def number_of(text: str) -> float | None:
    """Return the number that a text is by itself, in the style that it shows; None for other texts."""
    text = text.strip()
    style = number_style([text])
    if style is not None:
        text = style.plain(text)
    try:
        return float(text)
    except ValueError:
        return None


def means_no_label(names: Collection[str]) -> bool:
    """Say whether a dash among the names of labels is none: where all others, two at least, are words."""
    words = [name for name in names if name != NO_LABEL]
    return NO_LABEL in names and len(words) > 1 and all(len(word) > 1 and word[0].isalpha() for word in words)


_FEW_EMPTY = 0.2
"""Share of lists without a label up to which these are rows that nobody has labelled."""


def hold_one(sizes: Iterable[Mapping[int, int]]) -> bool:
    """Say whether lists (counted by their length, for each split) hold one label each, a few of them none."""
    total: Counter[int] = Counter()
    for one in sizes:
        total.update(one)
    return max(total, default=0) == 1 and total[0] < _FEW_EMPTY * total.total()


def is_integer(text: str) -> bool:
    """Say whether the text is written as a whole number of at most 64 bits."""
    return _INTEGER.fullmatch(text) is not None


def are_booleans(values: set[str]) -> bool:
    """Say whether the distinct values, in lower case, are a pair such as true and false."""
    return any(values <= pair for pair in _BOOLEANS) and len(values) == 2


def parse_list(text: str) -> list[str] | None:
    """Return the items, as they are written, of a cell that is a JSON (or Python) list of scalars, else None.

    Also lists as numpy prints them (``['a' 'b']``), and sets of Python and of databases (``{'a', 'b'}``, ``{a,b}``).
    """
    text = text.strip()
    if len(text) <= MAX_LIST and _ARRAY.fullmatch(text):
        return [first or second for first, second in _ARRAY_ITEM.findall(text)]
    if len(text) <= MAX_LIST and _SET.fullmatch(text):
        return [item.strip().strip("'\"") for item in text[1:-1].split(",") if item.strip()]
    if not (text.startswith("[") and text.endswith("]")) or len(text) > MAX_LIST:
        return None
    for candidate in (text, text.replace("'", '"')):
        try:
            # What is written as a number stays as it is written: 4.1 and 4.10 may be different names.
            items = json.loads(candidate, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            continue
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return items
        return None
    return None


def list_separator(values: Sequence[str] | Mapping[str, int]) -> str:
    """Return the character that joins several labels in one cell (``joy|anger``), or nothing.

    That needs cells with and without it, parts that are short, at least one that also stands
    alone, and most parts in several combinations. ``values`` may be counted already.
    """
    distinct = Counter(values)
    if number_style([value.strip() for value in distinct if value.strip()]) is not None:
        return ""
    for separator in _SEPARATORS:
        joined = [value for value in distinct if separator in value]
        # One combination is enough where nothing but labels can stand in it.
        is_certain = separator in _CERTAIN_SEPARATORS and all(
            part.strip() in distinct for value in joined for part in value.split(separator)
        )
        if len(joined) < (1 if is_certain else 2) or sum(distinct[value] for value in joined) < 0.02 * distinct.total():
            continue
        combinations: Counter[str] = Counter()
        for value in distinct:
            combinations.update({part.strip() for part in value.split(separator)})
        if any(len(part) > 40 or len(part.split()) > 4 for part in combinations):
            continue
        shared = sum(count > 1 for part, count in combinations.items() if part)
        stands_alone = any(part in distinct for part in combinations)
        if stands_alone and shared >= 2 and shared >= 0.5 * len(combinations):
            return separator
    return ""
