"""What moves between host and device: everything of a batch, and nothing in the middle of a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.test_loop import training
from tunesmith.engine import loop as loop_module
from tunesmith.engine.batch import FEW
from tunesmith.engine.cuda.transfer import numbers, to_device
from tunesmith.engine.loop import train
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.engine.step import Training
from tunesmith.methods.base import ParameterGroup

META = torch.device("meta")


class NoWaiting(TorchDispatchMode):
    """Fails on what would make the host wait for a device or would mix tensors of the host into its work."""

    WAITS = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "unique", "masked_select")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        tensors = [one for one in torch.utils._pytree.arg_tree_leaves(*args) if isinstance(one, torch.Tensor)]
        on_device = [tensor for tensor in tensors if tensor.device == META]
        assert not (on_device and name.startswith(self.WAITS)), f"{name} waits for the device"
        if name == "repeat_interleave":
            assert (kwargs or {}).get("output_size") is not None, f"{name} waits for the device"
        mixed = [tensor for tensor in tensors if tensor.device.type == "cpu" and tensor.dim()]
        assert not on_device or not mixed or name in ("_to_copy", "copy_"), f"{name} mixes devices"
        return function(*args, **(kwargs or {}))


def test_a_batch_is_built_on_the_host_and_moved_whole() -> None:
    parts = training()
    collate = type(parts.collate)("flat", device=META, shapes=FEW)
    built = collate.on_host(parts.data, np.arange(6))
    moved = collate(parts.data, np.arange(6))
    tensors = [tensor for _, tensor in named_tensors(moved)]
    assert len(tensors) > 8
    assert all(tensor.device == META for tensor in tensors)
    for (name, here), (_, there) in zip(named_tensors(built), named_tensors(moved), strict=True):
        assert here.device.type == "cpu", name
        assert (here.shape, here.dtype) == (there.shape, there.dtype), name
    assert moved.num_tokens == built.num_tokens
    assert moved.borders is not None
    assert built.borders is not None
    assert moved.borders.max_length == built.borders.max_length
    assert [group.lengths for group in moved.borders.groups] == [group.lengths for group in built.borders.groups]
    assert np.array_equal(moved.sequences, built.sequences)


def test_a_batch_on_the_cpu_is_not_copied() -> None:
    built = training().collate.on_host(training().data, np.arange(3))
    assert to_device(built, torch.device("cpu")) is built


def named_tensors(value: Any, name: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        return [(name, value)]
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in named_tensors(one, f"{name}.{key}")]
    if isinstance(value, (tuple, list)):
        return [found for index, one in enumerate(value) for found in named_tensors(one, f"{name}.{index}")]
    if hasattr(value, "__dataclass_fields__"):
        return [
            found for key in value.__dataclass_fields__ for found in named_tensors(getattr(value, key), f"{name}.{key}")
        ]
    return []


def test_numbers_come_back_exactly() -> None:
    given = [torch.tensor(0.1), torch.tensor(3.0e38), torch.tensor(1 / 3, dtype=torch.float64), torch.tensor(7)]
    assert numbers(*given) == [float(tensor) for tensor in given]
    assert numbers() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["bert", "llama", "modernbert", "qwen3"])
def test_a_step_waits_for_the_device_once(arch: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on a device without memory: anything read from it fails, and so does a tensor left on the host."""
    parts = training(arch, dtype=dtype, micro_batch_rows=3, optimizer={"name": "adamw", "options": {"fused": False}})
    parts = training_on(parts, META)
    waits: list[int] = []

    def unread(*tensors: torch.Tensor) -> list[float]:
        assert all(tensor.device == META for tensor in tensors)
        waits.append(len(tensors))
        return [1.0] * len(tensors)

    monkeypatch.setattr(loop_module, "numbers", unread)
    with NoWaiting():
        steps = list(train(parts))
    assert waits == [len(range(0, info.num_rows, 3)) + 1 for info in steps]
    assert len(steps) == parts.plan.total_steps


def training_on(parts: Training, device: torch.device) -> Training:
    """Return the parts with the model, and so its masters, on another device."""
    model, names = parts.scorer.model.to(device), tuple(parts.optimizer.names)
    take_away(model, Tier.BLOCK)  # blocks are for the CPU
    optimizer = MasterOptimizer(model, [ParameterGroup(names, 1.0, decay=True)], parts.config.optimizer, 0.01)
    return replace(parts, collate=replace(parts.collate, device=device), optimizer=optimizer)


@pytest.mark.parametrize("options", [{"fused": False}, {"fused": False, "capturable": True}])
def test_a_resumed_optimizer_has_its_state_where_torch_keeps_it(options: dict[str, Any]) -> None:
    """Checkpoints are read into the host's memory; moments belong on the device, the count only for some kernels."""
    parts = training()
    for _ in zip(range(2), train(parts), strict=False):
        pass
    tensors, values = parts.optimizer.state()
    resumed = training_on(training(optimizer={"name": "adamw", "options": options}), META).optimizer
    resumed.load_state(tensors, values)
    assert resumed.optimizer.state
    for state in resumed.optimizer.state.values():
        assert state["exp_avg"].device == META
        assert state["exp_avg_sq"].device == META
        assert state["step"].device == (META if options.get("capturable") else torch.device("cpu"))
