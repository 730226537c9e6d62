"""A method that looks at training rows before its first step: once, whatever becomes of the run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
import torch

from tunesmith.methods import METHODS
from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.calibration import Calibration
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.whole import WholeModel
from tunesmith.models.anatomy import Anatomy
from tunesmith.run import Run, RunConfig, Stopped, train, train_several
from tunesmith.run.observers import Observer

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Configure = Callable[..., RunConfig]

NUM_ROWS = 24
looked: list[dict[str, Any]] = []
"""What every calibration has seen."""


class Loudest(WholeModel):
    """Train the head and the linear layers whose gradient is largest."""

    name: Literal["loudest"] = "loudest"
    default_learning_rate: ClassVar[float] = 1e-3
    batch_rows: int = 5
    splits: bool = False
    """Whether the layer whose gradient is smallest becomes two."""

    @property
    def num_calibration_rows(self) -> int:
        return NUM_ROWS

    def apply(self, model: PreTrainedModel) -> nn.Module:
        head = Anatomy.of(model).head_parameter_names
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head)
        return model

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        layers = Anatomy.of(model).linear_modules
        calls: list[tuple[int, ...]] = []
        hook = next(iter(layers.values())).register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
        for module in layers.values():
            module.weight.requires_grad_(True)
        num_tokens = 0
        for batch in rows.batches(self.batch_rows):
            assert batch.num_rows <= self.batch_rows
            batch.backward()
            num_tokens += len(batch.real(torch.zeros(*calls[-1])))
        head = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        found = {name: module.weight.grad.norm() for name, module in layers.items()}
        for batch in rows.batches():
            batch.forward()
        hook.remove()
        for module in layers.values():
            module.weight.requires_grad_(False)
        looked.append({"gradients": head, "tokens": num_tokens, "passes": len(calls)})
        return found

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        limit = torch.stack(list(found.values())).median()
        for name, norm in found.items():
            model.get_submodule(name).weight.requires_grad_(bool(norm > limit))
        if self.splits:
            parent, _, child = min(found, key=lambda name: float(found[name])).rpartition(".")
            layer = model.get_submodule(parent).get_submodule(child)
            inside = torch.nn.Linear(layer.in_features, layer.in_features, bias=False)
            setattr(model.get_submodule(parent), child, torch.nn.Sequential(inside, layer))

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self)


class Ending(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    looked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "loudest", Loudest)
        yield


@pytest.fixture
def config(configured: Configure, tmp_path: Path) -> Configure:
    def make(name: str, precision: str = "fp32", **train: Any) -> RunConfig:
        return configured(
            method="loudest",
            train={"precision": precision, "epochs": 1, **train},
            evaluation={"num_resamples": 0, "baseline": False},
            output=str(tmp_path / name),
        )

    return make


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_takes_up_what_was_learned(config: Configure, precision: str) -> None:
    whole = train(config("whole", precision))
    with pytest.raises(Stopped):
        train(config("resumed", precision), observers=[Ending()])
    assert (Path(config("resumed").output or "") / "calibration").is_dir()
    assert len(looked) == 2
    resumed = train(config("resumed", precision), resume=True)
    assert len(looked) == 2
    assert weights(resumed) == weights(whole)
    assert not (resumed / "calibration").exists()
    assert Run.open(resumed).summary["layout"] == "flat"


def test_what_is_learned_decides_what_is_trained(config: Configure, bert_folder: Path) -> None:
    run = train(config("run"))
    from safetensors.torch import load_file

    before, after = load_file(bert_folder / "model.safetensors"), load_file(run / "model.safetensors")
    base = {name.removeprefix("bert."): tensor for name, tensor in after.items()}
    matrices = [name for name in before if before[name].ndim == 2 and "embeddings" not in name]
    moved = [name for name in matrices if not torch.equal(before[name], base[name])]
    assert 0 < len(moved) <= len(matrices) / 2
    summary = json.loads((run / "training.json").read_text(encoding="utf-8"))
    assert summary["num_trained_parameters"] >= sum(before[name].numel() for name in moved)


def test_gradients_are_those_of_the_mean_loss_however_the_rows_are_split(config: Configure) -> None:
    for rows in (5, 1000):
        train(config(f"by-{rows}").model_copy(update={"method": Loudest(batch_rows=rows)}))
    one, other = looked
    assert one["tokens"] == other["tokens"] > NUM_ROWS
    assert one["passes"] > other["passes"]
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(gradient, other["gradients"][name], rtol=1e-4, atol=1e-6)


def test_modules_may_be_replaced(config: Configure) -> None:
    losses = []
    for precision, layout in (("fp32", "flat"), ("bf16", "flat"), ("fp32", "padded")):
        made = config(f"{precision}-{layout}", precision, max_steps=2)
        compute = made.compute.model_copy(update={"layout": layout})
        model = made.model.changed(dropout=0.0)
        run = train(made.model_copy(update={"method": Loudest(splits=True), "compute": compute, "model": model}))
        summary = json.loads((run / "training.json").read_text(encoding="utf-8"))
        assert summary["layout"] == layout
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([one["loss"] for one in map(json.loads, lines) if one["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)
    assert losses[1] == pytest.approx(losses[2], rel=3e-2)


def test_runs_that_differ_in_their_rate_look_once(config: Configure) -> None:
    made = [config("a"), config("b", learning_rate=1e-3), config("c", seed=1)]
    train_several(made)
    assert len(looked) == 2
    alone = train(config("alone", learning_rate=1e-3))
    assert weights(alone) == weights(Path(made[1].output or ""))
