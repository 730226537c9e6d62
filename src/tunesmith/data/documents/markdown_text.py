"""Text of Markdown files, by ``markdown-it-py``: headings, paragraphs, lists, tables, code; HTML in it as HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.documents.content import LINE, PARAGRAPH, Block, Content, UnreadableError, non_empty
from tunesmith.data.documents.html_text import decoded, read_markup

_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?\r?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL)
_TITLE = re.compile(r"^title:[ \t]*(.+?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def read(path: Path) -> Content:
    """Return what a Markdown file says. Raises ``UnreadableError``."""
    from markdown_it import MarkdownIt

    text = decoded(path).replace("\0", "")
    title = ""
    front = _FRONT.match(text)
    if front is not None:
        text = text[front.end() :]
        named = _TITLE.search(front[1] or "")
        title = named[1].strip("\"'") if named is not None else ""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    blocks = non_empty(_blocks(tokens))
    if not blocks:
        raise UnreadableError("it holds no text")
    return Content(title=title or next((block.text for block in blocks if block.level), ""), blocks=blocks)


def _blocks(tokens: Sequence[Any]) -> Iterator[Block]:
    waiting = iter(tokens)
    level, is_item, is_after_item = 0, False, False
    for token in waiting:
        if token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "list_item_open":
            is_item = True
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            is_after_item = False
        elif token.type == "table_open":
            yield Block("\n".join(_rows(waiting)), is_lines=True)
        elif token.type == "inline":
            text = "\n".join(" ".join(line.split()) for line in _plain(token.children).splitlines())
            if level:
                yield Block(" ".join(text.split()), level=level)
            else:
                gap = LINE if is_item and is_after_item else PARAGRAPH
                yield Block(f"- {text}" if is_item else text, gap=gap)
            is_after_item, level, is_item = is_item, 0, False
        elif token.type in ("fence", "code_block"):
            yield Block(token.content.rstrip("\n"), is_lines=True)
        elif token.type == "html_block":
            yield from read_markup(token.content).blocks


def _rows(tokens: Iterator[Any]) -> Iterator[str]:
    """Yield the rows of a table as lines, up to its end."""
    cells: list[str] = []
    for token in tokens:
        if token.type == "table_close":
            return
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(" ".join(_plain(token.children).split()))
        elif token.type == "tr_close":
            yield " | ".join(cells)


def _plain(children: Sequence[Any] | None) -> str:
    """Return what is read of a line's parts: the words of links and pictures, not their addresses."""
    parts = []
    for child in children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak":
            parts.append("\n")
        elif child.type == "image":
            parts.append(_plain(child.children))
        elif child.type == "html_inline" and re.match(r"<br\b", child.content):
            parts.append("\n")
    return "".join(parts)
