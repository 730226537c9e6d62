"""Which kind a document is of, by its content, and its text; strangers' formats are read in a process with limits."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from tunesmith.bounded.worker import StoppedError, Worker
from tunesmith.data.documents import html_text, markdown_text, pdf_text, word_text
from tunesmith.data.documents.content import Block, Content, UnreadableError
from tunesmith.data.documents.plain_text import blocks_of
from tunesmith.data.encoding_guess import check_is_text
from tunesmith.data.encodings import max_bytes_of
from tunesmith.data.file_bounds import FileBounds
from tunesmith.types import InputError, MissingExtraError

READERS: dict[str, Callable[[Path], Content]] = {
    "PDF": pdf_text.read,
    "DOCX": word_text.read,
    "HTML": html_text.read,
    "Markdown": markdown_text.read,
}
"""Kinds that are read as a whole, with what reads them."""
TEXT = "text"

LIBRARIES = {"PDF": ("pypdf", "pypdf"), "DOCX": ("docx", "python-docx"), "HTML": ("lxml", "lxml"),
             "Markdown": ("markdown_it", "markdown-it-py")}  # fmt: skip
"""What reads a kind: the module, and the package that it comes in."""
EXTRA = "documents"

SUFFIXES = {
    ".pdf": "PDF", ".docx": "DOCX", ".docm": "DOCX", ".html": "HTML", ".htm": "HTML", ".xhtml": "HTML",
    ".md": "Markdown", ".markdown": "Markdown", ".txt": TEXT, ".text": TEXT, ".rst": TEXT, ".adoc": TEXT, ".org": TEXT,
}  # fmt: skip
"""What is taken for a document in a folder; a file that is named is read whatever it is called."""
OTHER_DOCUMENTS = frozenset(
    [".doc", ".dot", ".odt", ".ott", ".rtf", ".pptx", ".ppt", ".odp", ".epub", ".pages", ".wpd", ".xps"]
)
"""Endings of documents that are not read."""

BOUNDS = FileBounds(seconds=60.0, seconds_per_mb=60.0, memory=1 << 30, memory_growth=20)
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BEFORE_HTML = re.compile(rb"<!--.*?-->|<\?xml[^>]*>", re.DOTALL)
_HTML_START = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)

_worker = Worker("tunesmith.data.documents.reading:answer")


def kind_of(path: Path) -> str:
    """Return which kind of document a file holds. Raises ``UnreadableError`` for what is none that can be read."""
    with path.open("rb") as file:
        start = file.read(1 << 12)
    if not start.strip(b"\0 \t\r\n\xef\xbb\xbf") and path.stat().st_size <= len(start):
        raise UnreadableError("it is empty")
    if b"%PDF-" in start[:1024]:
        return "PDF"
    if start.startswith(_OLD_OFFICE):
        raise UnreadableError("it is encrypted, or of an old version of Office; save it as DOCX without a password")
    if start.startswith(b"PK\x03\x04"):
        return _kind_in_archive(path)
    suffix = path.suffix.lower()
    if SUFFIXES.get(suffix) in ("PDF", "DOCX"):
        raise UnreadableError(f"it is called {suffix}, but its content is not that of one: it is damaged or cut")
    if SUFFIXES.get(suffix) == "HTML" or _HTML_START.match(_BEFORE_HTML.sub(b"", start)):
        return "HTML"
    try:
        check_is_text(path)
    except InputError:
        raise UnreadableError("it is of no kind that is read: PDF, DOCX, HTML, Markdown or plain text") from None
    return SUFFIXES.get(suffix, TEXT)


def _kind_in_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnreadableError(f"it is a damaged DOCX file or archive: {error}") from None
    if "word/document.xml" not in names:
        raise UnreadableError("it is an archive, or a document of another kind than DOCX; save it as DOCX or PDF")
    if size > max_bytes_of(path.stat().st_size):
        raise UnreadableError("it grows out of all proportion when it is decompressed; it was not read")
    return "DOCX"


def require_library(kind: str) -> None:
    """Raise ``MissingExtraError`` where what reads documents of a kind is not installed."""
    if kind in LIBRARIES:
        module, package = LIBRARIES[kind]
        if find_spec(module) is None:
            raise MissingExtraError(f"Reading {kind} files", package, EXTRA)


def read(path: Path, kind: str, content: Content, encoding: str | None = None) -> Iterator[Block]:
    """Yield the blocks of a document; everything else of it goes to ``content``.

    Plain text is read on the way; of other kinds all is there before the first block. Raises ``UnreadableError``.
    """
    if kind == TEXT:
        yield from blocks_of(path, content, encoding)
        return
    request = json.dumps([str(path.resolve()), kind]).encode()
    try:
        answered = _worker.ask(request, **BOUNDS.of(path.stat().st_size))
    except StoppedError as error:
        raise UnreadableError(f"it was not read on: {error}") from None
    except InputError as error:
        raise UnreadableError(error.problems[0].message) from None
    found = Content.from_json(answered)
    content.title, content.num_pages, content.notes = found.title, found.num_pages, found.notes
    content.num_repeated_lines, content.num_mended = found.num_repeated_lines, found.num_mended
    yield from found.blocks


def answer(request: bytes) -> bytes:
    """Read a document in the process with limits."""
    path, kind = json.loads(request)
    try:
        return READERS[kind](Path(path)).to_json()
    except UnreadableError as error:
        raise InputError(str(error)) from None
