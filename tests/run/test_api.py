"""The short way in, as the README shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tunesmith
from tunesmith import InputError, Run, finetune


def test_finetune_evaluate_predict(reviews: Path, bert_folder: Path, tmp_path: Path) -> None:
    run = finetune(
        reviews,
        model=str(bert_folder),
        method={"name": "lora", "rank": 2},
        train={"epochs": 1, "precision": "fp32"},
        evaluation={"num_resamples": 20},
        output=tmp_path / "run",
    )
    assert isinstance(run, Run)
    assert (run.folder / "report.html").stat().st_size > 10_000
    assert set(run.evaluate(str(reviews))["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert run.predict(["a great film"])[0]["label"] in ("good", "bad")


def test_all_problems_are_raised_at_once(reviews: Path) -> None:
    with pytest.raises(InputError) as caught:
        finetune(reviews, method={"name": "lora", "rnk": 2}, train={"epoch": 1, "batch_size": 0})
    text = str(caught.value)
    assert "rank" in text
    assert "train.epochs" in text
    assert "train.batch_size" in text


def test_public_names_resolve() -> None:
    for name in tunesmith.__all__:
        assert getattr(tunesmith, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'finetun'"):
        _ = tunesmith.finetun
