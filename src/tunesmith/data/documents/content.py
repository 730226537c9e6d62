"""What every reader of documents gives: blocks of text in reading order, and what was noticed on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

PARAGRAPH = "\n\n"
LINE = "\n"


class UnreadableError(Exception):
    """A document that gives no text; the message says why, and what would mend it."""


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a table, a list's item: what stands together."""

    text: str
    level: int = 0
    """Of a heading, from 1; 0 for everything else."""
    is_lines: bool = False
    """Whether its lines are what it consists of (a table, code), rather than sentences."""
    gap: str = PARAGRAPH
    """What stands between it and the block before, where there is one."""
    pages: tuple[tuple[int, int], ...] = ()
    """Places in the text from which on it is on a page: ``(place, page)``, the first at 0; none without pages."""


@dataclass(slots=True)
class Content:
    """A document, read."""

    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    num_repeated_lines: int = 0
    """Lines left out because they stand on the pages again and again: headers, footers, menus."""
    num_mended: int = 0
    """Words put together again that were cut at the end of a line."""
    num_pages: int = 0
    notes: list[str] = field(default_factory=list)
    """What of it could not be read."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Content:
        fields = json.loads(content)
        blocks = [
            Block(**{**block, "pages": tuple((int(place), int(page)) for place, page in block["pages"])})
            for block in fields.pop("blocks")
        ]
        return cls(blocks=blocks, **fields)


def non_empty(blocks: Iterator[Block]) -> list[Block]:
    """Return the blocks that hold anything."""
    return [block for block in blocks if block.text.strip()]
