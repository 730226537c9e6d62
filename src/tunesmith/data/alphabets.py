"""Which encoding of one byte a letter a text is in: the one whose letters make words of one language.

Encodings of this kind read any bytes; what they make of another one's is letters that no language has beside each
other, signs within words, capitals behind small letters, or two scripts in a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

CONVINCING = 0.8
"""Share of the words beyond ASCII that must be words of one language."""
_MAX_WORDS = 2_000
"""Distinct words that are looked at."""
_COMMON_SHARE = 0.6
"""Share of a text that the commonest letters of its script have; of one that is misread they are a third or so."""

_MOST_SIGNS = 2
"""Signs around a word that may be meant: a pound, a pair of quotation marks."""

_WORD = re.compile(r"[^\s\x00-@\[-`{-\x7f]+")
_AROUND_WORDS = "\u00a0«»‹›“”„‟‘’‚‛–—―…•·°§¶©®™¿¡€£¥¢¤†‡‰×÷±¼½¾²³¹ªº"
"""What stands before and behind words in any language."""

_LATIN = {
    "German": "äöüßéà",
    "French": "àâäçéèêëîïôöùûüÿœæ",
    "Spanish": "áéíóúüñªº",
    "Portuguese": "áàâãçéêíóôõúüªº",
    "Catalan": "àèéíïòóúüç",
    "Italian": "àèéìíîòóùú",
    "Dutch": "áéíóúëïöüè",
    "Swedish and Finnish": "åäöéü",
    "Danish and Norwegian": "åæøéüòô",
    "Icelandic": "áéíóúýðþæö",
    "Polish": "ąćęłńóśźż",
    "Czech and Slovak": "áčďéěíňóřšťúůýžäĺľôŕ",
    "Hungarian": "áéíóöőúüű",
    "Romanian": "ăâîşţșț",
    "Croatian and Slovene": "čćđšž",
    "Turkish": "çğıİöşüâîû",
    "Lithuanian": "ąčęėįšųūž",
    "Latvian": "āčēģīķļņšūžōŗ",
    "Estonian": "äõöüšž",
}
_CYRILLIC, _GREEK, _HEBREW, _ARABIC, _THAI = (
    "оеаинтсрвл",
    "αοιετσνηυρπκςάίόέή",
    "יוהלארתבמש",
    "اليمونرتبهعك",
    "าน\u0e23อกเงมยวสดทล่้ัี",
)


@dataclass(frozen=True, slots=True)
class _Encoding:
    name: str
    script: str = "LATIN"
    """First word of the names of its letters."""
    common: str = ""
    """The commonest letters of the script."""


_ENCODINGS = (
    *map(_Encoding, ("cp1252", "latin-1", "cp1250", "iso8859-2", "iso8859-15", "cp1254", "cp1257")),
    *(_Encoding(name, "CYRILLIC", _CYRILLIC) for name in ("cp1251", "koi8-r", "koi8-u", "cp866", "iso8859-5")),
    _Encoding("mac-cyrillic", "CYRILLIC", _CYRILLIC),
    *(_Encoding(name, "GREEK", _GREEK) for name in ("cp1253", "iso8859-7")),
    *(_Encoding(name, "HEBREW", _HEBREW) for name in ("cp1255", "iso8859-8")),
    *(_Encoding(name, "ARABIC", _ARABIC) for name in ("cp1256", "iso8859-6")),
    _Encoding("cp874", "THAI", _THAI),
    *map(_Encoding, ("mac-roman", "mac-latin2", "cp850", "cp852", "cp437")),
)
"""In the order in which they win where the words are as good: those of an operating system of today first."""


def likeliest(sample: bytes) -> tuple[str, list[str]]:
    """Return the encoding in which nearly all words beyond ASCII are those of one language, and others that do as well.

    The name is empty where no encoding convinces.
    """
    scores = {encoding.name: _score(sample, encoding) for encoding in _ENCODINGS}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < CONVINCING:
        return "", []
    return best, [name for name, score in scores.items() if score >= 0.95 * scores[best] and name != best]


def _score(sample: bytes, encoding: _Encoding) -> float:
    """Return the share of words beyond ASCII that are words of one language, or have nothing but signs around them."""
    try:
        text = sample.decode(encoding.name)
    except UnicodeDecodeError:
        return 0.0
    found = Counter(word for word in _WORD.findall(text) if not word.isascii())
    words: Counter[str] = Counter()
    num_signs = 0
    for one, number in found.items():
        word = one.strip(_AROUND_WORDS)
        if not word.isascii():
            words[word] += number
        elif len(one) - len(word) <= _MOST_SIGNS:
            num_signs += number
    counted: dict[str, int] = dict(words.most_common(_MAX_WORDS))
    total = sum(counted.values()) + num_signs
    if not total:
        return 0.0
    written = {word: number for word, number in counted.items() if _is_written_well(word)}
    if encoding.script == "LATIN":
        return (num_signs + max(_num_covered(written, letters) for letters in _LATIN.values())) / total
    good = {word: number for word, number in written.items() if _is_of(word, encoding.script)}
    letters = "".join(word.lower() * number for word, number in good.items())
    num_common = sum(letters.count(letter) for letter in encoding.common)
    share = num_common / max(len(letters), 1)
    return (num_signs + sum(good.values()) * min(share / _COMMON_SHARE, 1.0)) / total


def _num_covered(words: dict[str, int], letters: str) -> int:
    """Return how many words have no letters beyond ASCII but these."""
    known = frozenset(letters + letters.upper())
    return sum(number for word, number in words.items() if all(letter.isascii() or letter in known for letter in word))


def _is_written_well(word: str) -> bool:
    """Say whether a word consists of letters and their marks, with capitals at its beginning or everywhere."""
    if not all(unicodedata.category(letter)[0] in "LM" for letter in word):
        return False
    return word[1:] == word[1:].lower() or word == word.upper()


def _is_of(word: str, script: str) -> bool:
    return all(unicodedata.name(letter, "").startswith(script) for letter in word)
