"""Studies on a Ray cluster of two workers: the same as without it, also where a worker is killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tiny import tiny_folder

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow

TIMES = {"seconds", "began", "finished", "spent", "sharing", "time", "machine", "workers", "budget", "left"} | {
    "peak_memory",
    "throughput",
    "tuning_seconds",
    "latency",
}
"""What of a study's record may differ from one run of it to the next."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [(f"a {'fine' if n % 2 else 'dull'} film number {n}", "good" if n % 2 else "bad") for n in range(90)]
        csv.writer(file).writerows([("text", "label"), *rows])
    (folder / "over.yaml").write_text("train.learning_rate: {low: 1e-4, high: 0.1, log: true}\n")
    tiny_folder(folder)
    return folder


@pytest.fixture(scope="module")
def flags(place: Path) -> list[str]:
    model = next(path.parent for path in place.rglob("config.json"))
    found = ["--model", str(model), "--data", str(place / "reviews.csv"), "--train.batch_size", "8", "--quiet"]
    return [*found, "--train.precision", "fp32", "--train.epochs", "2", "--evaluation.num_resamples", "50"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a cluster with two processors."""
    port, folder = 26379, Path("/tmp/ray-tests")  # its sockets have short names
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=2"]
    start += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    begun = subprocess.run(start, check=False, capture_output=True, text=True, timeout=180)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    yield f"127.0.0.1:{port}"
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()) and process.pid != os.getpid():
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def study(command: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tunesmith", command, *arguments, "--output", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(process: subprocess.Popen[str], seconds: float = 400) -> str:
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, said
    return said


def record(folder: Path) -> Any:
    def without_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_times(one) for key, one in value.items() if key not in TIMES}
        return [without_times(one) for one in value] if isinstance(value, list) else value

    found = without_times(json.loads((folder / "study.json").read_text()))
    # Who judges the same rows a second time is told so; a curve's points hold step, seconds and value; which of methods
    # that are as good a verdict names, or says to take, depends on what they took: the comparisons stand for it.
    assert found.pop("verdict")
    found.pop("recommended", None)
    found["notes"] = [one for one in found.get("notes", ()) if "opened before" not in one]
    for curve in found.get("curves", ()):
        curve["points"] = [[step, value] for step, _, value in curve["points"]]
    return found


COMMANDS = {
    "search": ["--trials", "3", "--workers", "2", "--over", "over.yaml"],
    "cross-validate": ["--folds", "3", "--rates", "2"],
    "compare": ["--methods", "full,lora", "--seeds", "2", "--rates", "3"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_study_on_a_cluster_is_the_study_of_one_machine(
    command: str, place: Path, flags: list[str], address: str
) -> None:
    own = [str(place / word) if word == "over.yaml" else word for word in COMMANDS[command]]
    alone, together = place / f"{command}-local", place / f"{command}-ray"
    finished(study(command, alone, *flags, *own))
    there = ["--executor", "ray", "--cores_per_worker", "1", "--workers", "2"]
    if command != "cross-validate":  # for which one is started on this machine
        there += ["--ray_address", address]
    finished(study(command, together, *flags, *own, *there))
    assert record(together) == record(alone)
    assert record(together)["status"] == "finished"
    logs = list((together / "runs").glob("worker-*.log"))
    assert len(logs) == 2, "both workers had something to do"


def test_a_killed_worker_is_replaced_and_its_training_gone_on_with(place: Path, flags: list[str], address: str) -> None:
    folder = place / "killed"
    longer = [*flags, "--train.epochs", "30", "--methods", "full,lora", "--seeds", "1", "--rates", "1"]
    going = study("compare", folder, *longer, "--executor", "ray", "--ray_address", address, "--cores_per_worker", "1")
    end, killed = time.monotonic() + 200, 0
    while not killed and time.monotonic() < end:
        time.sleep(0.1)
        begun = [path for path in folder.glob("runs/*/*/metrics.jsonl") if path.stat().st_size > 2000]
        hosts = [
            one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [""])[0].startswith("ray::Host")
        ]
        if begun and hosts:
            os.kill(hosts[0].pid, signal.SIGKILL)
            killed = hosts[0].pid
    finished(going)
    assert killed
    found = record(folder)
    assert found["status"] == "finished"
    assert all(method["state"] == "done" for method in found["methods"] if method["name"] in ("full", "lora"))
    alone = place / "not-killed"
    finished(study("compare", alone, *longer))
    assert found == record(alone)


def test_a_machine_that_does_not_see_the_folder_is_named_before_anything_is_trained(
    place: Path, flags: list[str], address: str
) -> None:
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a machine that sees another /folder takes root and unshare")
    folder = place / "unseen"
    folder.mkdir()
    join = f"{sys.executable} -m ray.scripts.scripts start --address={address} --num-cpus=1 --disable-usage-stats"
    blind = f"mount -t tmpfs none {folder} && {join} --node-name=blind"
    begun = subprocess.run(
        ["unshare", "--mount", "bash", "-c", blind], check=False, capture_output=True, text=True, timeout=180
    )
    if begun.returncode:
        pytest.skip(f"no mount of its own can be had here: {begun.stderr.strip()[-200:]}")
    going = study("cross-validate", folder, *flags, "--folds", "2", "--executor", "ray", "--ray_address", address)
    said, _ = going.communicate(timeout=300)
    assert going.returncode == 2, said
    assert f"does not see the study's folder {folder}" in said
    assert not (folder / "runs").exists()


def test_no_cluster_at_an_address_is_said(place: Path, flags: list[str]) -> None:
    going = study("cross-validate", place / "none", *flags, "--executor", "ray", "--ray_address", "127.0.0.1:1")
    said, _ = going.communicate(timeout=300)
    assert going.returncode == 2, said
    assert "No Ray cluster answers at 127.0.0.1:1" in said
