"""Whole runs with a teacher: what is learned from it, and that nothing else depends on how that is computed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_runs import small_config
from tiny import tiny_folder
from tunesmith.run import Observer, Run, RunConfig, Stopped, Workshop, train
from tunesmith.run import teaching as module
from tunesmith.tasks.objectives.distillation import ALONE, SCORES
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]

WORDS = ("great", "dull", "warm", "slow")
TASKS: dict[str, tuple[str, dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "classification": ("classification", {}, lambda i: {"label": ("good", "bad", "so-so")[i % 3]}),
    "multi-label": ("classification", {"multi_label": True}, lambda i: {"label": list(WORDS[: i % 3 + 1])}),
    "regression": ("regression", {"standardize": True}, lambda i: {"label": i % 9 / 2}),
    "entities": (
        "token_classification",
        {},
        lambda i: {"tokens": ["this", WORDS[i % 4], f"film {i}"], "tags": ["O", "B-X" if i % 2 else "O", "O"]},
    ),
    "texts": ("causal_lm", {}, lambda i: {}),
}


def write_rows(path: Path, task: str) -> Path:
    make = TASKS[task][2]
    rows = [{"text": f"this {WORDS[i % 4]} {WORDS[i // 4 % 4]} {i % 31}", **make(i)} for i in range(90)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class StopAfter(Observer):
    """Asks a training to stop after a few steps, as a shell does."""

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [one["loss"] for one in map(json.loads, lines) if one["kind"] == "step"]


@pytest.fixture(scope="module")
def teacher(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that knows how the reviews are to be judged; tests leave it as it is."""
    return train(small_config(reviews, bert_folder, tmp_path_factory.mktemp("teacher") / "run", train={"epochs": 8}))


@pytest.mark.parametrize("task", TASKS)
def test_resumed_flat_padded_and_micro_batches_are_one(
    configured: Configure, llama_folder: Path, tmp_path: Path, task: str
) -> None:
    name, settings, _ = TASKS[task]
    model = str(llama_folder) if name == "causal_lm" else configured().model.name
    shared: dict[str, Any] = {
        "data": str(write_rows(tmp_path / "rows.jsonl", task)),
        "model": {"name": model, "dropout": 0.0},
        "evaluation": {"num_resamples": 20, "baseline": False},
    }
    own: dict[str, Any] = {"task": {"name": name, **settings}, "train": {"max_steps": 4}}
    taught_by = train(configured(**shared, **own, output=str(tmp_path / "teacher")))

    def config(folder: str, **compute: Any) -> RunConfig:
        return configured(
            **shared,
            teacher={"run": str(taught_by), "num_tokens": 5},
            train={"max_steps": 5, "seed": 1},
            compute=compute,
            output=str(tmp_path / folder),
        )

    whole = train(config("whole", layout="flat"))
    with pytest.raises(Stopped):
        train(config("resumed", layout="flat"), observers=[StopAfter()])
    assert (tmp_path / "resumed" / "teacher" / "train" / "described.json").exists()
    resumed = train(config("resumed", layout="flat"), resume=True)
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert losses(resumed) == losses(whole)
    assert not (resumed / "teacher").exists()
    other = train(config("other", layout="padded", micro_batch_rows=2))
    assert losses(other) == pytest.approx(losses(whole), rel=1e-3, abs=1e-5)
    run = Run.open(whole)
    (beside,) = run.evaluation["beside"]
    of_teacher = Run.open(taught_by).evaluation["metrics"]
    for metric, interval in beside["metrics"].items():
        assert interval["value"] == pytest.approx(of_teacher[metric]["value"], abs=1e-5), metric
    assert run.directory.read_json("environment")["teacher"]["folder"] == str(taught_by)


def test_a_student_from_scratch_learns_from_rows_without_labels(
    configured: Configure, teacher: Path, reviews_writer: Callable[..., Path], tmp_path: Path
) -> None:
    few = tmp_path / "few.csv"
    lines = (reviews_writer(tmp_path / "more.csv", 400, seed=3)).read_text().splitlines()
    few.write_text("\n".join(lines[:25]) + "\n")
    unlabelled = tmp_path / "unlabelled.csv"
    rows = list(csv.reader(lines[1:]))
    unlabelled.write_text("review\n" + "\n".join(f'"{text}"' for text, _ in rows[:300]) + "\n,\n")
    test = reviews_writer(tmp_path / "test.csv", 200, seed=7)

    def accuracy(name: str, **sections: Any) -> tuple[float, Run]:
        data = {"path": str(few), "test": str(test), "validation_fraction": 0.2}
        settings = {"epochs": 8, "learning_rate": 3e-3, "evaluate_steps": 200}
        run = Run.open(
            train(configured(model="cnn", data=data, train=settings, output=str(tmp_path / name), **sections))
        )
        return run.evaluation["metrics"]["accuracy"]["value"], run

    alone, _ = accuracy("alone")
    taught, run = accuracy("taught", teacher={"run": str(teacher), "unlabelled": str(unlabelled)})
    assert taught > alone
    told = run.summary["rows"]
    assert told["unlabelled"] == 300 - told["train"] - told["validation"], "what is known already is left out"
    assert any("not those of the teacher" in problem["message"] for problem in run.summary["problems"])


def test_answers_are_those_of_the_rows_whatever_their_order(
    configured: Configure, teacher: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = reviews.read_text(encoding="utf-8").splitlines()
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n", encoding="utf-8")
    seen: list[dict[str, Any]] = []
    follow = module.follow_teacher

    def watch(opened: Any) -> Any:
        followed = follow(opened)
        texts = opened.data.columns("train")["text"]
        seen.append(dict(zip(texts, np.asarray(followed.training.data.targets[SCORES]), strict=True)))
        assert ALONE not in followed.training.data.targets
        return followed

    monkeypatch.setattr("tunesmith.run.training.follow_teacher", watch)
    for number, data in enumerate((reviews, turned)):
        train(
            configured(data=str(data), teacher=str(teacher), train={"max_steps": 1}, output=str(tmp_path / str(number)))
        )
    expected = Run.open(teacher).predict(list(seen[0]))
    for first, answer in zip(seen[0].values(), expected, strict=True):
        assert np.exp(first) == pytest.approx(list(answer["probabilities"].values()), abs=1e-5)
    assert seen[0].keys() == seen[1].keys()
    for text, scores in seen[0].items():
        assert seen[1][text] == pytest.approx(scores, abs=1e-5)


def test_the_teacher_is_asked_once_in_a_workshop(
    configured: Configure, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    opened = Run.open

    def count(folder: Path) -> Run:
        asked.append(str(folder))
        return opened(folder)

    monkeypatch.setattr(module.Run, "open", count)
    with Workshop() as workshop:
        for seed in (0, 1):
            own = {"max_steps": 1, "seed": seed}
            train(configured(teacher=str(teacher), train=own, output=str(tmp_path / f"{seed}")), workshop=workshop)
    assert len(asked) == 3, "both look at it, one asks it"


def other_labels(configured: Configure, tmp_path: Path) -> dict[str, Any]:
    text = Path(configured().data.path).read_text(encoding="utf-8").replace(",good", ",fine")
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    return {"data": str(tmp_path / "other.csv"), "task": "classification"}


def test_what_cannot_teach_is_refused(configured: Configure, teacher: Path, llama_folder: Path, tmp_path: Path) -> None:
    def refuse(message: str, **sections: Any) -> None:
        with pytest.raises(InputError, match=message):
            train(configured(**{"teacher": str(teacher), "output": str(tmp_path / "student"), **sections}))
        assert not (tmp_path / "student" / "config.yaml").exists()

    refuse("There is no run at", teacher=str(tmp_path / "nowhere"))
    refuse("it lacks fine and it has besides good", **other_labels(configured, tmp_path))
    refuse(
        "is of the task classification, and what is to be trained is of masked_lm|cannot be learned from",
        task="masked_lm",
    )
    refuse("none of the 160 rows", teacher={"run": str(teacher), "unlabelled": configured().data.path})
    texts = str(write_rows(tmp_path / "texts.jsonl", "texts"))
    language: dict[str, Any] = {"task": "causal_lm", "data": texts, "train": {"max_steps": 1}}
    taught_by = train(configured(**language, model=str(llama_folder), output=str(tmp_path / "language")))
    other = tiny_folder(tmp_path / "other", "qwen3", head="causal")
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    refuse("reads other tokens", **language, model=str(other), teacher=str(taught_by))
    refuse("need no labels", **language, model=str(llama_folder), teacher={"run": str(taught_by), "unlabelled": texts})


def test_another_teacher_in_its_place_is_refused_on_resuming(
    configured: Configure, teacher: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(teacher, tmp_path / "teacher")
    config = configured(teacher=str(copied), output=str(tmp_path / "student"))
    with pytest.raises(Stopped):
        train(config, observers=[StopAfter()])
    shutil.rmtree(copied)
    train(configured(train={"max_steps": 2}, output=str(copied)))
    with pytest.raises(InputError, match="has changed since"):
        train(config, resume=True)
