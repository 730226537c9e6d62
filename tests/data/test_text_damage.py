"""Damaged texts: what is wrong is named, what can be decoded again is, and whole texts are left alone."""

from __future__ import annotations

import pytest

from tunesmith.data.text_damage import damage_of, mended

WHOLE = (
    "A café in Zürich – “quoted”, naïve, 20 € and a 5° slope; Ångström’s ñandú.",
    "联通的服务还可以，但是价格有点贵。",
    "联通",
    "Ist das gut? Ja! Warum? Weil…",
    "R&D at AT&T; x < y && y > z",
    "真的吗?不错?下次再来??????",
    "Really?Yes. Why??? see /page?id=3",
)


@pytest.mark.parametrize("text", WHOLE)
def test_whole_texts_are_left_alone(text: str) -> None:
    assert damage_of(text) == ""
    assert mended(text) is None


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_utf8_that_was_read_as_western_is_decoded_again(encoding: str) -> None:
    text = "Das Café à la carte, für Ölgemälde"
    wrong = text.encode().decode(encoding)
    assert damage_of(wrong) == "it was decoded wrongly"
    assert mended(wrong) == text


def test_utf8_of_chinese_that_was_read_as_gbk_is_decoded_again() -> None:
    text = "这个酒店很好世界"
    wrong = text.encode().decode("gb18030")
    assert mended(wrong) == text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("caf\ufffd", "replaced"),
        ("锟斤拷锟斤拷", "replaced"),
        ("a\x00b", "control"),
        ("Tom &amp; Jerry", "entities"),
        ("caf\\u00e9", "escapes"),
        ("sch?ne gr??e aus K?ln", "question marks"),
    ],
)
def test_damage_is_named(text: str, what: str) -> None:
    assert what in damage_of(text)
    assert mended(text) is None
