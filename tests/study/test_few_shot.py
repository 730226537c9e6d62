"""Contests on few rows: every seed a draw, all judged on the same rows, nothing chosen by rows that are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from run.test_chat import write_chats
from tunesmith.api import compare
from tunesmith.config.build import build
from tunesmith.run import Run
from tunesmith.study import CompareConfig, Study, run_contest
from tunesmith.types import InputError


@pytest.fixture
def small(bert_folder: Path, reviews: Path, tmp_path: Path) -> Callable[..., Study]:
    """Return what holds a small contest of draws."""

    def hold(**values: Any) -> Study:
        settings: dict[str, Any] = {
            "model": str(bert_folder),
            "output": str(tmp_path / "study"),
            "train": {"epochs": 2, "precision": "fp32"},
            "evaluation": {"num_resamples": 50},
        }
        return compare(str(reviews), few_shot=4, report=True, **{**settings, **values})

    return hold


def test_every_seed_is_a_draw_and_all_are_judged_on_the_same_rows(small: Callable[..., Study]) -> None:
    study = small(seeds=3)
    record = study.record
    assert [one["name"] for one in record["methods"]] == ["freeze", "contrastive", "lora", "tfidf"]
    assert {one["state"] for one in record["methods"]} == {"done"}
    assert record["few_shot"] == 4
    assert record["rows"] == {"train": 8, "test": 160 - 3 * 8}
    assert record["tuning"] == []
    assert all(one["seeds"] == 3 for one in record["methods"][:3])
    hashes: dict[str, list[str]] = {"train": [], "test": []}
    for number, run in enumerate(record["methods"][0]["runs"], start=1):
        opened = Run.open(study.folder / run["folder"])
        assert opened.config.data.draw == f"{number}/3"
        for split, found in hashes.items():
            found.append(opened.directory.read_json("environment")["data"]["hashes"][split])
    assert len(set(hashes["train"])) == 3
    assert len(set(hashes["test"])) == 1
    rival = record["methods"][-1]
    assert rival["variance_seeds"] is not None  # it learns from every draw anew
    assert study.verdict.endswith("on 136 test rows, 4 training rows a class (8), 3 draws).")


def test_rates_cannot_be_tried_without_validation_rows(bert_folder: Path, reviews: Path) -> None:
    values = {"model": str(bert_folder), "data": {"path": str(reviews), "few_shot": 4}}
    config = build(CompareConfig, values)
    assert (config.methods, config.seeds, config.rates) == (("freeze", "contrastive", "lora"), 5, 1)
    assert config.data.draw == "1/5"
    with pytest.raises(InputError, match="there are no validation rows to choose rates by"):
        build(CompareConfig, {**values, "rates": 3})


def test_examples_in_prompts_are_what_training_must_beat(llama_folder: Path, tmp_path: Path) -> None:
    """The verdict is about them, and methods that need a head are left out."""
    data = {"path": str(write_chats(tmp_path / "chats.jsonl", 40)), "few_shot": 3}
    values = {
        "model": str(llama_folder),
        "data": data,
        "seeds": 2,
        "output": str(tmp_path / "study"),
        "train": {"epochs": 1, "precision": "fp32", "learning_rate": 1e-4},
        "evaluation": {"num_resamples": 20, "general_text": "none"},
    }
    study = Study(run_contest(build(CompareConfig, values)))
    record = study.record
    states = {one["name"]: one["state"] for one in record["methods"]}
    assert states == {"freeze": "cut", "contrastive": "cut", "lora": "done", "in_context": "done"}
    assert record["reference"] == "in_context"
    assert [one["method"] for one in record["comparisons"]] == ["lora"]
    assert "with the rows as examples in its prompt" in study.verdict
    assert "3 training rows, 2 draws" in study.verdict
