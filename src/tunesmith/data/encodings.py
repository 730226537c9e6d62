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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from tunesmith.types import Guess, InputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE = 32 * 1024 * 1024
"""Characters; longer lines are bad rows (a whole book has about a million)."""

COMPRESSIONS = (".gz", ".bz2", ".xz")
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"BZh", ".bz2"), (b"\xfd7zXZ\x00", ".xz"))
_MAX_STRAY_CONTROLS = 16
_REPLACE = "tunesmith.mark"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLOCK = 1 << 20
_BLOCK_LINES = 10_000
MAX_EXPANSION = 500
"""Times its size that a compressed file may grow to: real tables stay far below, bombs far above."""
_SMALL = 256 * 1024 * 1024
"""Bytes that any file may hold once decompressed."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n\r\x01\x0b\x0c\x1a\x1b\x1e\x1f")
# In the order in which they win when the content fits several.
_CANDIDATES = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "latin_1", "cp1250", "cp1251", "koi8_r",
               "cp1253", "cp1254", "cp1255", "cp1256"]  # fmt: skip


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(0xDC00 + byte) for byte in bad), error.end


codecs.register_error(_REPLACE, _mark)


def compression_of(path: Path) -> str:
    """Return ``.gz``, ``.bz2``, ``.xz`` or nothing, by the file's first bytes."""
    with path.open("rb") as file:
        start = file.read(8)
    return next((suffix for magic, suffix in _MAGIC if start.startswith(magic)), "")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed. A damaged archive becomes an ``InputError``."""
    compression = compression_of(path)
    try:
        with _opened(path, compression) as file:
            yield io.BufferedReader(_Guarded(file, path), _BLOCK) if compression else file
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
        "Download or copy it again; `gzip -t`, `bzip2 -t` or `xz -t` check it.",
    )


def check_is_text(path: Path) -> None:
    """Raise ``InputError`` when the file's beginning is not text in any encoding."""
    with open_bytes(path) as file:
        start = file.read(1 << 16)
    if _wide_encoding(start):
        return
    binary = len(start) - len(start.translate(None, _BINARY_BYTES))
    if binary > max(0.05 * len(start), _MAX_STRAY_CONTROLS):
        raise InputError(
            f"{path.name} is not a text file: {binary} of its first {len(start)} bytes are control bytes.",
            "Give a CSV, TSV, JSON, JSONL, Parquet or Arrow file.",
        )


_MARKUP = (
    (r"<\?xml\b", "XML"),
    (r"<!doctype html|<html\b", "HTML"),
    (r"\{\\rtf", "RTF"),
    (r"(?:%.*\s+)*@relation\b", "ARFF"),
)
_MARKUP_START = 4_096


def refuse_markup(path: Path, name: str, encoding: str, *, is_wanted: bool) -> None:
    """Raise ``InputError`` for a document whose rows, if it has any, stand between marks that nobody wants to learn."""
    if is_wanted:
        return
    with open_text(path, encoding) as text:
        start = text.read(_MARKUP_START).lstrip("\ufeff \t\r\n")
    kind = next((kind for pattern, kind in _MARKUP if re.match(pattern, start, re.IGNORECASE)), "")
    if not kind and {suffix.lower() for suffix in path.suffixes} & {".yaml", ".yml"}:
        kind = "YAML"  # nothing at its beginning tells it from other text
    if kind:
        raise InputError(
            f"{name} is {kind}; its rows cannot be read.",
            "Export them as CSV or JSONL. To learn the file's own text, marks and all: data.passage 0 "
            "(a row a line), or another size.",
        )


_CYRILLIC = ("cp1251", "koi8-r")
_COMMONEST_CYRILLIC = frozenset("оеаинтсрвл")


def detect_encoding(path: Path) -> tuple[str, Guess | None]:
    """Return the file's encoding, and the guess that it is; no guess where it is certain.

    UTF-8 is certain when the whole file is valid, or when most lines beyond ASCII are: the
    rest are then bad rows.
    """
    with open_bytes(path) as file:
        start = file.read(1 << 16)
        wide = _wide_encoding(start)
        if wide:
            return wide, None
        decoder = codecs.getincrementaldecoder("utf-8")()
        block = start
        try:
            while block:
                decoder.decode(block)
                block = file.read(_BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            pass
        else:
            return "utf-8", None
    return _guess(path)


def _wide_encoding(start: bytes) -> str:
    for bom, name in _BOMS:
        if start.startswith(bom):
            return name
    # UTF-16 without a mark: in Latin text every second byte is zero.
    half = len(start) // 2
    if half >= 2:
        even, odd = start[0 : 2 * half : 2].count(0), start[1 : 2 * half : 2].count(0)
        if odd > 0.4 * half and even < 0.05 * half:
            return "utf-16-le"
        if even > 0.4 * half and odd < 0.05 * half:
            return "utf-16-be"
    return ""


def _guess(path: Path) -> tuple[str, Guess | None]:
    sample = bytearray()
    num_good = num_bad = num_lines = 0
    with open_bytes(path) as file:
        for line in _byte_lines(file):
            num_lines += 1
            if line.isascii():
                continue
            if _decodes(line, "utf-8"):
                num_good += 1
            else:
                num_bad += 1
                if len(sample) < 1 << 17:
                    sample += line + b"\n"
    if num_good >= num_bad:
        return "utf-8", None
    best, others = _best_of(bytes(sample))
    counts = dict.fromkeys([best, *others], num_lines)
    with open_bytes(path) as file:
        for line in _byte_lines(file):
            if not line.isascii():
                for name in counts:
                    counts[name] -= not _decodes(line, name)
    alternatives = [(name.upper(), counts[name]) for name in others] + [("UTF-8", num_lines - num_bad)]
    ranked = tuple(sorted(alternatives, key=lambda one: -one[1]))
    return best, Guess("encoding", best.upper(), counts[best], ranked, "data.encoding")


def _byte_lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(_BLOCK):
        yield line


def _best_of(sample: bytes) -> tuple[str, list[str]]:
    """Return the likeliest encoding, and others that the content could be in."""
    asian = _asian_encoding(sample)
    if asian:
        return asian, []
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=_CANDIDATES, preemptive_behaviour=False)
    if not matches:
        return "latin-1", []
    # Western text reads as Central European just as smoothly: among equals, the commonest encoding wins.
    likeliest = matches[0]
    equals = {
        name
        for match in matches
        if (match.chaos, match.coherence) == (likeliest.chaos, likeliest.coherence)
        for name in match.could_be_from_charset
    }
    ranked = [name.replace("_", "-") for name in _CANDIDATES if name in equals and _decodes(sample, name)]
    more = [match.encoding.replace("_", "-") for match in list(matches)[1:3]]
    best = _cyrillic(sample, ranked[0]) if ranked else "latin-1"
    ranked = [best, *(name for name in ranked if name != best)]
    return best, [name for name in dict.fromkeys([*ranked[1:3], *more]) if name != best]


def _cyrillic(sample: bytes, likeliest: str) -> str:
    """Return which of the Cyrillic encodings it is, where ``likeliest`` may be one of them misread, else ``likeliest``.

    Each reads the other's letters as letters, and Shift-JIS reads them as half-width kana. The ten commonest letters
    are most of a text, in capitals too, and a third of one that is misread.
    """
    if likeliest not in (*_CYRILLIC, "shift-jis"):
        return likeliest

    def share(name: str) -> float:
        letters = [letter for letter in sample.decode(name).lower() if letter.isalpha() and not letter.isascii()]
        return sum(letter in _COMMONEST_CYRILLIC for letter in letters) / max(len(letters), 1)

    best = max(filter(partial(_decodes, sample), _CYRILLIC), key=share, default=likeliest)
    return best if best in _CYRILLIC and share(best) >= 0.5 else likeliest


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _asian_encoding(sample: bytes) -> str:
    """Return gb18030, euc-kr, shift-jis or euc-jp where the bytes leave no doubt, else nothing.

    The level-1 characters of GB 2312 (the 3,755 commonest) have lead bytes B0 to D7 and trail
    bytes from A1; Korean syllables in EUC-KR use leads B0 to C8 only; Japanese is full of kana.
    Accented Latin letters followed by ASCII look like none of these.
    """
    for name in ("shift_jis", "euc_jp"):
        if _decodes(sample, name):
            wide = [character for character in sample.decode(name) if ord(character) > 0x7F]
            kana = sum("\u3041" <= character <= "\u30fe" for character in wide)
            if wide and kana > 0.2 * len(wide) and 2 * len(wide) > 0.2 * len(sample):
                return name.replace("_", "-")
    if not _decodes(sample, "gb18030"):
        return ""
    encoded = [character.encode("gb18030") for character in sample.decode("gb18030") if ord(character) > 0x7F]
    pairs = [pair for pair in encoded if len(pair) == 2 and pair[1] >= 0xA1]
    common = sum(0xB0 <= pair[0] <= 0xD7 for pair in pairs)
    marks = sum(pair[0] in (0xA1, 0xA3) for pair in pairs)
    # Pairs of accented Latin letters can look alike, but texts made of such pairs alone do not occur.
    if not common or common + marks <= 0.9 * len(encoded) or 2 * len(encoded) <= 0.2 * len(sample):
        return ""
    korean = sum(0xB0 <= pair[0] <= 0xC8 for pair in pairs)
    return "euc-kr" if korean > 0.98 * (len(pairs) - marks) and _decodes(sample, "euc_kr") else "gb18030"


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
            read = self._stream.read(_BLOCK)
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
        while read := self._stream.read(_BLOCK):
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
    if any(start.startswith(bom) and found == name for bom, found in _BOMS):
        return encoding
    # White space and ASCII stand in every text: their bytes are small in the last place of the number, and zero before.
    unit = 2 if name == "utf-16" else 4
    spaces = {order: start[place::unit].count(0) for order, place in (("le", unit - 1), ("be", 0))}
    return f"{name}-{'be' if spaces['be'] > spaces['le'] else 'le'}"


def show_name(path: Path) -> str:
    """Return a file's name as it can be written anywhere: bytes that are no UTF-8 as their numbers."""
    return path.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
