"""Beginnings that prompts share are computed once: the same answers, within bounds of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tiny import VOCABULARY, tiny_model
from tunesmith.engine.decoding.beginnings import Beginnings
from tunesmith.engine.decoding.decoder import Decoder
from tunesmith.engine.decoding.ready import find_way, ready
from tunesmith.engine.live import LiveText, LiveWriter
from tunesmith.engine.sampling import Sampling
from tunesmith.kernels.library import library

GREEDY = Sampling(max_new_tokens=6, stop_tokens=frozenset({5}), pad_token_id=0)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "fused": ("llama", {}),
    "native heads": ("llama", {"hidden_size": 64, "head_dim": 32}),
    "windows": ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "learned places": ("gpt2", {"n_positions": 256}),
}


def model_of(kind: str) -> nn.Module:
    arch, settings = KINDS[kind]
    longest = {} if arch == "gpt2" else {"max_position_embeddings": 256}
    return tiny_model(arch, head="causal", dtype=torch.float32, **longest, **settings).eval()


def talks(shared: int, number: int = 7) -> list[np.ndarray]:
    """Return prompts of one beginning, with others between."""
    random = np.random.default_rng(0)
    system = random.integers(6, VOCABULARY, shared)
    return [np.concatenate([system, random.integers(6, VOCABULARY, 3 + 5 * i)]) for i in range(number)]


def written(model: nn.Module, prompts: list[np.ndarray], num_bytes: int) -> tuple[list[list[int]], Beginnings | None]:
    texts = [LiveText(prompt, GREEDY) for prompt in prompts]
    with LiveWriter(model, 3, 200, num_bytes) as writer:
        for text in texts[:2]:
            writer.add(text)
        while writer.num_at_work:
            writer.step()
        for text in texts[2:]:
            writer.add(text)
        while writer.num_at_work:
            writer.step()
        return [text.answer for text in texts], writer.beginnings


@pytest.mark.parametrize("kind", list(KINDS))
def test_answers_are_the_same(kind: str) -> None:
    model, prompts = model_of(kind), talks(50)
    expected, none = written(model, prompts, 0)
    assert none is None
    found, beginnings = written(model, prompts, 10_000_000)
    assert found == expected
    assert beginnings is not None
    assert (beginnings.num_hits, beginnings.num_tokens) == (5, 250), "two are read whole before the beginning is known"


@pytest.mark.parametrize("kind", list(KINDS))
def test_scores_are_those_of_the_whole_prompt(kind: str) -> None:
    if kind == "native heads" and library() is None:
        pytest.skip("no native code on this machine")
    model, (first, second, third, *_) = model_of(kind), talks(45)
    way = find_way(model)
    assert way is not None
    with ready(model, way):
        decoder = Decoder(model, 3, 120)
        expected = decoder.fill([0, 1, 2], [first, second, third])
        kept = decoder.kept(2, 45)
        decoder.put(0, kept, 45)
        decoder.put(2, kept, 40)
        found = decoder.fill([0, 1, 2], [first, second, third], [45, 0, 40])
        assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
        assert decoder.lengths[:3].tolist() == [len(first), len(second), len(third)]
        steps = [decoder.step(np.array([7, 8, 9])) for _ in range(2)]
    with ready(model, way):
        decoder = Decoder(model, 3, 120)
        decoder.fill([0, 1, 2], [first, second, third])
        again = [decoder.step(np.array([7, 8, 9])) for _ in range(2)]
    for one, other in zip(steps, again, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


def test_memory_is_bounded_and_what_was_not_used_for_longest_goes() -> None:
    model = model_of("fused")
    random = np.random.default_rng(1)
    systems = [random.integers(6, VOCABULARY, 40) for _ in range(4)]

    def prompt(number: int) -> np.ndarray:
        return np.concatenate([systems[number], random.integers(6, VOCABULARY, 4)])

    way = find_way(model)
    assert way is not None
    with ready(model, way):
        decoder = Decoder(model, 1, 100)

        def read(number: int, beginnings: Beginnings) -> int:
            one = prompt(number)
            known = beginnings.put(0, one)
            decoder.fill([0], [one], [known])
            beginnings.learn(0, one)
            return known

        decoder.fill([0], [prompt(0)])
        size = sum(tensor.nbytes for pair in decoder.kept(0, 40).values() for tensor in pair)
        beginnings = Beginnings(decoder, int(2.5 * size))
        assert [read(number, beginnings) for number in (0, 0, 0, 1, 1, 0, 2, 2)] == [0, 0, 40, 0, 0, 40, 0, 0]
        assert beginnings.num_bytes == 2 * size
        assert read(0, beginnings) == 40, "it was used after the second"
        assert read(1, beginnings) == 0, "the second went for the third"
        small = Beginnings(decoder, size - 1)
        assert [read(3, small) for _ in range(3)] == [0, 0, 0]
        assert small.num_bytes == 0


def test_a_longer_beginning_takes_the_place_of_a_shorter_one() -> None:
    model, (first, *_) = model_of("fused"), talks(80)
    way = find_way(model)
    assert way is not None
    with ready(model, way):
        decoder = Decoder(model, 1, 120)
        beginnings = Beginnings(decoder, 10_000_000)
        for length, known in ((40, 0), (50, 0), (70, 40), (80, 50), (80, 70)):
            prompt = first[:length]
            assert beginnings.put(0, prompt) == known, length
            decoder.fill([0], [prompt], [known])
            beginnings.learn(0, prompt)
    assert len(beginnings._kept) == 1
