"""Passages: stretches of the document, no longer than asked for, cut at the ends of sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny import tiny_tokenizer
from tunesmith.data.documents.content import LINE, PARAGRAPH, Block
from tunesmith.data.documents.cutting import Lengths, passages_of
from tunesmith.data.documents.lines import joined, paragraphs_of, without_repeated
from tunesmith.data.documents.sentences import count_words, sentences_of


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        (
            "Dr. Who met Mr. J. Smith at 3.14 p.m. sharp. He left.",
            ["Dr. Who met Mr. J. Smith at 3.14 p.m. sharp.", "He left."],
        ),
        ('She said "Stop!" Then she left.', ['She said "Stop!"', "Then she left."]),
        ("See e.g. the list, cf. Fig. 3. Done...", ["See e.g. the list, cf. Fig. 3.", "Done..."]),
        ("今天很好。明天呢？“真的！”他说；走吧", ["今天很好。", "明天呢？", "“真的！”", "他说；", "走吧"]),
        ("no end", ["no end"]),
        (" \n ", []),
    ],
)
def test_sentences_end_where_people_end_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def document(blocks: list[Block]) -> str:
    return "".join((block.gap if number else "") + block.text for number, block in enumerate(blocks))


LETTERS = st.text(alphabet="ab.。 字!?\nXY", min_size=1, max_size=60).filter(lambda text: bool(text.strip()))
BLOCKS = st.builds(
    Block,
    LETTERS,
    level=st.sampled_from([0, 0, 0, 1, 2]),
    is_lines=st.booleans(),
    gap=st.sampled_from([LINE, PARAGRAPH]),
)


@pytest.mark.parametrize("measure", [count_words, len], ids=["words", "characters"])
@given(blocks=st.lists(BLOCKS, max_size=8), length=st.integers(1, 20), overlap=st.integers(0, 8))
def test_passages_are_stretches_of_the_document_and_hold_all_of_it(
    measure: object, blocks: list[Block], length: int, overlap: int
) -> None:
    text = document(blocks)
    assert callable(measure)
    found = list(passages_of(blocks, Lengths(length, min(overlap, length - 1), measure)))
    covered = [False] * len(text)
    for passage in found:
        assert text[passage.start : passage.end] == passage.text
        assert 0 < measure(passage.text) <= length
        covered[passage.start : passage.end] = [True] * len(passage.text)
    assert not any(letter.strip() and not seen for letter, seen in zip(text, covered, strict=True))
    starts = [passage.start for passage in found]
    assert starts == sorted(set(starts))


def test_tokens_of_a_tokenizer_bound_passages() -> None:
    tokenizer = tiny_tokenizer()

    def measure(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    blocks = [Block("The film is great. It is a warm story of two. " * 20)]
    found = list(passages_of(blocks, Lengths(30, 8, measure)))
    assert len(found) > 5
    assert all(measure(passage.text) <= 30 for passage in found)
    assert all(passage.text.endswith(".") for passage in found)


def test_a_passage_repeats_whole_sentences_of_the_one_before() -> None:
    blocks = [Block(" ".join(f"Sentence {number} is here." for number in range(9)))]
    found = [passage.text for passage in passages_of(blocks, Lengths(12, 5))]
    assert found[0] == "Sentence 0 is here. Sentence 1 is here. Sentence 2 is here."
    assert found[1].startswith("Sentence 2 is here. Sentence 3 is here.")
    alone = [passage.text for passage in passages_of(blocks, Lengths(12, 3))]
    assert alone[1].startswith("Sentence 3 is here.")


def test_headings_begin_passages_and_say_where_these_stand() -> None:
    blocks = [
        Block("Guide", level=1),
        Block("Hello there."),
        Block("Opening", level=2),
        Block("Hours", level=3),
        Block("We open at nine."),
        Block("Prices", level=2),
        Block("It is free."),
    ]
    found = [(passage.headings, passage.text) for passage in passages_of(blocks, Lengths(100, 50))]
    assert found == [
        (("Guide",), "Guide\n\nHello there."),
        (("Guide", "Opening", "Hours"), "Opening\n\nHours\n\nWe open at nine."),
        (("Guide", "Prices"), "Prices\n\nIt is free."),
    ]


def test_lines_are_joined_and_words_mended_unless_they_have_a_hyphen() -> None:
    assert joined(["The quick infor-", "mation is", "good."]) == ("The quick information is good.", 1)
    words = frozenset(["well-known"])
    assert joined(["a well-", "known fact"], words) == ("a well-known fact", 0)
    assert joined(["今天天气", "很好。"]) == ("今天天气很好。", 0)
    assert joined(["soft\u00ad", "ware"]) == ("software", 1)


def test_headers_and_footers_go_whatever_their_numbers() -> None:
    pages = [["Annual report", "", f"Body {'abcde'[number]} text.", f"Page {number + 1} of 5"] for number in range(5)]
    kept, number = without_repeated(pages)
    assert [[line for line in page if line] for page in kept] == [[f"Body {letter} text."] for letter in "abcde"]
    assert number == 10
    assert without_repeated(pages[:2]) == (pages[:2], 0)  # of two pages nobody can tell


def test_short_lines_and_items_end_paragraphs() -> None:
    lines = [
        "A line that goes on and on until",
        "its end.",
        "Another line that goes on until the",
        "very end of it, here.",
        "- an item",
        "- one more",
    ]
    assert [len(paragraph) for paragraph in paragraphs_of(lines)] == [2, 2, 1, 1]
