"""How a delimited file is written: separator, quoting, header, number of columns.

All of it is found from the first rows (up to a megabyte), because the suffix says little:
a .csv may be separated by semicolons, a .tsv may hold quotes that mean nothing.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunesmith.data.cells import is_number
from tunesmith.data.encodings import Lines
from tunesmith.data.tables import unique_names

Quoting = Literal["double", "backslash", "none"]

MAX_RECORD_LINES = 100_000
MAX_RECORD_CHARACTERS = 16 * 1024 * 1024
_SAMPLE_RECORDS = 2_000

_USUAL_NAMES = """
    text sentence sentence1 sentence2 text_a text_b text1 text2 review reviews comment comments comment_text content
    message document body title headline summary abstract description question question1 question2 answer premise
    hypothesis query passage context tweet utterance post phrase label labels class category categories target
    sentiment polarity score rating stars intent topic similarity tag tags input output prompt response instruction
    source id idx index qid uid guid name date author genre split year v1 v2 y x
    标签 类别 分类 文本 内容 评论 句子 标题
"""
_KNOWN_NAMES = frozenset(_USUAL_NAMES.split())
_NAME_LIKE = re.compile(r"[^\W\d][\w .:/()#-]{0,39}", re.UNICODE)
_NATIVE_DELIMITERS = {".tsv": "\t", ".tab": "\t", ".csv": ","}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read one delimited file."""

    delimiter: str | None
    """None: every line is one cell."""
    quoting: Quoting
    header: bool
    columns: tuple[str, ...]
    num_skipped: int = 0
    """Lines before the first row (``sep=;``)."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "columns": list(self.columns)}


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it stands in the file."""

    line: int
    """Number of its first line, from 1."""
    cells: list[str]
    lines: list[str]
    """The file's own lines, with their ends."""
    error: str = ""
    """Why it cannot be read; ``cells`` then mean nothing."""


class _RecordTooLongError(Exception):
    """A quoted cell that goes on and on: its closing quote is missing."""


class _Feed:
    """Hands lines to the csv module and remembers those that the current record took."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.taken: list[str] = []
        self._num_characters = 0
        self.ended = False

    def start(self) -> None:
        self.taken = []
        self._num_characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_RECORD_LINES or self._num_characters > MAX_RECORD_CHARACTERS:
            raise _RecordTooLongError
        try:
            line = next(self._lines)
        except StopIteration:
            self.ended = True
            raise
        self.taken.append(line)
        self._num_characters += len(line)
        return line


def records(lines: Lines, delimiter: str | None, quoting: Quoting, width: int | None = None) -> Iterator[Record]:
    """Yield the rows of a delimited file; blank lines are passed over where there are several columns.

    A quote that is never closed, or a row over several lines that has not ``width`` cells,
    spoils its first line only: reading goes on with the next line, so that one stray quote
    does not swallow the rows after it.
    """
    if delimiter is None or quoting == "none":
        yield from _plain_records(lines, delimiter)
        return
    feed = _Feed(lines)
    reader = _csv_reader(feed, delimiter, quoting)
    num_returned = 0
    while True:
        feed.start()
        first = lines.number + 1
        error = ""
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            error = "a quote opened here is not closed"
        except csv.Error as problem:
            error = str(problem)
        if not error and feed.ended:
            error = "a quote opened here is not closed before the end of the file"
        if not error and width is not None and len(feed.taken) > 1 and len(cells) != width:
            error = f"a quote opened here runs over {len(feed.taken)} lines and gives {len(cells)} columns, not {width}"
        if lines.is_cut:
            error = "the line is too long"
        if not error:
            # The csv module gives no cells for a blank line.
            if cells:
                yield Record(first, cells, feed.taken)
            continue
        yield Record(first, [], feed.taken[:1], error)
        rest = feed.taken[1:]
        num_returned += len(rest)
        # Lines are read again at most ten times over, so that no file takes for ever.
        if num_returned <= 10 * lines.number + MAX_RECORD_LINES:
            lines.put_back(rest)
        feed.ended = False
        reader = _csv_reader(feed, delimiter, quoting)


def _csv_reader(feed: _Feed, delimiter: str, quoting: Quoting) -> Iterator[list[str]]:
    if quoting == "backslash":
        return csv.reader(feed, delimiter=delimiter, doublequote=False, escapechar="\\")
    return csv.reader(feed, delimiter=delimiter)


def _plain_records(lines: Lines, delimiter: str | None) -> Iterator[Record]:
    for line in lines:
        content = line.rstrip("\r\n")
        error = "the line is too long" if lines.is_cut else ""
        if delimiter is None:
            yield Record(lines.number, [content], [line], error)
        elif content.strip(" "):
            yield Record(lines.number, content.split(delimiter), [line], error)


def detect(
    sample: Sequence[str],
    suffix: str,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    like: Sequence[str] = (),
) -> Dialect:
    """Find how a file is written from its first lines.

    ``delimiter`` and ``header`` are the user's word; ``like`` holds the column names of a
    file of the same set, whose repetition is certainly a header.
    """
    num_skipped = 0
    named = _SEPARATOR_LINE.fullmatch(sample[0]) if sample else None
    if named and len(sample) > 1:
        delimiter, num_skipped = delimiter or named[1], 1
    lines = list(sample[num_skipped:])
    delimiter, quoting = _separator(lines, suffix, delimiter)
    rows = [record.cells for record in _parse(lines, delimiter, quoting) if not record.error]
    if not rows:
        return Dialect(delimiter, quoting, header=False, columns=("column_1",), num_skipped=num_skipped)
    if header is None:
        header = _has_header(rows[0], rows[1:], like)
        if delimiter is None and suffix not in _NATIVE_DELIMITERS and not like:
            # The first line of running text may be a title.
            header = header and rows[0][0].strip().lower() in _KNOWN_NAMES
    names = unique_names(rows[0] if header else [""] * _width(rows, delimiter))
    return Dialect(delimiter, quoting, header, tuple(names), num_skipped)


def _parse(lines: Sequence[str], delimiter: str | None, quoting: Quoting) -> list[Record]:
    found = []
    for record in records(Lines(iter(lines)), delimiter, quoting):
        found.append(record)
        if len(found) >= _SAMPLE_RECORDS:
            break
    return found


def _separator(lines: Sequence[str], suffix: str, given: str | None) -> tuple[str | None, Quoting]:
    if given is not None:
        return given, _quoting(lines, given)
    native = _NATIVE_DELIMITERS.get(suffix)
    candidates = [native, *(each for each in "\t,;|" if each != native)] if native else list("\t,;|")
    best, best_quoting, best_agreement = None, "none", 0.0
    for candidate in candidates:
        assert candidate is not None
        if not any(candidate in line for line in lines):
            continue
        quoting = _quoting(lines, candidate)
        agreement, num_rows = _agreement(lines, candidate, quoting)
        # In prose, commas and bars are no separators; a tab hardly ever is anything else.
        needed = 0.8 if candidate == native else 0.6 if candidate == "\t" else 0.95
        if agreement < needed or (candidate not in {native, "\t"} and num_rows < 3 and native is None):
            continue
        if candidate == native:
            return candidate, quoting
        if agreement > best_agreement:
            best, best_quoting, best_agreement = candidate, quoting, agreement
    if best is not None:
        return best, best_quoting  # type: ignore[return-value]
    if native and any(native in line for line in lines[:1]):
        return native, _quoting(lines, native)
    if native == "," and any(line.startswith('"') for line in lines):
        # One column whose cells are quoted, perhaps over several lines.
        return native, _quoting(lines, native)
    return None, "none"


def _agreement(lines: Sequence[str], delimiter: str, quoting: Quoting) -> tuple[float, int]:
    """Return the share of rows that have the commonest number of columns (0 if that is one), and the rows."""
    parsed = _parse(lines, delimiter, quoting)
    widths = Counter(0 if record.error else len(record.cells) for record in parsed)
    if not widths:
        return 0.0, 0
    width, count = widths.most_common(1)[0]
    if width < 2:
        return 0.0, len(parsed)
    if delimiter == "\t":
        # Tabs are never part of a text: rows with more columns than the rest agree as well.
        count = sum(number for other, number in widths.items() if other >= _narrowest(widths))
    return count / len(parsed), len(parsed)


def _narrowest(widths: Counter[int]) -> int:
    """Return the smallest number of columns that at least a tenth of the rows have."""
    total = sum(widths.values())
    return min((width for width, count in widths.items() if width > 1 and count >= 0.1 * total), default=2)


def _width(rows: Sequence[Sequence[str]], delimiter: str | None) -> int:
    widths = Counter(len(row) for row in rows)
    if delimiter == "\t" and widths.most_common(1)[0][0] > 1:
        return _narrowest(widths)
    return widths.most_common(1)[0][0]


def _quoting(lines: Sequence[str], delimiter: str) -> Quoting:
    if not any('"' in line for line in lines):
        return "none" if delimiter == "\t" else "double"
    if delimiter == "\t":
        return "double" if _quotes_have_meaning(lines, delimiter) else "none"
    num_escaped = sum('\\"' in line for line in lines)
    num_doubled = sum('""' in line for line in lines)
    if num_escaped > num_doubled:
        plain, _ = _agreement(lines, delimiter, "double")
        escaped, _ = _agreement(lines, delimiter, "backslash")
        if escaped > plain:
            return "backslash"
    quoted, _ = _agreement(lines, delimiter, "double")
    literal, _ = _agreement(lines, delimiter, "none")
    return "none" if literal > quoted + 0.2 else "double"


def _quotes_have_meaning(lines: Sequence[str], delimiter: str) -> bool:
    """Say whether the quotes of a tab-separated file wrap cells, rather than being part of the text.

    They do when every cell that starts with one is well-formed (ends with one, inner ones
    doubled), and either hardly any cell goes without or some cell could not be written otherwise.
    """
    num_opened = num_needed = num_lines = num_quoted_lines = 0
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            num_lines += 1
            num_needed += sum("\n" in cell or delimiter in cell for cell in cells)
            if num_lines >= _SAMPLE_RECORDS:
                break
    except csv.Error:
        return False
    for line in lines[:_SAMPLE_RECORDS]:
        cells = line.rstrip("\r\n").split(delimiter)
        opened = [cell for cell in cells if cell.startswith('"')]
        num_opened += len(opened)
        num_quoted_lines += bool(opened)
        num_needed += sum('""' in cell[1:-1] for cell in opened)
    return num_opened > 0 and (num_needed > 0 or num_quoted_lines >= 0.9 * num_lines)


def _has_header(  # noqa: PLR0911 (one rule after the other)
    first: Sequence[str], rows: Sequence[Sequence[str]], like: Sequence[str]
) -> bool:
    names = [cell.strip() for cell in first]
    lowered = [name.lower() for name in names]
    if like and lowered == [name.lower() for name in like]:
        return True
    filled = [name for name in lowered if name]
    repeated = {name for name, count in Counter(filled).items() if count > 1}
    if not filled or repeated - _KNOWN_NAMES or any(is_number(name) or len(name) > 64 for name in filled):
        return False
    columns = [[row[index].strip() for row in rows if index < len(row)] for index in range(len(names))]
    if any(name and name in column for name, column in zip(names, columns, strict=True)):
        # A name is no value; a value comes again.
        return False
    is_name_like = all(_NAME_LIKE.fullmatch(name) and len(name.split()) <= 3 for name in filled)
    if is_name_like and any(name.lstrip("#") in _KNOWN_NAMES for name in filled):
        return True
    contents = [[cell for cell in column if cell] for column in columns]
    pairs = [(name, column) for name, column in zip(names, contents, strict=True) if name and column]
    if any(all(is_number(cell) for cell in column) for _, column in pairs):
        return True
    if not is_name_like or len(rows) < 2:
        return False
    lengths = [(len(name), sum(map(len, column)) / len(column)) for name, column in pairs]
    return any(mean >= 12 and mean > 3 * length for length, mean in lengths)
