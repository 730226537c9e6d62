"""Text of PDF files, by ``pypdf``: pages, without headers and footers, as paragraphs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tunesmith.data.documents.content import Block, Content, UnreadableError
from tunesmith.data.documents.lines import (
    goes_on,
    hyphenated_words,
    is_unfinished,
    joined,
    paragraphs_of,
    without_repeated,
)

MAX_NAMED_PAGES = 10


def read(path: Path) -> Content:
    """Return what a PDF file says. Raises ``UnreadableError``."""
    import pypdf

    try:
        reader = pypdf.PdfReader(path, strict=False)
        is_open = not reader.is_encrypted or bool(reader.decrypt(""))
    except pypdf.errors.DependencyError:
        is_open = False
    except Exception as error:  # a stranger's file makes a reader fail in any way
        raise UnreadableError(f"it is a damaged PDF: {_said(error)}") from error
    if not is_open:
        raise UnreadableError("it is encrypted; save it without its password, such as with qpdf --decrypt")
    pages, unread = _pages_of(reader)
    if not any(line.strip() for page in pages for line in page):
        if unread and len(unread) == len(pages):
            raise UnreadableError("it is a damaged PDF: none of its pages can be read")
        if not pages:
            raise UnreadableError("it has no pages")
        raise UnreadableError(
            f"its {len(pages)} pages hold no text, only pictures: it is a scan; let a program for character "
            "recognition add the text, such as ocrmypdf"
        )
    content = Content(title=_title(reader), num_pages=len(pages))
    empty = [number for number, page in enumerate(pages, 1) if number not in unread and not any(map(str.strip, page))]
    for numbers, what in ((unread, "could not be read"), (empty, "hold no text")):
        if numbers:
            content.notes.append(f"{len(numbers)} of its {len(pages)} pages {what}: {_named(numbers)}")
    kept, content.num_repeated_lines = without_repeated(pages)
    _fill(content, kept)
    return content


def _pages_of(reader: Any) -> tuple[list[list[str]], list[int]]:
    """Return the lines of each page, and the numbers of those that cannot be read."""
    pages: list[list[str]] = []
    unread: list[int] = []
    try:
        num_pages = len(reader.pages)
    except Exception as error:
        raise UnreadableError(f"it is a damaged PDF: {_said(error)}") from error
    for number in range(num_pages):
        try:
            text = reader.pages[number].extract_text()
        except Exception:
            text = ""
            unread.append(number + 1)
        pages.append([" ".join(line.split()) for line in re.split(r"\r\n|[\n\r\f\v]", text.replace("\0", ""))])
    return pages, unread


def _fill(content: Content, pages: list[list[str]]) -> None:
    """Add the paragraphs of all pages; one that a page's end cuts goes on on the next page."""
    words = hyphenated_words([line for page in pages for line in page])
    for number, page in enumerate(pages, 1):
        for place, lines in enumerate(paragraphs_of(page)):
            before = content.blocks[-1] if content.blocks else None
            if place == 0 and before is not None and is_unfinished(before.text) and goes_on(lines[0]):
                text, mended = joined([before.text, *lines], words)
                start = len(joined([before.text, lines[0]], words)[0]) - len(lines[0])
                content.blocks[-1] = Block(text, pages=(*before.pages, (max(start, 0), number)))
            else:
                text, mended = joined(lines, words)
                content.blocks.append(Block(text, pages=((0, number),)))
            content.num_mended += mended


def _title(reader: Any) -> str:
    try:
        title = reader.metadata.title if reader.metadata is not None else None
    except Exception:
        return ""
    return " ".join(title.split()) if isinstance(title, str) else ""


def _named(numbers: list[int]) -> str:
    more = f" and {len(numbers) - MAX_NAMED_PAGES} more" if len(numbers) > MAX_NAMED_PAGES else ""
    return ", ".join(map(str, numbers[:MAX_NAMED_PAGES])) + more


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
