"""How runs end: what is said of one that was stopped, that has diverged, or that has not learned anything."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny import tiny_folder
from tunesmith.run import Observer, Run, RunConfig, Stopped, train
from tunesmith.types import RunError

Configure = Callable[..., RunConfig]
QUICK = {"max_steps": 4, "evaluate_steps": 4}


class StopWhile(Observer):
    """Sends a signal when a stage begins."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def working(self, what: str) -> None:
        if what.startswith(self.stage):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("stage", ["saving the model", "evaluating on the", "training the baseline", "writing"])
def test_a_run_that_is_stopped_after_its_last_step_says_so_and_comes_to_its_end(
    configured: Configure, stage: str
) -> None:
    config = configured(train=QUICK)
    with pytest.raises(Stopped) as stopped:
        train(config, observers=[StopWhile(stage)])
    assert stopped.value.exit_code == 143
    folder = Path(config.output or "")
    assert f"while {stage}" in stopped.value.advice
    assert "after step 4 of 4, which is saved" in stopped.value.advice
    assert f"tunesmith train --output {folder} --resume" in stopped.value.advice
    steps: list[int] = []

    class Count(Observer):
        def stepped(self, info: Any, total_steps: int) -> None:
            steps.append(info.step)

    run = Run.open(train(config, resume=True, observers=[Count()]))
    assert steps == [], "nothing is trained again"
    assert run.summary["steps"] == 4


@pytest.mark.parametrize(
    ("resume", "words"),
    [(False, "Stopped before training began; nothing was saved."), (True, "Stopped before training went on")],
)
def test_a_run_that_is_stopped_before_its_first_step_says_so(configured: Configure, resume: bool, words: str) -> None:
    config = configured(train=QUICK)
    if resume:
        with pytest.raises(Stopped):
            train(config, observers=[StopWhile("saving")])
    with pytest.raises(Stopped) as stopped:
        train(config, resume=resume, observers=[StopWhile("loading the model")])
    assert stopped.value.advice.startswith(words)


def changed_model(folder: Path, name: str, value: float) -> Path:
    """Save a tiny model one of whose weights is ``value`` everywhere."""
    folder = tiny_folder(folder)
    weights = load_file(folder / "model.safetensors")
    (key,) = [key for key in weights if key.endswith(name)]
    weights[key] = torch.full_like(weights[key], value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_model_that_is_damaged_is_not_trained(configured: Configure, tmp_path: Path) -> None:
    model = changed_model(tmp_path, "layer.1.output.dense.weight", float("nan"))
    config = configured(model=str(model), train={"max_steps": 2})
    with pytest.raises(RunError, match=r"not finite numbers.*before anything was trained.*output\.dense"):
        train(config)
    assert not (Path(config.output or "") / "manifest.json").exists()


def test_a_run_without_a_single_update_does_not_end_well(configured: Configure, tmp_path: Path) -> None:
    model = changed_model(tmp_path, "layer.1.output.LayerNorm.weight", 3e38)
    with pytest.raises(RunError, match="none of the 3 steps made an update"):
        train(configured(model=str(model), train={"max_steps": 3, "evaluate_steps": 100}))


def test_a_run_that_diverges_in_its_last_step_does_not_end_well(configured: Configure) -> None:
    settings = {"max_steps": 1, "learning_rate": 1e39, "clip_norm": None, "schedule": "constant"}
    with pytest.raises(RunError, match=r"(?s)Training has diverged.*lower --train\.learning_rate"):
        train(configured(train=settings))


def test_a_model_that_gives_every_row_one_label_is_told_what_to_try(configured: Configure, tmp_path: Path) -> None:
    model = changed_model(tmp_path, "pooler.dense.weight", 0.0)  # the head sees nothing of the texts
    frozen = {"name": "freeze", "all_but_head": True}
    run = Run.open(train(configured(model=str(model), method=frozen, train={**QUICK, "learning_rate": 1e-6})))
    messages = {problem["message"]: problem["fix"] for problem in run.summary["problems"]}
    ((message, fix),) = [item for item in messages.items() if "the same answer" in item[0]]
    assert "right in 50% of the cases" in message
    assert fix.startswith("Try first: --train.learning_rate")
    behind = [message for message in messages if "than the baseline" in message]
    assert len(behind) == 1
    assert messages[behind[0]] == "", "what to try is said once"
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert json.loads((run.folder / "environment.json").read_text())["card_sha256"]
    assert card


def test_a_model_that_has_learned_gets_no_advice(configured: Configure) -> None:
    run = Run.open(train(configured(train={"epochs": 8})))
    assert not [one for one in run.summary["problems"] if "same answer" in one["message"]]
