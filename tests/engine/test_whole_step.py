"""A loss that needs a whole step has the same gradient, however few of its rows are in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tiny import MAX_LENGTH, VOCABULARY, gradients_of, tiny_config, tiny_tokenizer
from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import HOST, Batch, NoiseSource
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.order import micro_batches, set_seed
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.whole_step import differentiate_whole_step
from tunesmith.models.loading import leave_out_pooler
from tunesmith.tasks import Embedding

WORDS = ("great", "boring", "film", "plot", "warm", "dull")
PAIRS = {
    "anchor": [f"{WORDS[i % 6]} {'film ' * (i % 5)}" for i in range(14)],
    "positive": [f"{WORDS[(i + 1) % 6]} time {'and ' * (i * 7 % 11)}{i % 4}" for i in range(14)],
}
LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pairs": ({}, PAIRS),
    "symmetric": ({"symmetric": True, "matryoshka": (8, 4)}, PAIRS),
    "negatives": ({}, {**PAIRS, "negative": [[f"a {word}" for word in WORDS[: i % 3]] for i in range(14)]}),
    "order": ({"loss": "cosent"}, {**PAIRS, "score": [float(i % 5) for i in range(14)]}),
}


def model_of(arch: str, dropout: float) -> Any:
    names = {"bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"), "llama": ("attention_dropout",)}[arch]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModel.from_config(tiny_config(arch, **dict.fromkeys(names, dropout)))
    leave_out_pooler(model)
    return model.double()


def batches_of(task: Embedding, data: Encoded, collate: Any, tokens: int) -> Iterator[Batch]:
    samples = np.arange(data.num_samples)
    for sequences in micro_batches(data, samples, collate.layout, tokens):
        yield collate.on_host(data, sequences, NoiseSource(7))


def gradients(scorer: Scorer, task: Embedding, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    scorer.model.zero_grad()
    scorer.set_training()
    num_units = sum(task.count_units(batch.targets, batch.units) for batch in batches)
    if len(batches) == 1:
        (batch,) = batches
        set_seed(7, HOST)
        with scorer.surrounding(batch):
            loss = task.loss_sum(scorer(batch), batch.targets, batch.units) / num_units
            loss.backward()  # type: ignore[no-untyped-call]
    else:
        loss = differentiate_whole_step(scorer, task, batches, num_units, device=HOST, seed=7, collect=lambda: None)
    return float(loss.detach()), gradients_of(scorer.model)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(("layout", "dropout"), [("flat", 0.0), ("flat", 0.2), ("padded", 0.0)])
def test_gradients_are_those_of_the_plain_loss(kind: str, layout: Any, dropout: float) -> None:
    settings, columns = LOSSES[kind]
    task = Embedding(**settings).bind(columns)
    model = model_of("bert", dropout)
    found, _ = choose_layout(model, "row", VOCABULARY, layout, pooling=task.row_pooling)
    assert found == layout
    scorer = Scorer(model, layout, "row", pooling=task.row_pooling)
    collate = collator_for(model, layout, 1, HOST)
    data = task.encode(columns, tiny_tokenizer(), MAX_LENGTH)
    whole = list(batches_of(task, data, collate, 10**6))
    assert len(whole) == 1
    loss, plain = gradients(scorer, task, whole)
    for tokens in (150, 60, 1):
        batches = list(batches_of(task, data, collate, tokens))
        assert len(batches) > 1
        cached_loss, cached = gradients(scorer, task, batches)
        assert cached_loss == pytest.approx(loss, rel=1e-10)
        assert cached.keys() == plain.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(cached[name], gradient, rtol=1e-10, atol=1e-10, msg=name)


class Watched(Scorer):
    """Writes down what it gives."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        scores = super().__call__(batch)
        vars(self).setdefault("given", []).append(scores.detach())
        return scores


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_dropout_is_the_same_in_both_passes(layout: Any) -> None:
    task = Embedding().bind(PAIRS)
    model = model_of("bert", 0.2)
    choose_layout(model, "row", VOCABULARY, layout, pooling="mean")
    scorer = Watched(model, layout, "row", pooling="mean")
    data = task.encode(PAIRS, tiny_tokenizer(), MAX_LENGTH)
    batches = list(batches_of(task, data, collator_for(model, layout, 1, HOST), 60))
    gradients(scorer, task, batches)
    given = vars(scorer)["given"]
    assert len(given) == 2 * len(batches) > 2
    for first, second in zip(given, given[len(batches) :], strict=False):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
    gradients(scorer, task, batches)
    torch.testing.assert_close(given[0], given[2 * len(batches)], rtol=0, atol=0)


@pytest.mark.parametrize("arch", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
def test_flat_vectors_are_those_of_the_model_as_written(arch: str, pooling: Any) -> None:
    model = model_of(arch, 0.0).eval()
    columns = {"anchor": PAIRS["anchor"], "positive": PAIRS["positive"]}
    task = Embedding(pooling={"first": "cls", "last": "last", "mean": "mean"}[pooling]).bind(columns)
    data = task.encode(columns, tiny_tokenizer(), MAX_LENGTH)
    ids = torch.from_numpy(np.array(data.inputs["input_ids"][3])).long()[None]
    states = model(input_ids=ids).last_hidden_state[0]
    vectors = []
    for layout in ("padded", "flat"):
        assert choose_layout(model, "row", VOCABULARY, layout, pooling=pooling)[0] == layout
        collate = collator_for(model, layout, 1, HOST)  # type: ignore[arg-type]
        batch = collate(data, np.arange(len(data)))
        scorer = Scorer(model, layout, "row", pooling=pooling)  # type: ignore[arg-type]
        with torch.no_grad(), scorer.surrounding(batch):
            vectors.append(scorer(batch))
    torch.testing.assert_close(vectors[0], vectors[1], rtol=0, atol=1e-6)
    alone = {"first": states[0], "last": states[-1], "mean": states.mean(dim=0)}[pooling]
    torch.testing.assert_close(vectors[0][3], alone.detach(), rtol=0, atol=1e-6)
