"""A share of the weights is trained: which, that no other moves, and that places and values are the trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tiny import tiny_batch, tiny_model
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.methods.sparse import SPARSE_CONFIG, SPARSE_WEIGHTS, Sparse
from tunesmith.models.anatomy import Anatomy
from tunesmith.types import InputError

QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def places_of(model: torch.nn.Module, method: Sparse) -> dict[str, torch.Tensor]:
    return {name: where for group in method.parameter_groups(model) for name, where in group.places.items()}


def chosen(model: Any, **options: Any) -> dict[str, torch.Tensor]:
    method = Sparse(**options)
    return places_of(method.apply(model), method)


def test_the_largest_are_chosen_in_every_layer_or_in_the_whole_model() -> None:
    model = tiny_model("bert")
    weights = {f"{name}.weight": module.weight for name, module in Anatomy.of(model).linear_modules.items()}
    every = sum(weight.numel() for weight in weights.values())
    by_layer = chosen(tiny_model("bert"), choose="magnitude", share=0.1)
    assert set(by_layer) == set(weights)
    for name, where in by_layer.items():
        sizes = weights[name].detach().abs().reshape(-1)
        assert len(where) == round(0.1 * sizes.numel())
        assert set(where.tolist()) == set(sizes.topk(len(where)).indices.tolist())
    across = chosen(tiny_model("bert"), choose="magnitude", share=0.01, across="model")
    found = torch.cat([weights[name].detach().reshape(-1)[where] for name, where in across.items()]).abs()
    assert len(found) == round(0.01 * every)
    assert (
        found.min() >= torch.cat([one.detach().reshape(-1) for one in weights.values()]).abs().topk(len(found))[0][-1]
    )


@pytest.mark.parametrize("pattern", ["1:8", "3:7"])
def test_patterns_hold_so_many_of_so_many(pattern: str) -> None:
    some, of = map(int, pattern.split(":"))
    model = tiny_model("bert")
    for name, where in chosen(tiny_model("bert"), choose="magnitude", pattern=pattern).items():
        sizes = model.get_parameter(name).detach().abs().reshape(-1)
        for start in range(0, len(sizes), of):
            inside = where[(where >= start) & (where < start + of)] - start
            part = sizes[start : start + of]
            assert set(inside.tolist()) == set(part.topk(min(some, len(part))).indices.tolist())


def test_chance_is_the_seeds_and_changes_no_other() -> None:
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(chosen(tiny_model("bert"), choose="random", share=0.2)[QUERY].tolist())
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "wrong", [{"pattern": "2:2"}, {"pattern": "x"}, {"share": 1.0}, {"pattern": "1:4", "across": "model"}]
)
def test_what_chooses_nothing_or_everything_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"pattern|share"):
        Sparse(**wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "GaLore"])
def test_nothing_else_moves_and_the_optimizer_remembers_nothing_else(dtype: torch.dtype, optimizer: str) -> None:
    """Decay and penalties included; against the same step on the whole weights."""
    method = Sparse(share=0.1, choose="magnitude")
    model = method.apply(tiny_model("bert", dtype=torch.float32)).to(dtype).eval()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    places = places_of(model, method)
    config = OptimizerConfig(name=optimizer, weight_decay=0.1)
    steps = MasterOptimizer(model, method.parameter_groups(model), config, 0.1, Penalties(l1=0.1, l2=0.1))
    for _ in range(2):
        for rows in ((9, 5), (7, 4)):
            model(**tiny_batch(rows)).logits.float().pow(2).sum().backward()
            steps.collect()
        steps.add_penalties()
        steps.step(0.1)
    for name, parameter in model.named_parameters():
        moved = (parameter != before[name]).reshape(-1).nonzero().reshape(-1)
        if name in places:
            assert set(moved.tolist()) <= set(places[name].tolist())
            assert len(moved) > 0.8 * len(places[name])
            values = steps.master_weights()[name]
            assert torch.equal(parameter.detach().reshape(-1)[places[name]], values.to(dtype))
        elif not parameter.requires_grad:
            assert not len(moved)
    kept, _ = steps.state()
    assert all(one.numel() <= steps.num_trained for one in kept.values())
    for name, where in places.items():
        assert all(one.numel() in (1, len(where)) for key, one in kept.items() if key.startswith(f"{name}/"))
    assert steps.num_trained == sum(map(len, places.values())) + sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name not in places
    )


def test_the_steps_are_those_of_the_whole_weights() -> None:
    """A plain AdamW on masked gradients, without decay, comes to the same weights."""
    method = Sparse(share=0.2, choose="random")
    model, reference = (method.apply(tiny_model("bert")) for _ in range(2))
    places = places_of(model, method)
    config = OptimizerConfig(weight_decay=0.0)
    steps = MasterOptimizer(model, method.parameter_groups(model), config, 0.01)
    trained = [parameter for parameter in reference.parameters() if parameter.requires_grad]
    plain = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)
    for number in range(3):
        batch = tiny_batch((9, 5), seed=number)
        model(**batch).logits.pow(2).sum().backward()
        steps.collect()
        steps.step(0.01)
        plain.zero_grad()
        reference(**batch).logits.pow(2).sum().backward()
        for name, parameter in reference.named_parameters():
            if name in places and parameter.grad is not None:
                mask = torch.zeros(parameter.numel(), dtype=parameter.dtype)
                parameter.grad.mul_(mask.index_fill_(0, places[name], 1).reshape(parameter.shape))
        plain.step()
    for (name, expected), found in zip(reference.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, msg=name)


def test_the_gradient_chosen_by_is_that_of_the_rows() -> None:
    class Rows:
        def batches(self, max_rows: int | None = None) -> Any:
            yield self

        def backward(self) -> None:
            model(**tiny_batch()).logits.pow(2).sum().backward()

    method = Sparse(share=0.1, choose="gradient")
    model = method.apply(tiny_model("bert"))
    method.take_calibration(model, method.calibrate(model, Rows()))  # type: ignore[arg-type]
    plain = tiny_model("bert")
    plain(**tiny_batch()).logits.pow(2).sum().backward()
    for name, where in places_of(model, method).items():
        sizes = plain.get_parameter(name).grad.abs().reshape(-1)  # type: ignore[union-attr]
        assert set(where.tolist()) == set(sizes.topk(len(where)).indices.tolist())


def test_files_of_another_model_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    method = Sparse(choose="magnitude")
    method.save(method.apply(tiny_model("bert")), tmp_path)
    for other in (tiny_model("roberta"), tiny_model("bert", num_labels=5), tiny_model("bert", intermediate_size=20)):
        with pytest.raises(InputError, match="do not fit"):
            method.load(other, tmp_path)
    described = json.loads((tmp_path / SPARSE_CONFIG).read_text(encoding="utf-8"))
    assert described["method"]["choose"] == "magnitude"
    path = tmp_path / SPARSE_WEIGHTS
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=SPARSE_WEIGHTS):
        method.load(tiny_model("bert"), tmp_path)
    (tmp_path / SPARSE_CONFIG).unlink()
    with pytest.raises(InputError, match="is missing"):
        method.load(tiny_model("bert"), tmp_path)


def test_models_without_linear_layers_are_refused() -> None:
    with pytest.raises(InputError, match="'full' or 'freeze'"):
        Sparse().apply(tiny_model("lstm"))
