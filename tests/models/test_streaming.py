"""A model whose layers' weights come from files when they compute, and go again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tiny import ARCHITECTURES, TRANSFORMERS, gradients_of, tiny_batch, tiny_folder
from tunesmith.engine.blocks.packing import current_packing, packed_for
from tunesmith.kernels import linear
from tunesmith.kernels.library import library
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.loading import load_config, load_weights, load_weights_again
from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.streaming import StreamSettings, brought_to, in_memory, stream_of
from tunesmith.types import HeadSettings, InputError

CPU = torch.device("cpu")
HEAD = HeadSettings("AutoModelForSequenceClassification", 3)
MAPPED = StreamSettings(torch.float32, is_mapped=True)
COPIED = StreamSettings(torch.float32, is_mapped=False)
"""As on another device: nothing in this way of streaming depends on which one that is."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def load(folder: Path, streaming: StreamSettings | None = None, head: HeadSettings = HEAD) -> Any:
    config = load_config(folder, head)
    place = ModelFolder(folder, "here", str(folder)).identified()
    model = load_weights(place, config, head, 3, streaming=streaming)
    assert (stream_of(model) is not None) == (streaming is not None)
    return model


def gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the gradients of biases and norms, as if they were trained."""
    model.zero_grad()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or "norm" in name.lower())
    model(**batch).logits.square().sum().backward()
    return gradients_of(model)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("arch", TRANSFORMERS)
@pytest.mark.parametrize("streaming", [MAPPED, COPIED], ids=["mapped", "copied"])
def test_scores_and_gradients_are_the_same_to_the_bit(arch: str, streaming: StreamSettings, tmp_path: Path) -> None:
    folder, batch = tiny_folder(tmp_path, arch), tiny_batch()
    plain, streamed = load(folder), load(folder, streaming)
    assert torch.equal(streamed(**batch).logits, plain(**batch).logits)
    assert_same(gradients(streamed, batch), gradients(plain, batch))


@pytest.mark.parametrize("streaming", [MAPPED, COPIED], ids=["mapped", "copied"])
def test_layers_take_no_memory_between_passes_and_two_layers_do_while_one_computes(
    streaming: StreamSettings, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, "bert", num_hidden_layers=5)
    model = load(folder, streaming)
    stream, anatomy = stream_of(model), Anatomy.of(model)
    assert stream is not None
    within = [set(layer.parameters()) for layer in anatomy.layer_modules]
    in_layers = {parameter for layer in within for parameter in layer}
    assert not in_layers & {parameter for _, parameter in in_memory(model) if parameter.nbytes % 64 == 0}
    assert 2 * max(sum(one.nbytes for one in layer) for layer in within) == stream.bytes_at_once
    most = []

    def count(*_: Any) -> None:
        most.append(sum(any(one.untyped_storage().nbytes() > 4 for one in layer) for layer in within))

    for layer in anatomy.layer_modules:
        layer.register_forward_hook(count)
    model(**tiny_batch()).logits.sum().backward()
    assert max(most) == (5 if streaming.is_mapped else 2)
    stream.let_go()
    count()
    assert most[-1] == (5 if streaming.is_mapped else 0)


def test_what_autograd_keeps_holds_no_layer_that_was_copied(tmp_path: Path) -> None:
    model = load(tiny_folder(tmp_path, "llama", num_hidden_layers=4), COPIED)
    copies = []

    def note(layer: nn.Module, *_: Any) -> None:
        copies.append(layer.self_attn.q_proj.weight.untyped_storage()._weak_ref())

    for layer in Anatomy.of(model).layer_modules:
        layer.register_forward_hook(note)
    scores = model(**tiny_batch()).logits
    assert [torch.UntypedStorage._expired(copy) for copy in copies] == [True, True, False, False]
    scores.sum().backward()


def test_hollow_weights_are_nobody_s_numbers(tmp_path: Path) -> None:
    model = load(tiny_folder(tmp_path), COPIED)
    layer = Anatomy.of(model).layer_modules[0]
    assert all(bool(one.isnan().all()) for one in layer.parameters())
    assert all(bool(one.isfinite().all()) for _, one in in_memory(model))


@pytest.mark.parametrize("streaming", [MAPPED, COPIED], ids=["mapped", "copied"])
def test_another_format_is_that_of_the_run(streaming: StreamSettings, tmp_path: Path) -> None:
    folder, batch = tiny_folder(tmp_path, "llama"), tiny_batch()
    settings = StreamSettings(torch.bfloat16, streaming.is_mapped)
    plain = load(folder).bfloat16()
    streamed = load(folder, settings)
    assert not stream_of(streamed).is_mapped  # computes in float32 at first, from files in bf16
    brought_to(streamed, CPU, torch.bfloat16)
    assert stream_of(streamed).is_mapped == streaming.is_mapped
    assert torch.equal(streamed(**batch).logits, plain(**batch).logits)
    assert_same(gradients(streamed, batch), gradients(plain, batch))


@pytest.mark.parametrize("streaming", [MAPPED, COPIED], ids=["mapped", "copied"])
def test_a_model_loaded_again_is_streamed_from_the_same_files(streaming: StreamSettings, tmp_path: Path) -> None:
    folder, batch = tiny_folder(tmp_path, "bert"), tiny_batch()
    first = load(folder, streaming)
    first(**batch)
    again = load_weights_again(first, 5)
    plain = load_weights_again(load(folder), 5)
    assert torch.equal(again(**batch).logits, plain(**batch).logits)
    assert stream_of(again).num_bytes == stream_of(first).num_bytes > 0
    assert torch.equal(first(**batch).logits, load(folder)(**batch).logits)


def test_tied_weights_and_generation_settings_are_those_of_the_folder(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", head="causal", tie_word_embeddings=True)
    head = HeadSettings("AutoModelForCausalLM", None)
    plain, streamed = load(folder, head=head), load(folder, MAPPED, head)
    assert streamed.lm_head.weight is streamed.get_input_embeddings().weight
    assert streamed.generation_config.to_dict() == plain.generation_config.to_dict()
    written = [model.generate(tiny_batch((5,))["input_ids"], max_new_tokens=8) for model in (plain, streamed)]
    assert torch.equal(*written)


def test_lost_weights_are_named(tmp_path: Path) -> None:
    model = load(tiny_folder(tmp_path), MAPPED)
    stream, layer = stream_of(model), Anatomy.of(model).layer_modules[1]
    assert stream.lost(model) == []
    layer.attention.self.query.weight.data = torch.zeros(16, 16)
    layer.attention.self.key.weight = nn.Parameter(torch.zeros(16, 16))
    assert stream.lost(model) == [f"bert.encoder.layer.1.attention.self.{name}.weight" for name in ("query", "key")]


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    assert {"lstm", "cnn"} <= set(ARCHITECTURES)
    folder = tiny_folder(tmp_path, "cnn")
    with pytest.raises(InputError, match=r"cannot be brought in layer by layer"):
        load(folder, MAPPED)


@pytest.mark.skipif(library() is None, reason="no C compiler: nothing is packed")
def test_streamed_weights_are_not_packed_for_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "NARROWEST_PANEL", 1)
    folder = tiny_folder(tmp_path, "bert")
    packed = {}
    for streaming in (None, MAPPED, COPIED):
        model = load(folder, streaming)
        with torch.inference_mode(), packed_for(model):
            packed[streaming] = current_packing() is not None
    assert packed == {None: True, MAPPED: False, COPIED: False}
