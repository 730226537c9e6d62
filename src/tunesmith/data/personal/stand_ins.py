"""What is put in the place of personal data: its kind in brackets, or a stand-in, the same for the same value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

from tunesmith.data.personal.check_digits import credit_letter, identity_digit, luhn_digit
from tunesmith.data.personal.detecting import Found
from tunesmith.data.personal.names import CHINESE_GIVEN, CHINESE_SURNAMES, ENGLISH_SURNAMES, GIVEN_NAMES

Way = Literal["mask", "replace"]

_SORTED_GIVEN = sorted(GIVEN_NAMES)
_STREETS = ("Maple", "Cedar", "Willow", "Harbor", "Juniper", "Alder", "Meadow", "Quarry")
_CHINESE_STREETS = ("和平", "建设", "新华", "文化", "长青", "东风", "光明", "前进")
_TOWNS = ("Ashford", "Brookside", "Clearwater", "Dunmore", "Eastvale", "Fairmont", "Glenwood", "Hartley")


class StandIns:
    """Puts something else in the place of personal data; equal values of a kind get equal stand-ins under one seed.

    Numbers keep their form and their separators. Their check digits are wrong on purpose, so that no stand-in is the
    number of somebody else; e-mail addresses are of example.com, which nobody has.
    """

    def __init__(self, way: Way, seed: int = 0) -> None:
        self._way = way
        self._seed = seed

    def apply(self, text: str, found: Sequence[Found]) -> str:
        """Return the text with every stretch in ``found`` (in order, no overlaps) replaced."""
        parts: list[str] = []
        last = 0
        for one in found:
            parts += [text[last : one.start], self.of(one.kind, text[one.start : one.end])]
            last = one.end
        return "".join([*parts, text[last:]])

    def of(self, kind: str, value: str) -> str:
        """Return what stands for a value."""
        if self._way == "mask":
            return f"[{kind.upper()}]"
        plain = "".join(value.split()).casefold()
        key = hashlib.blake2b(f"{self._seed}\x1f{kind}\x1f{plain}".encode(), digest_size=32).digest()
        return _stand_in(kind, value, key)


def _stand_in(kind: str, value: str, key: bytes) -> str:
    if kind in _MADE:
        return _MADE[kind](value, key)
    return _with_wrong_check(kind, _other_digits(value, key, kept=3 if kind == "phone" else 0))


def _number(key: bytes) -> int:
    return int.from_bytes(key[:6], "big")


def _is_chinese(value: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in value)


def _name(value: str, key: bytes) -> str:
    if _is_chinese(value):
        given = [CHINESE_GIVEN[byte % len(CHINESE_GIVEN)] for byte in key[6 : 6 + min(max(len(value) - 1, 1), 2)]]
        return CHINESE_SURNAMES[_number(key) % len(CHINESE_SURNAMES)] + "".join(given)
    surname = ENGLISH_SURNAMES[key[7] % len(ENGLISH_SURNAMES)]
    return f"{_SORTED_GIVEN[_number(key) % len(_SORTED_GIVEN)]} {surname}" if " " in value.strip() else surname


def _address(value: str, key: bytes) -> str:
    number = _number(key) % 900 + 1
    if _is_chinese(value):
        return f"{_CHINESE_STREETS[key[7] % len(_CHINESE_STREETS)]}路{number}号"
    return f"{number} {_STREETS[key[7] % len(_STREETS)]} Street"


_MADE: dict[str, Callable[[str, bytes], str]] = {
    "email": lambda _, key: f"user{_number(key) % 10**8:08d}@example.com",
    "name": _name,
    "address": _address,
    "place": lambda _, key: _TOWNS[key[7] % len(_TOWNS)],
    "secret": lambda _, key: f"SECRET-{key[:6].hex()}",
    "ip_address": lambda _, key: f"192.0.2.{key[0]}",  # set aside for documentation (RFC 5737)
}


def _other_digits(value: str, key: bytes, kept: int) -> str:
    """Return the value with other digits, the first ``kept`` and everything that is no digit left as they are."""
    letters, place = [], 0
    for letter in value:
        if letter.isdigit() and letter.isascii():
            letters.append(letter if place < kept else str((key[place % len(key)] + place // len(key)) % 10))
            place += 1
        else:
            letters.append(letter)
    return "".join(letters)


def _with_wrong_check(kind: str, value: str) -> str:
    """Return the value with another last character where the one it has would pass for a check digit."""
    digits = "".join(letter for letter in value if letter.isdigit())
    if kind == "card" and int(digits[-1]) == luhn_digit(digits[:-1]):
        return value[:-1] + str((int(value[-1]) + 1) % 10)
    if kind == "identity_number":
        return value[:-1] + ("0" if identity_digit(value[:17]) != "0" else "1")
    if kind == "credit_code":
        return value[:-1] + ("0" if credit_letter(value[:17]) != "0" else "1")
    if kind == "iban":
        return f"{value[:2]}00{value[4:]}"  # no IBAN has 00 as its check digits
    if kind == "social_security_number":
        return f"000{value[3:]}"
    return value
