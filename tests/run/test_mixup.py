"""Runs that learn from rows between rows, and those that cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(configured: Configure, tmp_path: Path) -> None:
    def made(name: str) -> RunConfig:
        settings = {"train": {"mixup": 0.4, "max_steps": 6}, "compute": {"checkpoint_steps": 1}}
        return configured(**settings, evaluation={"baseline": False}, output=str(tmp_path / name))

    whole = train(made("whole"))
    train(made("parts"), until=3)
    parts = train(made("parts"), resume=True)
    one, two = (load_file(place / "model.safetensors") for place in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)
    plain = train(configured(train={"max_steps": 6}, evaluation={"baseline": False}, output=str(tmp_path / "plain")))
    other = load_file(plain / "model.safetensors")
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert Run.open(whole).config.train.mixup == 0.4


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"task": "masked_lm"}, "nothing that could be right"),
        ({"privacy": {"epsilon": 8}}, "what is protected is one"),
        ({"fairness": {"group": "sentiment"}}, "rows between two groups"),
        ({"compute": {"cuda_graphs": True}}, "captured graphs"),
    ],
)
def test_what_cannot_be_mixed_is_refused(configured: Configure, sections: dict[str, Any], said: str) -> None:
    if "privacy" in sections:
        pytest.importorskip("opacus")
        sections = {**sections, "compute": {"layout": "padded"}}
    with pytest.raises(InputError, match=said):
        train(configured(train={"mixup": 0.2, "max_steps": 1}, **sections))
