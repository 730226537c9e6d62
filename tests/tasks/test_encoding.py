from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tiny import SENTENCES, tiny_tokenizer
from tunesmith.tasks import encoding
from tunesmith.tasks.encoding import encode_texts


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer("wordpiece")


@pytest.fixture(scope="module")
def bare() -> Any:
    """A tokenizer that makes no token of an empty text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


class SlowTokenizer:
    """A tokenizer without the Rust encodings: words are tokens, [CLS] is 0."""

    unk_token_id = 9

    def __call__(
        self, texts: list[str], pairs: Any, *, truncation: Any, max_length: int | None = None, **_: Any
    ) -> Any:
        rows = [[0, *range(1, len(text.split()) + 1)] for text in texts]
        if truncation:
            rows = [row[:max_length] for row in rows]

        class Batch(dict):
            encodings = None

        return Batch(input_ids=rows)


def test_ids_are_the_tokenizers_own(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BATCH_ROWS", 3)
    texts = [*SENTENCES]
    inputs, num_truncated = encode_texts(tokenizer, texts, None, 64)
    assert num_truncated == 0
    assert inputs.keys() == {"input_ids"}  # token types are all 0
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(inputs["input_ids"][row], tokenizer(text)["input_ids"])


def test_pairs_keep_token_types(tokenizer: Any) -> None:
    inputs, _ = encode_texts(tokenizer, ["a great film", "slow"], ["too long", "a waste of time"], 64)
    expected = tokenizer(["a great film", "slow"], ["too long", "a waste of time"])
    for row in range(2):
        np.testing.assert_array_equal(inputs["input_ids"][row], expected["input_ids"][row])
        np.testing.assert_array_equal(inputs["token_type_ids"][row], expected["token_type_ids"][row])


def test_truncated_rows_are_counted_and_the_longer_text_gives_way(tokenizer: Any) -> None:
    long = "a great film " * 10
    inputs, num_truncated = encode_texts(tokenizer, [long, "slow", "a great film"], None, 8)
    assert num_truncated == 1 + (len(tokenizer("a great film")["input_ids"]) > 8)
    assert inputs["input_ids"].lengths.max() == 8
    short = tokenizer("slow", add_special_tokens=False)["input_ids"]
    inputs, num_truncated = encode_texts(tokenizer, [long], ["slow"], 16)
    assert num_truncated == 1
    row = inputs["input_ids"][0].tolist()
    assert len(row) == 16
    assert row[-1 - len(short) : -1] == short


def test_row_of_exactly_the_limit_is_not_truncated(tokenizer: Any) -> None:
    limit = len(tokenizer("a great film")["input_ids"])
    assert encode_texts(tokenizer, ["a great film"], None, limit)[1] == 0


def test_tokenizers_without_encodings_count_too() -> None:
    inputs, num_truncated = encode_texts(SlowTokenizer(), ["a b", "a b c", "a b c d"], None, 4)
    assert num_truncated == 1
    assert inputs["input_ids"].lengths.tolist() == [3, 4, 4]


@pytest.mark.parametrize("empty", ["", None])
def test_no_row_is_empty(bare: Any, empty: str | None) -> None:
    inputs, _ = encode_texts(bare, ["a b", empty], None, 64)
    assert inputs["input_ids"].lengths.tolist() == [2, 1]
    assert inputs["input_ids"][1].tolist() == [0]
