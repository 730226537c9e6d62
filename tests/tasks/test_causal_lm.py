"""Language modelling: the loss of transformers, metrics of tokens and of answers, what is shown of them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from chats import ONE, SEVERAL, THINKING, WITHOUT_SYSTEM, assistant, chat_tokenizer, columns_of, user
from tiny import tiny_config
from tunesmith.data.encoded import Encoded, Ragged, Units
from tunesmith.evaluate import evaluate, mistakes, predictions_table
from tunesmith.tasks import TASKS, CausalLM
from tunesmith.types import ColumnProfile

COLUMNS = columns_of([ONE, SEVERAL, WITHOUT_SYSTEM, [*THINKING, user("And?")]])
TASK = CausalLM().bind(COLUMNS)
REFERENCES = ["A small café, open late.", "Yes!", "Yes!", None]


def language_model(tokenizer: Any) -> Any:
    config = tiny_config("llama")
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 512
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).double().eval()


def padded(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids, mask and labels (-100 where nothing is trained) of all rows."""
    width = int(encoded.lengths.max())
    ids = torch.zeros((len(encoded), width), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    assert encoded.reads is not None
    for row in range(len(encoded)):
        own = torch.from_numpy(encoded.inputs["input_ids"][row].astype(np.int64))
        ids[row, : len(own)] = own
        trained = torch.from_numpy(encoded.reads[row].astype(np.int64)) + 1
        labels[row, trained] = own[trained]
    mask = (torch.arange(width) < torch.from_numpy(encoded.lengths)[:, None]).long()
    return ids, mask, labels


def scores_of(encoded: Encoded, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return the scores of the tokens read, [U, K], the labels of all positions, and what the model makes of them."""
    model = language_model(tokenizer)
    ids, mask, labels = padded(encoded)
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask, labels=labels)
    assert encoded.reads is not None
    reads = [torch.from_numpy(encoded.reads[row].astype(np.int64)) for row in range(len(encoded))]
    return torch.cat([found.logits[row][read] for row, read in enumerate(reads)]), labels, found


def tensors(encoded: Encoded) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(ragged.values)) for name, ragged in ragged_of(encoded.targets).items()}


def ragged_of(targets: Any) -> dict[str, Ragged]:
    return dict(targets)


@pytest.mark.parametrize("name", ["chatml", "marked", "llama3", "qwen"])
def test_the_loss_is_that_of_transformers(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    encoded = TASK.encode(COLUMNS, tokenizer, 512)
    scores, labels, found = scores_of(encoded, tokenizer)
    targets = tensors(encoded)
    loss = TASK.loss_sum(scores, targets, Units.single(len(scores))) / TASK.count_units(
        targets, Units.single(len(next(iter(targets.values()))))
    )
    assert TASK.count_units(targets, Units.single(len(next(iter(targets.values()))))) == int((labels[:, 1:] >= 0).sum())
    exact = torch.nn.functional.cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    assert loss.item() == pytest.approx(exact.item(), abs=1e-8)
    assert loss.item() == pytest.approx(found.loss.item(), abs=1e-5), "which takes its own in float32"


def outputs_and_targets(columns: Any = COLUMNS, task: CausalLM = TASK) -> tuple[dict[str, Any], dict[str, Any]]:
    tokenizer = chat_tokenizer("chatml")
    encoded = task.encode(columns, tokenizer, 512)
    scores, _, _ = scores_of(encoded, tokenizer)
    kept = task.collect(scores, tensors(encoded), Units.single(len(scores)))
    assert {name: value.dtype for name, value in kept.items()} == {"loss": torch.float32, "right": torch.uint8}
    assert encoded.reads is not None
    outputs = {name: encoded.join(Ragged(value.numpy(), encoded.reads.offsets)) for name, value in kept.items()}
    return outputs, encoded.data_targets


def test_metrics_of_tokens() -> None:
    outputs, targets = outputs_and_targets()
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 0], [0, 0, 0, 0]], dtype=np.float64)
    measured = TASK.measure(outputs, targets, weights)
    assert set(measured) == {"perplexity", "token_accuracy", "bits_per_byte"}
    for index in (0, 1):
        rows = np.repeat(np.arange(4), weights[index].astype(int))
        losses = np.concatenate([outputs["loss"][row] for row in rows]).astype(np.float64)
        right = np.concatenate([outputs["right"][row] for row in rows])
        num_bytes = sum(int(targets["num_bytes"][row].sum()) for row in rows)
        assert measured["perplexity"][index] == pytest.approx(math.exp(losses.mean()), rel=1e-9)
        assert measured["token_accuracy"][index] == pytest.approx(right.mean())
        assert measured["bits_per_byte"][index] == pytest.approx(losses.sum() / math.log(2) / num_bytes, rel=1e-9)
    assert all(math.isnan(values[2]) for values in measured.values())
    assert TASK.errors(outputs, targets)[0] == pytest.approx(outputs["loss"][0].mean(), rel=1e-6)
    details = TASK.details(outputs, targets)
    assert details["num_tokens"] == len(targets["labels"].values)


def judged(answers: list[str | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    outputs, targets = outputs_and_targets()
    return outputs | TASK.judge_answers(answers, COLUMNS), targets


def test_answers_are_judged_against_the_last_turn() -> None:
    outputs, targets = judged(["a small  Café, open late.", "<think>\nwell\n</think>\nYes!", None, "no reference"])
    measured = TASK.measure(outputs, targets, np.ones((1, 4)))
    assert set(measured) == set(TASK.higher_is_better)
    assert TASK.answer_metrics < set(measured)
    assert measured["exact_match"][0] == 1.0, "thoughts and spaces do not matter"
    assert measured["rouge_l"][0] == pytest.approx(1.0)
    assert TASK.details(outputs, targets)["num_answers"] == 3
    without = TASK.judge_answers([None] * 4, COLUMNS)
    assert list(without) == ["answers"]
    decoded = TASK.decode(outputs, COLUMNS)
    assert [row["reference"] for row in decoded] == REFERENCES
    assert decoded[0]["prompt"] == "What is it?"
    assert decoded[1]["prompt"].startswith("system: Be brief.\nuser: Say one.\nassistant: One")
    assert json.loads(json.dumps(decoded, allow_nan=False)) == decoded
    assert CausalLM().bind({"text": ["a"]}).judge_answers(["b"], {"text": ["a"]}).keys() == {"answers"}


def test_mistakes_and_tables_show_prompt_reference_and_answer() -> None:
    outputs, targets = judged(["wrong", "Yes!", None, "free"])
    found = mistakes(TASK, outputs, targets, COLUMNS)
    assert len(found) == 4
    first = next(one for one in found if one["row"] == "chats.jsonl:1")
    assert (first["text"], first["label"], first["prediction"]) == ("What is it?", REFERENCES[0], "wrong")
    table = predictions_table(TASK, outputs, targets, COLUMNS)
    assert table["label"] == REFERENCES
    assert table["prediction"] == ["wrong", "Yes!", None, "free"]
    import pyarrow

    assert pyarrow.table(table).num_rows == 4
    outputs, targets = outputs_and_targets()
    table = predictions_table(TASK, outputs, targets, COLUMNS)
    assert all(isinstance(value, float) for value in table["prediction"])
    evaluation = evaluate(TASK, outputs, targets, seed=0, num_resamples=20, columns=COLUMNS)
    json.dumps(evaluation, allow_nan=False)
    assert evaluation["main_metric"] == "perplexity"
    assert evaluation["metrics"]["perplexity"]["low"] <= evaluation["metrics"]["perplexity"]["value"]


def test_plain_texts_have_no_reference() -> None:
    columns = {"text": ["a text", "another one", ""], "row": ["a:1", "a:2", "a:3"]}
    task = CausalLM().bind(columns)
    assert task.form == "text"
    outputs, targets = outputs_and_targets(columns, task)
    table = predictions_table(task, outputs, targets, columns)
    assert list(table) == ["row", "text", "prediction"]
    assert table["prediction"][2] is None, "one token alone, with nothing before it"
    assert mistakes(task, outputs, targets, columns)[0]["label"] is None
    assert math.isfinite(task.measure(outputs, targets, np.ones((1, 3)))["perplexity"][0])


def test_prompts_given_as_plain_texts_are_what_a_user_says() -> None:
    tokenizer = chat_tokenizer("chatml")
    prompts = TASK.encode_prompts({"text": ["Hello"]}, tokenizer, 100)
    expected = tokenizer.apply_chat_template([user("Hello")], add_generation_prompt=True)
    assert prompts.inputs["input_ids"][0].tolist() == expected["input_ids"]  # type: ignore[index]
    encoded = TASK.encode({"text": ["Hello"]}, tokenizer, 100)
    assert len(encoded) == 0
    assert encoded.num_data_rows == 1


def test_rows_without_anything_to_learn_are_told() -> None:
    idle = [[user("a")], [user("a"), assistant("b", train=False)]]
    columns = columns_of([ONE, *idle])
    (problem,) = TASK.check("train", columns)
    assert problem.severity == "warning"
    assert problem.count == 2
    assert problem.rows == ("chats.jsonl:2", "chats.jsonl:3")
    (problem,) = TASK.check("train", columns_of(idle))
    assert problem.severity == "error"
    assert TASK.check("train", columns_of([ONE])) == []
    (problem,) = CausalLM(form="text").check("test", {"text": ["a", " "]})
    assert (problem.severity, problem.rows) == ("warning", ("test:1",))


def test_chats_are_found_and_texts_alone_are_left_to_others() -> None:
    def profile(name: str) -> ColumnProfile:
        return ColumnProfile(name, "text", 10, 0, 10)

    assert CausalLM.fit_score({"messages": profile("chat")})[0] == 0.95
    score, reason = CausalLM.fit_score({"prompt": profile("q"), "completion": profile("a")})
    assert score == 0.97  # more than lists as labels have: an answer may be a list
    assert reason == "columns 'q' and 'a' are instructions with answers"
    assert CausalLM.fit_score({"text": profile("text")})[0] == 0.1
    assert TASKS["causal_lm"] is CausalLM
    assert CausalLM().head().num_outputs is None
    with pytest.raises(NotImplementedError):
        TASK.targets(COLUMNS)
