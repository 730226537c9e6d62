"""Runs on a few rows: contrastive tuning before the head, settings that suit, examples in prompts as the rival."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from run.test_chat import write_chats
from tunesmith.methods import contrastive
from tunesmith.methods.contrastive import Contrastive, pairs_loss
from tunesmith.run import Run, RunConfig, Stopped, train, train_several
from tunesmith.run.observers import Observer
from tunesmith.types import StepInfo

Configure = Callable[..., RunConfig]


@pytest.fixture
def few(configured: Configure, reviews: Path) -> Configure:
    """Return what configures a run on eight reviews of each kind."""

    def configure(**sections: Any) -> RunConfig:
        data = {"path": str(reviews), "few_shot": 8, **sections.pop("data", {})}
        method = {"name": "contrastive", "passes": 30, "tuning_rate": 1e-3}
        return configured(**{"data": data, "method": method, **sections})

    return configure


def test_the_loss_of_pairs_is_that_of_cosines_one_by_one() -> None:
    """As sentence-transformers' CosineSimilarityLoss on all pairs, with as much weight for each kind."""
    vectors = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    classes = torch.tensor([0, 1, 1, 2, 0, 1, 2])
    cosine, squares = torch.nn.CosineSimilarity(dim=0), {True: [], False: []}
    for i in range(7):
        for j in range(i):
            alike = bool(classes[i] == classes[j])
            squares[alike].append((cosine(vectors[i], vectors[j]) - float(alike)) ** 2)
    expected = (torch.stack(squares[True]).mean() + torch.stack(squares[False]).mean()) / 2
    assert pairs_loss(vectors, classes) == pytest.approx(float(expected), abs=1e-6)
    assert pairs_loss(vectors[:1], classes[:1]) == 0
    assert float(pairs_loss(vectors[:2], classes[:2])) == pytest.approx(
        float(cosine(vectors[0], vectors[1])) ** 2, abs=1e-6
    )


def test_every_step_has_pairs_of_both_kinds_and_every_row_is_read_once_a_pass() -> None:
    classes = np.repeat(np.arange(20), 5)
    steps = list(Contrastive(passes=3)._steps(classes, np.random.default_rng(0)))
    assert sorted(np.concatenate(steps).tolist()) == sorted(list(range(100)) * 3)
    for rows in steps:
        counts = np.unique(classes[rows], return_counts=True)[1]
        assert counts.max() > 1 or len(rows) < 4
        assert len(counts) > 1 or len(rows) < 4


def test_the_encoder_is_tuned_first_and_then_stays_as_it_is(few: Configure, bert_folder: Path) -> None:
    run = Run.open(train(few(train={"epochs": None, "evaluate_steps": None})))
    assert run.evaluation["split"] == "test"
    assert run.summary["rows"] == {"train": 16, "test": 144}
    assert run.summary["steps"] == 50  # 16 rows are a step here, and 50 epochs the most
    before, after = (load_file(folder / "model.safetensors") for folder in (bert_folder, run.folder))
    name = next(name for name in after if "layer.0.attention.self.query.weight" in name)
    other = next(one for one in before if one.endswith(name.removeprefix("bert.")))
    assert not torch.equal(before[other], after[name])
    assert run.summary["num_trained_parameters"] < 0.2 * run.summary["num_parameters"]
    again = run.evaluate()
    assert again["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    assert run.predict(["a great wonderful film"])[0]["label"] in ("good", "bad")


def test_vectors_of_one_class_come_together(few: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[float] = []

    def noted(vectors: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        loss = pairs_loss(vectors, classes)
        found.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(contrastive, "pairs_loss", noted)
    method = {"name": "contrastive", "passes": 40, "tuning_rate": 5e-3}
    train(few(method=method, train={"epochs": 1}))
    assert len(found) == 40  # all 16 rows are a step
    assert found[0] > 0.49  # a random model finds all rows alike
    assert max(found[-5:]) < 0.4
    train(few(method=method, train={"epochs": 60}, output=str(tmp_path / "whole")))
    steps = [
        json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [one["loss"] for one in steps if one["kind"] == "step"][-1] < 0.2  # of the head, which reads these vectors


class StopAt(Observer):
    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(few: Configure, tmp_path: Path) -> None:
    whole, stopped = (few(output=str(tmp_path / name), train={"epochs": 6}) for name in ("whole", "stopped"))
    train(whole)
    with pytest.raises(Stopped):
        train(stopped, observers=[StopAt()])
    train(stopped, resume=True)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped")]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_runs_of_one_workshop_are_those_that_they_are_alone(few: Configure, tmp_path: Path) -> None:
    """Weights that runs share are replaced by the tuned ones, and never written to."""

    def config(name: str, number: int) -> RunConfig:
        return few(data={"draw": f"{number}/2"}, output=str(tmp_path / name), train={"epochs": 2, "seed": number})

    alone = [train(config(f"alone-{number}", number)) for number in (1, 2)]
    together = train_several([config(f"together-{number}", number) for number in (1, 2)])
    for one, other in zip(alone, together, strict=True):
        first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_prompts_with_the_rows_as_examples_are_the_rival(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    config = configured(
        model={"name": str(llama_folder), "max_length": 256},
        data={"path": str(write_chats(tmp_path / "chats.jsonl", 40)), "few_shot": 4},
        method={"name": "lora", "rank": 2},
        evaluation={"answers": 2, "max_new_tokens": 4},
    )
    run = Run.open(train(config))
    baseline = run.evaluation["baseline"]
    assert baseline["name"] == "in-context examples"
    untuned = Run.open(
        train(
            config.model_copy(
                update={
                    "data": config.data.changed(few_shot=None, test_fraction=0.9, validation_fraction=0.0),
                    "output": str(tmp_path / "all"),
                }
            )
        )
    )
    assert untuned.evaluation["baseline"]["name"] == "before fine-tuning"
    assert run.summary["rows"] == {"train": 4, "test": 36}
    notes = [problem["message"] for problem in run.summary["problems"]]
    assert any("in-context examples: " in note and "of 4 training rows" in note for note in notes)
