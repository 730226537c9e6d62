"""The same masks as TRL's data preparation and transformers' own assistant masks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chats import ONE, THINKING, TOOLS, WITH_TOOLS, WITHOUT_SYSTEM, chat_tokenizer, columns_of
from tunesmith.data.encoded import Encoded
from tunesmith.tasks import CausalLM


def trl_labels(name: str, rows: list[dict[str, Any]], tools: list[Any] | None, *, assistant_only: bool) -> list[Any]:
    """Return ``input_ids`` and ``labels`` as TRL's SFT trainer prepares them."""
    import json

    from datasets import Dataset, disable_progress_bars, enable_progress_bars
    from trl.trainer.sft_trainer import SFTTrainer

    tokenizer = chat_tokenizer(name)
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer, chat_template=None, completion_only_loss=True)
    settings: Any = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=assistant_only,
        max_length=None,
        shuffle_dataset=False,
    )
    if tools is not None:
        rows = [{**row, "tools": json.dumps(tools)} for row in rows]
    disable_progress_bars()
    try:
        data = Dataset.from_list(rows)
        prepared = SFTTrainer._prepare_dataset(trainer, data, tokenizer, settings, False, None, "train")
    finally:
        enable_progress_bars()
    return list(prepared)


def our_labels(encoded: Encoded, row: int) -> list[int]:
    ids = encoded.inputs["input_ids"][row]
    labels = np.full(len(ids), -100)
    assert encoded.reads is not None
    positions = encoded.reads[row] + 1
    labels[positions] = ids[positions]
    return [int(label) for label in labels]


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen", "mistral", "gemma"])
def test_the_last_answer_is_that_of_completion_only_loss(name: str) -> None:
    cases: list[tuple[list[Any], list[Any] | None]] = [(ONE, None), (WITHOUT_SYSTEM, None), (THINKING, None)]
    if name in ("llama3", "qwen", "mistral"):
        cases += [(WITH_TOOLS, TOOLS), (WITH_TOOLS[:4], TOOLS)]
    for messages, tools in cases:
        columns = columns_of([messages], tools)
        encoded = CausalLM(train_on="last").bind(columns).encode(columns, chat_tokenizer(name), 4000)
        (expected,) = trl_labels(
            name, [{"prompt": messages[:-1], "completion": messages[-1:]}], tools, assistant_only=False
        )
        if name != "llama3":  # it writes the day into the text
            assert encoded.inputs["input_ids"][0].tolist() == expected["input_ids"]
            assert our_labels(encoded, 0) == expected["labels"]
        else:
            trained = [label for label in our_labels(encoded, 0) if label >= 0]
            assert trained == [label for label in expected["labels"] if label >= 0]


def test_every_answer_is_that_of_completion_only_loss() -> None:
    """Of a template that keeps earlier turns: our one row trains what TRL trains turn by turn."""
    columns = columns_of([WITHOUT_SYSTEM])
    encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("chatml"), 4000)
    turns = [
        {"prompt": WITHOUT_SYSTEM[:i], "completion": WITHOUT_SYSTEM[i : i + 1]}
        for i in range(1, len(WITHOUT_SYSTEM), 2)
    ]
    ours = our_labels(encoded, 0)
    trained = [False] * len(ours)
    for row in trl_labels("chatml", turns, None, assistant_only=False):
        assert encoded.inputs["input_ids"][0].tolist()[: len(row["input_ids"])] == row["input_ids"]
        for position, label in enumerate(row["labels"]):
            trained[position] |= label >= 0
    assert [label >= 0 for label in ours] == trained


def test_rows_of_rewritten_turns_are_those_of_completion_only_loss() -> None:
    columns = columns_of([THINKING])
    encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("qwen"), 4000)
    turns = [{"prompt": THINKING[:i], "completion": THINKING[i : i + 1]} for i in (1, 3)]
    for row, expected in enumerate(trl_labels("qwen", turns, None, assistant_only=False)):
        assert encoded.inputs["input_ids"][row].tolist() == expected["input_ids"]
        assert our_labels(encoded, row) == expected["labels"]


def test_marked_answers_are_those_of_assistant_only_loss() -> None:
    for messages in (ONE, WITHOUT_SYSTEM):
        columns = columns_of([messages])
        encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("marked"), 4000)
        (expected,) = trl_labels("marked", [{"messages": messages}], None, assistant_only=True)
        assert our_labels(encoded, 0) == expected["labels"]
        whole = chat_tokenizer("marked").apply_chat_template(messages, return_assistant_tokens_mask=True)
        assert [label >= 0 for label in our_labels(encoded, 0)] == [bool(mask) for mask in whole["assistant_masks"]]  # type: ignore[index]
