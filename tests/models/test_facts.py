"""What is known of a model is forgotten as soon as the model is another."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tiny import tiny_model
from tunesmith.methods import Lora
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.facts import facts_of
from tunesmith.models.origin import Origin, set_origin


def test_what_was_found_is_used_again() -> None:
    model = tiny_model("bert")
    assert Anatomy.of(model).layers is Anatomy.of(model).layers
    assert Anatomy.of(model).facts is facts_of(model)


def _adapt(model: Any) -> None:
    Lora(rank=2).apply(model)


def _wrap_outermost(model: Any) -> None:
    model.classifier = nn.Sequential(model.classifier)


def _replace_layer(model: Any) -> None:
    model.bert.encoder.layer[1] = copy.deepcopy(model.bert.encoder.layer[1])


def _add_layer(model: Any) -> None:
    model.bert.encoder.layer.append(copy.deepcopy(model.bert.encoder.layer[1]))


def _replace_parameter(model: Any) -> None:
    model.classifier.weight = nn.Parameter(model.classifier.weight.detach().clone())


def _configure(model: Any) -> None:
    model.config.pad_token_id = 5


def _say_origin(model: Any) -> None:
    set_origin(model, Origin("org/name", new_parameters=frozenset({"bert.pooler.dense.weight"})))


CHANGES: list[Callable[[Any], None]] = [
    _adapt, _wrap_outermost, _replace_layer, _add_layer, _replace_parameter, _configure, _say_origin,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_done_to_a_model_is_seen(change: Callable[[Any], None]) -> None:
    model = tiny_model("bert")
    Anatomy.of(model).depths  # noqa: B018 (found once)
    known = facts_of(model)
    change(model)
    assert facts_of(model) is not known
    fresh = Anatomy(model, {})
    for name in ("depths", "layers", "head_parameter_names", "new_modules", "is_decayed", "tied_modules"):
        assert getattr(Anatomy.of(model), name) == getattr(fresh, name), name


def test_tying_weights_is_seen() -> None:
    model: Any = tiny_model("gpt2", head="causal", tie_word_embeddings=False)
    assert not Anatomy.of(model).tied_modules
    model.lm_head.weight = model.transformer.wte.weight
    assert set(Anatomy.of(model).tied_modules) == {"lm_head", "transformer.wte"}


def test_what_changes_no_part_is_no_reason_to_look_again() -> None:
    model = tiny_model("bert")
    known = facts_of(model)
    model.train()
    model.set_attn_implementation("sdpa")
    vars(model.bert.pooler)["forward"] = lambda hidden: hidden
    with torch.no_grad():
        model.classifier.weight.add_(1)
    assert facts_of(model) is known


def test_nothing_is_kept_alive_by_what_is_known_of_it() -> None:
    model: Any = tiny_model("bert")
    Anatomy.of(model).hidden_size  # noqa: B018
    replaced, whole = weakref.ref(model.bert.encoder.layer[1]), weakref.ref(model)
    model.bert.encoder.layer[1] = copy.deepcopy(model.bert.encoder.layer[1])
    gc.collect()
    assert replaced() is None
    del model
    gc.collect()
    assert whole() is None
