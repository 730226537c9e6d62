"""Answers in batches are those of one prompt at a time, which are those of transformers; streams give the same."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tiny import END, PAD, VOCABULARY, tiny_config
from tunesmith.data.encoded import Ragged
from tunesmith.engine import generate as generation
from tunesmith.engine.generate import Sampling, generate, stream
from tunesmith.engine.layout import choose_layout


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(request.param))
    for parameter in model.parameters():  # flat distributions would leave the choice to rounding
        parameter.data.mul_(3)
    assert choose_layout(model, "token", VOCABULARY, "auto")[0] == "flat"
    return model.train()


def prompts() -> Ragged:
    random = np.random.default_rng(0)
    return Ragged.from_rows([random.integers(5, VOCABULARY, length) for length in (4, 9, 3, 9, 1, 14)])


def sampling(**settings: Any) -> Sampling:
    return Sampling(**{"max_new_tokens": 12, "stop_tokens": frozenset({END}), "pad_token_id": PAD, **settings})


def test_batches_equal_single_prompts_and_transformers(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    together = generate(model, prompts(), sampling())
    monkeypatch.setattr(generation, "MAX_ROWS", 1)
    assert generate(model, prompts(), sampling()) == together
    assert model.training
    assert model.config._attn_implementation == "tunesmith_flat"
    model.set_attn_implementation("eager")
    model.eval()
    for row, answer in enumerate(together):
        ids = torch.from_numpy(np.array(prompts()[row])).long()[None]
        found = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=END, pad_token_id=PAD)
        expected = found[0, ids.shape[1] :].tolist()
        assert answer == (expected[: expected.index(END)] if END in expected else expected)


def test_every_end_token_ends_an_answer(model: PreTrainedModel) -> None:
    whole = generate(model, prompts(), sampling())
    end = whole[0][3]
    cut = generate(model, prompts(), sampling(stop_tokens=frozenset({END, end})))
    assert cut == [answer[: answer.index(end)] if end in answer else answer for answer in whole]


@pytest.mark.parametrize("plain", [False, True])
def test_the_token_that_ends_an_answer_is_given_where_it_is_wanted(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    whole = generate(model, prompts(), sampling())
    if plain:
        monkeypatch.setattr(generation, "find_way", lambda _: None)
    end = whole[0][3]
    kept = generate(model, prompts(), sampling(stop_tokens=frozenset({END, end}), keeps_end=True))
    for answer, own in zip(whole, kept, strict=True):
        ended = [*answer, END] if len(answer) < 12 else answer
        assert own == (answer[: answer.index(end) + 1] if end in answer else ended)
    assert kept[0][-1] == end


def test_streams_give_the_same_and_can_be_closed(model: PreTrainedModel) -> None:
    expected = generate(model, prompts(), sampling())
    for row, answer in enumerate(expected):
        assert list(stream(model, prompts()[row].tolist(), sampling())) == answer
    with closing(stream(model, prompts()[5].tolist(), sampling(max_new_tokens=40))) as tokens:
        assert next(tokens) == expected[5][0]
    assert model.config._attn_implementation == "tunesmith_flat"


def test_drawing_repeats_with_its_seed_and_leaves_other_random_numbers_alone(model: PreTrainedModel) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    drawn = [generate(model, prompts(), sampling(temperature=1.5, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] == drawn[1] != drawn[2]


def test_errors_reach_the_reader_of_a_stream(model: PreTrainedModel) -> None:
    with pytest.raises(IndexError):
        list(stream(model, [VOCABULARY + 5], sampling()))
    assert model.training


def test_memory_is_bounded_and_work_can_be_stopped(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = generate(model, prompts(), sampling())
    monkeypatch.setattr(generation, "MAX_CACHED_TOKENS", 2 * (14 + 12))
    made: list[tuple[int, int]] = []

    class Watched(generation.Decoder):
        def __init__(self, model: Any, num_slots: int, capacity: int) -> None:
            made.append((num_slots, capacity))
            super().__init__(model, num_slots, capacity)

    monkeypatch.setattr(generation, "Decoder", Watched)
    seen: list[int] = []
    assert generate(model, prompts(), sampling(), check=seen.append) == expected
    assert seen == list(range(len(prompts()) + 1))
    assert made
    assert all(num_slots * capacity <= 2 * (14 + 12) for num_slots, capacity in made)

    def stop(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, prompts(), sampling(), check=stop)
    assert model.config._attn_implementation == "tunesmith_flat"
