"""Schemes of tags: the one that explains most sentences is chosen, and no sentence that can be read is lost."""

from __future__ import annotations

import pytest

from tunesmith.data.schemes import TagForm

O3 = ["O", "O", "O"]


def learned(rows: list[list[str]], **settings: object) -> TagForm:
    return TagForm.learn(lambda: rows, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "scheme", "read"),
    [
        # The English set that everybody knows: I- everywhere, B- only between two that touch.
        ([["I-x", "I-x", "O"]] * 50 + [["I-x", "B-x"]] * 2, "IOB1", ["B-x", "B-x"]),
        ([["I-x", "O"], ["O", "I-y"]] * 9, "IOB1", ["O", "B-y"]),
        ([["B-x", "I-x", "O", "S-y"]] * 9, "BIS", ["B-x", "I-x", "O", "B-y"]),
        ([["B-x", "E-x", "S-y", "O"]] * 9, "BIOES", ["B-x", "I-x", "B-y", "O"]),
        ([["B-x", "I-x", "E-x", "O"], ["B-x", "O"]] * 9, "BIE", ["B-x", "O"]),
        ([["I-x", "E-x", "E-x", "O"]] * 9, "IOE2", ["B-x", "I-x", "B-x", "O"]),
        ([["B_x", "I_x", "O"]] * 9, "BIO", ["B-x", "I-x", "O"]),
        ([["x-B", "x-I", "O"]] * 9, "BIO", ["B-x", "I-x", "O"]),
        ([["b-x", "i-x", "o"]] * 9, "BIO", ["B-x", "I-x", "O"]),
        ([["B-x", "I-x", "none"]] * 9, "BIO", ["B-x", "I-x", "O"]),
        ([["B-x", "I-x", ""]] * 9, "BIO", ["B-x", "I-x", "O"]),
        ([["B", "M", "E", "S"]] * 9, "BIOES", ["B-word", "I-word", "I-word", "B-word"]),
        ([["B", "I", "O"]] * 9, "BIO", ["B-span", "I-span", "O"]),
        ([["x", "x", "O", "y", "O", "O"]] * 9, "IO", ["B-x", "I-x", "O", "B-y", "O", "O"]),
        ([["DET", "NOUN", "VERB", "-LRB-"]] * 9, "plain", ["DET", "NOUN", "VERB", "-LRB-"]),
        ([O3], "BIO", O3),
    ],
)
def test_schemes_are_told_apart(rows: list[list[str]], scheme: str, read: list[str]) -> None:
    form = learned(rows)
    assert form.scheme == scheme
    assert form.read(rows[-1]) == read
    assert not any(map(form.is_broken, rows))
    guess = form.guess()
    assert (guess.name, guess.chosen, guess.explained, guess.flag) == ("scheme", scheme, len(rows), "data.tag_scheme")


def test_a_few_other_sentences_change_nothing() -> None:
    """However the file begins, and however often."""
    strange = [["I-x", "O"], ["O", "I-x"], ["B-x", "I-y"]]
    form = learned(strange + [["B-x", "I-x", "O"]] * 100)
    assert form.scheme == "BIO"
    assert form.explained == 100
    assert dict(form.guess().alternatives)["IOB1"] == 2
    assert [form.is_broken(row) for row in strange] == [True, True, True]
    assert [form.read(row) for row in strange] == [["B-x", "O"], ["O", "B-x"], ["B-x", "B-y"]]
    reverse = learned([["B-x", "I-x", "O"]] * 3 + [["I-x", "O", "I-x"]] * 100)
    assert reverse.scheme == "IOB1"


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        (["I-x"], ["B-x"]),
        (["E-x"], ["B-x"]),
        (["B-x", "O"], ["B-x", "O"]),
        (["B-x", "E-y"], ["B-x", "B-y"]),
        (["S-x", "I-x"], ["B-x", "B-x"]),
        (["what"], None),
        (["B-"], None),
        ([""], None),
    ],
)
def test_broken_entities_are_mended_and_other_tags_are_not_read(tags: list[str], read: list[str] | None) -> None:
    form = learned([["B-x", "I-x", "E-x", "S-y", "O"]] * 20)
    assert form.read(tags) == read
    assert read is None or form.is_broken(tags)


def test_other_marks_of_nothing_are_read_as_o() -> None:
    form = learned([["I-x", "_"], ["I-x", "O"], ["-", "O"]] * 5)
    assert form.also_outside == ["-", "_"]
    assert form.read(["_", "I-x", "-"]) == ["O", "B-x", "O"]


@pytest.mark.parametrize(
    ("rows", "scheme", "read"),
    [
        ([["0", "1", "2", "0", "3"]] * 9, "BIO", ["O", "B-1/2", "I-1/2", "O", "B-3/4"]),
        ([["0", "0", "2", "1", "0"]] * 9, "IO", ["O", "O", "B-2", "B-1", "O"]),
        ([["4", "1", "2", "1"]] * 9, "plain", ["4", "1", "2", "1"]),
    ],
)
def test_numbers_are_read_as_ids_where_they_behave_so(rows: list[list[str]], scheme: str, read: list[str]) -> None:
    form = learned(rows)
    assert form.are_ids
    assert form.scheme == scheme
    assert form.read(rows[0]) == read


@pytest.mark.parametrize("digits", [10, 5000])
def test_numbers_too_long_to_count_tags_are_names(digits: int) -> None:
    rows = [["1", "9" * digits, "1"]] * 5
    form = learned(rows)
    assert not form.are_ids
    assert form.read(rows[0]) == rows[0]


def test_the_users_word_goes_first() -> None:
    rows = [["I-x", "O"], ["O", "I-x"]] * 5
    assert learned(rows, given="plain").read(["I-x", "O"]) == ["I-x", "O"]
    given = learned(rows, given="BIO")
    assert given.read(["I-x", "O"]) == ["B-x", "O"]
    assert given.is_broken(["I-x", "O"])
    assert learned([["x", "O", "B-y"]] * 3, given="IO").read(["x", "O", "B-y"]) == ["B-x", "O", "B-y"]
