"""A tiny model and a small learnable data set for whole runs."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_folder
from tunesmith.config.build import build
from tunesmith.run import RunConfig

GOOD = ("great", "wonderful", "warm", "funny", "best")
BAD = ("boring", "dull", "waste", "slow", "worse")
OTHER = ("the", "film", "a", "and", "movie", "of", "this", "cast", "plot", "time")


def write_reviews(path: Path, num_rows: int = 160, seed: int = 0) -> Path:
    """Write a CSV of reviews whose label follows from one word."""
    generator = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment"])
        for index in range(num_rows):
            good = index % 2 == 0
            words = [*generator.choices(OTHER, k=generator.randint(3, 14)), generator.choice(GOOD if good else BAD)]
            generator.shuffle(words)
            writer.writerow([" ".join(words), "good" if good else "bad"])
    return path


@pytest.fixture(scope="session")
def reviews_writer() -> Callable[..., Path]:
    """Return what writes further reviews."""
    return write_reviews


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models"), "llama", head="causal")


def small_config(reviews: Path, model: Path, output: Path, /, **sections: Any) -> RunConfig:
    """Return a configuration: sections over small defaults, and one rate for all parameters, a new head's too."""
    train = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "precision": "fp32", **sections.pop("train", {})}
    by_hand = {"evaluate_steps": 8, "early_stopping": {"patience": "never"}}  # 8 steps are an epoch of the reviews
    evaluation = {"num_resamples": 50, **sections.pop("evaluation", {})}
    method = sections.pop("method", "full")
    sections["method"] = {"head_factor": 1.0, **({"name": method} if isinstance(method, str) else method)}
    values = {"model": str(model), "data": str(reviews), "output": str(output), **sections}
    return build(RunConfig, {**values, "train": {**by_hand, **train}, "evaluation": evaluation})


@pytest.fixture
def configured(reviews: Path, bert_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Return ``small_config`` for the reviews and the tiny model, with an output that is the test's own."""

    def configure(**sections: Any) -> RunConfig:
        return small_config(reviews, bert_folder, tmp_path / "run", **sections)

    return configure
