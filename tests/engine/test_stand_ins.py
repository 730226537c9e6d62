"""What stands in for a module: in one order, whoever comes first, and aside when the authors' code is wanted."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tiny import VOCABULARY, tiny_batch, tiny_model
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.install import KeyedDropout, SparseTable, blocks_of, install, install_adapters
from tunesmith.engine.cuda.compile import compile_layers
from tunesmith.engine.layout import choose_layout
from tunesmith.engine.recompute import recompute_layers
from tunesmith.engine.stand_ins import (
    Tier,
    as_written,
    has_stand_ins,
    put,
    set_attention,
    stand_in_of,
    standing_in,
    take_away,
)
from tunesmith.methods import Lora


class Adding:
    """Adds a letter to what is below it."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def over(self, below: Callable[..., Any]) -> Callable[..., Any]:
        return lambda text: below(text) + self.letter


class Echo(nn.Module):
    config = SimpleNamespace(_attn_implementation="sdpa")

    def set_attn_implementation(self, name: str) -> None:
        assert name == "sdpa"

    def forward(self, text: str) -> str:
        return text


@pytest.mark.parametrize("tiers", list(itertools.permutations(Tier)))
def test_the_order_is_fixed_whoever_comes_first(tiers: tuple[Tier, ...]) -> None:
    module = Echo()
    for tier in tiers:
        put(module, tier, Adding("kbcr"[tier - 1]))
    assert module("x") == "xkbcr"
    with standing_in(module, lambda text: text.upper()):
        assert module("x") == "X"
        with as_written(module):
            assert module("x") == "x"
        assert module("x") == "X"
    take_away(module, tiers[0])
    assert module("x") == "x" + "kbcr".replace("kbcr"[tiers[0] - 1], "")
    take_away(module, *Tier)
    assert module("x") == "x"
    assert set(vars(module)) == set(vars(Echo()))


def test_what_stands_in_for_a_pass_steps_aside_too() -> None:
    module = Echo()
    with standing_in(module, lambda text: text.upper()), standing_in(module, lambda text: text * 2):
        assert module("x") == "xx"
        with as_written(module):
            assert module("x") == "x"
        assert module("x") == "xx"
        with pytest.raises(AssertionError, match="pass is going on"):
            put(module, Tier.BLOCK, Adding("b"))
    assert set(vars(module)) == set(vars(Echo()))


def test_the_same_again_changes_nothing_and_another_takes_its_place() -> None:
    module = Echo()
    put(module, Tier.BLOCK, Adding("a"))
    put(module, Tier.BLOCK, Adding("a"))
    assert module("x") == "xa"
    put(module, Tier.BLOCK, Adding("b"))
    assert module("x") == "xb"


def test_a_forward_of_the_modules_own_stays_below_and_comes_back() -> None:
    module = Echo()
    own = vars(module)["forward"] = lambda text: f"({text})"
    put(module, Tier.RECOMPUTED, Adding("r"))
    assert module("x") == "(x)r"
    take_away(module, Tier.RECOMPUTED)
    assert vars(module)["forward"] is own


@pytest.mark.parametrize("arch", ["bert", "llama"])
def test_as_written_a_model_has_nothing_of_ours_and_everything_again_afterwards(arch: str) -> None:
    dropout = {"hidden_dropout_prob": 0.1} if arch == "bert" else {}
    model: Any = Lora(rank=2).apply(tiny_model(arch, dtype=torch.float32, **dropout))
    whole = model.get_base_model()
    plain, attention = copy.deepcopy(whole), whole.config._attn_implementation
    assert choose_layout(model, "row", VOCABULARY, "flat")[0] == "flat"
    recompute_layers(model)
    before = {name: vars(module).get("forward") for name, module in model.named_modules()}
    assert has_stand_ins(model, Block)
    with as_written(model):
        assert not any("forward" in vars(module) for module in model.modules())
        assert whole.config._attn_implementation == attention
        with torch.no_grad():
            batch = tiny_batch()
            assert torch.equal(whole.eval()(**batch).logits, plain.eval()(**batch).logits)
    assert {name: vars(module).get("forward") for name, module in model.named_modules()} == before
    assert whole.config._attn_implementation == "tunesmith_flat"


def test_what_a_user_sets_is_the_attention_as_written() -> None:
    model: Any = tiny_model("bert")
    set_attention(model, "tunesmith_flat")
    model.set_attn_implementation("sdpa")
    with as_written(model):
        assert model.config._attn_implementation == "sdpa"
    set_attention(model, "tunesmith_flat")
    with as_written(model):
        assert model.config._attn_implementation == "sdpa"
    assert model.config._attn_implementation == "tunesmith_flat"


def test_blocks_are_taken_from_layers_that_are_computed_again() -> None:
    model = tiny_model("bert", dtype=torch.float32)
    install(model)
    recompute_layers(model)
    assert len(list(blocks_of(model))) == 2
    take_away(model, Tier.BLOCK)
    assert not list(blocks_of(model))
    assert not has_stand_ins(model, Block, KeyedDropout, SparseTable)
    layer: Any = model.get_submodule("bert.encoder.layer.0")
    assert vars(layer)["forward"].__self__.below.__func__ is type(layer).forward


def test_layers_are_compiled_below_what_computes_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(function) or function)
    model = tiny_model("bert", dtype=torch.float32)
    install(model)
    recompute_layers(model)
    assert compile_layers(model) == 2
    assert [one.__func__ for one in compiled] == [type(one.__self__).forward for one in compiled]
    assert not list(blocks_of(model))
    assert has_stand_ins(model.get_submodule("bert.encoder.layer.0"), Block) is False
    compiled.clear()
    recompute_layers(model)
    assert len(compiled) == 2  # composed anew


def test_a_copy_of_a_model_stands_on_its_own() -> None:
    model: Any = tiny_model("bert", dtype=torch.float32)
    install(model)
    again: Any = copy.deepcopy(model)
    block = stand_in_of(again.bert.encoder.layer[0], Block)
    assert block is not None
    assert block.layer is again.bert.encoder.layer[0]
    take_away(again, Tier.BLOCK)
    assert has_stand_ins(model, Block)


def test_a_table_of_words_gives_rows_of_gradients_while_it_is_stood_in_for() -> None:
    model: Any = tiny_model("bert", dtype=torch.float32)
    table = model.get_input_embeddings()
    for change, is_sparse in ((install, True), (lambda one: take_away(one, Tier.BLOCK), False)):
        change(model)
        table.weight.grad = None
        table(torch.tensor([[3, 5, 1]])).sum().backward()
        assert table.weight.grad.is_sparse == is_sparse
        dense = table.weight.grad.to_dense()
        assert dense[[3, 5]].eq(1).all()
        assert dense[1].eq(0).all()  # padding learns nothing


def test_adapters_alone() -> None:
    model = Lora(rank=2).apply(tiny_model("bert", dtype=torch.float32))
    install_adapters(model)
    assert not has_stand_ins(model, Block, KeyedDropout)
    take_away(model, Tier.BLOCK)
    assert not any("forward" in vars(module) for module in model.modules())
