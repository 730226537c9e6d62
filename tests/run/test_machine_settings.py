"""The recipe makes the run; the machine may change: old run folders, and runs that go on with other settings."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tunesmith
from tunesmith.config.load import load_yaml
from tunesmith.engine import checkpoint as checkpoints
from tunesmith.files.manifest import MANIFEST
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.observers import Observer
from tunesmith.run.signals import Stopped
from tunesmith.types import InputError, Problem

Configure = Callable[..., RunConfig]


class Stop(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


class Watcher(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, problem: Problem) -> None:
        if "compute." in problem.message:
            self.notes.append(problem.message)


def stopped(config: RunConfig) -> Path:
    with pytest.raises(Stopped):
        train(config, observers=[Stop()])
    return Path(config.output or "")


def make_old(folder: Path) -> None:
    """Write configuration and checkpoints of a run in the form that the first version gave them."""
    values = load_yaml(folder / "config.yaml")
    del values["version"]
    later = ("parallel", "rank_timeout", "offload")  # keys that there were not then
    values["train"] |= {name: value for name, value in values.pop("compute").items() if name not in later}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    for state in folder.glob("checkpoints/step-*/state.json"):
        content = json.loads(state.read_text(encoding="utf-8"))
        del content["compute"]
        state.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files be changed by hand."""
    monkeypatch.setattr("tunesmith.engine.checkpoint.verify_manifest", lambda _folder: [])
    monkeypatch.setattr("tunesmith.run.directory.verify_manifest", lambda *_arguments, **_settings: [])
    monkeypatch.setattr("tunesmith.run.guards.verify_manifest", lambda *_arguments, **_settings: [])


def result(folder: Path) -> tuple[bytes, list[float]]:
    """Return what must not depend on interruptions: weights and losses."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return (folder / "model.safetensors").read_bytes(), [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.usefixtures("unsealed")
def test_an_old_run_goes_on_to_the_same_bits(configured: Configure, tmp_path: Path) -> None:
    settings = {"micro_batch_tokens": 128, "checkpoint_steps": 3}
    whole = train(configured(output=str(tmp_path / "whole"), compute=settings))
    config = configured(compute=settings)
    folder = stopped(config)
    make_old(folder)
    watcher = Watcher()
    train(config, resume=True, observers=[watcher])
    assert result(folder) == result(whole)
    assert watcher.notes == [], "nothing has changed"
    assert load_yaml(folder / "config.yaml")["version"] == 2


@pytest.mark.usefixtures("unsealed")
def test_an_old_finished_run_opens_predicts_and_evaluates(configured: Configure) -> None:
    config = configured(train={"epochs": 1}, compute={"layout": "padded"})
    folder = train(config)
    expected = Run.open(folder).predict(["a great film"])
    make_old(folder)
    before = (folder / MANIFEST).read_bytes()
    run = Run.open(folder)
    assert run.config.compute.layout == "padded"
    assert run.predict(["a great film"]) == expected
    assert run.evaluate(split="validation")["metrics"]["accuracy"]
    assert train(config, resume=True) == folder
    assert (folder / MANIFEST).read_bytes() == before


def test_a_run_of_a_newer_version_says_so(configured: Configure) -> None:
    folder = stopped(configured())
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(text.replace("version: 2", "version: 9"), encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.yaml: version is 9"):
        train(configured(), resume=True)


def test_a_run_goes_on_with_other_settings_of_the_machine_and_says_so(configured: Configure, tmp_path: Path) -> None:
    model = {"name": configured().model.name, "dropout": 0.0}
    whole = train(configured(model=model, output=str(tmp_path / "whole")))
    folder = stopped(configured(model=model))
    watcher = Watcher()
    changed = configured(model=model, compute={"layout": "padded", "micro_batch_tokens": 64})
    train(changed, resume=True, observers=[watcher])
    (told,) = watcher.notes
    assert 'compute.layout "flat" is now "padded"; compute.micro_batch_tokens 4096 is now 64' in told
    assert "not to the same bits" in told
    found = Run.open(folder).summary
    assert (found["layout"], found["micro_batch_tokens"]) == ("padded", 64), "what was asked for was done"
    assert result(folder)[1] == pytest.approx(result(whole)[1], rel=1e-3)


class Crash(BaseException):
    """Ends a run in process as a kill would."""


class CrashAtOnce(Observer):
    def started(self, plan: Any) -> None:
        raise Crash


def test_settings_that_were_changed_hold_for_every_resumption(configured: Configure) -> None:
    """Killed before another checkpoint is saved, the run has the new settings and a checkpoint of the old ones."""
    folder = stopped(configured())
    changed = configured(compute={"micro_batch_tokens": 64})
    with pytest.raises(Crash):
        train(changed, resume=True, observers=[CrashAtOnce()])
    train(changed, resume=True)
    assert Run.open(folder).summary["micro_batch_tokens"] == 64


def test_how_often_checkpoints_are_saved_changes_no_bit(configured: Configure, tmp_path: Path) -> None:
    whole = train(configured(output=str(tmp_path / "whole")))
    folder = stopped(configured())
    watcher = Watcher()
    train(configured(compute={"checkpoint_steps": 2, "keep_checkpoints": 3}), resume=True, observers=[watcher])
    (told,) = watcher.notes
    assert told.endswith("and to the same bits.")
    assert result(folder) == result(whole)
    assert len(checkpoints.list_steps(folder / "checkpoints")) >= 3


def test_another_recipe_is_refused_whatever_the_machine(configured: Configure) -> None:
    stopped(configured())
    other = configured(train={"seed": 5}, compute={"layout": "padded"})
    with pytest.raises(InputError, match=r"started with other values of train\.seed\."):
        train(other, resume=True)


def test_a_finished_run_is_the_same_on_every_machine(configured: Configure) -> None:
    folder = train(configured(train={"epochs": 1}))
    before = (folder / MANIFEST).read_bytes()
    assert train(configured(train={"epochs": 1}, compute={"micro_batch_rows": 1}), resume=True) == folder
    assert (folder / MANIFEST).read_bytes() == before


def test_what_was_chosen_for_the_run_is_taken_over(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that would choose otherwise, ``auto`` stands for what the run began with."""
    config = configured(train={"precision": "auto"})
    monkeypatch.setattr("tunesmith.engine.precision.multiplies_bf16", lambda _device: False)
    folder = stopped(config)
    monkeypatch.setattr("tunesmith.engine.precision.multiplies_bf16", lambda _device: True)
    train(config, resume=True)
    assert Run.open(folder).summary["precision"] == load_yaml(folder / "config.yaml")["train"]["precision"] == "fp32"


def test_finetune_takes_former_names_and_warns(reviews: Path, bert_folder: Path, tmp_path: Path) -> None:
    settings = {"epochs": 1, "batch_size": 16, "precision": "fp32", "layout": "padded"}
    sections: dict[str, Any] = {"model": str(bert_folder), "output": tmp_path / "run", "report": False}
    with pytest.warns(FutureWarning, match=r"train\.layout is compute\.layout now"):
        run = tunesmith.finetune(str(reviews), train=settings, evaluation={"num_resamples": 0}, **sections)
    assert run.config.compute.layout == "padded"
