"""How a CoNLL file is laid out: what separates its columns, how many there are, which holds tokens and which tags.

Everything is counted over the whole file: a layout explains a sentence when all of its lines have its number of
columns.
"""

from __future__ import annotations

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tunesmith.data.encodings import Lines, has_marks
from tunesmith.data.tables import unique_names
from tunesmith.types import Guess

DOCUMENT = "-DOCSTART-"
_NO_WORD = re.compile(r"[0-9]+[-.][0-9]+")
"""Number of a word that is written in one with the next (3-4), and of one that is not written at all (5.1)."""
_SCHEME_TAG = re.compile(r"[OBIMELSUW](?:[-_]\S+)?|[^\s-]+[-_][BIMELSUW]|[o_-]")
_PREFIXED_TAG = re.compile(r"[BIMELSUW][-_]\S+|[^\s-]+[-_][BIMELSUW]")
_SAMPLE_LINES = 5_000
_SAMPLE_CHARACTERS = 1 << 22
_MAX_VALUES = 50_000
_MAX_TAGS = 200
_MIN_EVIDENCE = 50
"""Tokens that it takes to find the tags elsewhere than in the last column, where they are not those of entities."""
_BEGIN_DOCUMENT = "#begin document"
_GLOBAL_COLUMNS = re.compile(r"#\s*global\.columns\s*=\s*(.+)")

_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_ONTONOTES = ("document", "part", "number", "tokens", "pos", "parse", "lemma", "frameset", "sense", "speaker", "tags")
_USUAL_HEADINGS = """
    word words token tokens form char character chars text tag tags label labels ner ner_tag ner_tags entity pos
    pos_tag upos xpos chunk chunk_tag iob bio lemma id sentence sentence_id sentence# idx doc document
"""
_HEADINGS = frozenset(_USUAL_HEADINGS.split())

Kind = Literal["columns", "CoNLL-U", "OntoNotes"]
Separator = str | None
"""A character, or None for any white space."""


def sample_lines(lines: Lines) -> tuple[list[str], bool]:
    """Return a file's first lines, up to 5,000 or 4 million characters, and whether they are all."""
    sample: list[str] = []
    num_characters = 0
    for line in lines:
        if len(sample) == _SAMPLE_LINES or (sample and num_characters > _SAMPLE_CHARACTERS):
            return sample, False
        sample.append(line)
        num_characters += len(line)
    return sample, True


def is_scheme_tag(tag: str) -> bool:
    """Say whether a tag is written as those of entities are."""
    return _SCHEME_TAG.fullmatch(tag) is not None


def cut(line: str, separator: Separator) -> list[str]:
    """Return the columns of a line."""
    if separator is None:
        return line.split()
    content = line.rstrip("\r\n")
    if separator != "\t":
        if '"' in content and not has_marks(content):
            with contextlib.suppress(csv.Error):
                return [cell.strip() for cell in next(csv.reader([content], delimiter=separator), [""])]
        if content.startswith(separator * 2):
            # The token is the mark that separates.
            return [separator, *(cell.strip() for cell in content[2:].split(separator))]
    return [cell.strip() for cell in content.split(separator)]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines are cut, and what the columns are."""

    separator: Separator
    num_columns: int
    names: tuple[str, ...]
    tokens: int = 0
    """Index of the column of tokens..."""
    tags: int = 0
    """...and of that of tags."""
    kind: Kind = "columns"
    known_tags: frozenset[str] = frozenset()
    """Tags of lines that can be no comments."""
    choice: str = ""
    """What to say about the choice of the columns, where it is not the usual one."""
    explained: int = 0
    alternatives: tuple[tuple[str, int], ...] = ()

    @property
    def title(self) -> str:
        """The format's name."""
        return "CoNLL" if self.kind == "columns" else self.kind

    @property
    def kept(self) -> list[int]:
        """The columns that become lists of their own: all but the words' numbers."""
        if self.kind == "OntoNotes":
            return [self.tokens, _ONTONOTES.index("pos"), self.tags]
        return [index for index, name in enumerate(self.names) if self.kind != "CoNLL-U" or name != "id"]

    @property
    def guess(self) -> Guess:
        """Return the choice with the sentences that it and others explain."""
        chosen = describe(self.separator, self.num_columns)
        return Guess("columns", chosen, self.explained, self.alternatives, "data.delimiter")

    def cut(self, line: str) -> list[str]:
        """Return the columns of a line."""
        return cut(line, self.separator)

    def like(self, names: Sequence[str]) -> Layout:
        """Return the layout with the columns of the training file, if there are as many."""
        if self.kind != "columns" or len(names) != self.num_columns or not {"tokens", "tags"} <= set(names):
            return self
        tokens, tags = names.index("tokens"), names.index("tags")
        return self if tuple(names) == self.names else replace(
            self, names=tuple(names), tokens=tokens, tags=tags, choice=""
        )  # fmt: skip

    def is_comment(self, line: str, cells: Sequence[str], *, is_inside: bool) -> bool:
        """Say whether a line that begins with ``#`` is a comment, rather than a token such as ``#``.

        It is one where a sentence is yet to begin, unless it has the columns of a token and a tag
        that other tokens have; within a sentence, only without these columns.
        """
        if self.kind != "columns":
            return True
        full = self.complete(line, cells)
        if self.num_columns == 1:
            return len(cells) > 1 and not is_inside
        if full is None:
            return not is_inside or line[1:2].isspace()
        return not is_inside and full[self.tags] not in self.known_tags and full[self.tags] != full[self.tokens]

    def is_heading(self, cells: Sequence[str]) -> bool:
        """Say whether the first line names the columns."""
        names = [cell.lower() for cell in cells]
        is_named = len(names) > 1 and all(name in _HEADINGS for name in names)
        return is_named and cells[min(self.tags, len(cells) - 1)] not in self.known_tags

    def is_no_word(self, cells: Sequence[str]) -> bool:
        """Say whether a line of CoNLL-U is about several words at once, or about one that is not there."""
        return _NO_WORD.fullmatch(cells[0]) is not None

    def complete(self, line: str, cells: Sequence[str]) -> list[str] | None:
        """Return a token's columns, one of white space, which separators swallow, put back; None where it is none."""
        if self.kind == "OntoNotes":
            return list(cells) if len(cells) > len(_ONTONOTES) else None
        if len(cells) == self.num_columns:
            if self.num_columns > 1 and not cells[self.tokens]:
                return [*cells[: self.tokens], " ", *cells[self.tokens + 1 :]]
            return list(cells)
        if self.separator is not None or len(cells) != self.num_columns - 1 or self.num_columns == 1:
            return None
        is_swallowed = line[:1].isspace() if self.tokens == 0 else "  " in line.rstrip("\r\n")
        full = [*cells[: self.tokens], " ", *cells[self.tokens :]]
        # What is left of a token of white space may be its tag alone.
        is_alone = self.num_columns == 2 and cells[0] in self.known_tags and not _could_be_token(cells[0])
        return full if is_alone or (is_swallowed and full[self.tags] in self.known_tags) else None


def _could_be_token(cell: str) -> bool:
    return _PREFIXED_TAG.fullmatch(cell) is None and cell != "O"


def describe(separator: Separator, num_columns: int) -> str:
    """Return a layout in words."""
    names = {None: "white space", "\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
    return f"{num_columns} columns by {names.get(separator, separator)}" if num_columns > 1 else "1 column"


@dataclass(slots=True)
class _Column:
    """What stands in one column."""

    values: Counter[str] = field(default_factory=Counter)
    is_numbering: bool = True
    """Whether it counts the tokens of every sentence."""
    num_constant: int = 0
    """Sentences of several tokens that have one value."""

    def add(self, cells: Sequence[str]) -> None:
        if len(self.values) < _MAX_VALUES:
            self.values.update(cells)
        if self.is_numbering:
            plain = [cell for cell in cells if _NO_WORD.fullmatch(cell) is None]
            self.is_numbering = any(
                plain == [str(number) for number in range(first, first + len(plain))] for first in (1, 0)
            )
        self.num_constant += len(cells) > 1 and len(set(cells)) == 1

    @property
    def total(self) -> int:
        return self.values.total()

    @property
    def scheme_share(self) -> float:
        fitting = sum(count for value, count in self.values.items() if is_scheme_tag(value))
        is_marked = any(map(_PREFIXED_TAG.fullmatch, self.values)) or set(self.values) == {"O"}
        return fitting / self.total if is_marked else 0.0

    @property
    def num_outside(self) -> int:
        return self.values["O"] + self.values["_"]

    @property
    def num_words(self) -> int:
        """Distinct values with a letter, or as good as one: numbers alone are no words."""
        return sum(not value.lstrip("+-").replace(".", "").isdigit() for value in self.values)


class Survey:
    """Counts, line by line, the sentences that every layout explains, and what stands in one layout's columns."""

    def __init__(self, separators: Sequence[Separator], looked_at: Layout | None) -> None:
        self._separators = separators
        self._looked_at = looked_at
        self._columns = [_Column() for _ in range(looked_at.num_columns)] if looked_at else []
        self._sentence: list[str] = []
        self.explained: Counter[tuple[Separator, int]] = Counter()
        self._num_lines: Counter[tuple[Separator, int]] = Counter()
        self._is_first = True
        self.is_ontonotes = False
        self._names: tuple[str, ...] = ()
        self._num_sentences = 0

    def add(self, line: str) -> None:
        """Look at the next line."""
        if self._is_first:
            line = line.lstrip("\ufeff")
            self._is_first = not line.strip()
            self.is_ontonotes = line.startswith(_BEGIN_DOCUMENT)
            named = _GLOBAL_COLUMNS.match(line)
            self._names = tuple(unique_names(named[1].lower().split())) if named else ()
        if not line.strip() or line.startswith(DOCUMENT):
            self._end()
        elif self._sentence or not line.startswith("#"):
            self._sentence.append(line)

    def _end(self) -> None:
        if not self._sentence:
            return
        self._num_sentences += 1
        for separator in self._separators:
            rows = [cut(line, separator) for line in self._sentence]
            found = [_widths(line, cells, separator) for line, cells in zip(self._sentence, rows, strict=True)]
            for widths in found:
                self._num_lines[separator, widths[0]] += 1
            for width in set(found[0]).intersection(*found[1:]):
                self.explained[separator, width] += 1
            if self._looked_at is not None and separator == self._looked_at.separator:
                whole = [cells for cells in rows if len(cells) == len(self._columns)]
                for column, values in zip(self._columns, zip(*whole, strict=True), strict=False):
                    column.add(values)
        self._sentence = []

    def finish(self) -> Layout | None:
        """Return the layout that explains most; with its columns if they were looked at. None without any line."""
        self._end()
        if self.is_ontonotes:
            names = _ONTONOTES
            tags = frozenset({"*", "*)"})
            place = (names.index("tokens"), names.index("tags"))
            return Layout(None, len(names), names, *place, "OntoNotes", tags, "", self._num_sentences)
        if not self._num_lines:
            return None
        chosen = max(self._num_lines, key=self._worth)
        others = [(describe(*one), count) for one, count in self.explained.most_common(6) if one != chosen]
        layout = Layout(
            *chosen,
            names=("tokens",),
            explained=self.explained[chosen],
            alternatives=tuple(one for one in others if one[0] != describe(*chosen))[:4],
        )
        if self._looked_at is None or (self._looked_at.separator, self._looked_at.num_columns) != chosen:
            return layout
        return _with_roles(layout, self._columns, self._names)

    def _worth(self, layout: tuple[Separator, int]) -> tuple[int, int, bool, int]:
        """Sentences explained, then lines; of several separators that cut alike, the first that cuts at all."""
        return self.explained[layout], self._num_lines[layout], layout[1] > 1, -self._separators.index(layout[0])


def _widths(line: str, cells: Sequence[str], separator: Separator) -> tuple[int, ...]:
    """Return how many columns a line can be said to have."""
    # A token of white space is swallowed by the separators.
    return (len(cells), len(cells) + 1) if separator is None and line[:1].isspace() else (len(cells),)


def separators_in(sample: Sequence[str]) -> list[Separator]:
    """Return the separators that most lines have; white space always."""
    lines = [line for line in sample if line.strip()]
    return [
        mark
        for mark in ("\t", None, ",", ";", "|")
        if mark is None or 2 * sum(mark in line for line in lines) > len(lines)
    ]


def find_layout(sample: Sequence[str], separators: Sequence[Separator] | None = None) -> Layout | None:
    """Return the layout of some lines; None where they hold nothing."""
    separators = separators_in(sample) if separators is None else separators
    looked_at: Layout | None = None
    for _ in range(2):
        survey = Survey(separators, looked_at)
        for line in sample:
            survey.add(line)
        looked_at = survey.finish()
        if looked_at is None or looked_at.kind != "columns":
            break
    return looked_at


# ---- which column is what ------------------------------------------------------------------------


def _with_roles(layout: Layout, columns: Sequence[_Column], given: Sequence[str]) -> Layout:
    """Return the layout with names for its columns: those of CoNLL-U, or tokens and tags by what stands in them."""
    number = len(columns)
    if columns[0].is_numbering and (number == len(_CONLLU) or len(given) == number):
        names = tuple(given) if len(given) == number else _CONLLU
        if "form" in names:
            tags = next((names.index(name) for name in ("upos", "xpos") if name in names), number - 1)
            return replace(layout, names=names, tokens=names.index("form"), tags=tags, kind="CoNLL-U")
    if number == 1:
        return layout
    tags = _tag_column(columns)
    tokens = _token_column(columns, tags)
    names = tuple(
        "tokens" if index == tokens else "tags" if index == tags else f"column_{index + 1}" for index in range(number)
    )
    choice = f"of {number} columns, number {tokens + 1} was taken for the tokens and number {tags + 1} for their tags."
    if (tokens, tags) == (0, number - 1):
        choice = ""
    # A heading is no tag.
    found = columns[tags].values
    known = frozenset(tag for tag, count in found.items() if count > 1 or tag.lower() not in _HEADINGS)
    return replace(layout, names=names, tokens=tokens, tags=tags, known_tags=known, choice=choice)


def _tag_column(columns: Sequence[_Column]) -> int:
    """Return the column of tags: the last one whose values are those of a scheme, or else the last with few values.

    Where an earlier one marks more with the same types, the later one holds entities inside of entities.
    """
    indices = range(len(columns))
    of_scheme = [index for index in indices if columns[index].scheme_share >= 0.95]
    if of_scheme:
        last = of_scheme[-1]
        kinds = _types(columns[last])
        outer = [
            index
            for index in of_scheme[:-1]
            if kinds and kinds <= _types(columns[index]) and columns[index].num_outside < columns[last].num_outside
        ]
        return outer[0] if outer else last
    last = len(columns) - 1
    usable = [index for index in indices if _may_be_tags(columns[index])]
    if last in usable or not usable or columns[last].total < _MIN_EVIDENCE:
        return last
    return usable[-1]


def _may_be_tags(column: _Column) -> bool:
    """Say whether a column holds words of few kinds, each of them often."""
    number = len(column.values)
    is_few = number <= min(_MAX_TAGS, max(column.total / 3, _MIN_EVIDENCE / 3))
    return number > 1 and is_few and column.num_words > 0 and not column.is_numbering


def _types(column: _Column) -> set[str]:
    return {value[2:] for value in column.values if _PREFIXED_TAG.fullmatch(value)}


def _token_column(columns: Sequence[_Column], tags: int) -> int:
    """Return the column of tokens: the first, unless it numbers or names sentences or another says much more."""
    others = [index for index in range(len(columns)) if index != tags]
    if len(others) == 1:
        return others[0]
    # Words differ within a sentence; the name of a document does not.
    worth = {index: 0 if columns[index].is_numbering else columns[index].num_words for index in others}
    most = max(worth.values())
    return next(index for index in others if 2 * worth[index] > most or most == 0)
