"""Buckets of CUDA graphs: few, never too small, and what is added changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.test_cuda_attention import plain_kernel
from engine.test_layout import LENGTHS, reference, rows
from tiny import VOCABULARY
from tunesmith.engine.batch import FEW
from tunesmith.engine.cuda import attention as variable_length
from tunesmith.engine.cuda import graphs
from tunesmith.engine.cuda.graphs import BaseGraphs, Bucket, bucket_of
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.scorer import Scorer

LISTS = st.lists(st.integers(1, 600), min_size=1, max_size=200)


@given(LISTS, st.integers(1, 8192))
def test_a_bucket_holds_the_batch_and_little_more(lengths: list[int], budget: int) -> None:
    total = sum(lengths)
    bucket = bucket_of(total, len(lengths), max(lengths), budget)
    assert total <= bucket.tokens < total + max(budget / 4, 1) + 1
    assert len(lengths) + 1 <= bucket.rows <= 2 * (len(lengths) + 1)
    longest = max(*lengths, bucket.tokens - total, graphs.TILE)
    assert longest <= bucket.length < 2 * longest + 1
    cumulative = bucket.lengths(torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32))
    assert cumulative.dtype == torch.int32
    assert len(cumulative) == bucket.rows + 1
    assert cumulative.diff().tolist() == [*lengths, bucket.tokens - total, *[0] * (bucket.rows - len(lengths) - 1)]
    assert int(cumulative.diff().max()) <= bucket.length


def test_there_are_few_buckets() -> None:
    random = np.random.default_rng(0)
    seen: set[Bucket] = set()
    for _ in range(400):
        lengths = np.sort(random.lognormal(4, 0.6, 64).astype(int).clip(1, 512))
        lengths = lengths[np.cumsum(lengths) <= 4096]
        seen.add(bucket_of(int(lengths.sum()), len(lengths), int(lengths.max()), 4096))
    assert len(seen) <= graphs.MOST_GRAPHS


@pytest.mark.parametrize("arch", ["bert", "llama", "modernbert"])
def test_a_padded_out_batch_gives_the_same_hidden_states(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the capture: filler, empty sequences, longest lengths above the real ones."""
    captured: list[Any] = []

    def uncaptured(compute: Any, weights: Any, _samples: Any) -> Any:
        captured.append(compute)
        return lambda given, arguments: compute(dict(zip(weights, given, strict=True)), arguments)

    def kernel(*arguments: Any, **settings: Any) -> torch.Tensor:
        *tensors, longest, _ = arguments
        real = int(tensors[-1].diff().max())
        assert real <= longest
        return plain_kernel(*tensors, real, real, **settings)

    monkeypatch.setattr(graphs, "_captured", uncaptured)
    monkeypatch.setattr(variable_length, "kernel", lambda: kernel)
    monkeypatch.setattr(variable_length, "supports", lambda _query, _dropout: True)
    model = reference(arch)
    layout, reason = choose_layout(model, "row", VOCABULARY, "flat")
    assert layout == "flat", reason
    scorer = Scorer(model, "flat", "row")
    runner = BaseGraphs(model.base_model, scorer.switches, 256)
    data = rows(LENGTHS["mixed"])
    collate = collator_for(model, "flat", 1, torch.device("cpu"), FEW)
    for chosen in ([0, 1, 2], [3, 4, 5], list(range(12))):
        batch = collate(data, np.array(chosen))
        with scorer.surrounding(batch):
            expected = scorer.base(batch)
            found = runner(batch)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert len(captured) == 2
    with torch.no_grad(), scorer.surrounding(batch):
        assert runner(batch) is None


def test_beyond_the_most_graphs_batches_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 0)
    model = reference("bert")
    choose_layout(model, "row", VOCABULARY, "flat")
    batch = collator_for(model, "flat", 1, torch.device("cpu"))(rows([4, 5]), np.arange(2))
    assert BaseGraphs(model.base_model, {}, 256)(batch) is None


def test_a_frozen_base_runs_without() -> None:
    model = reference("bert")
    choose_layout(model, "row", VOCABULARY, "flat")
    model.base_model.requires_grad_(requires_grad=False)
    batch = collator_for(model, "flat", 1, torch.device("cpu"))(rows([4, 5]), np.arange(2))
    assert BaseGraphs(model.base_model, {}, 256)(batch) is None


@pytest.mark.parametrize("arch", ["bert", "llama"])
def test_gradients_of_captured_passes_reach_the_weights(arch: str) -> None:
    """Everything but the capture itself: the passes run over leaves of their own, which share the weights' memory."""
    model = reference(arch)
    base = model.base_model
    weights = {name: weight for name, weight in base.named_parameters() if weight.requires_grad}
    inputs = [torch.arange(5, 17)[None], torch.arange(7, 19)[None]]

    def compute(leaves: Any, tensors: Any) -> torch.Tensor:
        given = {"input_ids": tensors[0]}
        return torch.func.functional_call(base, dict(leaves), (), given).last_hidden_state

    leaves, places = graphs.leaves_of(weights), [inputs[0].clone()]
    first = compute(leaves, places)
    hidden, pull = first.detach().clone(), torch.zeros_like(first)
    gradients = tuple(torch.zeros_like(leaf) for leaf in leaves.values())
    alive: list[torch.Tensor] = []

    class Forward:
        def replay(self) -> None:
            with torch.enable_grad():
                alive[:] = [compute(leaves, places)]
            hidden.copy_(alive[0].detach())

    class Backward:
        def replay(self) -> None:
            made = torch.autograd.grad(alive[0], list(leaves.values()), pull, allow_unused=True)
            for place, gradient in zip(gradients, made, strict=True):
                place.zero_() if gradient is None else place.copy_(gradient)

    passes = graphs._Passes(Forward(), Backward(), places, hidden, pull, gradients)  # type: ignore[arg-type]
    for tokens in inputs:
        with torch.no_grad():
            next(iter(weights.values())).add_(0.01)  # an update shows in what was captured
        expected = compute(weights, [tokens])
        wanted = torch.autograd.grad(expected.square().sum(), list(weights.values()), allow_unused=True)
        found = graphs._Replay.apply(passes, [tokens], *weights.values())  # type: ignore[no-untyped-call]
        assert torch.equal(found, expected)
        got = torch.autograd.grad(found.square().sum(), list(weights.values()))
        for name, one, other in zip(weights, got, wanted, strict=True):
            assert torch.equal(one, torch.zeros_like(one) if other is None else other), name
