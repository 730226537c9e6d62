"""Control tokens that people quote stay text; those of the template stay tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from chats import TEMPLATES, TOOLS, WITH_TOOLS, assistant, chat_tokenizer, columns_of, system, user
from tunesmith.tasks import CausalLM
from tunesmith.tasks.chat.controls import Controls, GuardedTokenizer
from tunesmith.tasks.chat.tokens import TextTokenizer

QUOTES = "What do <|im_end|>, </s>[INST] and <bos><eos> say? <|im_start|>system"


def controls_of(tokenizer: Any) -> Controls:
    found = Controls.of(tokenizer)
    assert found is not None
    return found


def encoded_of(name: str, messages: list[Any], **settings: Any) -> tuple[list[int], Any, Any]:
    columns = columns_of([messages], settings.pop("tools", None))
    tokenizer = chat_tokenizer(name)
    encoded = CausalLM(**settings).bind(columns).encode(columns, tokenizer, 4000)
    return encoded.inputs["input_ids"][0].tolist(), encoded, tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_writes_the_same_control_tokens_whatever_is_quoted(name: str) -> None:
    special = set(controls_of(chat_tokenizer(name)).ids.values())
    quoting, encoded, tokenizer = encoded_of(name, [user(QUOTES), assistant(f"They are {QUOTES}")])
    plain, _, _ = encoded_of(name, [user("What?"), assistant("They are")])
    assert [token for token in quoting if token in special] == [token for token in plain if token in special]
    assert tokenizer.decode(quoting).count(QUOTES) == 2
    ((words, count),) = encoded.remarks.items()
    assert count == 1
    assert "</s>" in words
    assert "it stays text" in words
    positions = encoded.reads[0] + 1
    trained = tokenizer.decode([quoting[place] for place in positions])
    assert f"They are {QUOTES}" in trained
    assert trained.count(QUOTES) == 1  # the answer's, not the question's


@pytest.mark.parametrize("name", TEMPLATES)
def test_they_are_tokens_where_that_is_asked_for(name: str) -> None:
    end = chat_tokenizer(name).convert_tokens_to_ids("<|im_end|>")
    messages = [user("a <|im_end|> b"), assistant("c")]
    as_text, _, _ = encoded_of(name, messages)
    as_token, encoded, tokenizer = encoded_of(name, messages, special_tokens="control")
    assert as_token.count(end) == as_text.count(end) + 1
    assert not encoded.remarks
    assert tokenizer.decode(as_text) == tokenizer.decode(as_token)


def test_prompts_of_generation_read_as_in_training() -> None:
    columns = columns_of([[user(QUOTES), assistant("Nothing.")]])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM().bind(columns)
    whole = task.encode(columns, tokenizer, 4000).inputs["input_ids"][0].tolist()
    prompt = task.encode_prompts(columns, tokenizer, 4000).inputs["input_ids"][0].tolist()
    assert whole[: len(prompt)] == prompt
    said = task.complete({"text": [QUOTES]})
    assert task.encode_prompts(said, tokenizer, 4000).inputs["input_ids"][0].tolist() == prompt


def test_arguments_of_calls_thoughts_and_the_system_message_are_texts_too() -> None:
    call = {"type": "function", "id": "a1b2c3d4e", "function": {"name": "weather", "arguments": {"city": "<|im_end|>"}}}
    messages = [system("Never say <|im_end|>."), user("Cold?"), assistant("", tool_calls=[call]), *WITH_TOOLS[2:4]]
    ids, encoded, tokenizer = encoded_of("qwen", messages, tools=TOOLS)
    plain = json.loads(json.dumps(messages).replace("<|im_end|>", "it"))
    other, _, _ = encoded_of("qwen", plain, tools=TOOLS)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids.count(end) == other.count(end)
    assert not encoded.left_out


def test_plain_texts_are_read_with_their_control_tokens_unless_told_otherwise() -> None:
    columns = {"text": ["one <|im_end|> two", "three"], "row": ["a:1", "a:2"]}
    tokenizer = chat_tokenizer(None)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokens = CausalLM().bind(columns).encode(columns, tokenizer, 100)
    texts = CausalLM(special_tokens="text").bind(columns).encode(columns, tokenizer, 100)
    assert (tokens.inputs["input_ids"][0].tolist().count(end), texts.inputs["input_ids"][0].tolist().count(end)) == (
        1,
        0,
    )
    assert list(tokens.remarks.values()) == [1] == list(texts.remarks.values())
    assert "read as tokens" in next(iter(tokens.remarks))


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Return a small tokenizer whose ways make it hard to cut a text into parts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<unk>", "<s>", "</s>", "<|a|>", "<|a|>b", "¤"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    if kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    elif kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer: Any = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["a b c <|a|> end of it, </s> and <s> ab ba"] * 3, trainer)
    tokenizer.add_special_tokens([
        AddedToken("<|a|>", special=True, rstrip=True, normalized=False),
        AddedToken("</s>", special=True, lstrip=True, normalized=False),
        AddedToken("¤", special=True, normalized=False),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


PIECES = st.sampled_from(
    ["<s>", "</s>", "<|a|>", "<|a|>b", "<|", "a|>", "¤", " ", "  ", "ab", "é", "\n", "c", ">", "<"]
)
TOKENIZERS = {kind: tokenizer_of(kind) for kind in ("bytes", "metaspace", "prepend")}


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join), st.sampled_from(sorted(TOKENIZERS)))
def test_without_a_quote_the_guarded_tokenizer_is_the_other_one(text: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    ((ids, encoding),) = GuardedTokenizer(tokenizer, controls_of(tokenizer)).encode([text])
    plain = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    assert ids == plain.ids
    assert encoding.offsets == plain.offsets


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join), st.sampled_from(sorted(TOKENIZERS)))
def test_quotes_are_what_the_tokenizer_makes_of_text(text: str, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    marked = controls_of(tokenizer).marked(text)
    rows = TextTokenizer(tokenizer).prompts([marked, "ab"])
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    try:
        wanted = backend.encode(text, add_special_tokens=False).ids
    finally:
        backend.encode_special_tokens = False
    assert rows[0].ids.tolist() == wanted
    assert int(rows[0].num_bytes.sum()) <= len(text.encode())
    assert rows[1].ids.tolist() == backend.encode("ab", add_special_tokens=False).ids


def test_what_stands_for_a_token_cannot_be_written() -> None:
    tokenizer = chat_tokenizer("chatml")
    ids = controls_of(tokenizer).ids
    forged = "".join(chr(0x100000 + number) * len(content) for number, content in enumerate(ids))
    tokens, _, _ = encoded_of("chatml", [user(f"{forged} <|im_end|> \ufdd0"), assistant("No.")])
    plain, _, _ = encoded_of("chatml", [user("x"), assistant("No.")])
    special = set(ids.values())
    assert [token for token in tokens if token in special] == [token for token in plain if token in special]
