"""Text of Word files (DOCX), by ``python-docx``: headings by their styles, lists, tables, footnotes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.documents.content import LINE, PARAGRAPH, Block, Content, UnreadableError, non_empty

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
FOOTNOTES = "word/footnotes.xml"


def read(path: Path) -> Content:
    """Return what a DOCX file says. Raises ``UnreadableError``."""
    import docx

    try:
        document = docx.Document(str(path))
        blocks = non_empty(_blocks(document))
        title = " ".join((document.core_properties.title or "").split())
        notes = _footnotes(path)
    except Exception as error:  # a stranger's file makes a reader fail in any way
        raise UnreadableError(f"it is a damaged DOCX file: {' '.join(str(error).split())[:200]}") from error
    blocks += notes
    if not blocks:
        raise UnreadableError("it holds no text")
    headings = [block.text for block in blocks if block.level]
    return Content(title=title or (headings[0] if headings else ""), blocks=blocks)


def _blocks(document: Any) -> Iterator[Block]:
    from docx.table import Table

    is_in_list = False
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            is_in_list = False
            yield Block("\n".join(_rows(item)), is_lines=True)
            continue
        style = (item.style.name or "") if item.style is not None else ""
        text = "\n".join(" ".join(line.split()) for line in item.text.splitlines() if line.strip())
        found = re.fullmatch(r"Heading (\d)", style)
        if found is not None or style == "Title":
            is_in_list = False
            yield Block(" ".join(text.split()), level=int(found[1]) if found is not None else 1)
        elif style.startswith("List") or (item._p.pPr is not None and item._p.pPr.numPr is not None):
            yield Block(f"- {text}" if text else "", gap=LINE if is_in_list else PARAGRAPH)
            is_in_list = bool(text) or is_in_list
        else:
            is_in_list = False
            yield Block(text)


def _rows(table: Any) -> Iterator[str]:
    """Yield the rows of a table as lines; a cell that spans several columns comes once."""
    for row in table.rows:
        seen: list[Any] = []
        cells = []
        for cell in row.cells:
            if cell._tc not in seen:
                seen.append(cell._tc)
                cells.append(" ".join(cell.text.split()))
        if any(cells):
            yield " | ".join(cells)


def _footnotes(path: Path) -> list[Block]:
    """Return the footnotes, which stand in a part of their own that python-docx does not read."""
    from lxml import etree

    with zipfile.ZipFile(path) as archive:
        if FOOTNOTES not in archive.namelist():
            return []
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.fromstring(archive.read(FOOTNOTES), parser)
    notes = ("".join(note.itertext(f"{_W}t")) for note in root.iter(f"{_W}footnote"))
    return non_empty(Block(" ".join(note.split())) for note in notes)
