"""Runs whose result has a form of its own: small files that make the trained model of the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.methods.sparse import PLACES, SPARSE_WEIGHTS, VALUES
from tunesmith.run import Run, RunConfig, train


@pytest.mark.parametrize("choose", ["gradient", "fisher"])
def test_rows_decide_and_the_files_make_the_trained_model_of_the_base(
    configured: Callable[..., RunConfig], bert_folder: Path, tmp_path: Path, choose: str
) -> None:
    config = configured(
        method={"name": "sparse", "share": 0.05, "choose": choose, "calibration_rows": 16},
        train={"epochs": 1, "optimizer": {"weight_decay": 0.5}},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(tmp_path / choose),
    )
    run = Run.open(train(config))
    saved, base = load_file(run.folder / SPARSE_WEIGHTS), load_file(bert_folder / "model.safetensors")
    assert not (run.folder / "model.safetensors").exists()
    assert (run.folder / SPARSE_WEIGHTS).stat().st_size < 0.5 * (bert_folder / "model.safetensors").stat().st_size
    trained = run.network.model
    opened = {name: parameter.detach() for name, parameter in trained.named_parameters()}
    places = {name.removesuffix(PLACES): where for name, where in saved.items() if name.endswith(PLACES)}
    moved = 0
    for name, weight in base.items():
        now = opened[name if name in opened else f"bert.{name}"]
        different = (now != weight).reshape(-1).nonzero().reshape(-1).tolist()
        where = places.get(f"bert.{name}", torch.tensor([], dtype=torch.int32))
        assert set(different) <= set(where.tolist()), name
        if len(where):
            assert torch.equal(now.reshape(-1)[where.long()], saved[f"bert.{name}{VALUES}"].to(now.dtype))
        moved += len(different)
    head = sum(opened[name].numel() for name in saved if not name.endswith((PLACES, VALUES)))
    assert 0 < moved <= run.summary["num_trained_parameters"] == sum(map(len, places.values())) + head
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
