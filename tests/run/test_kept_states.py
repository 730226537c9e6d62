"""States that wait in memory: what a run ends with does not depend on where it was kept, or for how long."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.engine import checkpoint
from tunesmith.files import operations
from tunesmith.run import Observer, Run, RunConfig, Stopped, Workshop, kept_states, train
from tunesmith.run.assembly import Network
from tunesmith.run.directory import RunDirectory
from tunesmith.types import StepInfo

Configure = Callable[..., RunConfig]
LOSS = {"patience": "never", "metric": "loss"}


class StopAfter(Observer):
    """Asks the process to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def worsening(configured: Configure, output: Path, **sections: Any) -> RunConfig:
    """Return a run that is best long before its last step."""
    train = {
        "epochs": 3,
        "learning_rate": 0.3,
        "evaluate_steps": 2,
        "early_stopping": LOSS,
        **sections.pop("train", {}),
    }
    return configured(train=train, output=str(output), evaluation={"baseline": False}, **sections)


def result(folder: Path) -> dict[str, Any]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    run = Run.open(folder)
    return {
        "curve": [{key: value for key, value in line.items() if key != "seconds"} for line in lines],
        "weights": [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))],
        "best": run.summary["best_step"],
        "metrics": run.evaluation["metrics"],
    }


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_best_step_comes_from_memory_as_from_disk(configured: Configure, tmp_path: Path, method: str) -> None:
    alone = result(train(worsening(configured, tmp_path / "alone", method=method)))
    assert alone["best"] < 24, "the last step is the best: nothing is returned to"
    with Workshop(most_lost=1e9) as workshop:
        folder = train(worsening(configured, tmp_path / "kept", method=method), workshop=workshop)
    assert result(folder) == alone
    assert not list(folder.rglob("checkpoints"))


def test_a_checkpoint_brings_the_best_step_with_it(configured: Configure, tmp_path: Path) -> None:
    """A run that is stopped, and gone on with by another process, returns to a step that was in memory alone."""
    expected = result(train(worsening(configured, tmp_path / "alone")))
    config = worsening(configured, tmp_path / "stopped")
    stop = expected["best"] + 1
    with Workshop(most_lost=1e9) as workshop, pytest.raises(Stopped):
        train(config, workshop=workshop, observers=[StopAfter(stop)])
    places = tmp_path / "stopped" / "checkpoints"
    assert {path.name for path in places.iterdir()} == {f"step-{stop}", f"weights-{expected['best']}"}
    assert result(train(config, resume=True)) == expected


@pytest.mark.slow
def test_a_damaged_best_step_is_told_of(configured: Configure, tmp_path: Path) -> None:
    best = result(train(worsening(configured, tmp_path / "alone")))["best"]
    config = worsening(configured, tmp_path / "stopped")
    with Workshop(most_lost=1e9) as workshop, pytest.raises(Stopped):
        train(config, workshop=workshop, observers=[StopAfter(best + 1)])
    weights = tmp_path / "stopped" / "checkpoints" / f"weights-{best}" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    run = Run.open(train(config, resume=True))
    assert any("cannot be restored" in problem["message"] for problem in run.summary["problems"])


@pytest.mark.parametrize("method", ["full", "lora", "adalora", {"name": "lisa", "layers": 1}])
@pytest.mark.parametrize("most_lost", [0.0, 1e9])
def test_a_paused_run_goes_on_to_the_same_bits(
    configured: Configure, tmp_path: Path, method: Any, most_lost: float
) -> None:
    def config(name: str) -> RunConfig:
        return configured(method=method, output=str(tmp_path / name), evaluation={"baseline": False})

    expected = result(train(config("alone")))
    with Workshop(keeps_networks=True, most_lost=most_lost) as workshop:
        for name in ("one", "two"):  # the second begins with the network of the first, where that may be
            train(config(name), workshop=workshop, until=8)
        for name in ("one", "two"):
            assert bool(list((tmp_path / name).rglob("checkpoints"))) != bool(most_lost)
            assert result(train(config(name), workshop=workshop, resume=True)) == expected


def test_what_may_be_lost_is_lost_by_all_paused_runs_together(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workshop(most_lost=60.0) as workshop:
        states = workshop.states
        train(configured(output=str(tmp_path / "a")), workshop=workshop, until=3)
        (paused,) = states._paused.values()
        assert paused.seconds > 0
        assert not states.may_wait(60.0 - paused.seconds)
        assert states.may_wait(59.0 - paused.seconds)
        states.forget(tmp_path / "a")
        assert states.may_wait(59.9)
        monkeypatch.setattr(kept_states, "ROOM", 0.0)
        train(configured(output=str(tmp_path / "b")), workshop=workshop, until=3)
        assert not states.num_bytes
        assert list(checkpoint.list_steps(tmp_path / "b" / "checkpoints")) == [3]


def test_a_network_whose_frozen_weights_were_written_to_is_not_used_again(
    configured: Configure, tmp_path: Path
) -> None:
    def config(name: str) -> RunConfig:
        train = {"precision": "bf16"}  # its frozen weights are rounded, and the network's own
        return configured(method="lora", output=str(tmp_path / name), train=train, evaluation={"baseline": False})

    with Workshop(keeps_networks=True) as workshop:
        give_back = workshop.networks.give_back
        seen: list[int] = []

        def written(network: Network, resolved: RunConfig) -> None:
            seen.append(id(network.model))
            if len(seen) == 2:
                frozen = next(one for one in network.model.parameters() if not one.requires_grad)
                with torch.no_grad():
                    frozen.add_(0.0)
            give_back(network, resolved)

        workshop.networks.give_back = written  # type: ignore[method-assign]
        for name in ("a", "b", "c"):
            train(config(name), workshop=workshop, until=2)
    assert seen[0] == seen[1]
    assert not workshop.networks._idle
    assert len(set(seen)) == 2


def test_memory_is_given_back(configured: Configure, tmp_path: Path) -> None:
    with Workshop(keeps_networks=True, most_lost=60.0) as workshop:
        train(configured(output=str(tmp_path / "a")), workshop=workshop, until=2)
        assert workshop.states.num_bytes > 0
        assert workshop.networks.num_bytes > 0
    assert workshop.states.num_bytes == workshop.networks.num_bytes == 0


def test_a_run_alone_writes_its_checkpoints_as_before(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(operations, "on_operation", lambda operation, path: seen.append(f"{operation} {path.name}"))
    train(configured())
    assert [f"rename {name}" in seen for name in ("step-8", "step-16")] == [True, True]


def test_a_run_that_replaces_a_paused_one_does_not_go_on_from_it(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(output=str(tmp_path / "a"), evaluation={"baseline": False})
    with Workshop(most_lost=60.0) as workshop:
        train(config, workshop=workshop, until=3)
        assert workshop.states.num_bytes > 0
        monkeypatch.setattr(kept_states, "ROOM", 0.0)  # so that the next one has its state on disk
        train(config, workshop=workshop, until=5, overwrite=True)
        assert not workshop.states.num_bytes
        assert list(checkpoint.list_steps(RunDirectory(tmp_path / "a").staged.checkpoints)) == [5]
