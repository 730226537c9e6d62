"""Texts that went through the wrong encoding on their way here: what is wrong with them, and mended where it can be."""

from __future__ import annotations

import re
from collections.abc import Callable

_REPLACED = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯|ï¿½")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ENTITIES = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[0-9a-fA-F]{2,6});")
_ESCAPES = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\U[0-9a-fA-F]{8}")
_LOST_LETTER = re.compile(r"[A-Za-zÀ-ÿ]\?{1,2}[a-zà-ÿ]")
# UTF-8 read as Latin-1 or Windows-1252: a lead byte as a letter, then continuation bytes as what stands for them.
_OF_WINDOWS = "".join(bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0))
_CONTINUATION = f"[\u0080-\u00bf{_OF_WINDOWS}]"
_WESTERN = re.compile(
    f"(?:[\u00c2-\u00df]{_CONTINUATION}|[\u00e0-\u00ef]{_CONTINUATION}{{2}}|\u00f0{_CONTINUATION}{{3}})+"
)
_HAN = re.compile("[\u4e00-\u9fff]")


def damage_of(text: str) -> str:
    """Return what is wrong with a text's characters, in a few words; empty where nothing is."""
    for what, is_so in _DAMAGES.items():
        if is_so(text):
            return what
    return ""


def _has_lost_letters(text: str) -> bool:
    """Say whether question marks stand inside of two Latin words, or are all that there is of a text."""
    if "????" in text and not any(letter.isalnum() for letter in text):
        return True
    return "?" in text and len(_LOST_LETTER.findall(text)) >= 2


def mended(text: str) -> str | None:
    """Return the text with wrongly decoded parts decoded rightly, or None where nothing can be mended for certain."""
    whole = _of_chinese(text)
    if whole is not None:
        return whole
    repaired = _WESTERN.sub(lambda found: _of_western(found[0]) or found[0], text)
    return repaired if repaired != text else None


def _of_western(part: str) -> str | None:
    for encoding in ("cp1252", "latin-1"):
        try:
            return part.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    try:  # Windows-1252 has no letters for five bytes, which readers then leave as they are
        return b"".join(_byte(letter) for letter in part).decode("utf-8")
    except UnicodeError:
        return None


def _byte(letter: str) -> bytes:
    try:
        return letter.encode("cp1252")
    except UnicodeError:
        return letter.encode("latin-1")


def _of_chinese(text: str) -> str | None:
    if _HAN.search(text) is None:
        return None
    try:
        repaired = text.encode("gb18030").decode("utf-8")
    except UnicodeError:
        return None
    # The bytes of two characters may chance to be UTF-8; those of more never are.
    return repaired if len(_HAN.findall(repaired)) >= 2 else None


_DAMAGES: dict[str, Callable[[str], object]] = {
    "characters were replaced and are lost": _REPLACED.search,
    "it was decoded wrongly": lambda text: mended(text) is not None,
    "it has control characters": _CONTROLS.search,
    "it has HTML entities": _ENTITIES.search,
    "it has escapes in the place of characters": _ESCAPES.search,
    "question marks stand in the place of letters": _has_lost_letters,
}
