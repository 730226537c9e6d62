"""Reinforcement as a user meets it: one command from questions and rewards to a judged model that earns more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from run.test_contract import StopAfter
from tunesmith.cli.application import run as command
from tunesmith.run import Run, RunConfig, Stopped, living_reference, train
from tunesmith.types import InputError, RunError

Configure = Callable[..., RunConfig]
SHORT = {"name": "grpo", "rewards": [{"by": "length", "most": 2, "margin": 8}], "max_new_tokens": 10, "group_size": 4}
"""A reward that a random model can learn: to end soon."""


def write(path: Path, numbers: range) -> Path:
    rows = [{"question": f"what is {i % 31}?", "answer": f"#### {i % 7}", "level": i % 3} for i in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [one for one in map(json.loads, lines) if one["kind"] == "step"]


def test_the_command_line_trains_judges_reports_and_answers(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = tmp_path / "run", write(tmp_path / "questions.jsonl", range(60))
    rewards = tmp_path / "rewards.py"
    rewards.write_text(
        "def short(answer, row):\n    return (row['level'] >= 0) / (1 + len(answer))\n", encoding="utf-8"
    )
    given = ["--model", str(llama_folder), "--data", str(data), "--method", "full", "--output", str(run)]
    task = ["--task", "grpo", "--task.max_new_tokens", "8", "--task.group_size", "4"]
    task += ["--task.rewards", f"[{rewards}:short, {{by: length, most: 2, margin: 6, weight: 0.5}}, number]"]
    flags = ["--train.max_steps", "12", "--train.learning_rate", "0.01", "--evaluation.num_resamples", "50"]
    assert command(["train", *given, *task, *flags]) == 0
    evaluation = Run.open(run).evaluation
    assert (evaluation["task"], evaluation["main_metric"]) == ("grpo", "reward")
    assert {"reward", "reward_function", "reward_length", "reward_number", "accuracy", "answer_length", "kl"} == set(
        evaluation["metrics"]
    )
    assert evaluation["difference"]["reward"]["low"] > 0
    assert evaluation["baseline"]["metrics"]["kl"]["value"] == 0 < evaluation["metrics"]["kl"]["value"]
    assert [part["name"] for part in evaluation["rewards"]] == ["short", "length", "number"]
    assert evaluation["answers"][0]["reference"].startswith("####")
    measured = [step["measured"] for step in steps(run)]
    assert measured[-1]["reward"] > measured[0]["reward"]
    assert {"reward/short", "reward/number", "accuracy", "answer_length", "cut", "without_difference"} < set(
        measured[0]
    )
    assert "Reinforcement by rewards" in (run / "report.html").read_text(encoding="utf-8")
    others = write(tmp_path / "others.jsonl", range(100, 112))
    capsys.readouterr()
    assert command(["evaluate", str(run), "--data", str(others)]) == 0
    assert "Reward" in capsys.readouterr().out
    found = tmp_path / "found.jsonl"
    assert command(["predict", str(run), "--data", str(others), "--output", str(found)]) == 0
    assert all("answer" in json.loads(line) for line in found.read_text(encoding="utf-8").splitlines())
    again = Run.open(run).evaluate()
    assert again["metrics"]["kl"]["value"] == pytest.approx(evaluation["metrics"]["kl"]["value"], abs=1e-6)
    assert again["metrics"]["reward"]["value"] == pytest.approx(evaluation["metrics"]["reward"]["value"], abs=1e-6)


@pytest.fixture
def reinforced(configured: Configure, llama_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Return what configures a short training by rewards."""
    data = write(tmp_path / "questions.jsonl", range(48))

    def config(name: str, task: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        values = {"method": {"name": "lora", "rank": 2}, "train": {"max_steps": 4, "batch_size": 4}, **sections}
        return configured(
            model={"name": str(llama_folder), "dropout": 0.0},
            data=str(data),
            task={**SHORT, **(task or {})},
            evaluation={"num_resamples": 0, "baseline": False},
            output=str(tmp_path / name),
            **values,
        )

    return config


def test_a_step_is_the_same_however_it_is_split(reinforced: Callable[..., RunConfig]) -> None:
    whole = train(reinforced("whole"))
    split = train(reinforced("split", compute={"micro_batch_rows": 1}))
    for one, other in zip(steps(whole), steps(split), strict=True):
        assert other["measured"] == one["measured"]
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-6)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)


@pytest.mark.parametrize("stop", [3, 4])
def test_answers_used_again_are_taken_up_by_a_resumed_run(reinforced: Callable[..., RunConfig], stop: int) -> None:
    task, settings = {"reuse": 3}, {"train": {"max_steps": 8, "batch_size": 4, "learning_rate": 0.05}}
    whole = train(reinforced("whole", task, **settings))
    with pytest.raises(Stopped):
        train(reinforced("resumed", task, **settings), observers=[StopAfter(stop)])
    resumed = train(reinforced("resumed", task, **settings), resume=True)
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    kept = [{name: one[name] for name in ("loss", "measured", "num_tokens")} for one in steps(resumed)]
    assert kept == [{name: one[name] for name in ("loss", "measured", "num_tokens")} for one in steps(whole)]
    rewards = [one["measured"]["reward"] for one in steps(whole)]
    assert rewards[0] == rewards[2] != rewards[3] == rewards[5]
    losses = [one["loss"] for one in steps(whole)]
    assert losses[0] != losses[1], "the ratio is no longer 1"


def test_rewards_that_never_differ_end_the_training(reinforced: Callable[..., RunConfig]) -> None:
    with pytest.raises(RunError, match=r"(?s)first 3 steps had anything to learn: all answers.*worth the same.*--task"):
        train(reinforced("idle", {"rewards": "length:10", "give_up_after": 3}))
    folder = train(reinforced("patient", {"rewards": "length:10", "give_up_after": None}))
    assert all(one["measured"]["without_difference"] == 1 and one["idle"] for one in steps(folder))


def test_the_reference_shares_what_is_not_trained_and_is_left_alone_without_a_weight(
    reinforced: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    share = living_reference.share_memory

    def watching(model: Any, other: Any, trained: Any) -> None:
        share(model, other, trained)
        own = {one.data_ptr() for one in other.parameters()}
        seen.append(all(one.data_ptr() in own for one in model.parameters()))

    monkeypatch.setattr(living_reference, "share_memory", watching)
    train(reinforced("with", {"beta": 0.1}))
    assert seen == [True]
    run = Run.open(train(reinforced("without", {"beta": 0.0})))
    assert len(seen) == 1
    assert "kl" not in run.evaluation["metrics"]


def test_a_reward_run_judges_answers(
    reinforced: Callable[..., RunConfig], configured: Configure, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"what is {i}?", "chosen": "great", "rejected": f"a dull waste {i}"} for i in range(40)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judge = train(configured(data=str(pairs), task="reward", train={"max_steps": 2}, output=str(tmp_path / "judge")))
    run = Run.open(train(reinforced("judged", {"rewards": f"run:{judge}"})))
    rewards = run.evaluation["metrics"]["reward_run"]["value"]
    assert rewards == run.evaluation["metrics"]["reward"]["value"]
    asked = [
        {"prompt": one["prompt"].removeprefix("user: "), "completion": one["after"]}
        for one in run.evaluation["answers"]
    ]
    scores = [row["value"] for row in Run.open(judge).predict(asked)]
    assert np.mean(scores) == pytest.approx(rewards, abs=1e-5)
    with pytest.raises(InputError, match="There is no run at"):
        train(reinforced("nobody", {"rewards": f"run:{tmp_path / 'nowhere'}"}))
    with pytest.raises(InputError, match="gives an answer no score"):
        train(reinforced("wrong", {"rewards": f"run:{run.folder}"}))


def test_a_function_that_fails_in_training_names_the_row(reinforced: Callable[..., RunConfig], tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def score(answer, row):\n    return row['missing']\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"score failed on an answer to .*questions.jsonl:\d+ \(line 2\): KeyError"):
        train(reinforced("failing", {"rewards": f"{file}:score"}))


def test_weights_move_with_the_reward(reinforced: Callable[..., RunConfig]) -> None:
    folder = train(reinforced("moved"))
    moved = load_file(folder / "adapter_model.safetensors")
    assert any(bool(one.any()) for name, one in moved.items() if "lora_B" in name)
