"""What personal data look like, in English and Chinese: a pattern, what must hold of a match, and what denies it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tunesmith.data.personal.check_digits import (
    is_card,
    is_credit_code,
    is_iban,
    is_identity_number,
    is_social_security_number,
)
from tunesmith.data.personal.names import CHINESE_SURNAMES, COMPOUND_SURNAMES, GIVEN_NAMES

KINDS = (
    "secret",
    "email",
    "identity_number",
    "credit_code",
    "iban",
    "card",
    "social_security_number",
    "ip_address",
    "phone",
    "address",
    "name",
)
"""Kinds of personal data, those first that win where two claim the same characters."""

NUMBERS_OF_THINGS = re.compile(
    r"(?:\b(?:order|invoice|tracking|isbn|issn|serial|ticket|part|model|version|sku|doi|case|reference|ref|booking)\b"
    r"|\bv|订单|单号|编号|运单|快递|发票|货号|版本|型号|流水)"
    r"(?:\s*(?:no|number|num|id|nr|code|号|号码|为|是))?[.:：#\s]*$",
    re.IGNORECASE,
)
"""What stands before a number that belongs to a thing: it is nobody's phone or card."""


def _anything(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """One form of one kind of personal data."""

    kind: str
    pattern: re.Pattern[str]
    """Group 1, where there is one, is what is found; the rest stands beside it."""
    holds: Callable[[str], bool] = _anything
    """What must be true of what is found, such as its check digit."""
    is_number: bool = False
    """Whether it is no personal data where it stands behind words such as "order no."."""
    needs: re.Pattern[str] | None = field(default=None)
    """What a text must have for the pattern to be tried at all: quick to find."""


def _rule(kind: str, pattern: str, *, flags: int = 0, needs: str = "", **settings: object) -> Rule:
    needed = re.compile(needs, flags) if needs else None
    return Rule(kind, re.compile(pattern, flags), needs=needed, **settings)  # type: ignore[arg-type]


def _is_telephone(text: str) -> bool:
    digits = [character for character in text if character.isdigit()]
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2 and re.fullmatch(r"(?:19|20)\d\d-\d\d-\d\d", text) is None


def _is_secret(text: str) -> bool:
    """Say whether a text may be a password: neither a plain word, nor what says that there is none."""
    has_kinds = any(letter.isdigit() for letter in text) + any(letter.isalpha() for letter in text)
    return has_kinds == 2 or not text.isalnum()


def _is_name(text: str) -> bool:
    return not {word.strip(".") for word in text.split()} & _NO_NAMES


_OTHER_CAPITALS = (
    "Mr Mrs Ms Dr Prof "
    "Sir Madam The This That All Team Customer Customers Support Service Friend "
    "Friends President Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March "
    "April June July August September October November December Street Road Avenue University "
    "College Company Bank Hotel Park School"
)
_NO_NAMES = frozenset(_OTHER_CAPITALS.split())
_BEFORE = r"(?<![A-Za-z0-9_.])"  # Chinese characters may stand right before a number
_DIGITS = r"\d[\d\s().-]{5,}"
_CAPITAL = r"(?:[A-Z]['’])?[A-Z][a-zÀ-ɏ]+(?:[-'’][A-Z]?[a-z]+|[A-Z][a-z]+)?"
_FULL = rf"{_CAPITAL}(?:\s(?:[A-Z]\.\s)?{_CAPITAL}){{0,2}}"
_SURNAME = f"(?:{'|'.join(COMPOUND_SURNAMES)}|[{CHINESE_SURNAMES}])"
_HAN = r"[\u4e00-\u9fff]"
_STREET_WORDS = (
    "Street St Avenue Ave Road Rd Lane Ln Drive Dr Boulevard Blvd Court Ct "
    "Place Pl Terrace Square Sq Parkway Pkwy Highway Hwy Close Crescent Way"
)
_STREETS = _STREET_WORDS.split()

RULES: tuple[Rule, ...] = (
    # Keys whose makers gave them a form of their own.
    _rule("secret", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", needs="A[KS]IA"),
    _rule("secret", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{40,}", needs="gh[pousr]_|github_pat"),
    _rule("secret", r"\bsk-[A-Za-z0-9_-]{20,}", needs="sk-"),
    _rule("secret", r"\bxox[abprs]-[A-Za-z0-9-]{10,}", needs="xox"),
    _rule("secret", r"\bAIza[\w-]{35}", needs="AIza"),
    _rule("secret", r"\bhf_[A-Za-z0-9]{30,}\b", needs="hf_"),
    _rule("secret", r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}", needs="eyJ"),
    _rule(
        "secret",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{0,10000}?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        needs="PRIVATE KEY",
    ),
    _rule(
        "secret",
        r"(?:\b(?:password|passwd|pwd|secret|api[_ -]?key|access[_ -]?token)\b|密码|口令|密钥)"
        r"(?:\s+(?:is|was)\s+|\s*[:=：]\s*|\s*(?:是|为)\s*)[\"']?([^\s\"'，。；,;]{6,})",
        flags=re.IGNORECASE,
        needs="passw|pwd|secret|key|token|密码|口令|密钥",
        holds=_is_secret,
    ),
    _rule("email", r"(?<![\w.+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b", needs="@"),
    _rule(
        "identity_number",
        r"(?<!\w)[1-9]\d{16}[\dXx](?![\w])",
        flags=re.ASCII,
        needs=r"\d{17}",
        holds=is_identity_number,
    ),
    _rule(
        "credit_code",
        r"(?<![A-Za-z0-9])[1-9AN][1-9A-GY]\d{6}[0-9A-HJ-NPQRTUWXY]{10}(?![A-Za-z0-9])",
        needs=r"\d{6}",
        holds=is_credit_code,
    ),
    _rule(
        "iban", r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b", needs=r"[A-Z]{2}\d{2}", holds=is_iban
    ),
    _rule(
        "card", rf"{_BEFORE}\d(?:[ -]?\d){{12,18}}(?![\d.]\d|\d)", needs=r"\d[\d -]{12}", holds=is_card, is_number=True
    ),
    _rule(
        "social_security_number",
        rf"{_BEFORE}\d{{3}}[- ]\d{{2}}[- ]\d{{4}}(?![\d-])",
        needs=r"\d{3}[- ]\d{2}[- ]",
        holds=is_social_security_number,
        is_number=True,
    ),
    _rule(
        "ip_address",
        r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\.?\d)",
        needs=r"\d\.\d+\.\d",
        is_number=True,
    ),
    # Telephone numbers: with the country, as they are written in America, in China, and behind words that say so.
    _rule(
        "phone",
        r"(?<![\w+])\+\d{1,3}[\s.-]?\(?\d{1,4}\)?(?:[\s.-]?\d{2,4}){2,4}(?!\d)",
        needs=r"\+\d",
        holds=_is_telephone,
    ),
    _rule(
        "phone",
        rf"{_BEFORE}(?:1[-. ])?(?:\([2-9]\d{{2}}\)\s?|[2-9]\d{{2}}[-. ])[2-9]\d{{2}}[-. ]\d{{4}}(?![\d-])",
        needs=r"\d{3}[-. ]\d{4}",
        holds=_is_telephone,
        is_number=True,
    ),
    _rule(
        "phone",
        r"(?<![\w.-])(?:86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\w)",
        flags=re.ASCII,
        needs=r"1[3-9]\d",
        is_number=True,
    ),
    _rule(
        "phone",
        rf"{_BEFORE}(?:0\d{{2,3}}[- ]\d{{7,8}}|400[- ]\d{{3,4}}[- ]\d{{3,4}})(?![\d-])",
        needs=r"\d{2}[- ]\d{3}",
        is_number=True,
    ),
    _rule(
        "phone",
        r"(?:\b(?:phone|tel|telephone|mobile|cell|fax|call|text|whatsapp)\b|电话|手机|传真|致电)(?:号码|号)?"
        r"(?:\s+(?:me|us|number|is|at|on))*[.:：\s]*(\(?\d[\d\s().-]{5,16}\d)(?!\d)",
        flags=re.IGNORECASE,
        needs=_DIGITS,
        holds=_is_telephone,
    ),
    _rule(
        "address",
        rf"\b\d{{1,5}}[A-Za-z]?\s(?:[NSEW]\.?\s)?(?:{_CAPITAL}\s){{1,3}}(?:{'|'.join(_STREETS)})\b"
        r"(?:,?\s(?:Apt|Suite|Unit|Flat)\.?\s\w{1,5})?"
        rf"(?:,\s{_CAPITAL}(?:\s{_CAPITAL})?)?(?:,\s[A-Z]{{2}}(?:\s\d{{5}}(?:-\d{{4}})?)?)?",
        needs=r"\d [A-Z]|\d\w [A-Z]",
    ),
    _rule("address", r"\bP\.?\s?O\.?\sBox\s\d{1,6}\b", needs="Box"),
    _rule(
        "address",
        r"(?:现住|住在|居住在|位于|地址[是为]?[:：]?|寄到|送到|寄往)?\s?("
        rf"(?:{_HAN}{{2,7}}?(?:省|自治区))?(?:{_HAN}{{2,7}}?(?:市|自治州))?(?:{_HAN}{{1,6}}?(?:区|县|镇|乡))?"
        rf"{_HAN}{{1,8}}?(?:路|街|道|巷|弄|大街|大道)\s?\d{{1,5}}(?:号|弄)(?:\s?\d{{1,5}}(?:号楼|号|栋|幢|座|单元|室|层|楼))*)",
        needs=r"[路街道巷弄]\s?\d",
    ),
    # Names behind or before what names stand beside.
    _rule(
        "name",
        rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Sir|Madam)\b\.?\s({_FULL})",
        needs="M[rsi]|Dr|Prof|Sir|Mad",
        holds=_is_name,
    ),
    _rule(
        "name",
        r"\b(?:[Mm]y name is|[Nn]ame:|I am called|Dear|[Ss]igned,?|[Rr]egards,|[Ss]incerely,|[Cc]ontact:?)\s"
        rf"({_FULL})",
        needs="name|called|Dear|igned|egards|incerely|ontact",
        holds=_is_name,
    ),
    _rule(
        "name",
        rf"\b({_CAPITAL}\s(?:[A-Z]\.\s)?{_CAPITAL}(?:-{_CAPITAL})?)\b",
        needs=rf"{_CAPITAL}\s[A-Z]",
        holds=lambda text: text.split()[0] in GIVEN_NAMES and _is_name(text),
    ),
    _rule(
        "name",
        r"(?:我叫|名叫|我是|姓名|联系人|收件人|收货人|申请人|患者|客户)(?:是|为)?[:：]?\s?"
        rf"({_SURNAME}{_HAN}{{1,2}}?)(?=[，。,.;；、\s\d(（:：的]|$)",
        needs="叫|我是|名|人|患者|客户",
    ),
    _rule(
        "name",
        rf"(?:^|(?<=[，。,.;；、\s:：给找请和与是]))({_SURNAME}{_HAN}{{0,2}}?)(?:先生|女士|小姐|老师|医生|经理|教授|师傅|律师)",
        needs="先生|女士|小姐|老师|医生|经理|教授|师傅|律师",
    ),
)
