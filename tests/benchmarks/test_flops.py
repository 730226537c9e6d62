"""Operations per token against torch's own counter, and the formulas' relations."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops

LENGTH, WIDTH, LAYERS, VOCABULARY = 24, 32, 3, 96


@pytest.fixture
def model() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def shape_of(model: torch.nn.Module, *, causal: bool = False) -> flops.Shape:
    weights = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    return flops.Shape(weights, LAYERS, WIDTH, LENGTH, VOCABULARY, labelled_share=1.0, causal=causal)


def count(model: torch.nn.Module, *, backward: bool) -> float:
    """Return torch's own count per token; eager attention computes both halves of the triangle."""
    ids = torch.arange(LENGTH)[None] % VOCABULARY
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops() / LENGTH


def test_forward_is_what_torch_counts(model: torch.nn.Module) -> None:
    assert flops.forward(shape_of(model)) == pytest.approx(count(model, backward=False), rel=0.02)


def test_full_training_is_what_torch_counts(model: torch.nn.Module) -> None:
    assert flops.full(shape_of(model)) == pytest.approx(count(model, backward=True), rel=0.02)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_lora_is_what_torch_counts(model: torch.nn.Module) -> None:
    """The lowest layer's input has no gradient, which the formula, made for deep models, does not take off."""
    from peft import LoraConfig, get_peft_model

    shape = shape_of(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    num_trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    first_layer = next(layer for name, layer in model.named_modules() if name.endswith("layers.0"))
    inputs = sum(
        2 * module.weight.numel()
        for name, module in first_layer.named_modules()
        if isinstance(module, torch.nn.Linear) and name.endswith(("q_proj.base_layer", "k_proj.base_layer"))
    )
    counted = count(adapted, backward=True)
    assert counted <= flops.lora(shape, num_trained) <= counted + 4 * inputs


def test_causal_attention_is_half_of_the_term() -> None:
    whole, half = (flops.Shape(1000, 2, 8, 100.0, causal=causal) for causal in (False, True))
    assert whole.attention == 4 * 2 * 100 * 8 == 2 * half.attention


def test_lora_counts_frozen_weights_twice_not_three_times() -> None:
    shape = flops.Shape(1_000_000, 2, 8, 0.0)
    assert flops.training(shape, "full", 0) == 6e6
    assert flops.training(shape, "lora", 1000) == 4e6 + 6000


def test_labels_count_by_their_share() -> None:
    quarter = flops.Shape(0, 1, 10, 0.0, vocabulary=100, labelled_share=0.25)
    assert flops.forward(quarter) == 2 * 100 * 10 * 0.25


def test_utilisation_is_relative_to_the_measured_rate() -> None:
    assert flops.utilisation(1000.0, 2e6, 4e9) == pytest.approx(0.5)
