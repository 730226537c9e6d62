"""Dropout in heads that read tokens: its noise belongs to the tokens, however a step is split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification, PreTrainedModel

from engine.test_language_models import LENGTHS, Tokens, rows
from tiny import VOCABULARY, gradients_of, tiny_config
from tunesmith.engine import losses
from tunesmith.engine.batch import EXACT, FEW, NoiseSource, Shapes
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.losses import loss_sum, max_scores
from tunesmith.engine.scorer import Scorer


class Tags(Tokens):
    """Cross-entropy over few classes at every token read."""

    def loss_sum(self, scores_UK: torch.Tensor, targets: Any, units: Any) -> torch.Tensor:
        return functional.cross_entropy(scores_UK, targets["labels"].long() % 2, reduction="sum")


def tagger() -> PreTrainedModel:
    """Return a model that drops in its head only."""
    torch.manual_seed(0)
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    config = tiny_config("bert", **dict.fromkeys(names, 0.0), classifier_dropout=0.4)
    return AutoModelForTokenClassification.from_config(config).to(torch.float64)


def gradients(groups: list[list[int]], shapes: Shapes) -> dict[str, torch.Tensor]:
    model = tagger()
    layout, _ = choose_layout(model, "token", VOCABULARY, "auto")
    assert layout == "flat"
    scorer = Scorer(model, layout, "token", shapes)
    collate = collator_for(model, layout, 0, torch.device("cpu"), shapes)
    data = rows(causal=False)
    scorer.set_training()
    for group in groups:
        torch.manual_seed(len(group))  # nothing may hang on it
        batch = collate(data, np.array(group), NoiseSource(7))
        with scorer.surrounding(batch):
            loss_sum(scorer, Tags(), batch).backward()  # type: ignore[no-untyped-call]
    return gradients_of(model)


@pytest.mark.parametrize("most", [None, 2 * 64], ids=["whole", "in parts"])
@pytest.mark.parametrize("shapes", [EXACT, FEW], ids=["exact", "few shapes"])
def test_it_does_not_depend_on_micro_batches(shapes: Shapes, most: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    several = [[6], [1, 3], [0, 5, 2], [4, 7, 8, 9, 10, 11]]
    expected = gradients([list(range(len(LENGTHS)))], shapes)
    if most is not None:
        monkeypatch.setattr(losses, "MAX_SCORES_OF_TRAINED_HEADS", most // (1 if shapes is FEW else 16))
    for groups in (several, [list(range(len(LENGTHS)))]):
        found = gradients(groups, shapes)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10, msg=name)


def test_more_scores_are_computed_at_once_where_no_cache_could_hold_them() -> None:
    model = tagger()
    assert max_scores(Scorer(model, "flat", "token")) == losses.MAX_SCORES_OF_TRAINED_HEADS
    assert max_scores(Scorer(model.to("meta"), "flat", "token")) == losses.MAX_SCORES_ELSEWHERE
