"""Compiled layers: one piece of code for all layers and lengths, the same gradients; and when it pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engine.test_layout import rows
from tiny import VOCABULARY, gradients_of, tiny_model
from tunesmith.engine import attention
from tunesmith.engine.cuda.compile import compile_layers, worth_compiling
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.recompute import recompute_layers
from tunesmith.engine.scorer import Scorer


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    attention.register()


def gradients(model: Any, lengths: list[int]) -> dict[str, torch.Tensor]:
    data = rows(lengths)
    batch = collator_for(model, "flat", 1, torch.device("cpu"))(data, np.arange(len(data)))
    scorer = Scorer(model, "flat", "row")
    scorer.set_training()
    model.zero_grad()
    with scorer.surrounding(batch):
        functional.cross_entropy(scorer(batch), batch.targets["label"]).backward()
    return gradients_of(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("arch", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
def test_gradients_stay_and_the_code_is_shared_by_layers_and_lengths(arch: str, recompute: bool) -> None:
    """With the compiler's front half only: the back half is torch's business and takes minutes."""
    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if arch == "bert" else {}
    graphs: list[int] = []

    def counting(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    model = tiny_model(arch, num_hidden_layers=4, **settings)
    assert choose_layout(model, "row", VOCABULARY, "flat", fused=False)[0] == "flat"
    several = ([5, 7, 9], [3, 3, 8, 20], [11, 12])
    expected = [gradients(model, lengths) for lengths in several]
    assert compile_layers(model, backend=counting) == 4
    if recompute:
        recompute_layers(model)
    counts = []
    for lengths, wanted in zip(several, expected, strict=True):
        found = gradients(model, lengths)
        counts.append(len(graphs))
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10, msg=name)
    assert 0 < counts[0] <= 8, "the pieces of one layer, not of four"
    assert counts[-1] == counts[0], "another length compiles nothing anew"


@pytest.mark.parametrize(
    ("weights", "tokens", "device", "expected"),
    [
        (8_000_000_000, 1e9, "cuda", True),  # days
        (1_000_000_000, 1e8, "cuda", True),  # about an hour
        (1_000_000_000, 1e6, "cuda", False),  # half a minute
        (22_000_000, 1e7, "cuda", False),  # MiniLM on a few thousand rows
        (8_000_000_000, 1e12, "cpu", False),
        (8_000_000_000, 1e12, "mps", False),
    ],
)
def test_short_runs_are_never_compiled(weights: int, tokens: float, device: str, expected: bool) -> None:
    assert worth_compiling(weights, tokens, device) is expected


@given(st.integers(1, 10**11), st.floats(1, 1e13))
def test_what_pays_pays_for_longer_runs_and_larger_models(weights: int, tokens: float) -> None:
    if worth_compiling(weights, tokens, "cuda"):
        assert worth_compiling(weights, 2 * tokens, "cuda")
        assert worth_compiling(2 * weights, tokens, "cuda")
