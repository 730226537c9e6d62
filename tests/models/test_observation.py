"""What a model does is seen in what it tells attention, whatever its configuration says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Starcoder2Config,
)

from tiny import ARCHITECTURES, HIDDEN, tiny_batch, tiny_model
from tunesmith.models.anatomy import Anatomy

DECODER: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
WINDOWED: dict[str, tuple[Any, dict[str, Any], set[int]]] = {
    "a stray window": (LlamaConfig, {"sliding_window": 9}, set()),
    "mistral": (MistralConfig, {"sliding_window": 9}, {9}),
    "mistral without": (MistralConfig, {"sliding_window": None}, set()),
    "qwen2": (Qwen2Config, {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 2}, {9}),
    "qwen2 without": (Qwen2Config, {"sliding_window": 9, "use_sliding_window": False}, set()),
    "phi3": (Phi3Config, {"sliding_window": 9}, {9}),
    "starcoder2": (Starcoder2Config, {"sliding_window": 9}, {9}),
    "gemma3": (Gemma3TextConfig, {"sliding_window": 9}, {9}),
    "llama4": (
        Llama4TextConfig,
        {"attention_chunk_size": 11, "num_local_experts": 2, "intermediate_size_mlp": 48, "layer_types": None},
        {11},
    ),
}


def windowed(name: str, **settings: Any) -> Any:
    """Return a tiny language model whose layers see so far, and its configuration says."""
    make, given, _ = WINDOWED[name]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(make(**{**DECODER, **given, **settings})).eval()


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_are_those_in_use(name: str) -> None:
    assert Anatomy.of(windowed(name)).windows == WINDOWED[name][2]


def test_a_window_belongs_to_its_layers() -> None:
    model = windowed("qwen2")
    anatomy = Anatomy.of(model)
    windows = [one.window for layer in anatomy.layer_modules for one in anatomy.attentions_in(layer)]
    assert windows == [None, None, 9, 9]


def test_a_chunk_that_only_masks_know_is_told_apart() -> None:
    assert not Anatomy.of(windowed("llama4")).tells_windows
    assert Anatomy.of(windowed("mistral")).tells_windows


def test_modernbert_sees_to_both_sides() -> None:
    windows = Anatomy.of(tiny_model("modernbert")).windows
    assert windows == {4, 5}  # to the masks the tokens to each side, to attention one more


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_size_is_that_of_the_last_hidden_states(arch: str) -> None:
    model: Any = tiny_model(arch)
    found: list[torch.Tensor] = []
    model.base_model.register_forward_hook(lambda _module, _given, output: found.append(output.last_hidden_state))
    with torch.no_grad():
        model(**tiny_batch())
    assert Anatomy.of(model).hidden_size == found[0].shape[-1]
    assert (arch in ("lstm", "cnn")) or found[0].shape[-1] == HIDDEN


@pytest.mark.parametrize("arch", ["bert", "llama", "t5", "lstm"])
def test_looking_leaves_no_trace(arch: str) -> None:
    model: Any = tiny_model(arch)
    inside = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
    model.train()
    inside.eval()
    before = {module: module.training for module in model.modules()}
    attention, state = model.config._attn_implementation, torch.get_rng_state()
    Anatomy.of(model).hidden_size  # noqa: B018
    assert {module: module.training for module in model.modules()} == before
    assert model.config._attn_implementation == attention
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arch", "settings", "expected"),
    [
        ("bert", {}, "first"),
        ("roberta", {}, "first"),
        ("distilbert", {}, "first"),
        ("modernbert", {"classifier_pooling": "cls"}, "first"),
        ("modernbert", {"classifier_pooling": "mean"}, "mean"),
        ("llama", {}, "last"),
        ("gpt2", {}, "last"),
        ("lstm", {"pooling": "mean"}, "mean"),
        ("lstm", {"pooling": "max"}, None),
        ("lstm", {"pooling": "attention"}, None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_of_a_row_its_head_reads(arch: str, settings: Any, expected: str | None, dtype: torch.dtype) -> None:
    model = tiny_model(arch, num_labels=2, dtype=dtype, **settings)
    assert Anatomy.of(model).row_reading == expected
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.config.pad_token_id = 7  # looked at again
    assert Anatomy.of(model).row_reading == expected


@pytest.mark.parametrize("head", ["token", "causal", "masked"])
def test_heads_of_tokens_read_no_rows(head: str) -> None:
    model = tiny_model("gpt2" if head == "causal" else "bert", head=head)
    assert Anatomy.of(model).row_reading is None


def test_a_head_of_zeros_shows_nothing_of_what_it_reads() -> None:
    model: Any = tiny_model("llama")
    with torch.no_grad():
        model.score.weight.zero_()
    assert Anatomy.of(model).row_reading is None
