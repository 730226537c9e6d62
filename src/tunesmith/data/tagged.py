"""Tagged sentences: tokens and their places in a text, and cells that hold tokens or tags.

``schemes.py`` has the schemes in which tags are written, ``spans.py`` entities as places in a text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data import cells
from tunesmith.data.schemes import OUTSIDE
from tunesmith.types import Guess

_UNSPACED = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff"
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


# ---- tokens and texts ----------------------------------------------------------------------------


def join_tokens(tokens: Sequence[str]) -> tuple[str, list[int]]:
    """Return a text of the tokens, and where in it each starts: spaces between them, none beside Chinese characters."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    last = ""
    for token in tokens:
        if last and token and not (_IS_UNSPACED.match(last[-1]) or _IS_UNSPACED.match(token[0])):
            pieces.append(" ")
            length += 1
        starts.append(length)
        pieces.append(token)
        length += len(token)
        last = token or last
    return "".join(pieces), starts


def split_words(text: str) -> tuple[list[str], list[int]]:
    """Cut a text into words, punctuation marks and Chinese characters, with the start of each."""
    found = list(_WORDS.finditer(text))
    return [match.group() for match in found], [match.start() for match in found]


def split_spaces(text: str) -> tuple[list[str], list[int]]:
    """Cut a text at its white space; where most of a piece is written without spaces, into its characters."""
    tokens: list[str] = []
    starts: list[int] = []
    for match in re.finditer(r"\S+", text):
        piece = match.group()
        if 2 * len(_IS_UNSPACED.findall(piece)) > len(piece):
            tokens += piece
            starts += range(match.start(), match.end())
        else:
            tokens.append(piece)
            starts.append(match.start())
    return tokens, starts


def split_characters(text: str) -> tuple[list[str], list[int]]:
    """Cut a text into its characters, white space left out."""
    starts = [index for index, letter in enumerate(text) if not letter.isspace()]
    return [text[start] for start in starts], starts


# ---- cells ---------------------------------------------------------------------------------------

_Cut = Callable[[str], list[str]]
_CUTS: dict[str, _Cut] = {
    "words": str.split,
    "characters": list,
    "visible characters": lambda text: split_characters(text)[0],
    "parts between commas": lambda text: text.split(","),
    "parts between bars": lambda text: text.split("|"),
}
TOKEN_CUTS = ("words", "characters", "visible characters")
"""Ways to cut a text into tokens, by ``as_strings``..."""
TAG_CUTS = ("words", "characters", "parts between commas", "parts between bars")
"""...and into tags."""


@dataclass(frozen=True, slots=True)
class Cells:
    """How cells of text are cut into tokens, and those of tags into tags."""

    tokens: str = "words"
    tags: str = "words"

    @classmethod
    def learn(cls, rows: Iterable[tuple[Any, Any]]) -> tuple[Cells, Guess | None]:
        """Find the cut that gives most rows as many tags as tokens; lists are cut already.

        The guess is None where every cell was a list.
        """
        explained: Counter[Cells] = Counter()
        num_rows = 0
        for tokens, tags in rows:
            if tokens is None or tags is None:
                continue
            lengths = [_lengths(cell, cuts) for cell, cuts in ((tokens, TOKEN_CUTS), (tags, TAG_CUTS))]
            if all(len(found) == 1 for found in lengths):
                continue
            num_rows += 1
            for how_tokens, num_tokens in lengths[0].items():
                for how_tags, num_tags in lengths[1].items():
                    explained[cls(how_tokens or "words", how_tags or "words")] += num_tokens == num_tags > 0
        if not num_rows:
            return cls(), None
        best, count = max(explained.items(), key=lambda item: (item[1], item[0] == cls()))
        others = [(str(how), number) for how, number in explained.most_common(5) if how != best and number]
        return best, Guess("cells", str(best), count, tuple(others))

    @classmethod
    def of_tokens(cls, rows: Iterable[Any]) -> Cells:
        """Say how cells without tags are cut: into words, or into characters where most are written without spaces."""
        texts = [cell for cell in rows if isinstance(cell, str)]
        num_unspaced = sum(
            2 * len(_IS_UNSPACED.findall(text)) > len(text) and " " not in text.strip() for text in texts
        )
        return cls("visible characters" if 2 * num_unspaced > len(texts) else "words")

    def __str__(self) -> str:
        return f"{self.tokens} with a tag each" if self.tags == "words" else f"{self.tokens}, tags as {self.tags}"

    def read_tokens(self, cell: Any) -> list[str] | None:
        """Return the tokens of a cell; None for a missing one."""
        return as_strings(cell, self.tokens)

    def read_tags(self, cell: Any) -> list[str] | None:
        """Return the tags of a cell; None for a missing one."""
        tags = as_strings(cell, self.tags)
        return None if tags is None else [tag.strip() for tag in tags]


def _lengths(cell: Any, cuts: Sequence[str]) -> dict[str, int]:
    """Return how many parts a cell has, by cut; by the empty name if it is a list, or one written as text."""
    parsed = cells.parse_list(cell) if isinstance(cell, str) else cell
    if parsed is not None:
        return {"": len(parsed)}
    return {cut: len(_CUTS[cut](cell)) for cut in cuts}


def as_strings(cell: Any, cut: str = "words") -> list[str] | None:
    """Return a cell of tokens or tags as a list: a list, one written as text, or a text that is cut."""
    if cell is None:
        return None
    parsed = parsed_list(cell)
    return cut_text(cell, cut) if parsed is None else parsed


def parsed_list(cell: Any) -> list[str] | None:
    """Return the items of a cell that is a list, or one written as text, as texts; None for one that is to be cut."""
    items = cells.parse_list(cell) if isinstance(cell, str) else cell
    return None if items is None else ["" if item is None else str(item) for item in items]


def cut_text(text: str, cut: str) -> list[str]:
    """Return the parts of a text in one of the ways of ``TOKEN_CUTS`` and ``TAG_CUTS``."""
    return _CUTS[cut](text)


def types_of(tags: Sequence[str] | None) -> list[str] | None:
    """Return the entity types (or other tags) that occur in a row, each once, sorted."""
    if tags is None:
        return None
    return sorted({tag[2:] if tag[:2] in ("B-", "I-") else tag for tag in tags if tag != OUTSIDE})
