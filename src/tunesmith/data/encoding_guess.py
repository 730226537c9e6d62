"""Which encoding a text file is in: certain by a mark or as UTF-8, otherwise told by its content."""

from __future__ import annotations

import codecs
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tunesmith.data import alphabets
from tunesmith.data.encodings import BLOCK, BOMS, open_bytes
from tunesmith.types import Guess, InputError

_MAX_STRAY_CONTROLS = 16
_BINARY_BYTES = bytes(byte for byte in range(32) if byte not in b"\t\n\r\x01\x0b\x0c\x1a\x1b\x1e\x1f")
# In the order in which they win when the content fits several.
_CANDIDATES = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "latin_1", "cp1250", "cp1251", "koi8_r",
               "cp1253", "cp1254", "cp1255", "cp1256"]  # fmt: skip


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
                block = file.read(BLOCK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            pass
        else:
            return "utf-8", None
    return _guess(path)


def _wide_encoding(start: bytes) -> str:
    for bom, name in BOMS:
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
        # In other writing only spaces, digits and line ends have one.
        for order, here, there in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
            if here > max(0.02 * half, 2 * there) and _reads_well(start[: 2 * half], order):
                return order
    return ""


def _reads_well(sample: bytes, encoding: str) -> bool:
    """Say whether bytes are lines of text in an encoding: letters, signs, spaces, nothing that is no character."""
    text = sample.decode(encoding, "replace").rstrip("\ufffd")
    kinds = Counter("\n" if letter in "\t\r\n" else unicodedata.category(letter) for letter in text)
    return kinds["\n"] > 0 and sum(kinds[kind] for kind in ("Cc", "Cn", "Co", "Cs")) + text.count("\ufffd") == 0


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
    while line := file.readline(BLOCK):
        yield line


def _best_of(sample: bytes) -> tuple[str, list[str]]:
    """Return the likeliest encoding, and others that the content could be in."""
    asian = _asian_encoding(sample)
    if asian:
        return asian, []
    of_letters, others = alphabets.likeliest(sample)
    if of_letters:
        return of_letters, [name for name in others if _decodes(sample, name)][:3]
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
    best = ranked[0] if ranked else "latin-1"
    return best, [name for name in dict.fromkeys([*ranked[1:3], *more]) if name != best]


def _decodes(sample: bytes, name: str) -> bool:
    try:
        sample.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _asian_encoding(sample: bytes) -> str:
    """Return gb18030, euc-kr, cp949, shift-jis, cp932 or euc-jp where the bytes leave no doubt, else nothing.

    The level-1 characters of GB 2312 (the 3,755 commonest) have lead bytes B0 to D7 and trail
    bytes from A1; Korean syllables in EUC-KR use leads B0 to C8 only; Japanese is full of kana.
    Accented Latin letters followed by ASCII look like none of these.
    """
    for name in ("shift_jis", "cp932", "euc_jp"):  # the second one has more characters than the standard
        if _decodes(sample, name):
            wide = [character for character in sample.decode(name) if ord(character) > 0x7F]
            kana = sum("\u3041" <= character <= "\u30fe" for character in wide)
            if wide and kana > 0.2 * len(wide) and 2 * len(wide) > 0.2 * len(sample):
                return name.replace("_", "-")
    if _decodes(sample, "cp949") and _is_korean(sample):
        return "euc-kr" if _decodes(sample, "euc_kr") else "cp949"
    if not _decodes(sample, "gb18030"):
        return ""
    encoded = [character.encode("gb18030") for character in sample.decode("gb18030") if ord(character) > 0x7F]
    pairs = [pair for pair in encoded if len(pair) == 2 and pair[1] >= 0xA1]
    common = sum(0xB0 <= pair[0] <= 0xD7 for pair in pairs)
    marks = sum(pair[0] in (0xA1, 0xA3) for pair in pairs)
    # Pairs of accented Latin letters can look alike, but texts made of such pairs alone do not occur.
    if not common or common + marks <= 0.9 * len(encoded) or 2 * len(encoded) <= 0.2 * len(sample):
        return ""
    return "gb18030"


def _is_korean(sample: bytes) -> bool:
    """Say whether nearly all that is beyond ASCII are syllables of KS X 1001, of which all writing is full.

    Chinese in GB 2312 has a third of its characters outside of their range, Western letters come in no pairs.
    """
    wide = [letter for letter in sample.decode("cp949") if ord(letter) > 0x7F]
    pairs = [pair for letter in wide if len(pair := letter.encode("cp949")) == 2]
    marks = sum(pair[0] in (0xA1, 0xA3) for pair in pairs)
    korean = sum(0xB0 <= pair[0] <= 0xC8 and pair[1] >= 0xA1 for pair in pairs)
    return korean > 0.9 * (len(pairs) - marks) > 0 and 2 * len(pairs) > 0.2 * len(sample)
