"""Masks as pure functions: their statistics, and what they depend on and what not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import SENTENCES, tiny_tokenizer
from tunesmith.data.encoded import Ragged
from tunesmith.tasks.masked_encoding import encode_windows, vocabulary_of
from tunesmith.tasks.masking import (
    NEVER,
    TURNS,
    Fates,
    Masked,
    choose_share,
    choose_turn,
    content_keys,
    find_units,
    mask,
    random_keys,
)

MASK_ID = 4
RANDOM_IDS = np.arange(100, 5100)
RULE = Fates(MASK_ID, RANDOM_IDS, 0.8, 0.1)
WORDS = st.lists(st.lists(st.integers(1, 4), max_size=12), min_size=1, max_size=8)
"""Rows of words, each as its number of tokens."""


def rows_of(words_N: list[list[int]], seed: int = 0) -> tuple[Ragged, Ragged]:
    """Return random ids and word numbers of rows, a special token at both ends of each."""
    numbers = [[NEVER, *np.repeat(np.arange(len(row)), row).tolist(), NEVER] for row in words_N]
    random = np.random.default_rng(seed)
    ids = [random.integers(100, 5100, len(row)) for row in numbers]
    for row in ids:
        row[[0, -1]] = 2, 3
    return Ragged.from_rows(ids), Ragged.from_rows(numbers)


def corrupted(ids: Ragged, words: Ragged, seed: int, share: float = 0.15, *, whole_words: bool = True) -> Masked:
    units, keys = find_units(words, whole_words=whole_words), random_keys(seed, np.arange(len(ids)))
    return mask(ids, units, choose_share(units, keys, share), keys, RULE)


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_of_tokens_and_what_becomes_of_them(*, whole_words: bool, share: float) -> None:
    random = np.random.default_rng(1)
    words_N = [random.integers(1, 4, random.integers(10, 60)).tolist() for _ in range(4000)]
    ids, words = rows_of(words_N)
    found = corrupted(ids, words, 7, share, whole_words=whole_words)
    maskable = (words.values != NEVER).sum()
    assert len(found.labels.values) / maskable == pytest.approx(share, abs=0.002)
    shown = np.concatenate([found.ids[row][found.reads[row]] for row in range(len(ids))])
    number = len(shown)
    assert number > 40_000
    masked, kept = (shown == MASK_ID).mean(), (shown == found.labels.values).mean()
    spread = 4 * np.sqrt(0.8 * 0.2 / number)
    assert masked == pytest.approx(0.8, abs=spread)
    assert kept == pytest.approx(0.1 + 0.1 / len(RANDOM_IDS), abs=spread)
    replaced = shown[(shown != MASK_ID) & (shown != found.labels.values)]
    counts, _ = np.histogram(replaced, bins=10, range=(100, 5100))
    assert counts.sum() == len(replaced), "random tokens come from those allowed"
    assert counts / len(replaced) == pytest.approx(np.full(10, 0.1), abs=4 * np.sqrt(0.09 / len(replaced)))


def test_every_position_is_chosen_equally_often() -> None:
    ids, words = rows_of([[1] * 20] * 3000)
    found = corrupted(ids, words, 3, 0.15)
    counts = np.bincount(found.reads.values, minlength=22)
    assert counts[[0, 21]].tolist() == [0, 0]
    assert counts[1:21] / 3000 == pytest.approx(np.full(20, 0.15), abs=4 * np.sqrt(0.15 * 0.85 / 3000))
    pairs = sum(1 in row and 2 in row for row in (found.reads[i].tolist() for i in range(3000))) / 3000
    assert pairs == pytest.approx(3 / 20 * 2 / 19, abs=0.008), "neighbours are chosen independently"


@settings(max_examples=60)
@given(words_N=WORDS, seed=st.integers(0, 2**63 - 1), share=st.floats(0.01, 0.99))
def test_words_are_chosen_whole_and_one_at_least(words_N: list[list[int]], seed: int, share: float) -> None:
    ids, words = rows_of(words_N)
    found = corrupted(ids, words, seed, share)
    for row, lengths in enumerate(words_N):
        reads = found.reads[row]
        assert (words[row][reads] != NEVER).all(), "special tokens are never masked"
        touched = set(words[row][reads].tolist())
        assert sorted(reads) == np.flatnonzero(np.isin(words[row], list(touched))).tolist()
        assert bool(touched) == bool(lengths)
        np.testing.assert_array_equal(found.labels[row], ids[row][reads])
        untouched = np.delete(np.arange(len(ids[row])), reads)
        np.testing.assert_array_equal(found.ids[row][untouched], ids[row][untouched])


@settings(max_examples=40)
@given(words_N=WORDS, data=st.data())
def test_a_row_is_masked_alike_whatever_stands_beside_it(words_N: list[list[int]], data: st.DataObject) -> None:
    ids, words = rows_of(words_N)
    whole = corrupted(ids, words, 11)
    chosen = np.array(data.draw(st.permutations(range(len(words_N)))))[: data.draw(st.integers(1, len(words_N)))]
    some_ids, some_words = ids.select(chosen), words.select(chosen)
    units, keys = find_units(some_words, whole_words=True), random_keys(11, chosen)
    some = mask(some_ids, units, choose_share(units, keys, 0.15), keys, RULE)
    for place, row in enumerate(chosen.tolist()):
        for found, expected in ((some.ids, whole.ids), (some.reads, whole.reads), (some.labels, whole.labels)):
            np.testing.assert_array_equal(found[place], expected[row])


def test_seeds_and_rows_make_masks() -> None:
    ids, words = rows_of([[1, 2, 1, 1, 3, 1, 2, 1] * 4] * 50)
    first, again, other = (corrupted(ids, words, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.ids.values, again.ids.values)
    rows = range(50)
    assert sum(first.reads[row].tolist() == other.reads[row].tolist() for row in rows) < 5
    assert len({tuple(first.reads[row].tolist()) for row in rows}) > 45, "equal rows are masked differently"


@settings(max_examples=60)
@given(words_N=WORDS)
def test_all_turns_together_mask_every_word_once(words_N: list[list[int]]) -> None:
    ids, words = rows_of(words_N)
    keys, units = content_keys(ids), find_units(words, whole_words=True)
    turns = [
        mask(ids, units, choose_turn(units, keys, np.full(len(ids), turn)), keys, Fates(MASK_ID, RANDOM_IDS))
        for turn in range(TURNS)
    ]
    for row in range(len(ids)):
        read = sorted(itertools.chain.from_iterable(turn.reads[row].tolist() for turn in turns))
        assert read == np.flatnonzero(words[row] != NEVER).tolist()
        assert all((turn.ids[row][turn.reads[row]] == MASK_ID).all() for turn in turns)


def test_content_keys_tell_rows_apart() -> None:
    ids = Ragged.from_rows([[2, 7, 8, 3], [2, 8, 7, 3], [2, 7, 8, 3], [2, 7, 8], [], [2, 7, 8, 8, 3]])
    keys = content_keys(ids).tolist()
    assert keys[0] == keys[2]
    assert len(set(keys)) == 5
    assert content_keys(ids.select(np.array([3, 0]))).tolist() == [keys[3], keys[0]]


# ---- texts to words and windows ------------------------------------------------------------------


def byte_level_tokenizer(texts: list[str]) -> Any:
    """Return a tokenizer like RoBERTa's: bytes, words by a regular expression, a mask token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "<mask>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", mask_token="<mask>")


def unsplit_tokenizer(texts: list[str]) -> Any:
    """Return a tokenizer like Gemma's: no splitting into words at all."""
    from tokenizers import Tokenizer, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    special = ["<unk>", "<pad>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([word for text in texts for word in text.split()], trainer)
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def words_by_text(tokenizer: Any, text: str) -> list[str]:
    """Return the pieces of the text that count as words."""
    windows = encode_windows([text], tokenizer, 64, frozenset())
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    numbers = [number for number in windows.words[0].tolist() if number != NEVER]
    assert numbers == sorted(numbers)
    spans: dict[int, tuple[int, int]] = {}
    for number, (start, end) in zip(numbers, offsets, strict=True):
        spans[number] = (min(spans.get(number, (start, end))[0], start), end)
    return [text[start:end].strip() for start, end in spans.values()]


def test_words_are_the_tokenizer_s_own() -> None:
    tokenizer = tiny_tokenizer()
    assert words_by_text(tokenizer, "lovingly made, slow") == ["lovingly", "made", ",", "slow"]
    found = encode_windows(["lovingly slow"], tokenizer, 64, frozenset()).words[0].tolist()
    assert found == [NEVER, *[0] * 8, 1, NEVER]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天下午", ["今", "天", "下", "午"]),
        ("这部 film很好看", ["这", "部", "film", "很", "好", "看"]),
        ("great films", ["great", "films"]),
        ("très tôt, 好", ["très", "tôt", ",", "好"]),
    ],
)
def test_without_spaces_a_word_is_a_character(text: str, expected: list[str]) -> None:
    """Also where a character is several tokens (bytes), and where a tokenizer knows no words."""
    texts = ["great films, très tôt", "slow film, films"] * 3
    assert words_by_text(byte_level_tokenizer(texts), text) == expected
    letters = sorted({letter for letter in text if letter != " "})
    unsplit = words_by_text(unsplit_tokenizer([*texts, *letters]), text)
    assert unsplit == [word.replace("tôt", "tôt,") for word in expected if word != ","]


@pytest.mark.parametrize("max_length", [4, 6, 9, 64])
def test_windows_hold_every_token_once(max_length: int) -> None:
    tokenizer = tiny_tokenizer()
    texts = ["", "lovingly made and lovingly slow", *SENTENCES]
    windows = encode_windows(texts, tokenizer, max_length, frozenset())
    assert windows.ids.lengths.max() <= max_length
    for text, first, last in zip(texts, windows.firsts[:-1], windows.firsts[1:], strict=True):
        parts = [windows.ids[window].tolist() for window in range(first, last)]
        assert all(part[0] == tokenizer.cls_token_id and part[-1] == tokenizer.sep_token_id for part in parts)
        joined = [token for part in parts for token in part[1:-1]]
        assert joined == tokenizer(text, add_special_tokens=False)["input_ids"]
        for one, two in itertools.pairwise(range(first, last)):
            same = windows.words[one][-2] == windows.words[two][1]
            word = windows.words[two][1]
            length = sum((windows.words[window] == word).sum() for window in range(first, last))
            assert not same or length > max_length - 2, "only words longer than a window are cut"


def test_what_a_tokenizer_offers() -> None:
    tokenizer = tiny_tokenizer()
    vocabulary = vocabulary_of(tokenizer)
    assert vocabulary.mask_id == tokenizer.mask_token_id
    assert vocabulary.special_ids == {0, 1, 2, 3, 4}
    assert vocabulary.random_ids.tolist() == list(range(5, len(tokenizer)))
    texts = ["an § film with [MASK]"]
    windows = encode_windows(texts, tokenizer, 64, vocabulary.special_ids)
    special = np.isin(windows.ids[0], list(vocabulary.special_ids))
    assert special.sum() == 4, "the ends, the unknown and the mask"
    np.testing.assert_array_equal(windows.words[0] == NEVER, special)
