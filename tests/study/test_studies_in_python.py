"""Cross-validations and searches from Python, and their pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny import tiny_folder
from tunesmith import cross_validate, search
from tunesmith.run import RunConfig

TRAIN = {"epochs": 1, "precision": "fp32", "batch_size": 16, "early_stopping": {"metric": "loss"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("models")))


ROWS = [{"text": f"a {('dull', 'warm')[n % 2]} film number {n}", "label": ("bad", "good")[n % 2]} for n in range(40)]


def test_cross_validate(model: str, tmp_path: Path) -> None:
    evaluation = {"num_resamples": 10, "baseline": False}
    found = cross_validate(ROWS, model=model, folds=2, train=TRAIN, evaluation=evaluation, output=tmp_path / "folds")
    assert found.verdict in (tmp_path / "folds" / "report.html").read_text()
    assert found.metrics["accuracy"]["low"] <= found.metrics["accuracy"]["value"]
    assert sorted(found.predictions["text"]) == sorted(row["text"] for row in ROWS)


def test_search(model: str, tmp_path: Path) -> None:
    over = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    found = search(ROWS, over=over, model=model, trials=2, train=TRAIN, output=tmp_path / "search")
    assert (tmp_path / "search" / "report.html").exists()
    assert len(found.trials) == 2
    assert isinstance(found.config, RunConfig)
    assert found.config.train.learning_rate == found.best["train.learning_rate"]
