"""One run made by several real processes: the run of one, whatever becomes of the processes on the way."""

from __future__ import annotations

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from forked_process import ForkedProcess, command
from run import looping, other_version
from run.test_interruption import arguments_of, trained_bytes, wait_for_step
from small_runs import small_config
from tunesmith.cli.application import run as run_command
from tunesmith.engine.rank_group import num_cores, number_started, require_room
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

pytestmark = pytest.mark.skipif(num_cores() < 2, reason="two ranks take two cores")

LONG: dict[str, Any] = {
    "train": {"epochs": 8},  # 64 steps: enough for a signal to come before the last one
    "compute": {"checkpoint_steps": 3, "rank_timeout": 3},
    "evaluation": {"num_resamples": 0, "baseline": False},
}
Begin = Callable[..., list[ForkedProcess]]


def together(size: int) -> Iterator[dict[str, str]]:
    """Yield what torchrun writes into the environment of each of the processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    for number in range(size):
        yield {name: str(value) for name, value in {**shared, "RANK": number, "LOCAL_RANK": number}.items()}


def start(
    place: Path,
    *configs: RunConfig,
    flags: tuple[str, ...] = (),
    calls: Mapping[int, Callable[[list[str]], None]] = MappingProxyType({}),
) -> list[ForkedProcess]:
    """Start the processes of one run, as torchrun does; ``calls`` are what some run in place of the command."""
    found = []
    for number, (config, surroundings) in enumerate(zip(configs, together(len(configs)), strict=True)):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in surroundings.items():
                patch.setenv(name, value)
            arguments = [*arguments_of(config, place / f"config-{number}.yaml"), *flags]
            found.append(ForkedProcess(calls[number], arguments) if number in calls else command(*arguments))
    return found


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Return what starts the processes of one run; none is left at the end."""
    started: list[ForkedProcess] = []

    def begin(*configs: RunConfig, **how: Any) -> list[ForkedProcess]:
        started.extend(found := start(tmp_path, *configs, **how))
        return found

    yield begin
    for process in started:
        process.send_signal(signal.SIGKILL)


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    records = [record for record in lines if record["kind"] == "step"]
    found = {record["step"]: record["loss"] for record in records}
    assert len(found) == len(records), "no step is there twice"
    return found


def assert_same_curve(one: Path, other: Path) -> None:
    ours, theirs = losses(one), losses(other)
    assert ours.keys() == theirs.keys() == set(range(1, 65))
    assert np.allclose(list(ours.values()), list(theirs.values()), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def twin(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that two processes made, and nobody interrupted."""
    place = tmp_path_factory.mktemp("twin")
    config = small_config(reviews, bert_folder, place / "run", **LONG)
    processes = start(place, config, config)
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    return Path(str(config.output))


def test_the_run_of_two_processes_is_that_of_one(twin: Path, configured: Callable[..., RunConfig]) -> None:
    alone = train(configured(**LONG))
    assert_same_curve(twin, alone)
    counted = [json.loads((folder / "training.json").read_text()) for folder in (twin, alone)]
    assert [one["ranks"] for one in counted] == [2, 1]
    assert counted[0]["tokens"] == counted[1]["tokens"]
    (ours,), (theirs,) = (Run.open(folder).predict(["a great film"]) for folder in (twin, alone))
    assert ours["label"] == theirs["label"]
    assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_the_run_goes_on(
    twin: Path, begin: Begin, configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = configured(**LONG)
    folder = Path(str(config.output))
    processes = begin(config, config)
    wait_for_step(folder, 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in processes] == [143, 143], processes[0].stderr
    assert "--resume --ranks 2" in processes[0].stderr
    shutil.copytree(folder, tmp_path / "copy")
    processes = begin(config, config, flags=("--resume",))
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    assert trained_bytes(folder) == trained_bytes(twin)
    other = train(config.model_copy(update={"output": str(tmp_path / "copy")}), resume=True)  # alone
    assert_same_curve(other, twin)
    assert json.loads((other / "training.json").read_text())["ranks"] == 1


@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "has ended"), (signal.SIGSTOP, "nothing was heard")])
def test_a_lost_process_ends_the_others_and_is_named(
    number: int, said: str, begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    config = configured(**LONG)
    first, second = begin(config, config)
    wait_for_step(Path(str(config.output)), 5, first)
    began = time.monotonic()
    second.send_signal(number)
    assert first.wait() == 1
    assert time.monotonic() - began < 10
    assert f"ank 1 (process {second.pid}" in first.stderr
    assert said in first.stderr
    assert second.wait() == -signal.SIGKILL, "one that is stopped is ended, too"


@pytest.mark.slow
def test_a_stopped_first_process_that_keeps_the_store_is_ended_too(
    begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    config = configured(**LONG)
    first, second = begin(config, config)
    wait_for_step(Path(str(config.output)), 5, first)
    first.send_signal(signal.SIGSTOP)
    assert second.wait() == 1
    assert f"ank 0 (process {first.pid}" in second.stderr
    assert first.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["data", "fsdp"])
def test_a_process_that_loops_is_named_and_ended(
    parallel: str, begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    """It gives signs of life: that others wait for it is told after the time-out, and ends all after six times that."""
    config = configured(**{**LONG, "compute": {"rank_timeout": 2, "parallel": parallel}})
    first, second = begin(config, config, calls={1: looping.run_command})
    wait_for_step(Path(str(config.output)), looping.STEPS, first)
    began, told = time.monotonic(), 0.0
    while first.is_alive:
        if not told and f"Rank 1 (process {second.pid}" in first.stderr:
            told = time.monotonic() - began
        time.sleep(0.05)
    assert 1.5 < told < 10
    assert first.wait() == 1
    assert time.monotonic() - began < 40
    assert "is lost: it lives, but has come no further for" in first.stderr
    assert second.wait() == -signal.SIGKILL


def test_processes_that_do_not_train_the_same_are_refused(
    begin: Begin, configured: Callable[..., RunConfig], reviews_writer: Callable[..., Path], tmp_path: Path
) -> None:
    config = configured(**LONG)
    other = configured(
        **{**LONG, "train": {"epochs": 8, "seed": 3}, "data": str(reviews_writer(tmp_path / "b.csv", 161))}
    )
    first, _ = begin(config, other, calls={1: other_version.run_command})
    assert first.wait() == 2
    assert "Rank 1 (on " in first.stderr
    assert "data.path is " in first.stderr
    assert "the hash of the train rows is " in first.stderr
    assert "the version of torch is 0.0.1 there" in first.stderr
    assert not Path(str(config.output)).exists()


def test_more_processes_than_a_step_has_rows_are_refused(begin: Begin, configured: Callable[..., RunConfig]) -> None:
    config = configured(**{**LONG, "train": {"epochs": 1, "batch_size": 1}})
    first, _ = begin(config, config)
    assert first.wait() == 2
    assert "A step has 1 rows, and 2 ranks were asked for" in first.stderr


@pytest.mark.slow
def test_private_training_by_several_processes_is_refused(begin: Begin, configured: Callable[..., RunConfig]) -> None:
    pytest.importorskip("opacus", reason="accounting is opacus': pip install 'tunesmith[privacy]'")
    config = configured(**LONG, method={"name": "lora"}, privacy={"epsilon": 8})
    first, _ = begin(config, config)
    assert first.wait() == 2
    assert "is made by one process" in first.stderr


def test_a_process_that_cannot_load_is_named(
    begin: Begin, configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = configured(**LONG)
    first, second = begin(config, configured(**{**LONG, "model": str(tmp_path / "nowhere")}))
    assert second.wait() == 2
    assert "Rank 1 of 2: " in second.stderr
    assert first.wait() == 1
    assert "is lost: it has ended" in first.stderr


def test_more_processes_than_cores_are_refused(
    configured: Callable[..., RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = arguments_of(configured(), tmp_path / "config.yaml")
    assert run_command([*arguments, "--ranks", "4096"]) == 2
    assert "4096 ranks were asked for on this machine" in capsys.readouterr().err
    assert run_command([*arguments, "--ranks", "2", "--sweep", "train.seed=1,2"]) == 2
    assert "Several processes train one run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("surroundings", "said"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank 2 of 2"),
    ],
)
def test_what_a_launcher_cannot_have_written_is_named(
    surroundings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**surroundings, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        number_started()


def test_devices_that_processes_cannot_share_are_refused() -> None:
    import torch

    with pytest.raises(InputError, match="the device here is mps"):
        require_room(2, torch.device("mps"))


@pytest.mark.slow
def test_torchrun_makes_the_same_run(twin: Path, configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = configured(**LONG)
    arguments = arguments_of(config, tmp_path / "config.yaml")
    ours = [sys.executable, "-m", "tunesmith", *arguments, "--ranks", "2"]
    theirs = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tunesmith", *arguments]
    for started in (ours, [sys.executable, *theirs, "--overwrite"]):
        done = subprocess.run(started, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert trained_bytes(Path(str(config.output))) == trained_bytes(twin)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_a_killed_process_is_begun_anew_by_torchrun(
    seed: int, twin: Path, configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """A process chosen at random is killed, stopped or asked to end, up to three times: the run is that of its twin."""
    config = configured(**LONG)
    folder = Path(str(config.output))
    arguments = [sys.executable, "-m", "tunesmith", *arguments_of(config, tmp_path / "config.yaml")]
    killed_at_random(random.Random(seed), arguments, folder, tmp_path / "said")
    assert trained_bytes(folder) == trained_bytes(twin)
    assert load_file(folder / "model.safetensors").keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_a_run_whose_processes_were_ended_at_random_is_its_twin(
    seed: int, twin: Path, begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    """The same without a launcher: whatever ended the processes, the run is resumed by hand."""
    config = configured(**LONG)
    ended_at_random(random.Random(seed), begin, config)
    assert trained_bytes(Path(str(config.output))) == trained_bytes(twin)


def ended_at_random(generator: random.Random, begin: Begin, config: RunConfig) -> None:
    """Train by two ranks, one of which gets a signal of some kind, and resume, two or three times, to the end."""
    folder = Path(str(config.output))
    for _ in range(generator.randint(2, 3)):
        flags = ("--resume",) if (folder / "config.yaml").exists() else ()
        processes, before = begin(config, config, flags=flags), len(steps_of(folder))
        wanted, deadline = before + generator.randint(1, 12), time.monotonic() + 120
        while time.monotonic() < deadline and len(steps_of(folder)) < wanted and processes[0].is_alive:
            time.sleep(0.01)
        time.sleep(generator.random() / 20)
        chosen, number = generator.choice(processes), generator.choice(SIGNALS)
        chosen.send_signal(number)
        sys.stdout.write(f"{number.name} after step {len(steps_of(folder))}: ")
        statuses = {process.wait() for process in processes}
        sys.stdout.write(f"{statuses}\n")
        assert statuses <= {1, 143, -signal.SIGKILL}, processes[0].stderr + processes[1].stderr
    processes = begin(config, config, flags=("--resume",))
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr + processes[1].stderr


SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)


def killed_at_random(generator: random.Random, arguments: list[str], folder: Path, said: Path) -> None:
    """Train by two ranks, one of which gets a signal of some kind up to three times, until the run is finished."""
    with said.open("w") as file:
        launcher = subprocess.Popen([*arguments, "--ranks", "2", "--max-restarts", "3"], stderr=file)
    step = 0
    for _ in range(generator.randint(1, 3)):
        step += generator.randint(1, 15)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(steps_of(folder)) < step and launcher.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.random() / 20)
        ranks = [one for one in psutil.Process(launcher.pid).children() if one.is_running()]
        if ranks and launcher.poll() is None:
            chosen, number = generator.choice(ranks), generator.choice(SIGNALS)
            chosen.send_signal(number)
            sys.stdout.write(f"{number.name} after step {len(steps_of(folder))}\n")
    assert launcher.wait(timeout=240) == 0, said.read_text()


def steps_of(folder: Path) -> list[str]:
    path = folder / "metrics.jsonl"
    return [line for line in path.read_text().splitlines() if '"kind": "step"' in line] if path.exists() else []
