"""What a run is told when it goes on elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.run import RunConfig, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import machine, versions
from tunesmith.run.guards import other_surroundings
from tunesmith.run.observers import Observer
from tunesmith.run.signals import Stopped


def surroundings(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"versions": versions(), "machine": machine()}
    for name, value in changes.items():
        part = "versions" if name in found["versions"] else "machine"
        found[part] = {**found[part], name: value}
    return found


def test_nothing_is_said_where_nothing_changed() -> None:
    assert other_surroundings(surroundings(), surroundings(memory_bytes=1)) == []


@pytest.mark.parametrize(("name", "value"), [("torch", "2.0"), ("native_kernels", None), ("num_threads", 64)])
def test_what_rounds_differently_is_told(name: str, value: Any) -> None:
    (problem,) = other_surroundings(surroundings(**{name: value}), surroundings())
    assert problem.severity == "warning"
    assert f"{name} {value} is now " in problem.message


class StopAtOnce(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_that_goes_on_elsewhere_says_so(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = configured(output=str(tmp_path / "run"))
    with pytest.raises(Stopped):
        train(config, observers=[StopAtOnce()])
    directory = RunDirectory(tmp_path / "run")
    environment = directory.read_json("environment")
    directory.write_json("environment", {**environment, "versions": {**environment["versions"], "torch": "1.0"}})
    train(config, resume=True)
    told = [problem["message"] for problem in directory.read_json("training")["problems"]]
    assert sum("torch 1.0 is now " in message for message in told) == 1
