"""Documents to a file of passages: a line of JSON each, with where it stands; and what could not be read, and why."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tunesmith.data.documents.content import Content, UnreadableError
from tunesmith.data.documents.cutting import Lengths, Passage, passages_of
from tunesmith.data.documents.reading import OTHER_DOCUMENTS, SUFFIXES, kind_of, read, require_library
from tunesmith.data.encodings import show_name
from tunesmith.files.atomic import new_file
from tunesmith.types import InputError

SEPARATOR = " > "
"""Between the headings that a passage stands under."""


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """What became of a document."""

    source: str
    kind: str
    num_passages: int
    num_duplicates: int
    num_pages: int
    num_repeated_lines: int
    num_mended: int
    notes: tuple[str, ...]

    @property
    def said(self) -> str:
        """What is to be said of it; nothing where it was simply read."""
        counts = (
            (self.num_repeated_lines, "lines of headers, footers or menus left out"),
            (self.num_mended, "words mended that were cut at the end of a line"),
        )
        return "; ".join([*(f"{number:,} {what}" for number, what in counts if number), *self.notes])


@dataclass(slots=True)
class Gathered:
    """What became of all documents."""

    documents: list[ReadDocument] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files that gave no passage: by what they are called, and why."""

    @property
    def num_passages(self) -> int:
        return sum(document.num_passages for document in self.documents)

    @property
    def num_duplicates(self) -> int:
        return sum(document.num_duplicates for document in self.documents)

    def to_json(self) -> dict[str, Any]:
        return {
            "passages": self.num_passages,
            "duplicates": self.num_duplicates,
            "documents": [
                {
                    "source": one.source,
                    "kind": one.kind,
                    "passages": one.num_passages,
                    "duplicates": one.num_duplicates,
                    "pages": one.num_pages,
                    "repeated_lines_left_out": one.num_repeated_lines,
                    "words_mended": one.num_mended,
                    "notes": [*one.notes],
                }
                for one in self.documents
            ],
            "left_out": [{"source": source, "reason": reason} for source, reason in self.left_out],
        }


def write_passages(
    given: Sequence[Path],
    output: Path,
    lengths: Lengths,
    *,
    encoding: str | None = None,
    keeps_duplicates: bool = True,
    watch: Callable[[str], None] = lambda _: None,
) -> Gathered:
    """Write the passages of documents and of those in folders to ``output``, which is there whole or not at all.

    One document is held at a time; of a passage written, a few bytes that tell whether another one is the same.
    ``watch`` is told each document before it is read. Raises ``InputError`` where not one passage was found.
    """
    gathered = Gathered()
    documents = list(_documents(given, gathered))
    for kind in dict.fromkeys(kind for _, _, kind in documents):
        require_library(kind)
    with new_file(output) as file:
        writer = _Writer(file, keeps_duplicates=keeps_duplicates)
        for path, source, kind in documents:
            watch(source)
            content = Content()
            before = (writer.num_written, writer.num_duplicates)
            reason = "it holds no text"
            try:
                for record in _records(path, source, kind, content=content, lengths=lengths, encoding=encoding):
                    writer.add(record)
            except UnreadableError as error:
                reason = str(error)
                content.notes.append(f"it was not read to its end: {reason}")
            written, same = writer.num_written - before[0], writer.num_duplicates - before[1]
            if written or same:
                counts = (content.num_pages, content.num_repeated_lines, content.num_mended)
                gathered.documents.append(ReadDocument(source, kind, written, same, *counts, tuple(content.notes)))
            else:
                gathered.left_out.append((source, reason))
        if not gathered.num_passages:
            raise _nothing_found(gathered)
    return gathered


class _Writer:
    """Writes passages, and knows which of them were there before."""

    def __init__(self, file: IO[bytes], *, keeps_duplicates: bool) -> None:
        self._file = file
        self._keeps_duplicates = keeps_duplicates
        self._first_by_text: dict[bytes, str] = {}
        self.num_written = 0
        self.num_duplicates = 0

    def add(self, record: dict[str, Any]) -> None:
        key = hashlib.blake2b(" ".join(record["text"].split()).encode(), digest_size=16).digest()
        first = self._first_by_text.setdefault(key, record["id"])
        is_same = first != record["id"]
        self.num_duplicates += is_same
        if is_same and not self._keeps_duplicates:
            return
        record["duplicate_of"] = first if is_same else None
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.num_written += 1


def _records(
    path: Path, source: str, kind: str, *, content: Content, lengths: Lengths, encoding: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the passages of a document as they are written. Raises ``UnreadableError``."""
    try:
        blocks = read(path, kind, content, encoding)
        first = next(blocks, None)  # the title is known by then
        if first is None:
            return
        title = content.title or Path(source).stem
        counts: dict[str, int] = {}
        for passage in passages_of(chain([first], blocks), lengths):
            yield _record(passage, source, title, counts)
    except (OSError, InputError) as error:
        raise UnreadableError(_reason(error)) from error


def _record(passage: Passage, source: str, title: str, counts: dict[str, int]) -> dict[str, Any]:
    """Return a passage as it is written; its ``id`` stays the same whatever else changes in the document."""
    key = hashlib.sha256(f"{source}\0{passage.text}".encode()).hexdigest()[:16]
    counts[key] = counts.get(key, 0) + 1
    return {
        "id": key if counts[key] == 1 else f"{key}-{counts[key]}",
        "text": passage.text,
        "title": title,
        "headings": SEPARATOR.join(passage.headings),
        "source": source,
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
    }


def _documents(given: Sequence[Path], gathered: Gathered) -> Iterator[tuple[Path, str, str]]:
    """Yield the documents, each once, with what they are called and their kinds."""
    seen: set[Path] = set()
    for path, source, is_named in _files(given):
        place = path.resolve()
        if place in seen:
            continue
        seen.add(place)
        if not is_named and path.suffix and path.suffix.lower() not in SUFFIXES:
            reason = f"files called {path.suffix} are not taken for documents; name it to have it read anyway"
            if path.suffix.lower() in OTHER_DOCUMENTS:
                reason = f"documents of the kind {path.suffix} are not read; save it as DOCX or PDF"
            gathered.left_out.append((source, reason))
            continue
        try:
            yield path, source, kind_of(path)
        except (UnreadableError, OSError, InputError) as error:
            gathered.left_out.append((source, _reason(error)))


def _files(given: Sequence[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Yield files, those of folders in the order of their names; hidden ones are nobody's documents."""
    for path in given:
        if not path.exists():
            raise InputError(f"There is no file or folder {path}.", "Give files, or folders that hold them.")
        if not path.is_dir():
            yield path, show_name(path), True
            continue
        for parent, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(parent) / name
                if not name.startswith("."):
                    source = file.relative_to(path).as_posix()
                    yield file, source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or error}"
    if isinstance(error, InputError):
        return error.problems[0].message
    return str(error)


def _nothing_found(gathered: Gathered) -> InputError:
    shown = "; ".join(f"{source}: {reason}" for source, reason in gathered.left_out[:5])
    more = len(gathered.left_out) - 5
    listed = f" ({shown}{f'; and {more} more' if more > 0 else ''})" if shown else ""
    return InputError(
        f"Not one passage was found in {len(gathered.left_out)} files{listed}.",
        "Give PDF, DOCX, HTML, Markdown or text files, or folders that hold some.",
    )


def kinds_of(gathered: Gathered) -> Mapping[str, int]:
    """Return how many documents there are of each kind."""
    counts: dict[str, int] = {}
    for document in gathered.documents:
        counts[document.kind] = counts.get(document.kind, 0) + 1
    return counts
