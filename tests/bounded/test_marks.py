"""Texts with very many combining marks come to the same normal form, in a time that grows with their length."""

from __future__ import annotations

import time
import unicodedata
from random import Random
from typing import Literal

import pyarrow as pa
import pytest

from tunesmith.bounded.marks import LONG, in_order
from tunesmith.data import CleanConfig
from tunesmith.data.clean import Tally, tidy_text

MARKS = "\u0301\u0323\u0327\u3099\uff9e\u0344\u0345\u05b0\u0f73\U0001d165"
"""Of several classes, among them some that become others."""
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFC", "NFD", "NFKC", "NFKD")


def with_marks(num_marks: int, seed: int = 0, marks: str = MARKS) -> str:
    random = Random(seed)
    return "a" + "".join(random.choice(marks) for _ in range(num_marks)) + "é x"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_marks", [LONG - 1, LONG, 2 * LONG])
def test_the_normal_form_stays_the_same(form: Literal["NFC", "NFD", "NFKC", "NFKD"], num_marks: int) -> None:
    for seed, marks in enumerate((MARKS, "\u0301\u0323", "\uff9e\u0323\uff9f")):
        text = f"before {with_marks(num_marks, seed, marks)} after {with_marks(20, seed)}"
        assert unicodedata.normalize(form, in_order(text, form)) == unicodedata.normalize(form, text)


def test_plain_texts_are_left_as_they_are() -> None:
    for text in ("plain " * 1000, "é" * 5000, "日本語 " * 3000, "e\u0301\u0323" * 2000):
        assert in_order(text, "NFC") is text


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_a_cell_of_marks_is_tidied_soon(form: Literal["NFC", "NFKC"]) -> None:
    texts = pa.array(["short", None, with_marks(200_000), "cafe\u0301"])
    start = time.process_time()
    tidied = tidy_text(texts, CleanConfig(unicode=form), Tally(), pa.array(["a", "b", "c", "d"]))
    assert time.process_time() - start < 5.0
    assert tidied[0].as_py() == "short"
    assert tidied[1].as_py() is None
    assert tidied[3].as_py() == "caf\u00e9"
    assert unicodedata.is_normalized(form, tidied[2].as_py())
