"""Text files of any origin: compression, character encoding, lines of bounded length.

Bytes that the encoding does not know are marked, not dropped: each becomes a lone surrogate
(U+DC00 + byte), which no valid text contains. Readers reject the rows that hold one.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tunesmith.types import InputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE = 32 * 1024 * 1024
"""Characters; longer lines are bad rows (a whole book has about a million)."""

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz"), (b"\x28\xb5\x2f\xfd", ".zst"))
_REPLACE = "tunesmith.mark"
_SURROGATE = re.compile("[\ud800-\udfff]")
BLOCK = 1 << 20
_BLOCK_LINES = 10_000
MAX_EXPANSION = 500
"""Times its size that a compressed file may grow to: real tables stay far below, bombs far above."""
_SMALL = 256 * 1024 * 1024
"""Bytes that any file may hold once decompressed."""
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


codecs.register_error(_REPLACE, _mark)


def compression_of(path: Path) -> str:
    """Return ``.gz``, ``.bz2``, ``.xz``, ``.zst`` or nothing, by the file's first bytes."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((suffix for magic, suffix in _MAGIC if start.startswith(magic)), "")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed. A damaged archive becomes an ``InputError``."""
    compression = compression_of(path)
    try:
        with _opened(path, compression) as file:
            yield io.BufferedReader(_Guarded(file, path), BLOCK) if compression else file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        # bz2 reports damage as a plain OSError without a number.
        if compression and error.errno is None:
            raise _damaged(path, error) from error
        raise


def _opened(path: Path, compression: str) -> IO[bytes]:
    if compression == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if compression == ".bz2":
        return bz2.open(path, "rb")
    if compression == ".xz":
        return lzma.open(path, "rb")
    if compression == ".zst":
        import pyarrow as pa

        return cast("IO[bytes]", pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def max_bytes_of(size: int) -> int:
    """Return how many bytes a file of ``size`` bytes may hold in a compressed form."""
    return max(_SMALL, MAX_EXPANSION * size)


class _Guarded(io.RawIOBase):
    """The decompressed bytes of a file, as long as they are in proportion to its size."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__()
        self._file = file
        self._path = path
        self._left = max_bytes_of(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        content = self._file.read(len(view))
        view[: len(content)] = content
        self._left -= len(content)
        if self._left < 0:
            raise InputError(
                f"{self._path.name} grows to more than {MAX_EXPANSION} times its size when decompressed; it was not "
                "read on.",
                "Decompress it yourself if its content is what you expect.",
            )
        return len(content)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} is a damaged or cut compressed file: {error}.",
        "Download or copy it again; `gzip -t`, `bzip2 -t`, `xz -t` or `zstd -t` check it.",
    )


def has_marks(text: str) -> bool:
    """Say whether the text holds bytes that could not be decoded, or lone surrogates."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def describe_mark(text: str, encoding: str) -> str:
    """Say which byte or character of the text cannot be used."""
    found = _SURROGATE.search(text)
    assert found is not None
    code = ord(found.group())
    if 0xDC00 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02X} at character {found.start() + 1} is not valid {encoding.upper()}"
    return f"half of a surrogate pair (\\u{code:04x}) at character {found.start() + 1}"


class CutLine(str):
    """The beginning of a line that is longer than ``MAX_LINE``."""

    __slots__ = ()


class Lines:
    """The lines of a text file, each with its line end, numbered, with a way to put lines back.

    ``number`` is that of the line last handed out. A line longer than ``MAX_LINE`` comes as
    its beginning only, and ``is_cut`` is then true.
    """

    def __init__(self, stream: IO[str] | Iterable[str]) -> None:
        self._stream = stream
        self._waiting: list[str] = []
        """Lines to be handed out next, the next one last."""
        self._rest = ""
        """What was read of the line after them."""
        self._ended = False
        self.number = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._waiting and not self._load():
            raise StopIteration
        line = self._waiting.pop()
        self.number += 1
        self.is_cut = type(line) is CutLine
        return line

    def block(self) -> list[str]:
        """Hand out the next lines, as many as are at hand; nothing at the end of the file."""
        if not self._waiting and not self._load():
            return []
        found, self._waiting = self._waiting[::-1], []
        self.number += len(found)
        return found

    def put_back(self, lines: list[str]) -> None:
        """Hand out ``lines``, the last ones read, again."""
        self._waiting.extend(reversed(lines))
        self.number -= len(lines)

    def _load(self) -> bool:
        """Read on; return whether there are more lines."""
        if not isinstance(self._stream, io.TextIOBase):
            self._waiting = list(islice(self._stream, _BLOCK_LINES))[::-1]
            return bool(self._waiting)
        while not self._waiting and not self._ended:
            read = self._stream.read(BLOCK)
            self._ended = not read
            text = self._rest + read
            # A return at the end may be the first half of a line end.
            end = len(text) if self._ended else max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
            self._rest = text[end:]
            self._waiting = [
                line if len(line) < MAX_LINE else _cut(line) for line in io.StringIO(text[:end], newline="")
            ][::-1]
            if not self._waiting and len(self._rest.rstrip("\r")) >= MAX_LINE:
                self._waiting = [self._skip_long_line()]
        return bool(self._waiting)

    def _skip_long_line(self) -> CutLine:
        """Pass over the rest of a line that is too long; return its beginning."""
        beginning = CutLine(self._rest[:MAX_LINE])
        assert isinstance(self._stream, io.TextIOBase)
        last = self._rest[-1:]
        while read := self._stream.read(BLOCK):
            if last == "\r" and not read.startswith("\n"):
                break
            ends = [place for place in (read.find("\n"), read.find("\r")) if place >= 0]
            if ends and not (read[min(ends)] == "\r" and min(ends) == len(read) - 1):
                end = min(ends)
                self._rest = read[end + (2 if read[end : end + 2] == "\r\n" else 1) :]
                return beginning
            last = read[-1]
        self._rest = read
        self._ended = not read
        return beginning


def _cut(line: str) -> str:
    return line if len(line.rstrip("\r\n")) < MAX_LINE else CutLine(line[:MAX_LINE])


@contextmanager
def open_text(path: Path, encoding: str, newline: str = "") -> Iterator[io.TextIOWrapper]:
    """Open a text file, decompressed; line ends stay as they are and bad bytes are marked.

    Any line end ends a line; or ``newline`` alone does.
    """
    try:
        with (
            open_bytes(path) as file,
            io.TextIOWrapper(file, encoding=_marked(path, encoding), errors=_REPLACE, newline=newline) as text,
        ):
            yield text
    except UnicodeError as error:
        raise InputError(
            f"{show_name(path)} cannot be read as {encoding}: {error}.",
            "Give another data.encoding, or none: then it is found by content.",
        ) from error


def _marked(path: Path, encoding: str) -> str:
    """Return the encoding with its byte order where the name leaves it open and the file has no mark that tells it."""
    name = codecs.lookup(encoding).name
    if name not in ("utf-16", "utf-32"):
        return encoding
    with open_bytes(path) as file:
        start = file.read(1 << 16)
    if any(start.startswith(bom) and found == name for bom, found in BOMS):
        return encoding
    # White space and ASCII stand in every text: their bytes are small in the last place of the number, and zero before.
    unit = 2 if name == "utf-16" else 4
    spaces = {order: start[place::unit].count(0) for order, place in (("le", unit - 1), ("be", 0))}
    return f"{name}-{'be' if spaces['be'] > spaces['le'] else 'le'}"


def show_name(path: Path) -> str:
    """Return a file's name as it can be written anywhere: bytes that are no UTF-8 as their numbers."""
    return path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
