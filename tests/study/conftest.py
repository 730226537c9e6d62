"""A tiny model and a small learnable data set for whole studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from small_runs import bert_folder, configured, llama_folder, reviews, reviews_writer
from tunesmith.config.build import build
from tunesmith.run import RunConfig
from tunesmith.study import CompareConfig

__all__ = ["bert_folder", "configured", "llama_folder", "reviews", "reviews_writer"]

Configure = Callable[..., RunConfig]
METHODS = "full,lora(rank=2)"


@pytest.fixture
def asked(configured: Configure, tmp_path: Path) -> Callable[..., CompareConfig]:
    """Return a function that builds a small contest."""

    def make(**values: Any) -> CompareConfig:
        sections = {
            name: values.pop(name) for name in ("train", "evaluation", "data", "model", "task") if name in values
        }
        sections["train"] = {"epochs": 1, **sections.get("train", {})}
        run = configured(**sections).model_dump(mode="json", exclude={"method", "version", "output"})
        run["train"]["learning_rate"] = sections["train"].get("learning_rate")
        place = str(tmp_path / "study")
        return build(CompareConfig, {"methods": METHODS, "seeds": 2, "rates": 1, "output": place, **run, **values})

    return make
