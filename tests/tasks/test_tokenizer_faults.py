"""Tokenizers that fail on a text, in Rust: a message, whatever they raise there."""

from __future__ import annotations

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tunesmith.tasks.encoding import encode_batch
from tunesmith.types import InputError


def test_words_without_a_token_for_unknown_ones() -> None:
    backend = Tokenizer(models.WordLevel({"one": 0}, unk_token="[UNK]"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(InputError, match=r"cannot read a text of the data: .*UNK"):
        encode_batch(tokenizer, ["one", "two"])


def test_patterns_that_make_the_library_panic() -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?:(a|aa|aaa)+)+$|(?=(a+)+b)"), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(InputError, match="cannot read a text of the data"):
        encode_batch(tokenizer, ["a" * 2000 + "!"])
