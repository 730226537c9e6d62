"""Names of languages, as columns and files of parallel texts are called by them."""

from __future__ import annotations

_CODES = """
    af ar az be bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl gu he hi hr hu hy id is it ja ka kk km
    kn ko lt lv mk ml mn mr ms my nb ne nl nn no pa pl ps pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur
    uz vi xh yo zh zu eng deu ger fra fre spa ita por rus zho chi cmn jpn kor ara nld pol ces swe zh_cn zh_tw
    pt_br en_us en_gb
"""
_NAMES = """
    english german french spanish italian portuguese russian chinese japanese korean arabic dutch polish czech swedish
    turkish hindi vietnamese indonesian ukrainian greek hebrew danish finnish norwegian hungarian romanian
    中文 英文 英语 德语 法语 日语
"""

LANGUAGE_CODES = frozenset(_CODES.split())
LANGUAGES = LANGUAGE_CODES | frozenset(_NAMES.split())
"""Codes and names, lower case."""
