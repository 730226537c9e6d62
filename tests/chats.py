"""Conversations, chat templates and small tokenizers that the tests of language modelling share."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

_SPECIAL = """
    <pad> <s> </s> <bos> <eos> <|begin_of_text|> <|end_of_text|> <|im_start|> <|im_end|> <|start_header_id|>
    <|end_header_id|> <|eot_id|> <start_of_turn> <end_of_turn> [INST] [/INST] [AVAILABLE_TOOLS]
    [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] [/TOOL_RESULTS]
"""
EDGES = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "marked": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "qwen": (None, "<|im_end|>"),
    "mistral": ("<s>", "</s>"),
    "gemma": ("<bos>", "<eos>"),
}
"""Begin and end token of each format's models."""
TEMPLATES = list(EDGES)
ENDS = {**{name: end for name, (_, end) in EDGES.items()}, "gemma": "<end_of_turn>"}
"""The token that ends an answer."""
ADDS_BEGIN = ("llama3", "mistral", "gemma")
"""Tokenizers that put the begin token before every text."""

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Says what "it" is like, <café> or not.',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def user(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "system", "content": content, **more}


CALL = assistant(
    "",
    tool_calls=[
        {"type": "function", "id": "a1b2c3d4e", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}
    ],
)
RESULT = {"role": "tool", "content": '{"degrees": 3}', "name": "weather", "tool_call_id": "a1b2c3d4e"}

ONE = [user("What is it?"), assistant("A small café, open late.")]
SEVERAL = [
    system("Be brief."),
    user("Say one."),
    assistant("One 中文 😀."),
    user("  And two?\n"),
    assistant("Two, it is.\nReally"),
    user("Good"),
    assistant("Yes!"),
]
WITHOUT_SYSTEM = SEVERAL[1:]
WITH_TOOLS = [user("Is it cold?"), CALL, RESULT, assistant("It is."), user("Thanks."), assistant("Not at all.")]
THINKING = [
    user("Two and two?"),
    assistant("Four.", reasoning_content="An easy sum."),
    user("Sure?"),
    assistant("Sure.", reasoning_content="Once more: four."),
]


def source(name: str) -> str:
    return (Path(__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@functools.cache
def _backend() -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in _SPECIAL.split()],
        show_progress=False,
    )
    texts = [message["content"] for message in (*SEVERAL, *WITH_TOOLS)] + [json.dumps(TOOLS)]
    tokenizer.train_from_iterator(["assistant user system\n", *texts] * 3, trainer)
    text: str = tokenizer.to_str()
    return text


def chat_tokenizer(name: str | None, **settings: Any) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with the special tokens of a format, and its template; without one for None."""
    from tokenizers import Tokenizer, processors

    backend = Tokenizer.from_str(_backend())
    begin, end = EDGES[name] if name else ("<s>", "</s>")
    if name in ADDS_BEGIN or name is None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, backend.token_to_id(begin))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=begin, eos_token=end, pad_token="<pad>", **settings
    )
    tokenizer.chat_template = source(name) if name else None
    return tokenizer


def columns_of(
    conversations: list[list[dict[str, Any]]], tools: list[Any] | None = None, file: str = "chats.jsonl"
) -> dict[str, list[Any]]:
    """Return the canonical columns of conversations."""
    columns: dict[str, list[Any]] = {
        "text": ["\n".join(f"{one['role']}: {one['content']}" for one in messages) for messages in conversations],
        "messages": [json.dumps(messages) for messages in conversations],
        "row": [f"{file}:{i + 1}" for i in range(len(conversations))],
    }
    if tools is not None:
        columns["tools"] = [json.dumps(tools)] * len(conversations)
    return columns
