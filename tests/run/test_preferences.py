"""Preferences as a user meets them: one command from pairs to a judged model that talks; its reference asked once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.cli.application import run as command
from tunesmith.run import Run, RunConfig, Workshop, reference_column, train
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
WORDS = ("film", "plot", "cast")


def pair(i: int) -> dict[str, Any]:
    return {
        "prompt": f"what {WORDS[i % 3]} {i % 31}?",
        "chosen": f"great {WORDS[i // 3 % 3]}",
        "rejected": f"dull {WORDS[i % 3]} {i % 7}",
    }


def write(path: Path, numbers: range) -> Path:
    path.write_text("".join(json.dumps(pair(i)) + "\n" for i in numbers), encoding="utf-8")
    return path


def test_the_command_line_trains_judges_reports_and_answers(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write(tmp_path / "pairs.jsonl", range(60))
    flags = ["--train.max_steps", "12", "--train.learning_rate", "0.01", "--evaluation.num_resamples", "50"]
    given = ["--model", str(llama_folder), "--data", str(data), "--method", "full", "--output", str(run)]
    assert command(["train", *given, *flags]) == 0
    evaluation = Run.open(run).evaluation
    assert (evaluation["task"], evaluation["main_metric"]) == ("preference", "reward_accuracy")
    assert evaluation["metrics"]["reward_accuracy"]["value"] > 0.9
    before = evaluation["baseline"]["metrics"]
    assert (before["reward_accuracy"]["value"], before["kl"]["value"]) == (0.5, 0.0)
    assert evaluation["difference"]["margin"]["low"] > 0
    assert not (run / "reference").exists(), "deleted at the end"
    assert "Preference learning" in (run / "report.html").read_text(encoding="utf-8")
    assert "- preference-learning" in (run / "README.md").read_text(encoding="utf-8")
    others = write(tmp_path / "others.jsonl", range(100, 130))
    capsys.readouterr()
    assert command(["evaluate", str(run), "--data", str(others)]) == 0
    assert "Reward accuracy" in capsys.readouterr().out
    found = tmp_path / "found.jsonl"
    assert command(["predict", str(run), "--data", str(others), "--output", str(found)]) == 0
    assert all(json.loads(line)["answer"] for line in found.read_text(encoding="utf-8").splitlines())
    assert "".join(Run.open(run).chat([{"role": "user", "content": pair(3)["prompt"]}]))


def test_the_reference_is_asked_once_for_all_runs_that_have_the_same(
    configured: Configure, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = reference_column.ask

    def counting(*given: Any) -> Any:
        asked.append(1)
        return ask(*given)

    monkeypatch.setattr(reference_column, "ask", counting)

    def config(name: str, task: dict[str, Any], method: str) -> RunConfig:
        return configured(
            model=str(llama_folder),
            data=str(write(tmp_path / "pairs.jsonl", range(40))),
            task={"name": "preference", **task},
            method=method,
            train={"max_steps": 2},
            evaluation={"num_resamples": 0},
            output=str(tmp_path / name),
        )

    with Workshop() as workshop:
        train(config("one", {}, "lora"), workshop=workshop)
        assert len(asked) == 3, "the training, validation and test rows"
        train(config("other", {"beta": 0.5}, "full"), workshop=workshop)
        train(config("free", {"loss": "simpo"}, "lora"), workshop=workshop)
        assert len(asked) == 3


def test_a_model_that_has_changed_since_is_no_reference(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(llama_folder, tmp_path / "base")
    config = configured(
        model=str(base),
        data=str(write(tmp_path / "pairs.jsonl", range(40))),
        train={"max_steps": 1},
        evaluation={"num_resamples": 0, "baseline": False},
    )
    run = Run.open(train(config))
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: value + torch.ones_like(value) for name, value in weights.items()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(InputError, match="has changed since the run was trained"):
        run.evaluate()
