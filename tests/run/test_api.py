"""The short way in, as the README shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
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


def test_rows_in_memory(tmp_path: Path) -> None:
    """Frames and dictionaries instead of files: for training, resuming, judging and predicting."""
    rows = [{"text": f"a {word} film, part {part}", "label": label}
            for part in range(15) for word, label in (("great", "good"), ("dull", "bad"))]  # fmt: skip
    rows += [{"text": f"more of the same {part}", "label": None} for part in range(2)]
    frame = pd.DataFrame(rows)
    settings: dict[str, Any] = {
        "model": {"name": "lstm", "embedding_size": 4, "hidden_size": 4},
        "train": {"epochs": 1},
        "evaluation": {"num_resamples": 20, "baseline": False},
        "output": tmp_path / "run",
        "report": False,
    }
    run = finetune(frame, **settings)
    assert run.summary["left_out"] == {"empty label": 2}
    assert "Rows left out: 2 empty label." in (run.folder / "README.md").read_text()
    assert finetune(frame.copy(), **settings, resume=True).summary == run.summary
    assert run.evaluate(rows[:20])["num_rows"] == 20
    whole = run.predict([row["text"] for row in rows])
    for given in (frame, rows, {"text": frame["text"].tolist()}, pa.Table.from_pandas(frame)):
        assert run.predict(given) == whole
        assert run.predict_file(given) == whole
    assert run.predict("a great film") == run.predict(["a great film"])
    assert len(run.predict("a great film")) == 1
    assert run.predict({"text": "a great film"}) == run.predict("a great film")
    with pytest.raises(InputError, match="trained on single texts"):
        run.predict([("a great film", "a dull film")])


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
