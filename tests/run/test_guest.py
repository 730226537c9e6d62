"""A run leaves the process of whoever calls it as it was."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.config.build import build
from tunesmith.run import RunConfig, train
from tunesmith.run.guest import as_guest
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


def state() -> list[Any]:
    """Return everything of the process that a run could change, as something that can be compared."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return [
        random.getstate(),
        (kind, keys.tolist(), *rest),
        torch.get_rng_state().tolist(),
        torch.initial_seed(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_num_threads(),
        dict(os.environ),
        warnings.filters[:],
        {name: logging.getLogger(name).level for name in ("", "transformers", "peft", "datasets", "tunesmith")},
    ]


@pytest.fixture
def _callers_own() -> Any:
    """Let the caller have random numbers and flags of its own."""
    random.seed(101)
    np.random.seed(102)  # noqa: NPY002
    torch.manual_seed(103)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_callers_own")
@pytest.mark.parametrize("variable", [None, ":16:8"])
def test_a_run_puts_everything_back(
    variable: str | None, configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", variable)
    before = state()
    train(configured(train={"seed": 7, "max_steps": 2}, compute={"deterministic": True}))
    assert state() == before


@pytest.mark.usefixtures("_callers_own")
def test_a_run_that_is_refused_puts_everything_back(configured: Configure) -> None:
    before = state()
    with pytest.raises(InputError):
        train(configured(data="no-such-file.csv", compute={"deterministic": True}))
    assert state() == before


def test_a_run_in_a_caller_is_the_run_alone(configured: Configure, tmp_path: Any) -> None:
    first = train(configured(output=str(tmp_path / "first")))
    torch.manual_seed(5)
    random.random()
    with as_guest():
        torch.rand(3)
        second = train(configured(output=str(tmp_path / "second")))
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("section", "key"), [("train", "seed"), ("data", "split_seed")])
@pytest.mark.parametrize("seed", [2**32, 2**63, 2**64, 10**30])
def test_seeds_that_not_all_libraries_take_are_refused_by_name(section: str, key: str, seed: int) -> None:
    values = {"model": "sample:minilm", "data": {"path": "reviews.csv"}, "train": {}}
    with pytest.raises(InputError, match=rf"{section}\.{key}"):
        build(RunConfig, {**values, section: {**values[section], key: seed}})  # type: ignore[dict-item]


def test_the_largest_seed_is_taken(configured: Configure, reviews: Path) -> None:
    train(configured(data={"path": str(reviews), "split_seed": 2**32 - 1}, train={"seed": 2**32 - 1, "max_steps": 1}))
