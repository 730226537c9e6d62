"""Smaller layers: nearest of their rank, without heads that matter least, and whole again with equal scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from methods.test_methods import HAS_HEADS, TinyRows, logits
from tiny import TRANSFORMERS, tiny_model
from tunesmith.methods.compress import COMPRESSED_CONFIG, COMPRESSED_WEIGHTS, HEADS, UNITS, Compress
from tunesmith.methods.compression import LowRankLinear, factors, rank_for
from tunesmith.methods.sparse import Sparse
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.layer_parts import layer_parts
from tunesmith.types import InputError

WAYS: dict[str, dict[str, Any]] = {
    "heads": {"heads": 0.5, "units": 1.0},
    "units": {"heads": 1.0, "units": 0.4},
    "whitened": {"way": "whitened"},
    "svd": {"way": "svd", "train": "compressed"},
}


def sized(arch: str, **settings: Any) -> Any:
    """Return a model with heads to leave out: those of decoders share keys otherwise."""
    return tiny_model(arch, **({"num_key_value_heads": 2} if arch in ("llama", "qwen3") else {}), **settings)


def compressed(arch: str, way: str, **settings: Any) -> tuple[Compress, Any]:
    method = Compress(**WAYS[way])
    model = method.apply(sized(arch, **settings)).eval()
    method.take_calibration(model, method.calibrate(model, TinyRows(model)))
    return method, model


@pytest.mark.parametrize(
    ("arch", "way"),
    [(arch, way) for arch in TRANSFORMERS for way in WAYS if arch in HAS_HEADS or way in ("whitened", "svd")],
)
def test_it_is_smaller_and_whole_again_with_equal_scores(arch: str, way: str) -> None:
    method, model = compressed(arch, way)
    whole = sized(arch)
    small = logits(model)
    numbers = [sum(parameter.numel() for parameter in one.parameters()) for one in (model, whole)]
    assert numbers[0] < 0.95 * numbers[1]
    assert not torch.equal(small, logits(whole))
    dense = method.dense(model)
    torch.testing.assert_close(logits(dense), small, rtol=0, atol=1e-12)
    assert {name: one.shape for name, one in dense.named_parameters()} == {
        name: one.shape for name, one in whole.named_parameters()
    }
    assert [type(one) for one in dense.modules()] == [type(one) for one in whole.modules()]


def test_heads_that_share_keys_stay_together() -> None:
    sizes = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}
    method = Compress(heads=0.5, units=1.0)
    model = method.apply(tiny_model("llama", **sizes)).eval()
    found = method.calibrate(model, TinyRows(model))
    assert all(len(places) == 2 for places in found.values())
    method.take_calibration(model, found)
    for parts in layer_parts(model):
        assert (parts.num_groups, parts.heads_of_a_group) == (2, 2)
        assert parts.query.weight.shape == parts.output.weight.T.shape == (16, 16)
        groups = found[f"{parts.name}{HEADS}"].tolist()
        before = tiny_model("llama", **sizes).get_submodule(f"{parts.name}.self_attn")
        rows = [group * 8 + place for group in groups for place in range(8)]
        assert torch.equal(parts.query.weight, before.q_proj.weight[rows])  # type: ignore[union-attr, index]
        assert torch.equal(parts.output.weight, before.o_proj.weight[:, rows])  # type: ignore[union-attr, index]


def test_what_matters_least_is_left_out() -> None:
    """Units whose inputs or weights are nothing, and a head that writes nothing, go first."""
    model = tiny_model("bert")
    for parts in layer_parts(model):
        with torch.no_grad():
            parts.output.weight[:, :8] = 0
            parts.narrow.weight[:, ::2] = 0
    before = logits(model)
    method = Compress(heads=0.5, units=0.5)
    method.apply(model)
    found = method.calibrate(model, TinyRows(model))
    for parts in layer_parts(model):
        assert found[f"{parts.name}{HEADS}"].tolist() == [1]
        assert found[f"{parts.name}{UNITS}"].tolist() == list(range(1, 24, 2))
    method.take_calibration(model, found)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-12)


def test_factors_are_the_nearest_of_their_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(20, 14, generator=generator, dtype=torch.float64)
    mixing = torch.randn(14, 14, generator=generator, dtype=torch.float64)
    inputs = torch.randn(500, 14, generator=generator, dtype=torch.float64) @ mixing.cumsum(0)
    down, up = factors(weight, 5, None)
    sizes = torch.linalg.svdvals(weight)
    assert float((weight - (up @ down).double()).square().sum()) == pytest.approx(
        float(sizes[5:].square().sum()), rel=1e-4
    )
    gram = inputs.T @ inputs
    white = factors(weight, 5, gram)
    errors = [float((inputs @ (weight - (b @ a).double()).T).square().sum()) for a, b in ((down, up), white)]
    best = torch.linalg.svdvals(inputs @ weight.T)[5:].square().sum()  # nothing of rank 5 comes nearer
    assert errors[1] == pytest.approx(float(best), rel=1e-3)
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_ranks_keep_the_share_of_the_weights(keep: float) -> None:
    model = tiny_model("bert")
    method = Compress(way="svd", keep=keep, target_modules="query,intermediate.dense")  # type: ignore[arg-type]
    sizes = {name: module.weight.numel() for name, module in Anatomy.of(model).linear_modules.items()}
    method.apply(model)
    method.take_calibration(model, method.calibrate(model, TinyRows(model)))
    small = {name: module for name, module in model.named_modules() if isinstance(module, LowRankLinear)}
    assert len(small) == 4
    for name, module in small.items():
        number = module.down.weight.numel() + module.up.weight.numel()
        assert number <= keep * sizes[name] or module.down.out_features == 1
        assert rank_for(module.out_features, module.in_features, keep) == module.down.out_features


def test_inputs_that_were_never_seen_do_no_harm() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    gram = torch.zeros(5, 5, dtype=torch.float64)
    for one in (gram, gram.clone().fill_diagonal_(1.0).index_fill_(0, torch.tensor([2]), 0.0)):
        assert all(bool(part.isfinite().all()) for part in factors(weight, 3, one))
    states = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    singular = states.T @ states
    singular -= 1e-3 * singular.diagonal().mean() * torch.eye(5, dtype=torch.float64)  # as rounding may leave it
    down, up = factors(weight, 3, singular)
    inputs = states.float()
    torch.testing.assert_close(inputs @ (up @ down).T, inputs @ weight.T, rtol=0, atol=0.05)


def test_only_what_was_made_smaller_and_the_head_is_trained() -> None:
    _, model = compressed("bert", "svd")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[-2] for name in trained} == {"down", "up", "classifier"}


@pytest.mark.parametrize("wrong", [{"heads": 0.0}, {"units": 1.5}, {"keep": 0.0}, {"way": "slice"}])
def test_shares_are_shares(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Compress(**wrong)


def test_what_would_change_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="Nothing would be pruned"):
        Compress(heads=1.0, units=1.0).apply(tiny_model("bert"))
    with pytest.raises(InputError, match="50% of 1 head with keys"):
        Compress(heads=0.5, units=1.0).apply(tiny_model("llama"))
    with pytest.raises(InputError, match="names no linear layer"):
        Compress(way="svd", target_modules=("word_embeddings",)).apply(tiny_model("bert"))


@pytest.mark.parametrize("method", [Compress(way="svd"), Sparse(choose="magnitude")])
def test_what_is_read_from_files_lies_where_kernels_are_the_same(method: Compress | Sparse, tmp_path: Path) -> None:
    model = method.apply(tiny_model("bert", dtype=torch.float32))
    if isinstance(method, Compress):
        method.take_calibration(model, method.calibrate(model, TinyRows(model)))
    method.save(model, tmp_path)
    again = method.load(tiny_model("bert", dtype=torch.float32), tmp_path)
    assert not [name for name, parameter in again.named_parameters() if parameter.data_ptr() % 64]


def test_files_of_another_model_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    for way in ("heads", "whitened"):
        folder = tmp_path / way
        method, model = compressed("bert", way)
        method.save(model, folder)
        others = [tiny_model("roberta"), tiny_model("bert", num_labels=5), tiny_model("bert", intermediate_size=20)]
        for other in [*others, tiny_model("llama"), tiny_model("modernbert")]:
            with pytest.raises(InputError, match=r"do not fit|are not of a kind"):
                method.load(other, folder)
        assert json.loads((folder / COMPRESSED_CONFIG).read_text(encoding="utf-8"))["method"]["name"] == "compress"
        path = folder / COMPRESSED_WEIGHTS
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(InputError, match=COMPRESSED_WEIGHTS):
            method.load(tiny_model("bert"), folder)
