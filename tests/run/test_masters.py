"""Where the optimizer's masters begin in bf16: at the model's own values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.run import RunConfig
from tunesmith.run.composition import compose
from tunesmith.run.directory import RunDirectory
from tunesmith.run.observers import Observers
from tunesmith.run.session import Composed
from tunesmith.run.signals import stop_requests
from tunesmith.run.workshop import Workshop


def composed(config: RunConfig, folder: Path) -> Composed:
    with stop_requests() as stop:
        return compose(config, RunDirectory(folder), Observers([]), stop, Workshop(keeps_models=False))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_masters_begin_at_the_exact_values(
    configured: Callable[..., RunConfig], bert_folder: Path, tmp_path: Path, method: str
) -> None:
    exact = composed(configured(method=method, train={"precision": "fp32"}), tmp_path).training.optimizer
    rounded = composed(configured(method=method, train={"precision": "bf16"}), tmp_path).training.optimizer
    assert rounded.names == exact.names
    for parameter, master, expected in zip(rounded.parameters, rounded.masters, exact.parameters, strict=True):
        assert master.dtype == torch.float32
        assert torch.equal(master, expected)
        assert torch.equal(parameter, expected.bfloat16())
        assert not hasattr(parameter, "exact")  # no second copy of the weights stays
    stored = load_file(bert_folder / "model.safetensors")
    assert any(not torch.equal(weight, weight.bfloat16().float()) for weight in stored.values())
