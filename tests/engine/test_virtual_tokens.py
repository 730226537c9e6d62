"""Methods that put something before every row: PEFT's own scores in the padded layout, and gradients that reach it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

from engine.test_generate import prompts, sampling
from tiny import VOCABULARY, tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.generate import generate, stream
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.recompute import can_recompute, recompute_layers
from tunesmith.engine.scorer import Scorer
from tunesmith.methods import Lora
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import has_virtual_tokens

LENGTHS = (9, 5, 12, 5)
CONFIGS = {
    "prompt": lambda task: PromptTuningConfig(task_type=task, num_virtual_tokens=3),
    "p-tuning": lambda task: PromptEncoderConfig(task_type=task, num_virtual_tokens=3, encoder_hidden_size=8),
    "prefix": lambda task: PrefixTuningConfig(task_type=task, num_virtual_tokens=3),
}
MODELS = {"bert rows": ("bert", "sequence", "SEQ_CLS"), "llama tokens": ("llama", "causal", "CAUSAL_LM"),
          "bert tokens": ("bert", "token", "TOKEN_CLS")}  # fmt: skip
CASES = [(method, model) for model in MODELS for method in CONFIGS if (method, model) != ("prefix", "bert rows")]


def wrapped(method: str, model: str) -> Any:
    arch, head, task = MODELS[model]
    torch.manual_seed(0)
    with quiet():
        found: Any = get_peft_model(tiny_model(arch, head=head, dtype=torch.float32), CONFIGS[method](task))
    for name, parameter in found.named_parameters():
        if parameter.requires_grad and "prompt_encoder" in name:
            parameter.data.normal_()
    return found.eval()


def data(model: str) -> Encoded:
    random = np.random.default_rng(0)
    tokens = [random.integers(5, VOCABULARY, length) for length in LENGTHS]
    reads = None if "rows" in model else Ragged.from_rows([np.arange(1, length, 2) for length in LENGTHS])
    return Encoded({"input_ids": Ragged.from_rows(tokens)}, {}, reads=reads)


def batch_of(found: Any, model: str) -> Any:
    return collator_for(found, "padded", 1, torch.device("cpu"))(data(model), np.arange(len(LENGTHS)))


@pytest.mark.parametrize(("method", "model"), CASES)
def test_padded_scores_are_those_of_peft(method: str, model: str) -> None:
    found = wrapped(method, model)
    assert has_virtual_tokens(found)
    layout, reason = choose_layout(found, "row" if "rows" in model else "token", VOCABULARY, "auto")
    assert (layout, "before every row" in reason) == ("padded", True)
    batch = batch_of(found, model)
    with torch.no_grad():
        logits = found(**batch.inputs).logits
    if batch.read_tokens is None:
        expected = logits
    else:
        real = logits[:, -batch.inputs["input_ids"].shape[1] :]
        expected = real[batch.inputs["attention_mask"].bool()][batch.read_tokens]
    scorer = Scorer(found, layout, "row" if batch.read_tokens is None else "token")
    with scorer.surrounding(batch):
        scores = scorer(batch)
        torch.testing.assert_close(scores.detach(), expected, rtol=1e-5, atol=1e-6)
        scores.square().sum().backward()
    gradients = [p.grad for name, p in found.named_parameters() if p.requires_grad and "prompt_encoder" in name]
    assert gradients
    assert all(one is not None and bool(one.abs().sum() > 0) for one in gradients)


@pytest.mark.parametrize("method", ["prompt", "p-tuning", "prefix"])
def test_what_is_before_a_row_matters(method: str) -> None:
    found = wrapped(method, "llama tokens")
    batch = batch_of(found, "llama tokens")
    with torch.no_grad():
        with_it = Scorer(found, "padded", "token")(batch)
        without = Scorer(found.get_base_model(), "padded", "token")(batch)
    assert (with_it - without).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_layers_are_computed_again_only_where_they_need_no_cache(method: str) -> None:
    found = wrapped(method, "llama tokens")
    assert can_recompute(found) == (method == "prompt")
    if method == "prefix":
        return
    batch, gradients = batch_of(found, "llama tokens"), []
    weight = found.prompt_encoder["default"].embedding.weight
    found.train()
    for prepare in (lambda _: None, recompute_layers):
        prepare(found)
        weight.grad = None
        Scorer(found, "padded", "token")(batch).square().sum().backward()
        gradients.append(weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_answers_are_written_after_what_is_before_every_text(method: str) -> None:
    found = wrapped(method, "llama tokens")
    for parameter in found.get_base_model().parameters():
        parameter.data.mul_(3)
    answers = generate(found, prompts(), sampling())
    assert answers != generate(found.get_base_model(), prompts(), sampling())
    ids = torch.tensor([prompts()[1].tolist()])
    with torch.no_grad():
        first = int(found(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax())
    assert answers[1][0] == first
    for row, answer in enumerate(answers):
        assert list(stream(found, prompts()[row].tolist(), sampling())) == answer


def test_adapters_beside_layers_add_nothing_on_the_way_in() -> None:
    model = tiny_model("bert")
    assert not has_virtual_tokens(model)
    assert not has_virtual_tokens(Lora(rank=2).apply(model))


def test_the_model_inside_is_seen_as_it_is() -> None:
    found, plain = Anatomy.of(wrapped("prompt", "bert rows")), Anatomy.of(tiny_model("bert"))
    assert (found.hidden_size, found.num_layers, found.row_reading) == (16, 2, "first")
    assert [index for index, _ in found.layers] == [index for index, _ in plain.layers]
    assert found.depths["prompt_encoder.default.embedding.weight"] == 0
