"""Which tokens of a conversation are trained, and what stands before them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chats import (
    EDGES,
    ENDS,
    ONE,
    SEVERAL,
    TEMPLATES,
    THINKING,
    TOOLS,
    WITH_TOOLS,
    WITHOUT_SYSTEM,
    assistant,
    chat_tokenizer,
    columns_of,
    system,
    user,
)
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.tasks import CausalLM
from tunesmith.tasks.chat import shown_pieces
from tunesmith.types import InputError

LONG = 4000


def encoded_of(
    name: str, messages: list[Any], tools: list[Any] | None = None, *, max_length: int = LONG, **settings: Any
) -> Encoded:
    columns = columns_of([messages], tools)
    return CausalLM(**settings).bind(columns).encode(columns, chat_tokenizer(name), max_length)


def trained_texts(name: str, encoded: Encoded) -> list[list[str]]:
    """Return the trained texts of each row."""
    tokenizer = chat_tokenizer(name)
    return [
        [piece for piece, is_trained in shown_pieces(encoded, row, tokenizer) if is_trained]
        for row in range(len(encoded))
    ]


def texts(name: str, encoded: Encoded) -> list[str]:
    return [chat_tokenizer(name).decode(encoded.inputs["input_ids"][row].tolist()) for row in range(len(encoded))]


def labels_of(encoded: Encoded) -> Ragged:
    labels = encoded.targets["labels"]
    assert isinstance(labels, Ragged)
    return labels


def test_answers_of_a_conversation_with_their_ends() -> None:
    expected = {
        "chatml": ["One 中文 😀.<|im_end|>\n", "Two, it is.\nReally<|im_end|>\n", "Yes!<|im_end|>\n"],
        "marked": ["One 中文 😀.<|im_end|>", "Two, it is.\nReally<|im_end|>", "Yes!<|im_end|>"],
        "llama3": ["One 中文 😀.<|eot_id|>", "Two, it is.\nReally<|eot_id|>", "Yes!<|eot_id|>"],
        "gemma": ["One 中文 😀.<end_of_turn>\n", "Two, it is.\nReally<end_of_turn>\n", "Yes!<end_of_turn>\n"],
        "mistral": [" One 中文 😀.</s>", " Two, it is.\nReally</s>", " Yes!</s>"],
    }
    for name, answers in expected.items():
        encoded = encoded_of(name, WITHOUT_SYSTEM)
        assert trained_texts(name, encoded) == [answers]
        assert encoded.rows is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_is_tokenised_once_and_begins_once(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    encoded = encoded_of(name, ONE)
    ids = encoded.inputs["input_ids"][0].tolist()
    begin, _ = EDGES[name]
    text = tokenizer.decode(ids)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    if begin in ("<s>", "<bos>", "<|begin_of_text|>"):
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
    assert encoded.reads is not None
    np.testing.assert_array_equal(encoded.inputs["input_ids"][0][encoded.reads[0] + 1], labels_of(encoded)[0])
    end = tokenizer.convert_tokens_to_ids(ENDS[name])
    assert labels_of(encoded)[0].tolist().count(end) == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_of_a_row_is_what_inference_sees(name: str) -> None:
    """Up to its first trained token the last answer's row is the tokenised prompt."""
    for messages, tools in ((ONE, None), (THINKING, None), (WITH_TOOLS, TOOLS)):
        if tools and name in ("chatml", "marked", "gemma"):
            continue  # these formats have no place for tools
        columns = columns_of([messages], tools)
        task, tokenizer = CausalLM(train_on="last").bind(columns), chat_tokenizer(name)
        encoded = task.encode(columns, tokenizer, LONG)
        prompt = task.encode_prompts(columns, tokenizer, LONG).inputs["input_ids"][0]
        assert encoded.reads is not None
        first = int(encoded.reads[0][0]) + 1
        np.testing.assert_array_equal(encoded.inputs["input_ids"][0][:first], prompt)


def test_templates_that_rewrite_earlier_turns_make_several_rows() -> None:
    encoded = encoded_of("qwen", THINKING)
    assert encoded.rows is not None
    assert encoded.rows.tolist() == [0, 2]
    assert encoded.num_data_rows == 1
    assert trained_texts("qwen", encoded) == [
        ["<think>\nAn easy sum.\n</think>\n\nFour.<|im_end|>\n"],
        ["<think>\nOnce more: four.\n</think>\n\nSure.<|im_end|>\n"],
    ]
    tokenizer = chat_tokenizer("qwen")
    first, second = texts("qwen", encoded)
    assert first.startswith(tokenizer.apply_chat_template(THINKING[:1], tokenize=False, add_generation_prompt=True))
    assert second.startswith(tokenizer.apply_chat_template(THINKING[:3], tokenize=False, add_generation_prompt=True))
    assert "easy" not in second
    joined = encoded.data_targets["labels"]
    assert isinstance(joined, Ragged)
    assert len(joined) == 1


def test_turns_that_are_kept_share_a_row() -> None:
    """A call of a tool and what is made of its result are one text; the next question starts another."""
    encoded = encoded_of("mistral", WITH_TOOLS, TOOLS)
    assert [len(row) for row in trained_texts("mistral", encoded)] == [2, 1]
    moved = texts("mistral", encoded)[1]
    assert moved.index("[AVAILABLE_TOOLS]") > moved.index("It is."), "the tools go with the last question"


def test_the_answer_may_leave_out_how_the_prompt_ends() -> None:
    """As where the prompt opens thoughts that an answer without any does not have."""
    template = (
        "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    columns = columns_of([ONE])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, LONG)
    assert [piece for piece, is_trained in shown_pieces(encoded, 0, tokenizer) if is_trained] == [
        "A small café, open late.<|im_end|>"
    ]


def test_beginnings_that_change_are_a_problem() -> None:
    template = "{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    columns = columns_of([ONE])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, LONG)
    assert len(encoded) == 0
    ((reason, rows),) = encoded.left_out.items()
    assert "in another way once that message follows" in reason
    assert rows == (0,)


@pytest.mark.parametrize("name", ["chatml", "marked"])
def test_marks_of_messages_go_before_the_setting(name: str) -> None:
    end = {"chatml": "<|im_end|>\n", "marked": "<|im_end|>"}[name]
    messages = [user("a"), assistant("b", train=False), user("c", train=True), assistant("d"), user("e")]
    header = "<|im_start|>user\nc<|im_end|>\n"
    assert trained_texts(name, encoded_of(name, messages)) == [[header, f"d{end}"]]
    assert trained_texts(name, encoded_of(name, messages, train_on="last")) == [[header, f"d{end}"]]
    plain = [{k: v for k, v in message.items() if k != "train"} for message in messages]
    assert trained_texts(name, encoded_of(name, plain, train_on="last")) == [[f"d{end}"]]
    assert trained_texts(name, encoded_of(name, [*plain[:-1], assistant("d2", train=False)])) == [
        [f"b{end}", f"d{end}"]
    ]


def test_all_is_the_whole_text_but_for_marked_messages() -> None:
    whole = encoded_of("chatml", SEVERAL, train_on="all")
    assert len(labels_of(whole)[0]) == whole.lengths[0] - 1
    messages = [user("a"), assistant("b", train=False), user("c"), assistant("d")]
    pieces = trained_texts("chatml", encoded_of("chatml", [system("s"), *messages], train_on="all"))
    assert "".join(pieces[0]).endswith("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n")
    assert "b<|im_end|>" not in "".join(pieces[0])


def test_a_system_message_that_is_written_only_while_no_answer_follows_stays_before_every_answer() -> None:
    tokenizer = chat_tokenizer("mistral")
    encoded = encoded_of("mistral", SEVERAL)
    assert encoded.rows is not None
    assert encoded.rows.tolist() == [0, 3]
    for row, asked in enumerate((2, 4, 6)):
        prompt = tokenizer.apply_chat_template(SEVERAL[:asked], tokenize=False, add_generation_prompt=True)
        assert "Be brief." in prompt
        pieces = shown_pieces(encoded, row, tokenizer)
        read, trained = (
            "".join(piece for piece, is_trained in pieces if is_trained == which) for which in (False, True)
        )
        assert read == prompt
        assert trained == f" {SEVERAL[asked]['content'].strip()}</s>"


def test_marks_that_are_not_one_an_answer() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.reasoning_content %}{% generation %}"
        "{{ '(' ~ m.reasoning_content ~ ')' }}{% endgeneration %}{% endif %}:{% generation %}{{ m.content }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    )
    columns = columns_of([[*THINKING[:2], *ONE, assistant("x", train=False)]])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, LONG)
    pieces = [piece for piece, is_trained in shown_pieces(encoded, 0, tokenizer) if is_trained]
    assert pieces == ["(An easy sum.)", "Four.", "A small café, open late."]


def test_marks_inside_of_a_macro_are_not_trusted() -> None:
    template = (
        "{% macro write(m) %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
        "{% endmacro %}{% for m in messages %}{{ write(m) }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    columns = columns_of([WITHOUT_SYSTEM])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, LONG)
    pieces = [piece for piece, is_trained in shown_pieces(encoded, 0, tokenizer) if is_trained]
    assert pieces == ["One 中文 😀.<|im_end|>", "Two, it is.\nReally<|im_end|>", "Yes!<|im_end|>"]


def test_answers_that_the_template_does_not_end_get_the_end_token() -> None:
    template = (
        "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    columns = columns_of([WITHOUT_SYSTEM, ONE[:1]])
    tokenizer = chat_tokenizer(None)
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, LONG)
    pieces = [piece for piece, is_trained in shown_pieces(encoded, 0, tokenizer) if is_trained]
    assert pieces[-1] == "Yes!\n</s>"
    assert labels_of(encoded)[0].tolist().count(tokenizer.eos_token_id) == 1
    assert task.stop_tokens(tokenizer) == {tokenizer.eos_token_id}
    assert encoded.rows is not None
    assert encoded.rows.tolist() == [0, 1, 1], "a row without an answer has nothing to train"


@pytest.mark.parametrize("name", TEMPLATES)
def test_stop_tokens_are_what_ends_an_answer(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    found = CausalLM().bind(columns_of([ONE])).stop_tokens(tokenizer)
    assert found == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(ENDS[name])}


def test_a_system_message_for_those_without_one() -> None:
    columns = columns_of([ONE, SEVERAL])
    encoded = CausalLM(system="Speak.").bind(columns).encode(columns, chat_tokenizer("chatml"), LONG)
    first, second = texts("chatml", encoded)
    assert first.startswith("<|im_start|>system\nSpeak.<|im_end|>")
    assert second.startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert "Speak." not in second


def test_bytes_are_those_of_the_text() -> None:
    """Characters of several tokens count once, special tokens not at all."""
    answers = ["Ünïcödé 漢字 🙂", "plain"]
    messages = [message for answer in answers for message in (user("?"), assistant(answer))]
    encoded = encoded_of("chatml", messages)
    num_bytes = encoded.targets["num_bytes"]
    assert isinstance(num_bytes, Ragged)
    assert num_bytes.values.dtype == np.int32
    assert num_bytes[0].sum() == sum(len(f"{answer}\n".encode()) for answer in answers)
    assert (num_bytes[0] == 0).sum() > len(answers), "some characters are several tokens"
    assert len(num_bytes[0]) == len(labels_of(encoded)[0])


def test_pieces_joined_are_the_row() -> None:
    for name in TEMPLATES:
        encoded = encoded_of(name, WITHOUT_SYSTEM)
        for row in range(len(encoded)):
            pieces = shown_pieces(encoded, row, chat_tokenizer(name))
            assert "".join(text for text, _ in pieces) == texts(name, encoded)[row]
            assert {is_trained for _, is_trained in pieces} == {True, False}


def test_slow_tokenizers_are_refused() -> None:
    class Slow:
        chat_template = "{{ messages }}"
        special_tokens_map: dict[str, str] = {}
        backend_tokenizer = None

    columns = columns_of([ONE])
    with pytest.raises(InputError, match="not a fast one"):
        CausalLM().bind(columns).encode(columns, Slow(), LONG)  # type: ignore[arg-type]


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)
TURNS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


@settings(max_examples=30)
@given(TURNS, st.sampled_from(["chatml", "llama3", "qwen", "mistral", "gemma"]), st.integers(4, 120))
def test_any_conversation_trains_its_answers(turns: list[tuple[str, str]], name: str, max_length: int) -> None:
    messages = [message for question, answer in turns for message in (user(question), assistant(answer))]
    tokenizer = chat_tokenizer(name)
    encoded = encoded_of(name, messages)
    found = "".join(piece for row in trained_texts(name, encoded) for piece in row)
    for _, answer in turns:
        assert (answer.strip() if name in ("llama3", "mistral", "gemma") else answer.lstrip("\n")) in found
    columns = columns_of([messages])
    with contextlib.suppress(InputError):  # nothing of it may fit
        short = CausalLM().bind(columns).encode(columns, tokenizer, max_length)
        assert short.lengths.max(initial=0) <= max_length
    prompts = CausalLM().bind(columns).encode_prompts(columns, tokenizer, max_length)
    assert len(prompts) == 1
    assert 0 < prompts.lengths[0] <= max_length


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            lambda role, content, more: {"role": role, "content": content, **more},
            st.sampled_from(["user", "assistant", "system", "tool"]),
            st.text(max_size=8),
            st.dictionaries(st.sampled_from(["train", "name"]), st.booleans(), max_size=1),
        ),
        max_size=5,
    ),
    st.sampled_from(TEMPLATES),
    st.sampled_from(["assistant", "last", "all"]),
)
def test_odd_conversations_end_in_rows_or_problems(messages: list[Any], name: str, train_on: Any) -> None:
    columns = {"text": [""], "messages": [json.dumps(messages)], "row": ["a:1"]}
    task = CausalLM(train_on=train_on).bind(columns)
    task.check("train", columns)
    with contextlib.suppress(InputError):
        assert task.encode(columns, chat_tokenizer(name), 64).num_data_rows == 1
