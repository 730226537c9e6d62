"""Answers written for many at once: the same as alone, whoever joins and leaves between."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny import tiny_model
from tunesmith.data.encoded import Ragged
from tunesmith.engine.generate import generate
from tunesmith.engine.live import LiveText, LiveWriter
from tunesmith.engine.sampling import Sampling

GREEDY = Sampling(max_new_tokens=9, stop_tokens=frozenset({5}), pad_token_id=0)
DRAWN = Sampling(max_new_tokens=7, stop_tokens=frozenset({5}), pad_token_id=0, temperature=1.5, top_p=0.9, seed=3)


def prompts(number: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(6, 90, generator.integers(3, 20)) for _ in range(number)]


def alone(model: torch.nn.Module, prompt: np.ndarray, sampling: Sampling) -> list[int]:
    return generate(model, Ragged(prompt, np.array([0, len(prompt)])), sampling)[0]


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_texts_that_join_and_leave_are_written_as_alone(arch: str) -> None:
    model = tiny_model(arch, head="causal", dtype=torch.float32).eval()
    texts = [LiveText(prompt, (GREEDY, DRAWN)[i % 2]) for i, prompt in enumerate(prompts(11))]
    with LiveWriter(model, num_slots=3, capacity=64) as writer:
        waiting, ended = list(texts), 0
        while ended < len(texts):
            if waiting:
                writer.add(waiting.pop(0))
            ended += sum(text.ended is not None for text in writer.step())
        assert writer.num_at_work == 0
    for text in texts:
        assert text.answer == alone(model, text.prompt, text.sampling)
        assert text.ended == ("length" if len(text.answer) == text.sampling.max_new_tokens else "stop")


def test_what_is_cancelled_leaves_and_the_others_go_on() -> None:
    model = tiny_model("llama", head="causal", dtype=torch.float32).eval()
    texts = [LiveText(prompt, GREEDY, num_alternatives=2) for prompt in prompts(4)]
    with LiveWriter(model, num_slots=2, capacity=64) as writer:
        for text in texts:
            writer.add(text)
        writer.step()
        texts[0].is_cancelled = texts[3].is_cancelled = True
        moved = writer.step()
        assert {id(text) for text in moved} >= {id(texts[0]), id(texts[3])}
        while writer.num_at_work:
            writer.step()
    assert [text.ended == "cancelled" for text in texts] == [True, False, False, True]
    for text in texts[1:3]:
        assert text.answer == alone(model, text.prompt, GREEDY)
        assert len(text.log_probabilities) == len(text.alternatives) == len(text.answer)
        for token, value, others in zip(text.answer, text.log_probabilities, text.alternatives, strict=True):
            assert others[0] == (token, pytest.approx(value)), "the likeliest token was taken"
            assert others[0][1] >= others[1][1]


class Even:
    """A guide that lets tokens of even numbers pass, so many of them."""

    def __init__(self, most: int, *, gives_up: bool = False) -> None:
        self.taken: list[int] = []
        self.most, self.gives_up = most, gives_up

    def allowed(self) -> np.ndarray | None:
        return None if self.gives_up and self.taken else np.arange(80) % 2 == 0

    def take(self, token: int) -> None:
        self.taken.append(token)

    @property
    def is_complete(self) -> bool:
        return len(self.taken) == self.most


def test_a_guide_leads_its_own_text_alone() -> None:
    model = tiny_model("llama", head="causal", dtype=torch.float32).eval()
    first, second, third, fourth = prompts(4)
    texts = [
        LiveText(first, DRAWN, guide=Even(4), num_alternatives=1),
        LiveText(second, DRAWN),
        LiveText(third, GREEDY, guide=Even(99)),
        LiveText(fourth, DRAWN, guide=Even(9, gives_up=True)),
    ]
    with LiveWriter(model, num_slots=4, capacity=64) as writer:
        assert writer.can_guide
        for text in texts:
            writer.add(text)
        while writer.num_at_work:
            writer.step()
    assert [text.ended for text in texts] == ["stop", texts[1].ended, "length", "failed"]
    assert [len(text.answer) for text in texts[::2]] == [4, 9]
    assert all(token % 2 == 0 and token < 80 for text in texts[::2] for token in text.answer)
    assert all(np.isfinite(text.log_probabilities).all() for text in texts)
    assert texts[1].answer == alone(model, second, DRAWN)
