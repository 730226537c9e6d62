"""Conversations that are too long, documents in windows, and prompts that keep what matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from chats import ONE, THINKING, assistant, chat_tokenizer, columns_of, system, user
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.tasks import CausalLM
from tunesmith.tasks.chat import shown_pieces
from tunesmith.types import InputError

CHATML = chat_tokenizer("chatml")
NUMBERS = [f"{number:03}" for number in range(400)]
"""Words of a few tokens each, all different, so that what is left can be told."""


def encode(messages: list[Any], max_length: int, name: str = "chatml", **settings: Any) -> Encoded:
    columns = columns_of([messages, ONE])
    encoded = CausalLM(**settings).bind(columns).encode(columns, chat_tokenizer(name), max_length)
    assert encoded.lengths.max() <= max_length
    assert encoded.num_data_rows == 2
    return encoded


def text(encoded: Encoded, row: int = 0) -> str:
    found = CHATML.decode(encoded.inputs["input_ids"][row].tolist())
    assert isinstance(found, str)
    return found


def trained(encoded: Encoded, row: int = 0) -> str:
    return "".join(piece for piece, is_trained in shown_pieces(encoded, row, CHATML) if is_trained)


def test_the_oldest_exchanges_go_first() -> None:
    turns = [message for i in range(20) for message in (user(f"ask {i:02}"), assistant(f"tell {i:02}"))]
    whole = encode([system("rules"), *turns], 4000)
    assert whole.num_truncated == 0
    cut = encode([system("rules"), *turns], 120)
    assert cut.num_truncated == 1
    found = text(cut)
    assert found.startswith("<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\nask ")
    assert found.endswith("ask 19<|im_end|>\n<|im_start|>assistant\ntell 19<|im_end|>\n")
    assert "ask 00" not in found
    kept = [i for i in range(20) if f"tell {i:02}" in found]
    assert kept == list(range(kept[0], 20))
    assert len(kept) > 1
    assert trained(cut) == "".join(f"tell {i:02}<|im_end|>\n" for i in kept)
    one_more = encode([system("rules"), *turns[2 * kept[0] - 2 :]], 4000)
    assert one_more.lengths[0] > 120, "as many exchanges as fit are kept"


def test_then_the_longest_message_is_shortened() -> None:
    messages = [system("rules"), user("read " + " ".join(NUMBERS) + " and sum up"), assistant("short answer")]
    cut = encode(messages, 150)
    found = text(cut)
    assert found.startswith("<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\nread 000")
    assert "and sum up<|im_end|>" in found
    assert " 200 " not in found
    assert trained(cut) == "short answer<|im_end|>\n"
    assert cut.lengths[0] > 140, "no more than needed is cut"


def test_an_answer_that_is_too_long_itself_loses_its_end() -> None:
    cut = encode([user("count"), assistant(" ".join(NUMBERS))], 100)
    found = text(cut)
    assert "user\ncount<|im_end|>" in found, "a short prompt is left alone"
    assert trained(cut).startswith("000 001 002")
    assert not trained(cut).endswith("<|im_end|>\n"), "an answer that goes on is not taught to end"
    assert cut.lengths[0] == 100
    both = encode([user(" ".join(NUMBERS)), assistant(" ".join(reversed(NUMBERS)))], 100)
    assert both.lengths[0] == 100
    assert 35 <= len(both.targets["labels"][0]) <= 65, "half for the prompt, half for the answer"  # type: ignore[index, arg-type]


def test_even_the_system_message_where_nothing_else_is_left() -> None:
    cut = encode([system(" ".join(NUMBERS)), user("?"), assistant("an answer")], 100)
    assert trained(cut) == "an answer<|im_end|>\n"
    assert "000" in text(cut)
    assert "399<|im_end|>" in text(cut)


def test_rows_are_shortened_one_by_one() -> None:
    """A conversation of several rows keeps each answer that can be kept."""
    long = [user(" ".join(NUMBERS)), THINKING[1], *THINKING[2:]]
    cut = encode(long, 150, "qwen")
    assert cut.rows is not None
    assert cut.rows.tolist() == [0, 2, 3]
    assert cut.num_truncated == 2
    assert "An easy sum." in trained(cut, 0)
    assert "Once more: four." in trained(cut, 1)
    assert "user\nSure?" in text(cut, 1)


def test_too_long_rows_can_be_dropped_and_keep_the_others_in_place(tmp_path: Any) -> None:
    encoded = encode([user(" ".join(NUMBERS)), assistant("x")], 150, too_long="drop")
    assert encoded.num_truncated == 1
    assert encoded.rows is not None
    assert encoded.rows.tolist() == [0, 0, 1]
    assert encoded.data_rows([0]) == [1]
    encoded.save(tmp_path)
    joined = Encoded.load(tmp_path).data_targets["labels"]
    assert isinstance(joined, Ragged)
    assert joined.lengths.tolist()[0] == 0
    assert trained(encoded) == "A small café, open late.<|im_end|>\n"


def test_nothing_that_fits_is_an_error() -> None:
    columns = columns_of([[user(" ".join(NUMBERS)), assistant("x")]])
    with pytest.raises(InputError, match="too long"):
        CausalLM(too_long="drop").bind(columns).encode(columns, CHATML, 50)
    with pytest.raises(InputError, match="too long"):
        CausalLM().bind(columns).encode(columns, CHATML, 8)


def test_long_prompts_keep_system_and_end() -> None:
    turns = [message for i in range(20) for message in (user(f"ask {i:02}"), assistant(f"tell {i:02}"))]
    columns = columns_of([[system("rules"), *turns], [user(" ".join(NUMBERS)), assistant("reference")]])
    task = CausalLM().bind(columns)
    prompts = task.encode_prompts(columns, CHATML, 100)
    assert prompts.lengths.max() <= 100
    assert prompts.num_truncated == 2
    assert prompts.targets == {}
    assert prompts.reads is None
    first, second = (CHATML.decode(prompts.inputs["input_ids"][row].tolist()) for row in range(2))
    assert first.startswith("<|im_start|>system\nrules<|im_end|>")
    assert first.endswith("<|im_start|>user\nask 19<|im_end|>\n<|im_start|>assistant\n")
    assert "tell 19" not in first, "the reference is not told"
    assert second.endswith("399<|im_end|>\n<|im_start|>assistant\n")
    tiny = task.encode_prompts(columns, CHATML, 5)
    assert tiny.lengths.tolist() == [5, 5]
    assert CHATML.decode(tiny.inputs["input_ids"][0].tolist()).endswith("assistant\n")


DOCUMENTS = ["One text, not long.", "", " ".join(NUMBERS), "中文 😀 ünïcode"]


@pytest.mark.parametrize("max_length", [2, 7, 64, 5000])
def test_every_token_of_a_document_is_predicted_once(max_length: int) -> None:
    columns = {"text": DOCUMENTS, "row": [f"a.txt:{i}" for i in range(4)]}
    tokenizer = chat_tokenizer(None)
    task = CausalLM().bind(columns)
    encoded = task.encode(columns, tokenizer, max_length)
    assert encoded.lengths.max() <= max_length
    assert encoded.num_truncated == 0
    labels, num_bytes = encoded.data_targets["labels"], encoded.data_targets["num_bytes"]
    assert isinstance(labels, Ragged)
    assert isinstance(num_bytes, Ragged)
    assert encoded.reads is not None
    for row, document in enumerate(DOCUMENTS):
        whole = [*tokenizer(document)["input_ids"], tokenizer.eos_token_id]
        assert whole[0] == tokenizer.bos_token_id
        assert labels[row].tolist() == whole[1:]
        assert num_bytes[row].sum() == len(document.encode())
    for row in range(len(encoded)):
        ids = encoded.inputs["input_ids"][row]
        np.testing.assert_array_equal(encoded.reads[row], np.arange(len(ids) - 1))
    if max_length == 64:
        windows = encoded.rows
        assert windows is not None
        first = int(windows[2])
        assert encoded.inputs["input_ids"][first][-1] == encoded.inputs["input_ids"][first + 1][0]


def test_marks_of_a_document_are_not_doubled() -> None:
    tokenizer = chat_tokenizer(None)
    columns = {"text": ["<s>a text</s>"]}
    task = CausalLM().bind(columns)
    ids = task.encode(columns, tokenizer, 100).inputs["input_ids"][0].tolist()
    assert ids == tokenizer("<s>a text</s>", add_special_tokens=False)["input_ids"]
    bare = chat_tokenizer("chatml")
    ids = task.encode({"text": ["a text"]}, bare, 100).inputs["input_ids"][0].tolist()
    assert ids == [*bare("a text")["input_ids"], bare.eos_token_id], "this tokenizer puts nothing before a text"
    prompts = task.encode_prompts({"text": ["a text", ""]}, tokenizer, 100)
    assert prompts.inputs["input_ids"][0].tolist() == tokenizer("a text")["input_ids"]
    assert prompts.inputs["input_ids"][1].tolist() == [tokenizer.bos_token_id]
    assert task.encode_prompts({"text": ["", None]}, bare, 100).lengths.tolist() == [1, 1]
    assert len(task.encode_prompts({"text": [" ".join(NUMBERS)]}, tokenizer, 9).inputs["input_ids"][0]) == 9


def test_lone_surrogates_do_not_stop_anything() -> None:
    columns = columns_of([[user("a \ud800 b"), assistant("c \udfff")]])
    encoded = CausalLM().bind(columns).encode(columns, CHATML, 100)
    assert trained(encoded) == "c \ufffd<|im_end|>\n"
