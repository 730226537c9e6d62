"""Liger's kernels: when they are tried, what is put back, and that nothing else in the process changes.

The package needs a GPU even to be imported. What stands in for it here has its interface
(``_apply_liger_kernel_to_instance``: methods bound to modules, classes replaced in transformers).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.models.llama import modeling_llama

from tiny import tiny_model
from tunesmith.engine.cuda import liger
from tunesmith.engine.scorer import Scorer
from tunesmith.methods import Lora
from tunesmith.models.wrapping import inner
from tunesmith.types import MissingExtraError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wish", "installed", "device", "expected"),
    [
        ("own", True, CUDA, False),
        ("own", False, CUDA, False),
        ("liger", True, CUDA, True),
        ("liger", True, CPU, False),
        ("liger", False, CPU, False),
    ],
)
def test_when_kernels_are_tried(
    wish: Any, installed: bool, device: torch.device, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda _name: object() if installed else None)
    assert liger.wants_kernels(wish, device) is expected


def test_asking_for_a_package_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"tunesmith\[cuda\]"):
        liger.wants_kernels("liger", CUDA)


class Gated(nn.Module):
    """The same mathematics as LlamaMLP, in another order of operations."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        gate = self.gate_proj(states)
        return self.down_proj(gate * torch.sigmoid(gate) * self.up_proj(states))


class Norm(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.weight * states * states.square().mean(-1, keepdim=True).add(self.variance_epsilon).rsqrt()


class WrongNorm(Norm):
    """Gemma's: off by one in the weight."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return super().forward(states) * 2


class RefusingGated(nn.Module):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel image is available for this device")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Something like Liger's entry point, its kinds of modules to be chosen by the test."""
    kinds: dict[str, Any] = {"norm": Norm, "gated": Gated}

    def apply(model: Any, **switches: bool) -> None:
        assert switches == {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
        modeling_llama.LlamaRMSNorm = kinds["norm"]
        modeling_llama.LlamaMLP = kinds["gated"]
        base = getattr(model, model.base_model_prefix, model)
        for layer in base.layers:
            for module, kind in (
                (layer.mlp, kinds["gated"]),
                (layer.input_layernorm, kinds["norm"]),
                (layer.post_attention_layernorm, kinds["norm"]),
            ):
                module.offset = 0.0
                module.__dict__["forward"] = kind.forward.__get__(module, module.__class__)
                module.__dict__["_get_name"] = lambda: "Replaced"

    patching = ModuleType("liger_kernel.transformers.monkey_patch")
    patching._apply_liger_kernel_to_instance = apply  # type: ignore[attr-defined]
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, patching.__name__, patching)
    return kinds


def scores(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 17)[None]).logits


@pytest.mark.parametrize("method", ["full", "lora"])
def test_equal_modules_are_replaced(method: str, package: dict[str, Any]) -> None:
    model: Any = tiny_model("llama", dtype=torch.float32, num_hidden_layers=3)
    if method == "lora":
        model = Lora(rank=2).apply(model)
    expected = scores(model)
    classes = (modeling_llama.LlamaRMSNorm, modeling_llama.LlamaMLP)
    assert liger.use_kernels(model) == (9, 0)
    assert (modeling_llama.LlamaRMSNorm, modeling_llama.LlamaMLP) == classes
    torch.testing.assert_close(scores(model), expected, rtol=1e-4, atol=1e-5)
    assert inner(model).model.layers[0].mlp._get_name() == "Replaced"


@pytest.mark.parametrize(
    ("wrong", "replaced"), [({"norm": WrongNorm}, (3, 6)), ({"gated": RefusingGated}, (6, 3))], ids=["differs", "fails"]
)
def test_what_differs_or_fails_is_put_back(
    wrong: dict[str, Any], replaced: tuple[int, int], package: dict[str, Any]
) -> None:
    package.update(wrong)
    model = tiny_model("llama", dtype=torch.float32, num_hidden_layers=3)
    expected = scores(model)
    before = [dict(vars(module)) for module in model.modules()]
    assert liger.use_kernels(model) == replaced
    torch.testing.assert_close(scores(model), expected, rtol=1e-4, atol=1e-5)
    package.update({"norm": WrongNorm, "gated": RefusingGated})
    other = tiny_model("llama", dtype=torch.float32, num_hidden_layers=3)
    assert liger.use_kernels(other) == (0, 9)
    assert torch.equal(scores(other), expected)
    assert len(before) == len(list(other.modules()))


def fused(hidden_UD: torch.Tensor, weight_KD: torch.Tensor, labels_U: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(hidden_UD @ weight_KD.T, labels_U, reduction="sum")


@pytest.mark.parametrize(
    ("arch", "head", "usable"), [("llama", "causal", True), ("qwen3", "causal", True), ("bert", "masked", False)]
)
def test_a_fused_loss_is_used_where_the_head_is_a_matrix(arch: str, head: str, usable: bool) -> None:
    model = tiny_model(arch, dtype=torch.float32, head=head)
    scorer = Scorer(model, "padded", "token")
    weight, reason = liger.choose_loss(model, scorer.head, fused)
    assert (weight is model.get_output_embeddings().weight) is usable, reason


def test_a_head_that_does_more_is_found_out() -> None:
    model = tiny_model("llama", dtype=torch.float32, head="causal")
    scorer = Scorer(model, "padded", "token")
    capped = lambda states: 5 * torch.tanh(scorer.head(states) / 5)  # noqa: E731
    model.lm_head.weight.data.mul_(100)
    assert liger.choose_loss(model, capped, fused)[0] is None
    assert liger.choose_loss(model, scorer.head, fused)[0] is not None


def test_a_fused_loss_that_fails_is_not_used() -> None:
    def failing(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of shared memory")

    model = tiny_model("llama", dtype=torch.float32, head="causal")
    weight, reason = liger.choose_loss(model, Scorer(model, "padded", "token").head, failing)
    assert weight is None
    assert "RuntimeError" in reason
