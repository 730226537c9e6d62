"""Architectures are read by their structure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tiny import ARCHITECTURES, tiny_config, tiny_model
from tunesmith.models import structure

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
    assert structure.num_layers(model) == NUM_LAYERS.get(arch, 2)
    assert set(structure.head_modules(model)) == HEADS[arch]
    depths = structure.parameter_depths(model)
    assert list(depths) == [name for name, _ in model.named_parameters()]
    embeddings = set(structure.embedding_parameter_names(model))
    table = model.get_input_embeddings().weight
    assert any(parameter is table and name in embeddings for name, parameter in model.named_parameters())
    for index, prefix in structure.layers(model):
        inside = {depth for name, depth in depths.items() if name.startswith(f"{prefix}.")}
        assert inside == {index + 1}
        assert isinstance(model.get_submodule(prefix), nn.Module)


def test_bert_in_full() -> None:
    model = tiny_model("bert")
    depths = structure.parameter_depths(model)
    expected = {"embeddings": 0, "encoder.layer.0": 1, "encoder.layer.1": 2, "pooler": 2}
    for name, depth in depths.items():
        place = next((key for key in expected if name.startswith(f"bert.{key}.")), "head")
        assert depth == expected.get(place, 3), name


def test_final_norms_go_with_the_layer_below_them() -> None:
    for arch, name in (("llama", "model.norm.weight"), ("gpt2", "transformer.ln_f.weight")):
        assert structure.parameter_depths(tiny_model(arch))[name] == 2
    depths = structure.parameter_depths(tiny_model("t5"))
    assert depths["transformer.encoder.final_layer_norm.weight"] == 2
    assert depths["transformer.decoder.final_layer_norm.weight"] == 4


@pytest.mark.parametrize("arch", ["bert", "gpt2", "t5"])
def test_peft_changes_nothing_but_the_names(arch: str) -> None:
    from tunesmith.methods import Lora

    plain = structure.parameter_depths(tiny_model(arch))
    wrapped = Lora(rank=2).apply(tiny_model(arch))
    assert structure.inner(wrapped) is wrapped.get_base_model()
    assert structure.num_layers(wrapped) == structure.num_layers(tiny_model(arch))
    for name, depth in structure.parameter_depths(wrapped).items():
        key = structure.plain_name(name)
        owner = key if key in plain else key.partition(".lora_")[0] + ".weight"
        assert depth == plain[owner], name


def test_language_model_output_is_no_task_head() -> None:
    from transformers import GPT2LMHeadModel, T5ForConditionalGeneration

    for kind, arch, tied in ((GPT2LMHeadModel, "gpt2", True), (GPT2LMHeadModel, "gpt2", False)):
        model = kind(tiny_config(arch, tie_word_embeddings=tied))
        assert structure.head_modules(model) == []
        assert set(structure.parameter_depths(model)) == {name for name, _ in model.named_parameters()}
        assert "lm_head" not in structure.linear_modules(model)
    generator = T5ForConditionalGeneration(tiny_config("t5"))
    assert structure.num_layers(generator) == 4
    assert structure.head_modules(generator) == []


def test_parallel_lists_are_pieces_of_the_same_layers() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.ModuleList([nn.Embedding(3, 4), nn.Embedding(3, 4)])
            self.attentions = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
            self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))

    assert structure.layers(Odd()) == [
        (index, f"{name}.{index}") for index in range(3) for name in ("attentions", "norms")
    ]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_decay_is_for_matrices(arch: str) -> None:
    model = tiny_model(arch)
    named = dict(model.named_parameters())
    for name, decayed in structure.is_decayed(model).items():
        assert decayed == (named[name].ndim > 1), name


def test_align_keeps_values() -> None:
    linear = nn.Linear(4, 4, bias=False)
    store = torch.randn(17)
    linear.weight.data = store[1:].view(4, 4)
    before = linear.weight.detach().clone()
    structure.align(linear)
    assert linear.weight.data_ptr() % 64 == 0
    assert torch.equal(linear.weight, before)
