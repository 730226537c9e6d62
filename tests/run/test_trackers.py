"""Trackers: their own libraries, offline, told of a run; resumed, failing, and not installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import tunesmith.run.trackers as trackers
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.trackers.tracker import Figures, Tracker
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
SHORT = {"max_steps": 4, "evaluate_steps": 2}


class Recorded(Tracker):
    """Keeps what a tracker's library would be told; the thread, the queue and the record are those of all."""

    told: list[tuple[str, object]] = []

    def begin(self, known: Mapping[str, str]) -> Mapping[str, str]:
        self.told.append(("begin", dict(known)))
        self.told.append(("facts", self.facts()))
        return {"id": known.get("id", "first")}

    def send(self, figures: Sequence[Figures]) -> None:
        self.told += [("figures", one) for one in figures]

    def end(self, figures: Mapping[str, float], *, is_finished: bool) -> None:
        self.told.append(("end", (dict(figures), is_finished)))


class Broken(Recorded):
    def send(self, figures: Sequence[Figures]) -> None:
        raise ConnectionError("nobody there")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Let MLflow's place be taken by what records, and return what it is told."""
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(Recorded, "told", told)
    monkeypatch.setattr(trackers, "TRACKERS", {"mlflow": Recorded, "trackio": Broken})
    monkeypatch.setattr(trackers, "find_spec", lambda name: name)
    return told


def test_a_tracker_is_told_of_all_of_a_run_and_goes_on_with_it(
    configured: Configure, recorded: list[tuple[str, object]]
) -> None:
    config = configured(train=SHORT, tracker="mlflow")
    train(config, until=2)
    assert [what for what, _ in recorded] == ["begin", "facts", "figures", "figures", "figures", "end"]
    assert recorded[-1][1] == ({}, False), "it is not finished"
    facts = dict(recorded)["facts"]
    assert isinstance(facts, dict)
    assert facts["folder"] == str(Path(config.output or "").absolute())
    assert facts["train"]["max_steps"] == 4
    recorded.clear()
    folder = train(config, resume=True)
    assert recorded[0] == ("begin", {"id": "first"}), "the same run there"
    steps = [one for what, one in recorded if what == "figures"]
    assert {step for step, _ in steps} == {3, 4}  # type: ignore[misc, union-attr]
    figures, is_finished = recorded[-1][1]  # type: ignore[misc]
    assert is_finished
    assert figures["run/steps"] == 4
    run = Run.open(folder)
    accuracy = run.evaluation["metrics"]["accuracy"]
    assert figures["test/accuracy"] == accuracy["value"]
    assert figures["test/accuracy_low"] == accuracy["low"]
    assert json.loads((folder / "tracker.json").read_text()) == {"mlflow": {"id": "first"}}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {record["step"]: record["loss"] for record in metrics if record["kind"] == "step"}
    assert {step: values["train/loss"] for step, values in steps if "train/loss" in values} == pytest.approx(  # type: ignore[misc, union-attr]
        {step: losses[step] for step in (3, 4)}
    )


def test_a_tracker_that_fails_is_warned_of_once_and_ends_nothing(
    configured: Configure, recorded: list[tuple[str, object]]
) -> None:
    config = configured(train={**SHORT, "max_steps": 8}, tracker="trackio,mlflow")
    run = Run.open(train(config))
    warnings = [one["message"] for one in run.summary["problems"] if "nobody there" in one["message"]]
    assert len(warnings) == 1
    assert "told nothing any more of this run, which goes on" in warnings[0]
    assert recorded[-1][0] == "end", "the other one is told of all"
    assert run.config.tracker is not None
    assert run.config.tracker.to == ("trackio", "mlflow")


def test_what_is_not_installed_is_refused_before_anything_is_read(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="tracker: wandb needs the package"):
        train(configured(tracker="wandb"))
    with pytest.raises(InputError, match=r"tracker\.to"):
        configured(tracker="aim")


# ---- the real libraries --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of their own
def test_mlflow_has_the_whole_run(configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="extra mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    config = configured(train=SHORT, tracker={"to": "mlflow", "project": "reviews", "name": "first"})
    train(config, until=2)
    folder = train(config, resume=True)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "reviews"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("first", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [one.step for one in history] == [1, 2, 3, 4]
    assert run.data.params["train.max_steps"] == "4"
    assert run.data.tags["tunesmith.folder"] == str(folder.absolute())
    accuracy = Run.open(folder).evaluation["metrics"]["accuracy"]["value"]
    assert run.data.metrics["test/accuracy"] == pytest.approx(accuracy)
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ, "set within alone"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/at/all.db")
    (tmp_path / "none").write_text("a file")
    failed = Run.open(train(configured(train=SHORT, tracker="mlflow", output=str(tmp_path / "failed"))))
    assert sum("MLflow failed" in one["message"] for one in failed.summary["problems"]) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_offline(configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="extra wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = train(configured(train=SHORT, tracker={"to": "wandb", "project": "reviews"}))
    known = json.loads((folder / "tracker.json").read_text())["wandb"]
    assert known["mode"] == "offline"
    (place,) = (tmp_path / "wandb").glob("offline-run-*")
    assert known["id"] in place.name
    (file,) = place.glob("*.wandb")
    content = file.read_bytes()
    for word in (b"train/loss", b"validation/accuracy", b"test/accuracy_low", b"reviews"):
        assert word in content
    assert "WANDB_ERROR_REPORTING" not in os.environ


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_has_the_whole_run(configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="extra trackio")
    from trackio.sqlite_storage import SQLiteStorage

    config = configured(train=SHORT, tracker={"to": "trackio", "project": "reviews", "name": "first"})
    train(config, until=2)
    train(config, resume=True)
    assert SQLiteStorage.get_runs("reviews") == ["first"]
    logs = SQLiteStorage.get_logs("reviews", "first")
    assert [one["step"] for one in logs if "train/loss" in one] == [1, 2, 3, 4]
    assert any("test/accuracy_low" in one for one in logs)
