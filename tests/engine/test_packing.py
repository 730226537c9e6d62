"""Predictions with packed linear layers: the same scores, and never those of weights that are gone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn

from engine.block_models import MODELS, VOCABULARY, build, rows_of
from tunesmith.engine.batch import EXACT
from tunesmith.engine.blocks import packing
from tunesmith.engine.blocks.packing import packed_for
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.scorer import Reads, Scorer
from tunesmith.kernels import library, linear

pytestmark = pytest.mark.skipif(library.library() is None, reason="no C compiler: nothing is packed")


@pytest.fixture(autouse=True)
def _on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "NARROWEST_PANEL", 1)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of rows of all packed products from now on."""
    found: list[int] = []
    compute = linear.Linear.__call__

    def counted(self: linear.Linear, x: torch.Tensor) -> torch.Tensor:
        found.append(len(x))
        return compute(self, x)

    monkeypatch.setattr(linear.Linear, "__call__", counted)
    return found


class Predicting:
    """Scores the same rows, again and again."""

    def __init__(self, model: nn.Module, reads: Reads) -> None:
        chosen, _ = choose_layout(model, reads, VOCABULARY, "auto")
        assert chosen == "flat"
        self.model = model.eval()
        self.scorer = Scorer(model, chosen, reads)
        data = rows_of(reads)
        self.batch = collator_for(model, chosen, 0, torch.device("cpu"), EXACT)(data, np.arange(len(data)), None)

    def plain(self) -> torch.Tensor:
        with torch.inference_mode(), self.scorer.surrounding(self.batch):
            return self.scorer(self.batch)

    def packed(self) -> torch.Tensor:
        with packed_for(self.model):
            return self.plain()

    def assert_same(self) -> torch.Tensor:
        mine, expected = self.packed(), self.plain()
        assert (mine - expected).abs().max() <= 2e-5 * expected.abs().max()
        return mine


def predicting(name: str, *, lora: bool = False) -> Predicting:
    return Predicting(*build(name, 0.0, lora=lora))


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_layers_predict_what_layers_do(name: str, lora: bool, calls: list[int]) -> None:
    asked = predicting(name, lora=lora)
    asked.plain()
    assert not calls
    asked.assert_same()
    assert len(calls) >= 3 * 4  # of every layer all products
    assert torch.equal(asked.packed(), asked.packed())


def _first_linear(model: Any) -> Any:
    return next(module for name, module in model.named_modules() if name.endswith("q_proj"))


def _step(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))


def _write_through_data(model: nn.Module) -> None:
    weight = _first_linear(model).base_layer.weight
    weight.data += 0.05


def _move_memory(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.3


def _put_other_weights(model: nn.Module) -> None:
    base = _first_linear(model).base_layer
    base.weight = nn.Parameter(base.weight.detach() * 1.5)


def _put_other_adapter(model: nn.Module) -> None:
    down = _first_linear(model).lora_A["default"]
    down.weight = nn.Parameter(down.weight.detach() * 3)


def _rescale(model: nn.Module) -> None:
    _first_linear(model).scaling["default"] *= 4


def _disable(model: Any) -> None:
    model.base_model.disable_adapter_layers()


def _merge(model: Any) -> None:
    model.merge_adapter()


CHANGES = (_step, _write_through_data, _move_memory, _put_other_weights, _put_other_adapter, _rescale, _disable, _merge)


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_a_change_of_the_model_is_seen_by_the_next_prediction(change: Callable[[Any], None]) -> None:
    asked = predicting("llama", lora=True)
    before = asked.assert_same()
    change(asked.model)
    after = asked.assert_same()
    if change is not _merge:
        assert (after - before).abs().max() > 1e-3 * before.abs().max()
    asked.assert_same()


def test_other_weights_are_packed_in_their_turn(calls: list[int]) -> None:
    asked = predicting("llama", lora=True)
    asked.packed()
    num_calls = len(calls)
    _put_other_weights(asked.model)
    asked.packed()  # meets them
    calls.clear()
    asked.assert_same()
    assert len(calls) == num_calls


def test_an_adapter_that_was_merged_and_taken_out_again_is_packed_as_before(calls: list[int]) -> None:
    asked = predicting("bert", lora=True)
    assert isinstance(asked.model, PeftModel)
    asked.packed()
    num_calls = len(calls)
    for turn in (asked.model.merge_adapter, asked.model.unmerge_adapter):
        turn()
        asked.assert_same()
    calls.clear()
    asked.packed()
    assert len(calls) == num_calls


def test_models_on_the_same_weights_share_what_is_packed() -> None:
    one, other = predicting("bert"), predicting("bert")
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        theirs.data = mine.data
    one.packed()
    panels = len(packing._known)
    other.assert_same()
    assert len(packing._known) == panels


def test_packed_weights_go_with_the_model() -> None:
    gc.collect()
    panels = len(packing._known)
    asked = predicting("bert")
    asked.packed()
    assert len(packing._known) > panels
    gone = weakref.ref(asked.model)
    del asked
    gc.collect()
    assert gone() is None
    assert len(packing._known) == panels


@pytest.mark.parametrize("reason", ["memory", "format", "compiler"])
def test_where_nothing_can_be_packed_predictions_are_as_ever(
    reason: str, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    asked = predicting("bert")
    if reason == "memory":
        monkeypatch.setattr(packing, "memory_of", lambda _device: (0, 1000))
    elif reason == "format":
        asked.model.bfloat16()
    else:
        monkeypatch.setattr(linear, "library", lambda: None)
    assert torch.equal(asked.packed(), asked.plain())
    assert not calls


def test_a_model_inside_the_prediction_of_another_is_not_packed_with_it(calls: list[int]) -> None:
    one, other = predicting("bert"), predicting("bert")
    with packed_for(one.model):
        other.plain()
        assert not calls
        _step(other.model)
        expected = other.plain()
    assert torch.equal(expected, other.plain())


def test_a_model_that_learns_is_computed_with_its_gradients(calls: list[int]) -> None:
    asked = predicting("bert")
    asked.model.train()
    with packed_for(asked.model):
        asked.plain()
    assert not calls
