"""Runs whose base is streamed from files: equal to the bit to runs that have it in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import small_config
from tiny import SENTENCES, tiny_folder
from tunesmith.models.streaming import stream_of
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.offload import check_offload
from tunesmith.types import InputError

RECORDED = ("loss", "gradient_norm", "learning_rate", "num_tokens")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def curve(folder: Path) -> list[dict[str, Any]]:
    """Return what a run recorded, without what time and machine decide."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        {key: value for key, value in line.items() if "second" not in key and "memory" not in key} for line in lines
    ]


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder, flat": ("bert", {"compute": {"layout": "flat"}}),
    "encoder, padded": ("bert", {"compute": {"layout": "padded"}}),
    "activations computed again": ("bert", {"compute": {"checkpointing": "always"}}),
    "several micro-batches": ("bert", {"compute": {"micro_batch_tokens": 64}}),
    "bf16": ("bert", {"train": {"precision": "bf16"}}),
    "top layer": ("bert", {"method": {"name": "lora", "layers_to_transform": "top 1"}}),
    "tied shapes of another kind": ("gpt2", {}),
    "two stacks": ("t5", {"train": {"precision": "fp32"}}),
    "ia3": ("bert", {"method": {"name": "ia3"}}),
    "dora": ("bert", {"method": {"name": "lora", "dora": True}}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_base_gives_the_same_run_to_the_bit(case: str, tmp_path: Path, reviews: Path) -> None:
    arch, sections = CASES[case]
    model = tiny_folder(tmp_path, arch)
    for name, offload in (("plain", "none"), ("streamed", "cpu")):
        settings = {"method": "lora", **sections}
        settings["compute"] = {**settings.get("compute", {}), "offload": offload}
        settings["train"] = {"epochs": 1, **settings.get("train", {})}
        train(small_config(reviews, model, tmp_path / name, **settings))
    assert curve(tmp_path / "streamed") == curve(tmp_path / "plain")
    assert weights(tmp_path / "streamed") == weights(tmp_path / "plain")
    summary = json.loads((tmp_path / "streamed" / "training.json").read_text(encoding="utf-8"))
    assert summary["streamed_bytes"] > 0
