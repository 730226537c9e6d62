"""Which columns belong together as tokens and tags, and which hold spans: seen from the rows, whatever their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tunesmith.data.conll_layout import is_scheme_tag
from tunesmith.data.spans import parse_spans
from tunesmith.data.tagged import TAG_CUTS, TOKEN_CUTS, cut_text, parsed_list
from tunesmith.types import ColumnProfile

if TYPE_CHECKING:
    import pyarrow as pa

_NUM_ROWS = 300
_MAX_COLUMNS = 24
_MAX_TAGS = 200
_AGREEING = 0.98
_FEWEST_LENGTHS = 3
"""How different sentences must be in length at least, where they are cut here: names of one length agree by chance."""
_FEW_ROWS = 6
"""Rows too few to tell more than one or two lengths."""
_MAX_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class _Cut:
    """One way to cut the cells of a column: how many parts each row has, and which."""

    lengths: tuple[int, ...]
    """-1 where a cell is missing."""
    parts: Mapping[str, int]
    are_texts: bool
    are_cut_already: bool
    """Whether the cells are lists."""


def mark_tagged(profiles: Mapping[str, ColumnProfile], sample: pa.Table) -> dict[str, ColumnProfile]:
    """Return the profiles with ``tags_of`` and ``holds_spans`` filled in, from up to 300 rows."""
    found = dict(profiles)
    values: dict[str, Sequence[Any]] = {}
    for name, column in islice(profiles.items(), _MAX_COLUMNS):
        if column.kind in ("list", "text", "category", "object"):
            values[name] = sample.column(name).slice(0, _NUM_ROWS).to_pylist()
    for name, cells in values.items():
        if profiles[name].kind == "object":
            holds, has_none = _are_spans(cells)
            found[name] = replace(found[name], holds_spans=holds, has_no_spans=has_none)
    values = {name: cells for name, cells in values.items() if profiles[name].kind != "object"}
    if len(values) < 2:
        return found  # tokens and tags are in two columns
    cuts_of = {name: _cuts(cells) for name, cells in values.items()}
    for name, tags in cuts_of.items():
        tokens = [other for other, cuts in cuts_of.items() if other != name and _belong_together(cuts, tags)]
        if tokens:
            found[name] = replace(found[name], tags_of=tuple(tokens))
    return found


def _are_spans(cells: Sequence[Any]) -> tuple[bool, bool]:
    """Say whether (nearly) all cells are spans, and whether none is."""
    present = [cell for cell in cells if cell is not None and len(str(cell)) <= _MAX_CHARACTERS]
    parsed = [parse_spans(cell) for cell in present]
    num_good = sum(spans is not None for spans in parsed)
    return any(parsed) and num_good >= 0.9 * len(parsed), bool(parsed) and not num_good


def _cuts(cells: Sequence[Any]) -> dict[str, _Cut]:
    """Return the ways to cut cells that are lists (there is one, of every name) or text, into tokens or into tags."""
    texts = [cell for cell in cells if isinstance(cell, str)]
    if any(len(text) > _MAX_CHARACTERS for text in texts):
        return {}
    lists = [parsed_list(cell) for cell in cells]
    ways = tuple(dict.fromkeys((*TOKEN_CUTS, *TAG_CUTS)))
    if not texts:
        return dict.fromkeys(ways, _cut(cells, lists, ways[0], are_cut_already=True))
    return {way: _cut(cells, lists, way, are_cut_already=False) for way in ways}


def _cut(cells: Sequence[Any], lists: Sequence[list[str] | None], way: str, *, are_cut_already: bool) -> _Cut:
    """Cut cells in one way, all but those that are ``lists`` already."""
    rows = [
        None if cell is None else cut_text(cell, way) if items is None else items
        for cell, items in zip(cells, lists, strict=True)
    ]
    parts = Counter(chain.from_iterable(items for items in rows if items))
    are_texts = any(not part.lstrip("+-").replace(".", "").isdigit() for part in parts)
    return _Cut(tuple(-1 if items is None else len(items) for items in rows), parts, are_texts, are_cut_already)


def _belong_together(tokens: Mapping[str, _Cut], tags: Mapping[str, _Cut]) -> bool:
    ways = ((tokens[one], tags[other]) for one in TOKEN_CUTS if one in tokens for other in TAG_CUTS if other in tags)
    return any(_fit(one, other) for one, other in ways)


def _fit(tokens: _Cut, tags: _Cut) -> bool:
    """Say whether one column's parts are tags of the other's: as many in every row, several, few different ones."""
    pairs = [pair for pair in zip(tokens.lengths, tags.lengths, strict=True) if min(pair) >= 0]
    num_agreeing = sum(first == second for first, second in pairs)
    total = sum(tags.parts.values())
    if (
        len(tags.parts) < 2
        or not pairs
        or num_agreeing < _AGREEING * len(pairs)
        or total < 2 * len(pairs)
        or not tokens.are_texts
    ):
        return False
    fitting = sum(count for tag, count in tags.parts.items() if is_scheme_tag(tag))
    is_scheme = fitting >= 0.9 * total
    lengths = {length for length in tokens.lengths if length >= 0}
    is_evident = tokens.are_cut_already or len(lengths) >= _FEWEST_LENGTHS or len(pairs) < _FEW_ROWS
    is_few = (
        is_evident
        and len(tags.parts) <= _MAX_TAGS
        and 5 * len(tags.parts) <= total
        and len(tags.parts) < len(tokens.parts)
    )
    # Words of a text are many; where they are not more than the tags, nothing tells which are which.
    return is_scheme or is_few


def tagged_pair(
    profiles: Mapping[str, ColumnProfile],
    names: tuple[Sequence[str], Sequence[str]],
    overrides: Mapping[str, str],
) -> tuple[ColumnProfile, ColumnProfile] | None:
    """Return the columns of tokens and of tags: of several that fit, those with the best of the usual ``names``."""
    pairs = [
        (profiles[tokens], tags)
        for tags in profiles.values()
        for tokens in tags.tags_of
        if overrides.get("tokens", tokens) == tokens and overrides.get("tags", tags.name) == tags.name
    ]

    def rank(column: ColumnProfile, usual: Sequence[str]) -> int:
        name = column.name.strip().lower()
        return usual.index(name) if name in usual else len(usual)

    return min(pairs, key=lambda pair: (rank(pair[1], names[1]), rank(pair[0], names[0])), default=None)
