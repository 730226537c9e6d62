"""Fused blocks: scores and gradients of the model's own code, with noise, adapters, windows and few readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import ACT2FN

from engine.block_models import LENGTHS, MODELS, VOCABULARY, build, rows_of
from tiny import gradients_of
from tunesmith.engine import layout
from tunesmith.engine.batch import FEW, NoiseSource
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.install import (
    AdaptedLinear,
    KeyedDropout,
    _activation,
    blocks_of,
    install,
    install_adapters,
)
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.scorer import Reads, Scorer
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.kernels import attention, library, noise, rows
from tunesmith.models.anatomy import Anatomy

needs_native = pytest.mark.skipif(library.library() is None, reason="no C compiler: there is nothing to compare with")


@contextmanager
def standing_in(install: Callable[[nn.Module], None]) -> Iterator[None]:
    """Let ``choose_layout`` install something else than blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "install", install)
        yield


def without_blocks() -> AbstractContextManager[None]:
    return standing_in(lambda _model: None)


class Counting(TorchDispatchMode):
    """Counts the operations that are queued on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not getattr(operation, "is_view", False) and "empty" not in str(operation)
        return operation(*args, **(kwargs or {}))


@contextmanager
def without_native_code() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (rows, noise, attention):
            patch.setattr(module, "serves", lambda *_: False)
        yield


def computed(
    model: nn.Module, reads: Reads, groups: list[list[int]] | None = None
) -> tuple[dict[int, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the scores by row and the gradients of a loss, the rows in one or several micro-batches."""
    chosen, _ = choose_layout(model, reads, VOCABULARY, "auto")
    assert chosen == "flat"
    scorer = Scorer(model, chosen, reads, FEW)
    collate = collator_for(model, chosen, 0, torch.device("cpu"), FEW)
    found: dict[int, torch.Tensor] = {}
    data = rows_of(reads)
    for group in groups or [list(range(len(LENGTHS)))]:
        batch = collate(data, np.array(group), NoiseSource(123456789))
        with scorer.surrounding(batch):
            scores = scorer(batch)
            weights = torch.linspace(-1, 1, scores.shape[1])
            (scores * weights).sum().backward()
        counts = [1 if data.reads is None else int(data.reads.lengths[row]) for row in batch.sequences]
        found |= dict(zip(batch.sequences.tolist(), scores.detach().split(counts), strict=True))
    return found, gradients_of(model)


def assert_equal(mine: Any, expected: Any, tolerance: float = 2e-5) -> None:
    for ours, theirs in zip(mine, expected, strict=True):
        assert ours.keys() == theirs.keys()
        largest = max(float(value.abs().max()) for value in theirs.values())
        for key, value in theirs.items():
            assert (ours[key] - value).abs().max() <= tolerance * max(float(value.abs().max()), 1e-3 * largest), key


def num_blocks(model: nn.Module) -> int:
    return sum(isinstance(getattr(vars(module).get("forward"), "__self__", None), Block) for module in model.modules())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_a_block_computes_what_the_layer_computes(name: str, lora: bool) -> None:
    model, reads = build(name, 0.0, lora=lora)
    mine = computed(model, reads)
    assert num_blocks(model) == 3
    plain, _ = build(name, 0.0, lora=lora)
    with without_blocks():
        expected = computed(plain, reads)
    assert num_blocks(plain) == 0
    assert_equal(mine, expected)


@pytest.mark.parametrize("name", ["bert", "llama", "qwen2"])
def test_an_adapted_layer_as_one_operation_computes_what_peft_does_in_fewer(name: str) -> None:
    found = []
    for stand_in in (install_adapters, lambda _model: None):
        model, reads = build(name, 0.0, lora=True)
        assert not Anatomy.of(model).windows  # looked at before, so that it is not counted
        with standing_in(stand_in), Counting() as counting:
            found.append((*computed(model, reads), counting.count))
        is_one = [
            isinstance(getattr(vars(one).get("forward"), "__self__", None), AdaptedLinear) for one in model.modules()
        ]
        assert any(is_one) == (stand_in is install_adapters)
        take_away(model, Tier.BLOCK)
        assert not any("forward" in vars(module) for module in model.modules())
    (scores, gradients, count), (own_scores, own_gradients, own_count) = found
    assert_equal((scores, gradients), (own_scores, own_gradients))
    assert count < 0.85 * own_count


def _disable(model: Any) -> None:
    model.base_model.disable_adapter_layers()
    next(model.parameters()).requires_grad_()


def _drop(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = nn.Dropout(0.5).train()


@pytest.mark.parametrize("change", [_disable, _drop], ids=["disabled", "dropped without keys"])
def test_what_is_more_than_plain_products_goes_to_peft(change: Callable[[Any], None]) -> None:
    found = []
    for stand_in in (install_adapters, lambda _model: None):
        model, reads = build("llama", 0.0, lora=True)
        change(model)
        collate = collator_for(model, "flat", 0, torch.device("cpu"), FEW)
        with standing_in(stand_in):
            choose_layout(model, reads, VOCABULARY, "auto")
        batch = collate(rows_of(reads), np.arange(len(LENGTHS)))  # no keys
        torch.manual_seed(0)
        scorer = Scorer(model, "flat", reads, FEW)
        with scorer.surrounding(batch):
            found.append(scorer(batch))
    assert torch.equal(*found)


@needs_native
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_native_code_and_torch_drop_the_same(name: str, lora: bool) -> None:
    mine = computed(*build(name, 0.3, lora=lora))
    with without_native_code():
        expected = computed(*build(name, 0.3, lora=lora))
    assert_equal(mine, expected)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", ["bert", "roberta", "llama", "llama on rows"])
def test_noise_does_not_depend_on_micro_batches(name: str, lora: bool) -> None:
    mine = computed(*build(name, 0.3, lora=lora), groups=[[6], [1, 3], [0, 5, 2], [4]])
    assert_equal(mine, computed(*build(name, 0.3, lora=lora)))


def test_a_dropout_that_is_used_twice_drops_different_numbers() -> None:
    keys = torch.from_numpy(noise.token_keys(1, np.arange(2), np.array([20, 30])))
    dropout = KeyedDropout(nn.Dropout(0.5), 3)
    x = torch.ones(50, 64)
    with noise.keyed_by(keys):
        first, second = dropout.forward(x), dropout.forward(x)
    with noise.keyed_by(keys):
        again = dropout.forward(x)
    assert torch.equal(first, again)
    assert 0.4 < float((first == second).float().mean()) < 0.6


def test_blocks_can_be_taken_out_again() -> None:
    model, reads = build("bert", 0.1, lora=False)
    choose_layout(model, reads, VOCABULARY, "auto")
    take_away(model, Tier.BLOCK)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_model_whose_layer_computes_something_else_gets_no_block() -> None:
    class Scaled(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            for name, child in layer.named_children():
                self.add_module(name, child)

        def forward(self, hidden_states: torch.Tensor, **settings: Any) -> torch.Tensor:
            residual = hidden_states
            attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **settings)
            hidden_states = residual + 0.5 * attended
            return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    model, reads = build("llama", 0.0, lora=False)
    layers = model.get_submodule("model.layers")
    layers[1] = Scaled(layers[1])
    layout_name, _ = choose_layout(model, reads, VOCABULARY, "auto")
    assert layout_name == "flat"
    assert num_blocks(model) == 0


def test_an_activation_is_known_by_all_of_its_values() -> None:
    functions = {
        "relu": nn.ReLU(),
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU(approximate="tanh"),
        "silu": nn.SiLU(),
    }
    assert {name: _activation(function) for name, function in functions.items()} == {name: name for name in functions}
    for name in ("gelu_10", "quick_gelu", "relu6", "relu2", "mish", "leaky_relu", "tanh"):
        assert _activation(ACT2FN[name]) is None, name
    assert _activation(ACT2FN["gelu_new"]) == "gelu_tanh"
    assert _activation(ACT2FN["gelu_python"]) == "gelu"


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_layer_whose_norm_lacks_a_part_gets_no_block(part: str) -> None:
    model, _ = build("bert", 0.0, lora=False)
    setattr(model.bert.encoder.layer[1].output.LayerNorm, part, None)  # type: ignore[union-attr, index]
    install(model)
    assert [block.index for _, block in blocks_of(model)] == [0, 2]


def test_on_padded_rows_a_block_leaves_the_work_to_the_layer() -> None:
    model, reads = build("bert", 0.0, lora=False)
    model.eval()
    ids = torch.randint(5, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        before = model(input_ids=ids, attention_mask=mask).logits
        choose_layout(model, reads, VOCABULARY, "auto")
        model.set_attn_implementation("sdpa")
        assert torch.allclose(model(input_ids=ids, attention_mask=mask).logits, before)
    assert any(isinstance(getattr(vars(m).get("forward"), "__self__", None), KeyedDropout) for m in model.modules())
