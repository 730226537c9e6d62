"""Models that predict tokens: scores only where they are read, the loss in chunks, no look across sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from tiny import PAD, VOCABULARY, gradients_of, tiny_config
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine import losses
from tunesmith.engine.batch import EXACT, FEW, Shapes
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.base import Task

CAUSAL = ["llama", "qwen3", "gpt2"]
MASKED = ["bert", "roberta", "distilbert", "modernbert"]
LENGTHS = [3, 17, 5, 5, 9, 30, 4, 11, 6, 6, 2, 8]


class Tokens(Task):
    """Cross-entropy over the vocabulary at every token read."""

    reads = "token"
    name: str = "tokens"

    def loss_sum(self, scores_UK: torch.Tensor, targets: Any, units: Any) -> torch.Tensor:
        return functional.cross_entropy(scores_UK, targets["labels"].long(), reduction="sum")

    def count_units(self, targets: Any, units: Any) -> float:
        return float(len(targets["labels"]))

    def collect(self, scores_UK: torch.Tensor, targets: Any, units: Any) -> dict[str, torch.Tensor]:
        return {"loss": functional.cross_entropy(scores_UK, targets["labels"].long(), reduction="none")}


def language_model(arch: str, **settings: Any) -> PreTrainedModel:
    auto_class = AutoModelForCausalLM if arch in CAUSAL else AutoModelForMaskedLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto_class.from_config(tiny_config(arch, **settings))
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.set_attn_implementation("sdpa")
    return model.to(torch.float64).eval()


def rows(causal: bool, seed: int = 0) -> Encoded:
    """Return rows of which some tokens are read: causal labels are the next tokens, others any."""
    random = np.random.default_rng(seed)
    tokens = [random.integers(5, VOCABULARY, length) for length in LENGTHS]
    reads = [np.flatnonzero(random.random(length - 1) < 0.6) for length in LENGTHS]
    reads[2] = np.array([], dtype=np.int64)
    labels = [
        row[where + 1] if causal else random.integers(5, VOCABULARY, len(where))
        for row, where in zip(tokens, reads, strict=True)
    ]
    return Encoded(
        {"input_ids": Ragged.from_rows(tokens)},
        {"labels": Ragged.from_rows(labels, np.int64)},
        reads=Ragged.from_rows(reads),
    )


def ours(model: PreTrainedModel, layout: str, data: Encoded, shapes: Shapes = EXACT) -> tuple[float, dict[str, Any]]:
    scorer = Scorer(model, layout, "token", shapes)
    batch = collator_for(model, layout, PAD, torch.device("cpu"), shapes)(data, np.arange(len(data)))
    model.zero_grad()
    with scorer.surrounding(batch):
        loss = loss_sum(scorer, Tokens(), batch) / len(batch.targets["labels"])
        loss.backward()
    return loss.item(), gradients_of(model)


def theirs(model: PreTrainedModel, data: Encoded, causal: bool) -> tuple[float, dict[str, Any]]:
    """Return the loss that transformers itself computes from padded labels, and its gradients.

    Its own loss function goes down to float32: it is computed from its scores once more in float64.
    """
    ids = torch.full((len(data), max(LENGTHS)), PAD)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.from_numpy(np.array(data.inputs["input_ids"][row]))
        mask[row, :length] = 1
        where = torch.from_numpy(np.array(data.reads[row])).long()
        labels[row, where + int(causal)] = torch.from_numpy(np.array(data.targets["labels"][row]))
    model.zero_grad()
    output = model(input_ids=ids, attention_mask=mask, labels=labels)
    shifted = labels[:, 1:] if causal else labels
    scores = output.logits[:, :-1] if causal else output.logits
    loss = functional.cross_entropy(scores.flatten(0, 1), shifted.flatten())
    assert loss.item() == pytest.approx(output.loss.item(), abs=1e-6)
    loss.backward()
    return loss.item(), gradients_of(model)


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("arch", [*CAUSAL, *MASKED])
def test_loss_and_gradients_are_those_of_transformers(
    arch: str, tied: bool, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = rows(arch in CAUSAL)
    model = language_model(arch, tie_word_embeddings=tied)
    expected_loss, expected = theirs(model, data, arch in CAUSAL)
    if chunked:
        for limit in ("MAX_SCORES", "MAX_SCORES_OF_TRAINED_HEADS"):
            monkeypatch.setattr(losses, limit, 7 * VOCABULARY)
    found = {"padded": ours(model, "padded", data)}
    layout, reason = choose_layout(model, "token", VOCABULARY, "auto")
    assert layout == "flat", reason
    found |= {"flat": ours(model, "flat", data), "few shapes": ours(model, "flat", data, FEW)}
    for name, (loss, gradients) in found.items():
        assert loss == pytest.approx(expected_loss, abs=1e-8), name
        assert gradients.keys() == expected.keys()
        for key, gradient in expected.items():
            torch.testing.assert_close(gradients[key], gradient, rtol=0, atol=1e-8, msg=f"{name}: {key}")


@pytest.mark.parametrize("arch", CAUSAL)
def test_a_sequence_is_scored_alike_whatever_its_neighbours(arch: str) -> None:
    data = rows(causal=True)
    model = language_model(arch)
    assert choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
    scorer, collate = Scorer(model, "flat", "token"), collator_for(model, "flat", PAD, torch.device("cpu"))
    together = predict(scorer, collate, Tokens(), data, 10_000).outputs["loss"]
    alone = predict(scorer, collate, Tokens(), data, 1).outputs["loss"]
    changed = [np.array(data.inputs["input_ids"][row]) for row in range(len(data))]
    changed = [row if index == 1 else (row + 11) % VOCABULARY for index, row in enumerate(changed)]
    others = Encoded({"input_ids": Ragged.from_rows(changed)}, data.targets, reads=data.reads)
    among_others = predict(scorer, collate, Tokens(), others, 10_000).outputs["loss"]
    np.testing.assert_allclose(together.values, alone.values, rtol=0, atol=1e-10)
    np.testing.assert_allclose(among_others[1], together[1], rtol=0, atol=1e-10)
    assert np.abs(among_others[5] - together[5]).max() > 1e-3


def test_only_parts_of_the_scores_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    head = Scorer.head
    monkeypatch.setattr(Scorer, "head", lambda self, hidden: sizes.append(len(hidden)) or head(self, hidden))
    for limit in ("MAX_SCORES", "MAX_SCORES_OF_TRAINED_HEADS"):
        monkeypatch.setattr(losses, limit, 10 * VOCABULARY)
    data = rows(causal=True)
    model = language_model("llama")
    ours(model, "padded", data)
    assert max(sizes) == 10
    assert sum(sizes) == len(data.reads.values)


def test_adapters_learn_through_a_frozen_head(monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.methods.lora import Lora

    model = Lora(rank=2).apply(language_model("llama"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    data = rows(causal=True)
    whole_loss, whole = ours(model, "padded", data)
    for limit in ("MAX_SCORES", "MAX_SCORES_OF_TRAINED_HEADS"):
        monkeypatch.setattr(losses, limit, 7 * VOCABULARY)
    loss, gradients = ours(model, "padded", data)
    assert all("lora_" in name for name in gradients)
    assert loss == pytest.approx(whole_loss, abs=1e-12)
    for name, gradient in whole.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-12, msg=name)
