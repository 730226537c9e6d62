"""Near duplicates: sketches agree as often as theory says, and every pair is verified."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tunesmith.data.near_duplicates import NUM_BANDS, ROWS_OF_BAND, find_near_pairs, grams, sketch

WORDS = [f"word{number}" for number in range(400)]


def similarity(first: str, second: str) -> float:
    """Return the Jaccard similarity of two texts' n-grams, 0 where neither has any."""
    one, other = grams(first), grams(second)
    return len(one & other) / max(len(one | other), 1)


def _texts(number: int, seed: int = 0, length: int = 40) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=length)) for _ in range(number)]


def _changed(text: str, number: int, seed: int) -> str:
    draw, words = random.Random(seed), text.split()
    for place in draw.sample(range(len(words)), number):
        words[place] = f"new{draw.random()}"
    return " ".join(words)


def _pairs(texts: list[str], threshold: float = 0.8) -> list[tuple[int, int, float]]:
    found = find_near_pairs(
        sketch(texts), np.arange(len(texts)), lambda rows: [texts[row] for row in rows.tolist()], threshold
    )
    return list(zip(found.first.tolist(), found.second.tolist(), found.similarity.tolist(), strict=True))


def test_pairs_are_those_that_comparing_all_with_all_finds() -> None:
    plain = _texts(120)
    texts = plain + [_changed(text, number % 6, number) for number, text in enumerate(plain)]
    wanted = {(one, one + 120) for one in range(120) if similarity(texts[one], texts[one + 120]) >= 0.8}
    found = _pairs(texts)
    assert 40 < len(wanted) < 120
    assert {pair[:2] for pair in found} == wanted
    assert all(value == pytest.approx(similarity(texts[one], texts[other])) for one, other, value in found)


def test_two_texts_agree_in_as_many_bands_as_their_similarity_says() -> None:
    plain = _texts(600, seed=3, length=60)
    changed = [_changed(text, 4, number) for number, text in enumerate(plain)]
    shared = np.mean([similarity(one, other) for one, other in zip(plain, changed, strict=True)])
    agree = (sketch(plain) == sketch(changed)).mean()
    assert agree == pytest.approx(shared**ROWS_OF_BAND, abs=0.03)
    assert sketch(plain).shape == (600, NUM_BANDS)


def test_chinese_is_compared_by_characters() -> None:
    text = "这家酒店的位置非常好，房间干净整洁，服务员态度也很热情，下次还会再来住的，推荐给大家"
    texts = [text, text.replace("热情", "友好"), "交通不便，设施陈旧，隔音很差，早餐也没有什么可以吃的东西，不会再来了"]
    assert all(len(gram) == 3 for gram in grams(text))
    assert [pair[:2] for pair in _pairs(texts, 0.7)] == [(0, 1)]


def test_many_alike_rows_are_linked_by_few_pairs() -> None:
    text = _texts(1)[0]
    texts = [_changed(text, 1, number) for number in range(300)]
    assert len(_pairs(texts, 0.7)) == 299


def test_texts_without_words_are_near_nothing() -> None:
    assert _pairs(["!!!", "???", "", "!!!"]) == []


def test_recall_is_that_of_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch", reason="the reference is no dependency")
    plain = _texts(150, seed=7)
    texts = plain + [_changed(text, 2, number) for number, text in enumerate(plain)]
    index = datasketch.MinHashLSH(threshold=0.8, num_perm=128)
    sketches = []
    for row, text in enumerate(texts):
        made = datasketch.MinHash(num_perm=128)
        for gram in grams(text):
            made.update(" ".join(gram).encode())
        sketches.append(made)
        index.insert(str(row), made)
    theirs = {
        tuple(sorted((row, int(other))))
        for row, made in enumerate(sketches)
        for other in index.query(made)
        if int(other) != row and similarity(texts[row], texts[int(other)]) >= 0.8
    }
    ours = {pair[:2] for pair in _pairs(texts)}
    assert theirs
    assert len(ours & theirs) >= 0.98 * len(theirs)
    assert len(ours) >= len(theirs)
