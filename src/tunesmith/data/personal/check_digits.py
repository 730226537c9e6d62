"""The digits by which numbers of people, cards and companies tell that they are no chance numbers."""

from __future__ import annotations

import re
from datetime import date

_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_IDENTITY_CHECKS = "10X98765432"
_PROVINCE_CODES = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83"
)
_PROVINCES = frozenset(_PROVINCE_CODES.split())
_CREDIT_LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_CARD = re.compile(r"3[47]\d{13}|3[068]\d{12}|35\d{14}|4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|6\d{14,18}")
_IBANS = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 EE:20 "
    "EG:29 ES:24 FI:18 FR:27 GB:22 GE:22 GI:23 GR:27 HR:21 HU:28 IE:22 IL:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 "
    "LI:21 LT:20 LU:20 LV:21 MC:27 MD:24 ME:22 MK:19 MT:31 NL:18 NO:15 PL:28 PT:25 QA:29 RO:24 RS:22 SA:24 SE:24 "
    "SI:19 SK:24 SM:27 TN:24 TR:26 UA:29"
)
_IBAN_LENGTHS = {one[:2]: int(one[3:]) for one in _IBANS.split()}


def luhn_digit(digits: str) -> int:
    """Return the digit that makes ``digits`` pass Luhn's test when it is put after them (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if position % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return -total % 10


def is_card(text: str) -> bool:
    """Say whether the digits of ``text`` are a card's: the beginning and length of an issuer, and Luhn's test."""
    digits = "".join(character for character in text if character.isdigit())
    return _CARD.fullmatch(digits) is not None and int(digits[-1]) == luhn_digit(digits[:-1])


def identity_digit(digits: str) -> str:
    """Return the 18th character of a Chinese identity number with these 17 digits (GB 11643-1999)."""
    total = sum(weight * int(digit) for weight, digit in zip(_IDENTITY_WEIGHTS, digits, strict=True))
    return _IDENTITY_CHECKS[total % 11]


def is_identity_number(text: str) -> bool:
    """Say whether ``text`` is a Chinese identity number: a province, a day in the past, the right check digit."""
    number = text.upper()
    if re.fullmatch(r"[1-9]\d{16}[\dX]", number, re.ASCII) is None or number[:2] not in _PROVINCES:
        return False
    try:
        day = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return date(1900, 1, 1) <= day <= date.today() and number[17] == identity_digit(number[:17])  # noqa: DTZ011


def credit_letter(code: str) -> str:
    """Return the 18th character of a unified social credit code with these 17 (GB 32100-2015, ISO 7064 MOD 31-3)."""
    total = sum(weight * _CREDIT_LETTERS.index(letter) for weight, letter in zip(_CREDIT_WEIGHTS, code, strict=True))
    return _CREDIT_LETTERS[-total % 31]


def is_credit_code(text: str) -> bool:
    """Say whether ``text`` is a Chinese unified social credit code."""
    code = text.upper()
    has_form = re.fullmatch(rf"[1-9AN][1-9A-GY]\d{{6}}[{_CREDIT_LETTERS}]{{10}}", code, re.ASCII) is not None
    return has_form and code[17] == credit_letter(code[:17])


def is_iban(text: str) -> bool:
    """Say whether ``text`` is an IBAN: its country's length, and 1 as the remainder by 97 (ISO 13616)."""
    number = "".join(text.split()).upper()
    if len(number) != _IBAN_LENGTHS.get(number[:2]):
        return False
    return int("".join(str(int(letter, 36)) for letter in number[4:] + number[:4])) % 97 == 1


def is_social_security_number(text: str) -> bool:
    """Say whether ``text`` can be a US social security number: none begins with 000, 666 or 9, no part is all zeros."""
    area, group, serial = text.replace(" ", "-").split("-")
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"
