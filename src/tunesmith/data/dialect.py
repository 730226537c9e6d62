"""How a delimited file is written: separator, quoting, header, number of columns.

The suffix says little: a .csv may be separated by semicolons, a .tsv may hold quotes that mean
nothing. What the first rows (up to a megabyte) make plausible is counted over the whole file, and
what explains most lines is taken.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from tunesmith.data.cells import is_number
from tunesmith.data.cuts import Count, Cut
from tunesmith.data.delimited_records import Quoting, Record, records
from tunesmith.data.encodings import Lines
from tunesmith.data.header_rows import has_header, has_known_name, num_further_rows
from tunesmith.data.open_columns import find_taker, numbers_rows, open_column
from tunesmith.data.separator_signs import signs_in
from tunesmith.data.tables import unique_names
from tunesmith.types import Guess

_SAMPLE_RECORDS = 2_000
_NEARLY_ALL = 0.95
"""Share of the lines that is as good as all."""
_MAX_TITLES = 10
"""Lines that may stand above the names of the columns."""

_FEW_LABELS = 0.1
"""Share of its rows that the distinct values of a column of labels may have."""
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_WIDE = "，；｜"
_FROM_DATABASES = "\x01\x1f\x1e^~¦§"
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
    """Lines before the first row (``sep=;``), with those of a title."""
    num_titles: int = 0
    """Lines of a title, or of comments, above the names of the columns."""
    num_further: int = 0
    """Rows below the names that say more of the columns."""
    taker: int | None = None
    """Column that takes what is over: of rows with more cells, whose texts hold the separator without quotes."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "columns": list(self.columns)}


def is_separator_line(line: str) -> bool:
    """Say whether a first line is Excel's ``sep=;``."""
    return _SEPARATOR_LINE.fullmatch(line) is not None


Survey = Callable[[Cut, int | None], Count]
"""Cuts the whole file in one way, and counts; the number is that of the columns which most rows seem to have."""


def detect(
    sample: Sequence[str],
    suffix: str,
    survey: Survey,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    like: Sequence[str] = (),
) -> tuple[Dialect, list[Guess]]:
    """Find how a file is written: what its first lines make plausible is counted over the whole file.

    ``delimiter`` and ``header`` are the user's word; ``like`` holds the column names of a
    file of the same set, whose repetition is certainly a header. Returns the guesses made, too.
    """
    num_skipped = 0
    named = _SEPARATOR_LINE.fullmatch(sample[0]) if sample else None
    if named and len(sample) > 1:
        delimiter, num_skipped = delimiter or named[1], 1
    lines = list(sample[num_skipped:])
    counts = _Counts(lines, suffix, survey)
    cut = counts.choose(delimiter)
    rows = [record.cells for record in _parse(lines, cut) if not record.error]
    if not rows:
        return Dialect(cut.delimiter, cut.quoting, False, ("column_1",), num_skipped), counts.guesses(cut)
    width = counts.width(cut, rows)
    num_titles = 0
    if header is None and not like and cut.delimiter is not None:
        rows, num_titles = _without_title(lines, cut, rows, width)
    taker = None
    if cut.delimiter not in (None, "\t"):
        taker, width = find_taker(rows, width)
    first = _first_row(rows, width)
    guesses = counts.guesses(cut)
    num_further = 0
    if header is None:
        num_further = num_further_rows(rows[1:]) if cut.delimiter is not None else 0
        header = has_header(first, rows[1:], like) or (
            num_further > 0 and has_header(first, rows[1 + num_further :], like)
        )
        if cut.delimiter is None and suffix not in _NATIVE_DELIMITERS and not like:
            # The first line of running text may be a title.
            header = header and has_known_name(first[:1])
        if cut.delimiter is not None or header:
            guesses.append(_header_guess(counts.num_rows(cut), is_header=header))
    names = tuple(unique_names(first if header else [""] * width))
    taker = taker if len(names) == width else None
    num_skipped += num_titles
    num_further = num_further if header else 0
    return Dialect(cut.delimiter, cut.quoting, header, names, num_skipped, num_titles, num_further, taker), guesses


def _without_title(lines: Sequence[str], cut: Cut, rows: list[list[str]], width: int) -> tuple[list[list[str]], int]:
    """Return the rows from the names of the columns on, and the lines above: rows with few cells filled, if any."""
    found = [record for record in _parse(lines[: _MAX_TITLES + 1], cut) if not record.error]
    num_comments = sum(1 for _ in takewhile(lambda record: record.lines[0].startswith("#"), found))
    if 0 < num_comments < len(found) and width > 1:
        record = found[num_comments]
        if len(record.cells) == width and has_header(record.cells, rows[num_comments + 1 :], ()):
            return rows[num_comments:], record.line - 1
    usual = Counter(sum(map(bool, map(str.strip, row))) for row in rows).most_common(1)[0][0]
    for place, record in enumerate(found):
        num_filled = sum(map(bool, map(str.strip, record.cells)))
        # A title may stand beside its value: "made by" and a name.
        if num_filled > max(1, min((width + 1) // 2, usual - 1)) or width < 2:
            above = found[:place]
            is_title = any(cell.strip() for one in above for cell in one.cells)
            if is_title and len(record.cells) == width and has_header(record.cells, rows[place + 1 :], ()):
                return rows[place:], record.line - 1
            break
    return rows, 0


def _first_row(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the first row as names of columns: numbers of rows may have none, and blank ones at the end go."""
    names = [rows[0][0].lstrip("\ufeff"), *rows[0][1:]]
    if numbers_rows(rows, width):
        names = ["", *names]
    while len(names) > width and not names[-1].strip():
        names.pop()
    return names


def _header_guess(num_rows: int, *, is_header: bool) -> Guess:
    words = ("yes", "no") if is_header else ("no", "yes")
    return Guess("header", words[0], num_rows, ((words[1], max(num_rows - 1, 0)),), "data.header")


def _parse(lines: Sequence[str], cut: Cut) -> list[Record]:
    found = []
    for record in records(Lines(iter(lines)), cut.delimiter, cut.quoting):
        found.append(record)
        if len(found) >= _SAMPLE_RECORDS:
            break
    return found


_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe", " ": "space", None: "none"}
_LINES = Cut(None, "none")


class _Counts:
    """How much of a file each way of cutting it explains."""

    def __init__(self, lines: Sequence[str], suffix: str, survey: Survey) -> None:
        self._lines = lines
        self._native = _NATIVE_DELIMITERS.get(suffix)
        self._survey = survey
        self._counts: dict[Cut, Count] = {}

    def choose(self, given: str | None) -> Cut:
        """Return the cut to be used; ``given`` is the user's delimiter."""
        if given is not None:
            return self._best_quoting(given)
        native = self._native
        if native == "," and _is_one_quoted_column(self._lines, native):
            return Cut(native, "double")
        # Of two that explain as much the rarer one is meant.
        usual = ["\t", *_FROM_DATABASES, *signs_in(self._lines), *",;|", *_WIDE]
        order = [native, *(each for each in usual if each != native)] if native else usual
        plausible = [each for each in order if each is not None and any(each in line for line in self._lines)]
        if self._is_likely("<|"):  # marks of a chat, which bars are part of
            plausible = [each for each in plausible if each != "|"]
        # What separates few of the first lines is counted only where the likelier ones leave lines over.
        likely = [each for each in plausible if each == native or self._is_likely(each)]
        cuts = [self._best_quoting(each) for each in likely]
        if not any(map(self._explains_all, cuts)):
            cuts = [self._best_quoting(each) for each in plausible]
        cuts = [cut for cut in cuts if self._is_convincing(cut)]
        if cuts:
            ranks = {cut: -place for place, cut in enumerate(cuts)}
            return max(
                cuts,
                key=lambda cut: (self._explained(cut), self._names_columns(cut), not self._is_prose(cut), ranks[cut]),
            )
        if native and (any(native in line for line in self._lines[:1]) or self._starts_quoted(native)):
            return self._best_quoting(native)
        return next(filter(self._has_open_column, map(self._best_quoting, likely)), _LINES)

    def _has_open_column(self, cut: Cut) -> bool:
        """Say whether a cut finds a label and a text in every line, whatever else it finds within the text."""
        rows = [record.cells for record in _parse(self._lines, cut) if not record.error]
        return cut.delimiter != "\t" and open_column(rows, 2) is not None

    def _is_likely(self, delimiter: str) -> bool:
        return sum(delimiter in line for line in self._lines) >= 0.3 * len(self._lines)

    def _explains_all(self, cut: Cut) -> bool:
        return 0 < self._explained(cut) == self._num_lines(cut)

    def _is_convincing(self, cut: Cut) -> bool:
        """Say whether what a cut finds are columns: in prose, commas and bars separate nothing."""
        is_native = cut.delimiter == self._native
        needed = 0.8 if is_native else 0.6 if cut.delimiter == "\t" else 0.95
        if is_native and self._lines and str(cut.delimiter) in self._lines[0]:
            needed = 0.3
        elif self._names_columns(cut):
            # Rows that do not fit are then bad rows, not another form.
            needed = min(needed, 0.5)
        enough = cut.delimiter == "\t" or self._native is not None or self.num_rows(cut) >= 3
        if not is_native and self._is_prose(cut) and not self._names_columns(cut) and not self._has_labels(cut):
            return False
        return enough and self._explained(cut) >= max(needed * self._num_lines(cut), 1)

    def _is_prose(self, cut: Cut) -> bool:
        """Say whether a cut is by commas or semicolons as in sentences: wide ones, or a space nearly always follows."""
        if cut.delimiter in tuple(_WIDE):
            return True
        if cut.delimiter not in (",", ";") or cut.quoting == "spaced":
            return False
        signs = sum(line.count(cut.delimiter) for line in self._lines)
        spaced = sum(line.count(f"{cut.delimiter} ") for line in self._lines)
        return spaced >= _NEARLY_ALL * signs

    def _has_labels(self, cut: Cut) -> bool:
        """Say whether some column holds a few values again and again, or numbers: labels, which dates are not."""
        rows = [record.cells for record in _parse(self._lines, cut) if not record.error]
        most = Counter(map(len, rows)).most_common(1)[0][0]
        for column in zip(*(row for row in rows if len(row) == most), strict=True):
            values = {cell.strip() for cell in column}
            is_few = 2 <= len(values) <= max(_FEW_LABELS * len(column), 2) and not any(map(_DATE.search, values))
            if is_few or all(map(is_number, values)):
                return True
        return False

    def _starts_quoted(self, native: str) -> bool:
        # One column whose cells are quoted, perhaps over several lines.
        return native == "," and any(line.startswith('"') for line in self._lines)

    def _names_columns(self, cut: Cut) -> bool:
        first = next((record.cells for record in _parse(self._lines[:1], cut)), [])
        return len(first) > 1 and has_known_name(first)

    def _best_quoting(self, delimiter: str) -> Cut:
        """Return the cut by a delimiter with the quoting that explains most; the usual one among equals."""
        has_quotes = any('"' in line for line in self._lines)
        if delimiter == "\t":
            is_meant = has_quotes and _quotes_have_meaning(self._lines, delimiter)
            order: list[Quoting] = ["double", "none"] if is_meant else ["none", "double"]
        else:
            order = ["single", "double", "none"] if self._has_single_quotes(delimiter) else ["double", "none"]
            spaced = f'{delimiter} "'
            if (
                has_quotes
                and delimiter != " "
                and sum(spaced in line for line in self._lines) >= 0.5 * len(self._lines)
            ):
                order = ["spaced", "double", "none"]
        if len(delimiter) > 1:
            order = ["none"]
        usual = Cut(delimiter, order[0])
        # Literal quotes are the rule in tab-separated files; the rest is looked at where that leaves rows over.
        if self._explains_all(usual):
            return usual
        if any('\\"' in line for line in self._lines) and len(delimiter) == 1:
            order.append("backslash")
        cuts = [Cut(delimiter, quoting) for quoting in order]
        return max(cuts, key=lambda cut: (self._explained(cut), -order.index(cut.quoting)))

    def _has_single_quotes(self, delimiter: str) -> bool:
        """Say whether cells stand in single quotes, as SQL and ARFF write texts."""
        edges = (f"'{delimiter}", f"{delimiter}'")
        quoted = [line for line in self._lines if line.startswith("'") or line.rstrip().endswith("'")]
        return len(quoted) >= _NEARLY_ALL * max(len(self._lines) - 1, 1) and all(
            any(edge in line for edge in edges) for line in quoted
        )

    def _count(self, cut: Cut) -> Count:
        if cut not in self._counts:
            widths = Counter(len(record.cells) for record in _parse(self._lines, cut) if not record.error)
            width = max(widths, key=lambda width: (width > 1, widths[width]), default=1)
            self._counts[cut] = self._survey(cut, width if width > 1 else None)
        return self._counts[cut]

    def _explained(self, cut: Cut) -> int:
        return self._count(cut).explained(cut.delimiter)[0]

    def _num_lines(self, cut: Cut) -> int:
        return self._count(cut).lines.total()

    def num_rows(self, cut: Cut) -> int:
        """Return how many rows a cut explains."""
        if cut.delimiter is None:
            return self._count(cut).rows.total()
        return self._count(cut).explained(cut.delimiter)[1] or self._count(cut).rows[1]

    def width(self, cut: Cut, rows: Sequence[Sequence[str]]) -> int:
        """Return the number of columns."""
        widths = self._count(cut).fitting(cut.delimiter) if cut.delimiter is not None else ()
        if not widths or self._count(cut).rows[1] > self.num_rows(cut):
            return Counter(map(len, rows)).most_common(1)[0][0]
        return min(widths)

    def guesses(self, chosen: Cut) -> list[Guess]:
        """Return what was chosen, and what else was looked at, with the rows that each explains."""
        best: dict[str | None, int] = {}
        for cut in self._counts:
            best[cut.delimiter] = max(best.get(cut.delimiter, 0), self.num_rows(cut))
        own = best.pop(chosen.delimiter, 0) if chosen.delimiter is not None else self.num_rows(_LINES)
        best.pop(None, None)
        others = [(_delimiter_name(each), number) for each, number in best.items() if number]
        others = sorted(others, key=lambda one: -one[1])
        found = [Guess("delimiter", _delimiter_name(chosen.delimiter), own, tuple(others), "data.delimiter")]
        quotings = [cut for cut in self._counts if cut.delimiter == chosen.delimiter and cut != chosen]
        if quotings:
            ranked = sorted(((cut.quoting, self.num_rows(cut)) for cut in quotings), key=lambda one: -one[1])
            found.append(Guess("quoting", chosen.quoting, self.num_rows(chosen), tuple(ranked)))
        return found


def _delimiter_name(delimiter: str | None) -> str:
    return _NAMES.get(delimiter, str(delimiter))


def _is_one_quoted_column(lines: Sequence[str], delimiter: str) -> bool:
    """Say whether every row is a single cell once quotes are heeded, and some need theirs."""
    parsed = _parse(lines, Cut(delimiter, "double"))
    is_one = all(not record.error and len(record.cells) == 1 for record in parsed)
    return is_one and any(delimiter in record.cells[0] and _is_in_quotes(record) for record in parsed)


def _is_in_quotes(record: Record) -> bool:
    """Say whether the one cell of a row is all that stands there: what follows a closing quote may be another cell."""
    written = record.cells[0].replace('"', '""')
    return "".join(record.lines).rstrip("\r\n") == f'"{written}"'


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
