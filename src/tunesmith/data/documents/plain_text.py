"""Text files: paragraphs between empty lines, read one after the other, however long the file is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tunesmith.data.documents.content import Block, Content
from tunesmith.data.documents.lines import joined
from tunesmith.data.encoding_guess import detect_encoding
from tunesmith.data.encodings import Lines, open_text

MAX_PARAGRAPH = 100_000
"""Characters after which a paragraph ends, though no empty line came: more is never held in memory."""
WRAPPED = 40
"""Characters of the longest line from which on the lines of a paragraph are taken for one that was wrapped."""
NEARLY_FULL = 0.6
_MARK = re.compile("[\ud800-\udfff]")


def blocks_of(path: Path, content: Content, encoding: str | None = None) -> Iterator[Block]:
    """Yield the paragraphs of a text file; what is noticed on the way goes to ``content``."""
    found = encoding or detect_encoding(path)[0]
    num_bad = 0
    with open_text(path, found) as text:
        lines = Lines(text)
        taken: list[str] = []
        num_characters = 0
        for given in lines:
            if lines.is_cut:
                content.notes.append(f"line {lines.number} is too long; only its beginning was read")
            line, bad = _MARK.subn("\ufffd", given.lstrip("\ufeff").rstrip("\r\n").replace("\0", ""))
            num_bad += bad
            if line.strip():
                taken.append(line)
                num_characters += len(line)
            if taken and (not line.strip() or num_characters > MAX_PARAGRAPH):
                yield _paragraph(taken, content)
                taken, num_characters = [], 0
        if taken:
            yield _paragraph(taken, content)
    if num_bad:
        content.notes.append(f"{num_bad} bytes are not {found.upper()}; each became \ufffd")


def _paragraph(lines: list[str], content: Content) -> Block:
    """Return a paragraph; lines that were wrapped become one, others (verses, lists) stay lines."""
    lengths = [len(line.strip()) for line in lines]
    longest = max(lengths)
    is_wrapped = longest >= WRAPPED and all(length >= NEARLY_FULL * longest for length in lengths[:-1])
    if not is_wrapped or len(lines) == 1:
        return Block("\n".join(line.rstrip() for line in lines), is_lines=len(lines) > 1)
    text, num_mended = joined([line.strip() for line in lines])
    content.num_mended += num_mended
    return Block(text)
