"""Pairs of texts that differ only in whom they are about: lists of words, and the swapping of them.

A pair of words has two sides, such as ``he`` and ``she``. Every text with a word of either is written twice: with all
such words of the first side, and with all of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tunesmith.data.documents.lines import CJK
from tunesmith.types import InputError

Pairs = tuple[tuple[str, str], ...]


def _pairs(text: str) -> Pairs:
    found = []
    for pair in text.split():
        first, _, second = pair.partition("/")
        found.append((first, second))
    return tuple(found)


_GENDER = _pairs("""
    he/she him/her his/her his/hers himself/herself man/woman men/women boy/girl boys/girls guy/gal guys/gals
    gentleman/lady gentlemen/ladies male/female males/females father/mother fathers/mothers dad/mom dads/moms
    daddy/mommy papa/mama son/daughter sons/daughters brother/sister brothers/sisters husband/wife husbands/wives
    boyfriend/girlfriend boyfriends/girlfriends groom/bride uncle/aunt uncles/aunts nephew/niece nephews/nieces
    grandfather/grandmother grandpa/grandma king/queen kings/queens prince/princess princes/princesses duke/duchess
    actor/actress actors/actresses hero/heroine heroes/heroines host/hostess waiter/waitress waiters/waitresses
    businessman/businesswoman spokesman/spokeswoman policeman/policewoman salesman/saleswoman chairman/chairwoman
    mr/mrs sir/madam widower/widow monk/nun wizard/witch lad/lass masculine/feminine manly/womanly
    他/她 他们/她们 男人/女人 男孩/女孩 男孩子/女孩子 男生/女生 男士/女士 先生/女士 男性/女性 父亲/母亲 爸爸/妈妈
    儿子/女儿 哥哥/姐姐 弟弟/妹妹 兄弟/姐妹 丈夫/妻子 老公/老婆 爷爷/奶奶 外公/外婆 叔叔/阿姨 舅舅/姑姑 侄子/侄女
    男友/女友 男朋友/女朋友 王子/公主 国王/女王 帅哥/美女 小伙子/小姑娘 男主角/女主角 男演员/女演员 男主/女主 新郎/新娘
""")
_NAMES = _pairs("""
    James/Emily John/Mary Robert/Patricia Michael/Jennifer William/Linda David/Elizabeth Richard/Barbara Joseph/Susan
    Thomas/Jessica Charles/Sarah Christopher/Karen Daniel/Lisa Matthew/Nancy Anthony/Betty Mark/Sandra Paul/Ashley
    Steven/Kimberly Andrew/Donna Kenneth/Michelle George/Carol Kevin/Amanda Brian/Melissa Edward/Deborah
    Peter/Anna Tom/Kate Jack/Emma Harry/Alice Ben/Julia Adam/Laura Frank/Helen Henry/Rachel Simon/Claire
    建国/秀英 志强/丽娟 浩然/梓涵 宇轩/欣怡 子轩/雨桐 国强/桂英 小明/小红 小刚/小丽 建华/淑珍
""")
_ORIGINS = _pairs("""
    Emily/Lakisha Anne/Tamika Jill/Ebony Allison/Aisha Laurie/Keisha Sarah/Latoya Meredith/Kenya Carrie/Tanisha
    Kristen/Latonya Todd/Rasheed Neil/Tremayne Geoffrey/Kareem Brett/Darnell Brendan/Tyrone Greg/Hakim
    Matthew/Jermaine Jay/Leroy Brad/Jamal
""")
WORD_LISTS: dict[str, Pairs] = {"gender": _GENDER, "names": _NAMES, "origins": _ORIGINS}
"""Names -> pairs: gendered words and names of men and women in English and Chinese; first names that are usual among
white and among Black Americans (Bertrand and Mullainathan 2004, table 8)."""


def read_pairs(wanted: str) -> Pairs:
    """Return a list of ``WORD_LISTS``, or the pairs of a file: two words a line, parted by a tab or a comma.

    Raises ``InputError`` for what is neither, and for lines without two words.
    """
    if wanted in WORD_LISTS:
        return WORD_LISTS[wanted]
    try:
        lines = Path(wanted).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--swap {wanted}: there is no such list of words, and no such file ({error}).",
            f"Choose one of {', '.join(WORD_LISTS)}, or give a file with two words a line.",
        ) from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        words = [word.strip() for word in re.split(r"[\t,，]", line)]
        if len(words) != 2 or not all(words) or words[0] == words[1]:
            raise InputError(
                f"{wanted}:{number}: expected two different words, received {line.strip()[:80]!r}.",
                "Write two words a line with a comma or a tab between them: he,she",
            )
        pairs.append((words[0], words[1]))
    if not pairs:
        raise InputError(f"{wanted} holds no pairs of words.", "Write two words a line: he,she")
    return tuple(pairs)


class Swapper:
    """Writes texts with the words of one side of every pair.

    Words are found whatever their case, but for those that are written with capitals (names: "Mark" is no "mark").
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pattern = _pattern(pairs)
        self._sides = (_partners(pairs, 0), _partners(pairs, 1))

    def sides(self, text: str) -> tuple[str, str] | None:
        """Return a text with the words of the first side, and with those of the second; None without any of them."""
        if self._pattern.search(text) is None:
            return None
        first, second = (self._pattern.sub(partial(_partner, partners=side), text) for side in self._sides)
        return first, second


def _partners(pairs: Pairs, side: int) -> dict[str, list[str]]:
    """Return for each word of the other side those that may take its place."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        found.setdefault(pair[1 - side], []).append(pair[side])
    return found


def _pattern(pairs: Pairs) -> re.Pattern[str]:
    """Return what finds any word of the pairs, the longest first; between spaces where its writing has some."""
    words = sorted({word for pair in pairs for word in pair}, key=lambda word: (-len(word), word))
    return re.compile("|".join(map(_bounded, words)))


def _bounded(word: str) -> str:
    if re.search(f"[{CJK}]", word):
        return re.escape(word)
    escaped = re.escape(word) if word != word.lower() else f"(?i:{re.escape(word)})"
    return rf"(?<!\w){escaped}(?!\w)"


def _partner(found: re.Match[str], partners: Mapping[str, Sequence[str]]) -> str:
    """Return what stands in the place of a word on the side that ``partners`` lead to, or the word itself."""
    word = found[0]
    if word in partners:
        return _meant(found, partners[word])
    options = partners.get(word.lower())
    return word if options is None else _cased(_meant(found, options), word)


def _meant(found: re.Match[str], options: Sequence[str]) -> str:
    """Return which partner is meant where a word has two: "her" before a word is "his", else "him"."""
    follows = re.match(r"\s+\w", found.string[found.end() :]) is not None
    wanted = "his" if follows else "him"
    return wanted if wanted in options else options[0]


def _cased(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
