"""The order, the limits of time and the results of the benchmark for GPUs, with jobs that compute nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import jobs
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.jobs import Job, Result, do, planned
from benchmarks.gpu.running import GRACE, Runner, in_process

CASE = CASES[0]
OURS, PEER = Job("tunesmith", CASE), Job("trl", CASE)


def runner(measure: Any, seconds: float = 1000.0) -> Runner:
    return Runner(measure, time.monotonic() + seconds, lambda _text: None)


def results(found: Runner, *wanted: Job) -> list[Result]:
    return [{name: value for name, value in one.items() if name != "seconds_in_all"} for _, one in found.run(wanted)]


# ---- the order ---------------------------------------------------------------------------------------


def test_what_is_worth_most_comes_first() -> None:
    names = [job.name for job in planned(CASES)]
    assert names[:8] == [
        "1b-lora tunesmith",
        "1b-lora trl-liger",
        "1b-full tunesmith",
        "1b-full trl-liger",
        "minilm-full tunesmith",
        "minilm-full trainer",
        "8b-lora tunesmith",
        "8b-lora trl-liger",
    ]
    rest = list(dict.fromkeys(name.split()[1] for name in names[8:]))
    assert rest == ["tunesmith-graphs", "tunesmith-compiled", "tunesmith-liger", "trl", "unsloth"]
    assert len(set(names)) == len(names) == sum(len(case.variants) for case in CASES)


def test_every_variant_can_be_measured() -> None:
    assert {job.variant for job in planned(CASES, profiles=True)} == set(jobs.OF_A_CASE)


def test_only_what_is_wanted_is_planned() -> None:
    names = [job.name for job in planned(CASES[:1], ["trl", "tunesmith"], profiles=True)]
    assert names == ["1b-lora tunesmith", "1b-lora profile", "1b-lora trl"]
    assert not planned(CASES[:1], ["trainer"])


# ---- limits of time ----------------------------------------------------------------------------------


def dawdle() -> None:
    time.sleep(60)


def test_a_job_that_sleeps_is_killed_at_its_cap_and_shows_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(jobs.CAPS, "tunesmith", 0.5)

    def measure(job: Job) -> Result:
        if job == OURS:
            dawdle()
        return {"tokens_per_second": 1.0}

    started = time.monotonic()
    slow, fast = results(runner(measure), OURS, PEER)
    assert 0.5 < time.monotonic() - started < 10
    assert slow["error"].startswith("ended after")
    assert "in dawdle" in slow["stacks"]
    assert "in dawdle" in capfd.readouterr().err
    assert fast == {"tokens_per_second": 1.0}


def test_a_job_that_does_not_heed_the_first_signal_is_killed_by_the_second(tmp_path: Path) -> None:
    def stubborn(_job: Job) -> Result:
        signal.signal(signal.SIGABRT, signal.SIG_IGN)
        (tmp_path / "process").write_text(str(os.getpid()))
        dawdle()
        return {}

    found = in_process(stubborn, OURS, 0.5, "fork")
    assert found["error"].startswith("ended after")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)


def test_a_job_that_has_answered_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.running.GRACE", 0.1)

    def measure(_job: Job) -> Result:
        util.Finalize(None, dawdle, exitpriority=1)
        return {"tokens_per_second": 1.0}

    started = time.monotonic()
    assert in_process(measure, OURS, 30, "fork")["tokens_per_second"] == 1.0
    assert time.monotonic() - started < 10


def test_jobs_after_the_budget_are_not_started(tmp_path: Path) -> None:
    def measure(job: Job) -> Result:
        (tmp_path / job.variant).touch()
        return {}

    found = results(runner(measure, seconds=PEER.least - 1), OURS, PEER, OURS)
    assert found[0] == found[2] == {}
    assert found[1]["not_started"].endswith("s left")
    assert results(runner(measure, seconds=0), OURS, PEER) == [{"not_started": "0 s left"}] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["tunesmith"]


def test_a_job_has_no_more_time_than_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(jobs.CAPS, "tunesmith", 12.0)
    started = time.monotonic()
    seconds = 2 * GRACE + 1.0
    (found,) = results(runner(lambda _job: dawdle(), seconds), OURS)
    assert "error" in found
    assert time.monotonic() - started < seconds


# ---- what jobs give ----------------------------------------------------------------------------------


def test_a_job_that_fails_or_dies_is_a_result_and_the_others_go_on() -> None:
    def measure(job: Job) -> Result:
        if job.variant == "trl":
            raise RuntimeError("the kernel is broken")
        if job.variant == "trl-liger":
            os._exit(3)
        return {"tokens_per_second": 1.0}

    failed, died, fine = results(runner(measure), PEER, Job("trl-liger", CASE), OURS)
    assert failed == {"error": "RuntimeError: the kernel is broken"}
    assert died == {"error": "the process died with status 3"}
    assert fine == {"tokens_per_second": 1.0}


def test_what_a_job_prints_stays_out_of_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    def measure(_job: Job) -> Result:
        os.write(1, b"libraries may print")
        return {}

    in_process(measure, OURS, 30, "fork")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "libraries may print" in shown.err


def out_of_memory(job: Job) -> Result:
    assert job.case is not None
    if job.case.recomputes:
        return {"tokens_per_second": 1.0}
    raise MemoryError("CUDA out of memory")


def test_a_peer_without_memory_is_tried_again_with_checkpointing() -> None:
    ours, peer = results(runner(out_of_memory), OURS, PEER)
    assert "out of memory" in ours["error"]
    assert peer == {"tokens_per_second": 1.0, "recomputes": True}


def test_a_second_try_needs_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = runner(out_of_memory)
    attempt, tried = found.attempt, []

    def first_only(job: Job) -> Result:
        tried.append(job)
        return attempt(job) if len(tried) == 1 else {"not_started": "3 s left"}

    monkeypatch.setattr(found, "attempt", first_only)
    (peer,) = results(found, PEER)
    assert len(tried) == 2
    assert "out of memory" in peer["error"]


def test_where_a_forked_process_fails_the_others_are_started_anew() -> None:
    def measure(_job: Job) -> Result:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    found = runner(measure)
    found.require_forks(Job("check"))
    assert found.start_method == "spawn"
    found = runner(lambda _job: {})
    found.require_forks(Job("check"))
    assert found.start_method == "fork"


def test_a_process_that_is_started_anew_finds_its_job() -> None:
    assert in_process(partial(do, num_steps=1), Job("check"), 60, "spawn") == {}


def test_unsloth_is_imported_before_transformers() -> None:
    methods = []

    def start(measure: Any, job: Job, cap: float, start_method: str) -> Result:
        methods.append(start_method)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.gpu.running.in_process", start)
        results(runner(None), PEER, Job("unsloth", CASE))
    assert methods == ["fork", "spawn"]


# ---- the command -------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command run jobs that say how many measurements the file of results held before them."""
    path = tmp_path / "found.json"

    def measure(job: Job, num_steps: int) -> Result:
        assert num_steps == command.SMOKE_STEPS
        if job.case is None:
            return {"flops_per_second": 100.0, "device": "cpu"}
        if job.variant == "trl":
            raise RuntimeError("the kernel is broken")
        before = json.loads(path.read_text(encoding="utf-8"))
        return {
            "before": len(before["measurements"]),
            "tokens_per_second": 5.0,
            "flops_per_token": 10.0,
        }

    monkeypatch.setattr(command, "do", measure)
    monkeypatch.setattr(command, "preload", lambda _names: 0.0)
    return path


def test_results_are_written_after_every_job(path: Path) -> None:
    variants = ["tunesmith", "trl-liger", "tunesmith-liger", "trainer"]
    assert command.main(["--smoke", "--json", str(path), "--variants", *variants]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [one["before"] for one in found["measurements"]] == list(range(11))
    assert {one["mfu"] for one in found["measurements"]} == {0.5}
    assert found["gemm"]["flops_per_second"] == 100.0
    assert {one["case"] for one in found["comparisons"]} == {case.name for case in CASES}
    assert "torch" in found["versions"]


def test_a_tool_that_fails_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--smoke", "--json", str(path), "--only", "1b-lora", "--variants", "tunesmith", "trl"]
    assert command.main(flags) == 1
    shown = capsys.readouterr()
    assert "| 1b-lora | tunesmith: 5 | trl: failed |" in shown.out
    assert "- 1b-lora, trl: RuntimeError: the kernel is broken" in shown.out


def test_a_budget_that_is_spent_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--smoke", "--budget", "0", "--json", str(path), "--only", "1b-full"]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {one["not_started"] for one in found["measurements"]} == {"0 s left"}
    assert "tunesmith: not started, 0 s left" in capsys.readouterr().out


def test_nothing_is_measured_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "do", lambda _job, num_steps: {"device": "cpu", "steps": num_steps})
    monkeypatch.setattr(command, "preload", lambda _names: 0.0)
    assert command.main([]) == 2
    assert "--smoke" in capsys.readouterr().err


def test_the_list_shows_the_order_and_the_caps(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--only", "minilm-full", "--profile"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "minilm-full tunesmith: at most 50 s"
    assert [line.split()[1].rstrip(":") for line in shown] == ["tunesmith", "trainer", "profile", "tunesmith-graphs"]
    assert command.main(["--only", "1b-lora", "--variants", "trainer"]) == 2
