"""Activation checkpointing: the same gradients, less kept, in whatever thread the backward pass runs."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.stepping import recomputing
from engine.test_layout import LENGTHS, reference, rows
from tiny import ARCHITECTURES, VOCABULARY, gradients_of, tiny_model
from tunesmith.engine.batch import FEW
from tunesmith.engine.blocks.install import blocks_of
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.recompute import can_recompute, recompute_layers
from tunesmith.engine.scorer import Scorer
from tunesmith.methods import Lora

DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def gradients(model: Any, layout: str, *, backward: Any = torch.Tensor.backward) -> tuple[int, dict[str, torch.Tensor]]:
    """Return the bytes kept for the backward pass, and every gradient, of a step in training mode."""
    lengths = [5] * 6 if model.config.is_encoder_decoder else LENGTHS["mixed"]
    data = rows(lengths)
    if model.config.is_encoder_decoder:
        data.inputs["input_ids"].values[4::5] = 2
    collate = collator_for(model, layout, 1, torch.device("cpu"), FEW)  # type: ignore[arg-type]
    scorer, batch = Scorer(model, layout, "row"), collate(data, np.arange(len(data)))  # type: ignore[arg-type]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    model.zero_grad()
    scorer.set_training()
    torch.manual_seed(5)
    with scorer.surrounding(batch):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = functional.cross_entropy(scorer(batch), batch.targets["label"])
        backward(loss)
    num_bytes = sum(storage.nbytes() for storage in kept.values())
    return num_bytes, gradients_of(model)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch not in ("lstm", "cnn")])
def test_gradients_are_the_same_to_the_bit_and_less_is_kept(arch: str) -> None:
    """With dropout, flat where the model can be, from the first layer to the last."""
    model = reference(arch, num_hidden_layers=4, **(DROPOUT if arch in ("bert", "roberta") else {}))
    layout, _ = choose_layout(model, "row", VOCABULARY, "auto")
    assert can_recompute(model)
    kept, expected = gradients(model, layout)
    with recomputing(model):
        kept_less, found = gradients(model, layout)
    assert_equal(found, expected)
    assert kept_less < 0.7 * kept
    kept_again, found = gradients(model, layout)
    assert kept_again == kept
    assert_equal(found, expected)


@pytest.mark.parametrize("arch", ["lstm", "cnn"])
def test_models_without_such_layers_say_so(arch: str) -> None:
    assert not can_recompute(tiny_model(arch))


def elsewhere(loss: torch.Tensor) -> None:
    """Run the backward pass in another thread, as on CUDA: all it knows of the batch is what layers carry along."""
    failed: list[BaseException] = []

    def differentiate() -> None:
        try:
            loss.backward()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=differentiate)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("within", [False, True], ids=["this thread", "another thread"])
def test_layers_see_what_surrounded_them_whatever_the_variable(within: bool) -> None:
    surroundings: ContextVar[str] = ContextVar("surroundings", default="nothing")
    model = tiny_model("bert", num_hidden_layers=3)
    layout, _ = choose_layout(model, "row", VOCABULARY, "flat")
    seen: list[str] = []
    for layer in model.get_submodule("bert.encoder.layer"):
        layer.attention.register_forward_pre_hook(lambda *_: seen.append(surroundings.get()))
    recompute_layers(model)
    token = surroundings.set("the batch")

    def backward(loss: torch.Tensor) -> None:
        surroundings.reset(token)
        (elsewhere if within else torch.Tensor.backward)(loss)
        assert surroundings.get() == "nothing"

    gradients(model, layout, backward=backward)
    assert seen == ["the batch"] * 6


def test_blocks_are_found_in_layers_that_are_computed_again() -> None:
    model = tiny_model("bert", dtype=torch.float32)
    choose_layout(model, "row", VOCABULARY, "flat")
    found = list(blocks_of(model))
    recompute_layers(model)
    assert found
    assert list(blocks_of(model)) == found


def test_the_backward_pass_may_run_in_another_thread() -> None:
    model = tiny_model("bert", num_hidden_layers=3, **DROPOUT)
    layout, _ = choose_layout(model, "row", VOCABULARY, "flat")
    _, expected = gradients(model, layout)
    recompute_layers(model)
    recompute_layers(model)
    _, found = gradients(model, layout, backward=elsewhere)
    assert_equal(found, expected)


def test_adapters_are_trained_the_same_way() -> None:
    model = Lora(rank=2).apply(tiny_model("llama", dtype=torch.float32, num_hidden_layers=3))
    layout, _ = choose_layout(model, "row", VOCABULARY, "flat")
    kept, expected = gradients(model, layout)
    recompute_layers(model)
    kept_less, found = gradients(model, layout)
    assert expected
    assert_equal(found, expected)
    assert kept_less < 0.7 * kept


def test_outside_of_training_nothing_is_wrapped_up() -> None:
    model = tiny_model("bert")
    layout, _ = choose_layout(model, "row", VOCABULARY, "flat")
    recompute_layers(model)
    collate = collator_for(model, layout, 1, torch.device("cpu"))
    batch = collate(rows([4, 6]), np.arange(2))
    scorer = Scorer(model, layout, "row")
    with torch.inference_mode(), scorer.surrounding(batch):
        assert torch.isfinite(scorer(batch)).all()
