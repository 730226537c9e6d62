"""Searches from the command line, on tiny models: judged on validation rows, given up, gone on with, side by side."""

from __future__ import annotations

import csv
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forked_process import ForkedProcess, command
from tiny import tiny_folder
from tunesmith.cli.application import run
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.run import RunConfig
from tunesmith.study.sampler import FIRST_PART, STARTUP, Sampler
from tunesmith.study.search_space import read_space, with_values
from tunesmith.study.search_trial import PARTS
from tunesmith.types import InputError

OVER = """
train.learning_rate: {low: 1e-5, high: 0.1, log: true}
method: [full, lora]
method.rank: {low: 2, high: 8}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches")
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [
            (f"a {'wonderful' if n % 2 else 'dull'} film number {n}", "good" if n % 2 else "bad") for n in range(60)
        ]
        csv.writer(file).writerows([("text", "label"), *rows])
    (folder / "over.yaml").write_text(OVER)
    tiny_folder(folder)
    return folder


@pytest.fixture(scope="module")
def flags(place: Path) -> list[str]:
    model = next(path.parent for path in place.rglob("config.json"))
    flags = ["--model", str(model), "--data", str(place / "reviews.csv"), "--train.epochs", "1", "--quiet"]
    flags += ["--train.precision", "fp32", "--train.learning_rate", "0.01", "--train.batch_size", "8"]
    flags += ["--data.validation_fraction", "0.3", "--train.early_stopping.metric", "loss"]
    return [*flags, "--over", str(place / "over.yaml")]


@pytest.fixture(scope="module")
def whole(place: Path, flags: list[str]) -> Path:
    folder = place / "whole"
    assert run(["search", *flags, "--trials", "5", "--output", str(folder)]) == 0
    return folder


def record_of(folder: Path) -> dict:
    return json.loads((folder / "study.json").read_text())


def test_trials_are_judged_on_validation_rows_and_the_best_is_kept(whole: Path) -> None:
    record = record_of(whole)
    assert (record["kind"], record["status"], record["split"]) == ("search", "finished", "validation")
    trials = record["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3, 4]
    done = [trial for trial in trials if trial["state"] == "done"]
    assert (record["metric"], record["higher_is_better"]) == ("loss", False)
    assert record["best"]["value"] == min(trial["value"] for trial in done)
    for trial in trials:
        assert ("method.rank" in trial["values"]) == (trial["values"]["method.name"] == "lora")
        folder = whole / trial["folder"]
        kept = {path.name for path in folder.iterdir()}
        assert {"config.yaml", "metrics.jsonl"} <= kept
        assert not kept & {"evaluation.json", "predictions.parquet", "checkpoints"}  # no test row was looked at
        config = build(RunConfig, load_yaml(folder / "config.yaml"))
        assert config.train.learning_rate == trial["values"]["train.learning_rate"]
        assert config.method.name == trial["values"]["method.name"]
    assert {trial["values"]["method.name"] for trial in trials} == {"full", "lora"}
    assert trials[0]["values"]["train.learning_rate"] == 0.01  # the configuration's own comes first
    assert sum(record["importance"].values()) == pytest.approx(1)
    assert "the test rows, still closed" in record["verdict"]


def test_the_best_configuration_is_one_for_train(whole: Path, place: Path) -> None:
    best = record_of(whole)["best"]
    folder = place / "best"
    flags = ["--output", str(folder), "--train.max_steps", "1", "--evaluation.num_resamples", "10", "--quiet"]
    assert run(["train", str(whole / "best.yaml"), *flags, "--evaluation.baseline", "false"]) == 0
    config = build(RunConfig, load_yaml(folder / "config.yaml"))
    assert config.train.learning_rate == best["values"]["train.learning_rate"]
    assert config.method.name == best["values"]["method.name"]


def test_more_trials_go_on_from_those_there_are(place: Path, whole: Path, flags: list[str]) -> None:
    before = record_of(whole)["trials"]
    assert run(["search", *flags, "--trials", "6", "--output", str(whole)]) == 0
    after = record_of(whole)["trials"]
    assert after[:5] == before
    assert len(after) == 6


@pytest.mark.slow
def test_killed_side_by_side_it_goes_on_with_the_same_command(place: Path, flags: list[str]) -> None:
    folder = place / "killed"
    arguments = ["search", *flags, "--trials", "4", "--output", str(folder)]
    process = command(*arguments, "--workers", "2")
    _wait_for(lambda: list(folder.glob("runs/trial-1/metrics.jsonl")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    drawn = [trial["values"] for trial in _trials(folder)]
    assert len(drawn) >= 2
    assert run(arguments) == 0  # also with another number of workers
    record = record_of(folder)
    assert [trial["values"] for trial in record["trials"]][: len(drawn)] == drawn
    assert len(record["trials"]) == 4
    assert all(trial["state"] in ("done", "pruned") for trial in record["trials"])


@pytest.mark.slow
def test_asked_to_stop_side_by_side_it_says_how_to_go_on(place: Path, flags: list[str]) -> None:
    folder = place / "stopped"
    arguments = ["search", *flags, "--trials", "4", "--workers", "2", "--output", str(folder)]
    process = command(*arguments)
    _wait_for(lambda: list(folder.glob("runs/trial-0/metrics.jsonl")), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert "Continue with: the same command" in process.stderr
    assert record_of(folder)["status"] == "running"


def _wait_for(reached: Callable[[], object], process: ForkedProcess) -> None:
    deadline = time.monotonic() + 150
    while not reached():
        assert process.is_alive, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _trials(folder: Path) -> list[dict]:
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == "drawn"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trials", "1"], "trials"),
        (["--workers", "0"], "workers"),
        (["--data.validation_fraction", "0"], "no validation rows"),
        (["--train.early_stopping.metric", "bleu"], "is no metric of the task"),
    ],
)
def test_what_cannot_be_used_is_refused(
    place: Path, flags: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "refused"
    assert run(["search", *flags, *more, "--output", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def test_a_folder_of_another_search_is_refused(
    place: Path, whole: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "other.yaml").write_text("train.learning_rate: [0.1, 0.2]")
    arguments = [*flags[: flags.index("--over")], "--over", str(place / "other.yaml")]
    assert run(["search", *arguments, "--output", str(whole)]) == 2
    assert "other values of over" in capsys.readouterr().err


def test_without_something_to_search(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", *flags[: flags.index("--over")]]) == 2
    assert "--over SEARCH.yaml" in capsys.readouterr().err


def test_without_optuna(flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["search", *flags, "--trials", "3"]) == 2
    assert "pip install 'tunesmith[search]'" in capsys.readouterr().err


# ---- what is searched --------------------------------------------------------------------------------


def base(**sections: object) -> RunConfig:
    return build(RunConfig, {"model": "sample:minilm", "data": "reviews.csv", **sections})


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"train.learning_rat": [1, 2]}, "Did you mean 'train.learning_rate'"),
        ({"train.learning_rate": {"low": 0.1, "high": 0.01}}, "upside down"),
        ({"train.learning_rate": {"low": 0, "high": 0.01, "log": True}}, "begins above 0"),
        ({"train.learning_rate": {"low": 0.1}}, "high is missing"),
        ({"train.learning_rate": {"low": 0.1, "hihg": 1}}, "Did you mean 'high'"),
        ({"train.learning_rate": 0.1}, "one value"),
        ({"train.learning_rate": ["fast", "slow"]}, "train.learning_rate"),
        ({"train.batch_size": {"low": 0, "high": 8}}, "train.batch_size"),
        ({"train.batch_size": {"low": 2, "high": 8, "step": 9}}, "within the range"),
        ({"train.batch_size": [8]}, "two values or more"),
        ({"train": {"batch_size": [8, 16]}, "train.batch_size": [8, 16]}, "given twice"),
        ({"method.rank": [4, 8]}, "is an option of"),
        ({"method": ["full", "loraa"]}, "lora"),
        ({"train.seed": [0, 1]}, "luck"),
        ({"data.validation_fraction": [0.1, 0.2]}, "the rows that the trials are judged by"),
        ({"output": ["a", "b"]}, "folder of its own"),
        ({}, "nothing to search"),
    ],
)
def test_ranges_that_cannot_be_searched(over: dict, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        read_space(over, base())


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        read_space({"train.sed": [1, 2], "train.epochs": {"low": 3, "high": 1}, "output": ["a", "b"]}, base())
    assert len(caught.value.problems) == 3


def test_choices_come_before_what_depends_on_them() -> None:
    over = {"method.rank": [4, 8], "train": {"schedule": {"name": ["linear", "cosine"]}}, "method": ["full", "lora"]}
    settings = read_space(over, base())
    assert [one.path for one in settings][-1] == "method.rank"
    rank = settings[-1]
    assert rank.applies(base(), {"method.name": "lora"})
    assert not rank.applies(base(), {"method.name": "full"})
    assert rank.applies(base(method="lora"), {})


def test_values_are_laid_over_what_was_given_alone() -> None:
    given = base(method={"name": "lora", "rank": 4}, train={"epochs": 2})
    assert with_values(given, {}) == given
    changed = with_values(given, {"method.name": "full", "train.learning_rate": 0.001})
    assert changed.method.name == "full"
    assert (changed.train.epochs, changed.train.learning_rate) == (2, 0.001)
    assert with_values(given, {"method.rank": 16}).method.model_dump()["rank"] == 16


def sampler(**options: object) -> Sampler:
    settings = read_space({"train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}, base())
    return Sampler(settings, base(), **{"higher": True, "prune": True, "seed": 0, **options})


def test_a_sampler_made_anew_of_the_journal_gives_up_the_same_trials() -> None:
    first, again = sampler(), sampler(seed=7)
    for number in range(STARTUP):
        values = first.draw(number)
        points = [[part, 0.5 + 0.01 * number] for part in range(1, PARTS + 1)]
        for part, value in points:
            assert not first.knows(number, int(part), value)
        first.learn(values, "done", 0.5 + 0.01 * number, points, number)
        again.learn(values, "done", 0.5 + 0.01 * number, points, number)
    for one in (first, again):
        values = one.draw(STARTUP)
        assert not one.knows(STARTUP, FIRST_PART - 1, 0.1)  # too early
        assert one.knows(STARTUP, FIRST_PART + 2, 0.1)
        one.draw(STARTUP + 1)
        assert not one.knows(STARTUP + 1, FIRST_PART + 2, 0.9)
    never = sampler(prune=False)
    never.draw(0)
    assert not never.knows(0, PARTS, 0.0)


def test_a_sampler_finds_what_is_good_and_what_matters() -> None:
    over = {
        "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "train.optimizer.weight_decay": {"low": 0.0, "high": 0.1},
    }
    one = Sampler(read_space(over, base()), base(), higher=False, prune=True, seed=1)
    losses = []
    for number in range(30):
        values = one.draw(number)
        loss = (math.log10(values["train.learning_rate"]) + 3) ** 2
        losses.append(loss)
        one.learn(values, "done", loss, [], number)
    assert min(losses[15:]) < 0.05
    assert sum(losses[15:]) < sum(losses[:15])
    assert one.importance()["train.learning_rate"] > 0.6


def test_a_trial_is_gone_on_with_by_its_own_values() -> None:
    one = sampler()
    one.draw_again(3, {"train.learning_rate": 0.0123})
    assert not one.knows(3, 5, 0.4)
    one.learn({"train.learning_rate": 0.0123}, "done", 0.4, [], 3)
