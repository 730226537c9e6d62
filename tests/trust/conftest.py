"""A tiny model, trained on reviews of which two columns say by whom and from where they are."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from small_runs import BAD, GOOD, OTHER, bert_folder, configured, llama_folder, reviews, reviews_writer, small_config
from tunesmith.run import Run, train

__all__ = ["bert_folder", "configured", "llama_folder", "reviews", "reviews_writer"]


@pytest.fixture(scope="session")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return reviews with the columns ``gender``, ``region`` and ``age``; one region has few rows."""
    path, generator = tmp_path_factory.mktemp("data") / "grouped.csv", random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment", "gender", "region", "age"])
        for index in range(400):
            good = index % 2 == 0
            words = [*generator.choices(OTHER, k=generator.randint(3, 9)), generator.choice(GOOD if good else BAD)]
            words.append(generator.choice(["he", "she", "it", "mum"]))
            generator.shuffle(words)
            region = "south" if index % 50 == 0 else generator.choice(["north", "west"])
            row = [" ".join(words), "good" if good else "bad", generator.choice("fm"), region, 18 + index % 60]
            writer.writerow(row)
    return path


@pytest.fixture(scope="session")
def trained(grouped: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that has learned which words are good."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    settings = {"epochs": 8}
    data = {"path": str(grouped), "test_fraction": 0.5, "columns": {"text": "review", "label": "sentiment"}}
    return train(small_config(grouped, bert_folder, folder, train=settings, data=data))


@pytest.fixture
def run(trained: Path) -> Run:
    return Run.open(trained)
