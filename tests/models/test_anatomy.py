"""Architectures are read by their structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tiny import ARCHITECTURES, tiny_config, tiny_model
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.weights import align
from tunesmith.models.wrapping import inner, plain_name

NUM_LAYERS = {"bart": 4, "t5": 4, "cnn": 1}
HEADS = {
    "bert": {"classifier"},
    "roberta": {"classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "modernbert": {"head", "classifier"},
    "llama": {"score"},
    "qwen3": {"score"},
    "gpt2": {"score"},
    "bart": {"classification_head"},
    "t5": {"classification_head"},
    "lstm": {"classifier"},
    "cnn": {"classifier"},
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_layers_heads_and_embeddings(arch: str) -> None:
    model = tiny_model(arch)
    assert Anatomy.of(model).num_layers == NUM_LAYERS.get(arch, 2)
    assert set(Anatomy.of(model).head_modules) == HEADS[arch]
    depths = Anatomy.of(model).depths
    assert list(depths) == [name for name, _ in model.named_parameters()]
    embeddings = {name for name, depth in depths.items() if depth == 0}
    table = model.get_input_embeddings().weight
    assert any(parameter is table and name in embeddings for name, parameter in model.named_parameters())
    for index, prefix in Anatomy.of(model).layers:
        inside = {depth for name, depth in depths.items() if name.startswith(f"{prefix}.")}
        assert inside == {index + 1}
        assert isinstance(model.get_submodule(prefix), nn.Module)


def test_bert_in_full() -> None:
    model = tiny_model("bert")
    depths = Anatomy.of(model).depths
    expected = {"embeddings": 0, "encoder.layer.0": 1, "encoder.layer.1": 2, "pooler": 2}
    for name, depth in depths.items():
        place = next((key for key in expected if name.startswith(f"bert.{key}.")), "head")
        assert depth == expected.get(place, 3), name


def test_final_norms_go_with_the_layer_below_them() -> None:
    for arch, name in (("llama", "model.norm.weight"), ("gpt2", "transformer.ln_f.weight")):
        assert Anatomy.of(tiny_model(arch)).depths[name] == 2
    depths = Anatomy.of(tiny_model("t5")).depths
    assert depths["transformer.encoder.final_layer_norm.weight"] == 2
    assert depths["transformer.decoder.final_layer_norm.weight"] == 4


@pytest.mark.parametrize("arch", ["bert", "gpt2", "t5"])
def test_peft_changes_nothing_but_the_names(arch: str) -> None:
    from tunesmith.methods import Lora

    plain = Anatomy.of(tiny_model(arch)).depths
    wrapped = Lora(rank=2).apply(tiny_model(arch))
    assert inner(wrapped) is wrapped.get_base_model()
    assert Anatomy.of(wrapped).num_layers == Anatomy.of(tiny_model(arch)).num_layers
    for name, depth in Anatomy.of(wrapped).depths.items():
        key = plain_name(name)
        owner = key if key in plain else key.partition(".lora_")[0] + ".weight"
        assert depth == plain[owner], name


def test_language_model_output_is_no_task_head() -> None:
    from transformers import GPT2LMHeadModel, T5ForConditionalGeneration

    for kind, arch, tied in ((GPT2LMHeadModel, "gpt2", True), (GPT2LMHeadModel, "gpt2", False)):
        model = kind(tiny_config(arch, tie_word_embeddings=tied))
        assert list(Anatomy.of(model).head_modules) == []
        assert set(Anatomy.of(model).depths) == {name for name, _ in model.named_parameters()}
        assert "lm_head" not in Anatomy.of(model).linear_modules
    generator = T5ForConditionalGeneration(tiny_config("t5"))
    assert Anatomy.of(generator).num_layers == 4
    assert list(Anatomy.of(generator).head_modules) == []


def test_parallel_lists_are_pieces_of_the_same_layers() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.ModuleList([nn.Embedding(3, 4), nn.Embedding(3, 4)])
            self.attentions = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
            self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))

    assert list(Anatomy.of(Odd()).layers) == [
        (index, f"{name}.{index}") for index in range(3) for name in ("attentions", "norms")
    ]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_decay_is_for_matrices(arch: str) -> None:
    model = tiny_model(arch)
    named = dict(model.named_parameters())
    for name, decayed in Anatomy.of(model).is_decayed.items():
        assert decayed == (named[name].ndim > 1), name


def test_align_keeps_values() -> None:
    linear = nn.Linear(4, 4, bias=False)
    store = torch.randn(17)
    linear.weight.data = store[1:].view(4, 4)
    before = linear.weight.detach().clone()
    align(linear)
    assert linear.weight.data_ptr() % 64 == 0
    assert torch.equal(linear.weight, before)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_column_is_one_layer_on_the_other(arch: str) -> None:
    anatomy = Anatomy.of(tiny_model(arch))
    expected = 0 if arch in ("bart", "t5", "cnn") else 2
    assert len(anatomy.column) == expected
    assert all(not isinstance(layer, nn.ModuleList) for layer in (*anatomy.column, *anatomy.layer_modules))
