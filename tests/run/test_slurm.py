"""Jobs for Slurm: scripts that bash and ShellCheck accept, refusals, and one job that is interrupted."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from run.one_node_slurm import missing, one_node_slurm
from tiny import tiny_folder
from tunesmith.cli.application import run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with (tmp_path / "my reviews.csv").open("w", newline="") as file:
        rows = [(f"a {'fine' if n % 2 else 'dull'} film number {n}", "good" if n % 2 else "bad") for n in range(60)]
        csv.writer(file).writerows([("text", "label"), *rows])
    return tmp_path


def script(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["slurm", "--model", "M", "--data", "my reviews.csv", *arguments]) == 0
    return capsys.readouterr().out


def refusals(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["slurm", "--model", "M", "--data", "D.csv", *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out, "a script that would fail is not written"
    return captured.err


SHARED = "/shared/runs/one"


def test_bash_and_shellcheck_accept_the_script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = script(
        capsys, "--nodes", "2", "--gpus-per-node", "8", "--time", "12:00:00", "--output", "/shared/it's a run"
    )
    path = tmp_path / "job.sh"
    path.write_text(text)
    checked = subprocess.run(["bash", "-n", str(path)], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "<" not in text.replace("<<", "").replace("2>", ""), "every word is filled in"
    if shutil.which("shellcheck"):
        found = subprocess.run(
            ["shellcheck", "--severity=warning", str(path)], check=False, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stdout


def test_the_script_says_what_was_asked_for_and_repeats_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    text = script(capsys, "--nodes", "2", "--ranks-per-node", "4", "--cores-per-node", "16", "--partition", "long",
                  "--train.batch_size", "64", "--output", SHARED)  # fmt: skip
    lines = text.splitlines()
    for line in ("#SBATCH --nodes=2", "#SBATCH --cpus-per-task=16", "#SBATCH --partition=long", "#SBATCH --requeue"):
        assert line in lines
    assert not any("gpus" in line or "--time" in line for line in lines if line.startswith("#SBATCH"))
    assert "--nproc-per-node=4" in text
    assert '"${OMP_NUM_THREADS:-4}"' in text
    assert "--data 'my reviews.csv' --train.batch_size 64" in text
    assert f"output={SHARED}" in lines


def test_a_gpu_for_each_rank_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nproc-per-node=8" in script(capsys, "--gpus-per-node", "8", "--output", SHARED)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "64", "--ranks-per-node", "8"], "512 ranks (64 x 8) share the rows of a step"),
        (["--nodes", "2", "--train.batch_size", "1"], "train.batch_size is 1"),
        (["--gpus-per-node", "2", "--ranks-per-node", "4"], "Give --ranks-per-node 2"),
        (["--gpus-per-node", "2", "--compute.device", "cpu"], "compute.device is cpu"),
        (["--compute.device", "cuda:1", "--nodes", "2", "--gpus-per-node", "1"], "cuda:1 is one accelerator"),
        (["--compute.device", "cuda"], "Add --gpus-per-node 1"),
        (["--ranks-per-node", "8", "--cores-per-node", "4"], "Give --cores-per-node 8"),
        (["--time", "tomorrow"], "'tomorrow' is no time"),
        (["--partition", "a b"], "'a b' is no name"),
        (["--grace", "3"], "--grace 3"),
        (["--train.epoks", "3"], "--train.epochs"),
    ],
)
def test_what_would_fail_is_refused_before_it_is_queued(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refusals(capsys, "--output", SHARED, *arguments)


def test_a_folder_that_machines_have_for_themselves_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "which every machine has for itself" in refusals(capsys, "--nodes", "2", "--output", "/tmp/run")


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"no Slurm of one machine: {', '.join(missing())} is not here")
def test_a_job_is_told_to_stop_and_goes_on_when_it_is_queued_again(place: Path, tmp_path: Path) -> None:
    model = tiny_folder(place)
    folder, output = tmp_path / "slurm", tmp_path / "run"
    folder.mkdir()
    flags = ["--model", str(model), "--data", str(place / "my reviews.csv"), "--train.epochs", "120"]
    flags += ["--train.batch_size", "4", "--train.early_stopping.patience", "never", "--output", str(output)]
    with one_node_slurm(folder) as slurm:
        text = subprocess.run(
            ["python", "-m", "tunesmith", "slurm", *flags, "--grace", "60"], capture_output=True, text=True, check=True
        ).stdout
        (folder / "job.sh").write_text(text)
        job = slurm("sbatch", "--parsable", "job.sh")
        slurm.wait_for(job, {"RUNNING"})
        metrics = output / "metrics.jsonl"
        wait_until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 20)
        slurm("scancel", "--batch", "--signal=TERM", job)  # as Slurm does some time before the end
        slurm.wait_for(job, {"PENDING"})
        assert not (output / "training.json").exists()
        steps = max(json.loads(line).get("step", 0) for line in metrics.read_text().splitlines())
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # queued again, a job waits for two minutes
        slurm.wait_for(job, {"COMPLETED"})
        log = next(folder.glob("*.log")).read_text()
        assert "the job is queued again" in log
        trained = json.loads((output / "training.json").read_text())
        assert trained["steps"] > steps > 0
        numbers = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if '"kind": "step"' in line]
        assert numbers == sorted(set(numbers)), "no step is made twice"


def wait_until(happened, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.2)
