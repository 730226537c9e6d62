"""Writing over a cache gives what transformers gives, whatever the model, the precision and the company of a text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from tiny import END, PAD, VOCABULARY, tiny_config
from tunesmith.data.encoded import Ragged
from tunesmith.engine import generate as generation
from tunesmith.engine.choice import Chooser
from tunesmith.engine.decoding import ready as making_ready
from tunesmith.engine.decoding.cache import Cache, Kept, Places, Seeing, Step
from tunesmith.engine.decoding.linear import Linear
from tunesmith.engine.decoding.ready import find_way
from tunesmith.engine.generate import Sampling, generate
from tunesmith.engine.layout import choose_layout
from tunesmith.kernels import decoding as native
from tunesmith.kernels.attention import Rotation, split_heads
from tunesmith.kernels.library import library
from tunesmith.methods import Lora


def written_model(arch: str = "llama", dtype: torch.dtype = torch.float32, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(arch, **settings))
    for parameter in model.parameters():  # flat distributions would leave the choice to rounding
        parameter.data.mul_(3)
    assert choose_layout(model, "token", VOCABULARY, "auto")[0] == "flat"
    return model.to(dtype).eval()


def sampling(**settings: Any) -> Sampling:
    return Sampling(**{"max_new_tokens": 10, "stop_tokens": frozenset({END}), "pad_token_id": PAD, **settings})


def prompts(lengths: tuple[int, ...] = (4, 9, 3, 14, 1, 6, 6, 11, 2)) -> Ragged:
    random = np.random.default_rng(0)
    return Ragged.from_rows([random.integers(5, VOCABULARY, length) for length in lengths])


def by_transformers(model: PreTrainedModel, rows: Ragged, **settings: Any) -> list[list[int]]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    answers = []
    for row in range(len(rows)):
        ids = torch.from_numpy(np.array(rows[row])).long()[None]
        found = model.generate(ids, max_new_tokens=10, do_sample=False, eos_token_id=END, pad_token_id=PAD, **settings)[
            0, ids.shape[1] :
        ].tolist()
        answers.append(found[: found.index(END)] if END in found else found)
    model.set_attn_implementation(before)
    return answers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("arch", ["llama", "qwen3", "gpt2"])
def test_answers_are_those_of_transformers(arch: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = written_model(arch, dtype)
    assert find_way(model) == ("fused" if arch == "llama" else "own")
    monkeypatch.setattr(generation, "MAX_ROWS", 3)  # texts end and others take their place
    assert generate(model, prompts(), sampling()) == by_transformers(model, prompts())


@pytest.mark.parametrize("settings", [{"dora": False}, {"dora": True}, {"rslora": True, "target_modules": "q_proj"}])
def test_adapters_are_part_of_what_writes(settings: Any) -> None:
    model = Lora(rank=2, **settings).apply(written_model())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape))
    model.eval()
    assert find_way(model) is not None
    answers = generate(model, prompts(), sampling())
    assert answers == by_transformers(model.get_base_model(), prompts())
    assert answers != generate(written_model(), prompts(), sampling())


def test_weights_are_packed_once_and_kept_only_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    original = making_ready._stand_ins

    def counted(model: nn.Module, way: making_ready.Way) -> making_ready.StandIns:
        calls.append(way)
        return original(model, way)

    monkeypatch.setattr(making_ready, "_stand_ins", counted)
    model = written_model()
    generate(model, prompts(), sampling())
    assert len(calls) == 1, "what was packed to be compared is used"
    assert not making_ready._found[model].stand_ins
    generate(model, prompts(), sampling())
    assert len(calls) == 2
    for _ in range(2):
        list(generation.stream(model, prompts()[0].tolist(), sampling(), keep=True))
        generate(model, prompts(), sampling())
    assert len(calls) == 3


def test_weights_are_not_packed_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = written_model()
    size = sum(parameter.nbytes for parameter in model.parameters())
    monkeypatch.setattr(making_ready, "memory_of", lambda _device: (0, 2 * size))
    assert not making_ready._stand_ins(model, "fused")
    assert generate(model, prompts(), sampling()) == by_transformers(model, prompts())
    monkeypatch.setattr(making_ready, "memory_of", lambda _device: (0, 4 * size))
    assert making_ready._stand_ins(model, "fused")


def test_weights_that_changed_are_used() -> None:
    model = written_model()
    first = generate(model, prompts(), sampling())
    list(generation.stream(model, prompts()[0].tolist(), sampling(), keep=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * parameter.std())
    assert generate(model, prompts(), sampling()) == by_transformers(model, prompts()) != first
    assert (
        list(generation.stream(model, prompts()[0].tolist(), sampling())) == generate(model, prompts(), sampling())[0]
    )


def test_what_a_model_says_against_repeating_itself_counts() -> None:
    model = written_model()
    plain = generate(model, prompts(), sampling())
    model.generation_config.repetition_penalty = 1.7
    assert generate(model, prompts(), sampling()) == by_transformers(model, prompts()) != plain


def test_what_is_not_known_is_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = written_model()
    model.generation_config.no_repeat_ngram_size = 2
    monkeypatch.setattr(generation, "Decoder", lambda *_: pytest.fail("not what the model asks for"))
    assert generate(model, prompts(), sampling()) == by_transformers(model, prompts())
    stream = generation.stream(model, prompts()[1].tolist(), sampling())
    assert list(stream) == by_transformers(model, prompts())[1]


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_tokens_are_drawn_as_often_as_they_are_likely(top_p: float) -> None:
    scores = torch.tensor([[2.0, 0.5, 1.0, -1.0, 0.0]])
    temperature = 0.8
    likely = torch.softmax(scores[0].double() / temperature, 0).numpy()
    order = np.argsort(-likely)
    kept = order[np.cumsum(likely[order]) - likely[order] < top_p]
    expected = np.zeros(5)
    expected[kept] = likely[kept] / likely[kept].sum()
    number = 4000
    chooser = Chooser(sampling(temperature=temperature, top_p=top_p), None)
    for row in range(number):
        chooser.begin(row, np.array([1]))
    tokens = chooser.choose(scores.expand(number, -1), range(number)).tolist()
    counts = Counter(tokens)
    assert set(counts) <= set(kept.tolist())
    found = np.array([counts[token] / number for token in range(5)])
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / number**0.5)


def test_what_is_drawn_does_not_depend_on_the_company(monkeypatch: pytest.MonkeyPatch) -> None:
    model = written_model()
    together = generate(model, prompts(), sampling(temperature=1.3, seed=4))
    monkeypatch.setattr(generation, "MAX_ROWS", 2)
    assert generate(model, prompts(), sampling(temperature=1.3, seed=4)) == together


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@torch.no_grad()
def test_packed_layers_compute_what_they_stand_for(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(24, width, bias=bias, dtype=dtype) for width in (16, 8, 8)]
    x, added = torch.randn(5, 24, dtype=dtype), torch.randn(5, 32, dtype=dtype)
    together = Linear.of(*layers)
    assert together is not None
    expected = torch.cat([layer(x) for layer in layers], dim=1)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(together(x), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(together(x, added), expected + added, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(library() is None, reason="no compiler")
@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize(("num_heads", "num_key_heads"), [(4, 4), (6, 2), (10, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_native_attention_to_a_cache_equals_torch(
    dtype: torch.dtype, num_heads: int, num_key_heads: int, window: int | None
) -> None:
    torch.manual_seed(0)
    lengths, depth, num_slots = [1, 33, 70, 64], 32, 6
    like = torch.empty(1, num_key_heads, depth, dtype=dtype)
    heads = torch.empty(1, num_heads, depth, dtype=dtype), like, like
    assert native.serves(heads)
    cache = Cache(num_slots, 80)
    both: list[Any] = [cache.of(torch.nn.Identity(), heads), Kept(like, num_slots, cache.capacity)]
    assert not isinstance(both[0], Kept)
    for slot, length in enumerate(lengths):
        key, value = torch.randn(2, length, num_key_heads, depth).to(dtype)
        for kept in both:
            kept.write(key, value, torch.full((length,), slot), torch.arange(length))
    for kept in both:  # the last text goes on in the place of the first
        kept.move(3, 0, 64)
    places = torch.tensor([64, 33, 70])
    step = Step(Places(torch.arange(3), places), places.int(), 71)
    angles = torch.randn(3, depth // 2)
    rotation = native.Rotation(*(made.repeat(1, 2).contiguous() for made in (angles.cos(), angles.sin())))
    tolerance = 0.03 if dtype == torch.bfloat16 else 1e-5
    for _ in range(2):  # the second token sees the first, wherever it was kept
        packed = torch.randn(3, (num_heads + 2 * num_key_heads) * depth).to(dtype)
        found = [kept.attend_packed(packed, num_heads, step, Seeing(0.2, window, rotation)) for kept in both]
        torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
        heads = split_heads(packed, num_heads, depth)
        found = [kept.attend(heads, step, Seeing(0.2, window)) for kept in both]
        torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance)
        places = places + 1
        step = Step(Places(torch.arange(3), places), places.int(), 72)


@pytest.mark.skipif(library() is None, reason="no compiler")
def test_native_attention_to_a_cache_refuses_what_it_would_misread() -> None:
    query, key = torch.randn(2, 4, 32), torch.randn(2, 2, 32)
    assert not native.serves((query.bfloat16(), key, key))
    assert not native.serves((query[:, :3], key, key))
    assert not native.serves((query, key, key.double()))
    assert not native.serves((query[..., :16], key, key))
    kept, places = native.Attention(key, 4, 32), torch.zeros(2, dtype=torch.int32)
    pattern = native.Pattern(places, 1.0)
    packed = torch.cat([part.flatten(1) for part in (query, key, key)], dim=1)
    turned = query.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(kept((turned, key, key), pattern), kept.packed(packed, 4, pattern))
    for wrong in (native.Pattern(places.long(), 1.0), native.Pattern(places[:1], 1.0)):
        with pytest.raises(ValueError, match="place"):
            kept.packed(packed, 4, wrong)
    with pytest.raises(ValueError, match="not like those"):
        kept.packed(packed.bfloat16(), 4, pattern)
    with pytest.raises(ValueError, match="not like those"):
        kept((query, key[:, :1], key[:, :1]), pattern)
    with pytest.raises(ValueError, match="rotation"):
        kept.packed(packed, 4, native.Pattern(places, 1.0, rotation=Rotation(torch.ones(1, 32), torch.ones(1, 32))))
