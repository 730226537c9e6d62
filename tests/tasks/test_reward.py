"""Reward models: the loss of TRL's trainer on the same batch, scores of answers."""

from __future__ import annotations

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from chats import assistant, user
from preferences import columns_of_answers
from tiny import tiny_model, tiny_tokenizer
from tunesmith.engine.batch import Collator
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.reward import Reward
from tunesmith.types import InputError

PAIRS = [([user(f"a {i}?")], [[assistant("yes " * (1 + i % 3))], [assistant(f"no {i}")]], [0, 1]) for i in range(6)]


def their_loss(model: Any, inputs: dict[str, torch.Tensor], center: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import RewardTrainer
    same: Any = SimpleNamespace(gather=lambda values: values, gather_for_metrics=lambda values: values)
    trainer: Any = SimpleNamespace(
        model=model.eval(),
        args=SimpleNamespace(center_rewards_coefficient=center or None),
        accelerator=same,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    return float(RewardTrainer.compute_loss(trainer, model, dict(inputs)).detach())


@pytest.mark.parametrize("arch", ["llama", "bert"])
@pytest.mark.parametrize("center", [0.0, 0.02])
def test_the_loss_is_that_of_the_reward_trainer(arch: str, center: float) -> None:
    kind = "chat" if arch == "llama" else "wordpiece"
    sizes = {"vocab_size": 300} if arch == "llama" else {}
    model = tiny_model(arch, 1, dtype=torch.float32, **sizes)
    columns = columns_of_answers(PAIRS)
    task = Reward(center=center).bind(columns)
    encoded = task.encode(columns, tiny_tokenizer(kind), 64)
    batch = Collator("padded", 1)(encoded, np.arange(12))
    sides = torch.cat([torch.arange(0, 12, 2), torch.arange(1, 12, 2)])  # all better ones, then all worse ones
    theirs = their_loss(model, {name: values[sides] for name, values in batch.inputs.items()}, center)
    scorer = Scorer(model, "padded", "row")
    with scorer.surrounding(batch):
        ours = float(loss_sum(scorer, task, batch).detach()) / task.count_units(batch.targets, batch.units)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_conversations_are_read_as_the_template_writes_them_or_as_pairs_of_texts() -> None:
    columns, chat = columns_of_answers(PAIRS), tiny_tokenizer("chat")
    encoded = Reward().encode(columns, chat, 64)
    assert np.diff(encoded.rows).tolist() == [2] * 6
    expected = chat.apply_chat_template([user("a 0?"), assistant("yes ")], tokenize=False)
    assert chat.decode(encoded.inputs["input_ids"][0]) == expected
    plain = tiny_tokenizer()
    encoded = Reward().encode(columns, plain, 64)
    assert encoded.inputs["input_ids"][1].tolist() == plain("a 0?", "no 0")["input_ids"]
    alone = {name: columns[name] for name in ("text", "messages")}
    assert chat.decode(Reward().encode(alone, chat, 64).inputs["input_ids"][0]) == expected


def test_the_rival_goes_by_length_as_the_training_rows_do() -> None:
    columns, task = columns_of_answers(PAIRS), Reward()
    for name, rows in {"longer": PAIRS[2:3], "shorter": [(p, a[::-1], r) for p, a, r in PAIRS[2:3]]}.items():
        found, outputs = task.answer_by_rule(columns_of_answers(rows), columns)
        assert found == f"the {name} answer"
        rights = [task.decode({key: value.select([row]) for key, value in outputs.items()})[0] for row in range(6)]
        lengths = [[len(answer[0]["content"]) for answer in answers] for _, answers, _ in PAIRS]
        better = [pair[0] > pair[1] if name == "longer" else pair[0] < pair[1] for pair in lengths]
        ties = [pair[0] == pair[1] for pair in lengths]
        assert [row["label"] for row in rights] == [
            "neither" if tie else "chosen" if right else "rejected" for tie, right in zip(ties, better, strict=True)
        ]


def test_thumbs_are_refused() -> None:
    with pytest.raises(InputError, match="compares two answers"):
        Reward().bind(columns_of_answers([(prompt, answers[:1], [0]) for prompt, answers, _ in PAIRS]))
