"""Multiple choice beside transformers: its loss, for any number of choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tiny import gradients_of, tiny_model, tiny_tokenizer
from tunesmith.data.encoded import as_ragged
from tunesmith.engine.batch import Collator
from tunesmith.engine.layout import choose_layout
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import as_written
from tunesmith.tasks import MultipleChoice

WORDS = ("great", "dull", "warm", "slow", "funny")


def row(i: int, number: int | None = None) -> dict[str, Any]:
    """Return a question whose right choice has its own word, with ``number`` choices, or two to four."""
    number = number or 2 + i % 3
    choices = [f"the {WORDS[(i + k) % 5]} film" for k in range(number)]
    label = (i * 7) % number
    return {"question": f"which is {WORDS[(i + label) % 5]}", "choices": choices, "label": label}


def columns(*rows: dict[str, Any]) -> dict[str, Any]:
    return {name: [one[name] for one in rows] for name in rows[0]}


@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_the_loss_is_that_of_transformers(arch: str, layout: str) -> None:
    tokenizer = tiny_tokenizer("bpe" if arch == "roberta" else "wordpiece")
    rows = columns(*(row(i, 3) for i in range(4)))
    task, model = MultipleChoice(), tiny_model(arch, 1, head="choice")
    chosen, reason = choose_layout(model, "row", 97, layout)
    assert chosen == layout, reason
    encoded = task.encode(rows, tokenizer, 64)
    batch = Collator(chosen, 1, 2 if arch == "roberta" and layout == "flat" else 0)(encoded, np.arange(len(encoded)))
    scorer = Scorer(model, chosen, "row")
    with scorer.surrounding(batch):
        ours = loss_sum(scorer, task, batch) / task.count_units(batch.targets, batch.units)
    ours.backward()
    gradients = gradients_of(model)
    model.zero_grad()
    questions = [question for question in rows["question"] for _ in range(3)]
    choices = [choice for row in rows["choices"] for choice in row]
    inputs = tokenizer(questions, choices, return_tensors="pt", padding=True)
    with as_written(model):
        shaped = {name: values.view(4, 3, -1) for name, values in inputs.items()}
        theirs = model(**shaped, labels=torch.tensor(rows["label"])).loss
        theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-9)


def test_rows_may_have_any_number_of_choices_and_a_context() -> None:
    rows = [row(i) for i in range(3)]
    task = MultipleChoice()
    encoded = task.encode(columns(*rows), tiny_tokenizer(), 64)
    assert encoded.rows.tolist() == [0, 2, 5, 9]
    after = task.encode(columns(*({**one, "context": "a warm film"} for one in rows)), tiny_tokenizer(), 64)
    expected = tiny_tokenizer()("a warm film", f"{rows[0]['question']} {rows[0]['choices'][0]}").input_ids
    assert as_ragged(after.inputs["input_ids"])[0].tolist() == expected


def test_the_rival_is_the_rule_that_is_right_most_often() -> None:
    rows = columns(*(row(i) for i in range(30)))
    name, outputs = MultipleChoice().answer_by_rule(rows, rows)
    assert name == "the choice that shares most of its words"
    accuracy = MultipleChoice().measure(outputs, MultipleChoice().targets(rows), np.ones((1, 30)))["accuracy"]
    assert accuracy == 1.0
    same = {**rows, "question": ["which"] * 30, "label": [1] * 30}
    assert MultipleChoice().answer_by_rule(same, same)[0] == "the commonest place"
