"""Cross-validation from the command line, on tiny models: folds, intervals, predictions, going on after a kill."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from forked_process import command
from tiny import tiny_folder
from tunesmith.cli.application import run
from tunesmith.evaluate import fold_interval
from tunesmith.run.directory import RunDirectory

FOLDS, ROWS = 2, 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [
            (f"a {'wonderful' if n % 2 else 'dull'} film number {n}", "good" if n % 2 else "bad", f"by {n // 6}")
            for n in range(ROWS)
        ]
        csv.writer(file).writerows([("text", "label", "author"), *rows])
    tiny_folder(folder)
    return folder


@pytest.fixture(scope="module")
def flags(place: Path) -> list[str]:
    model = next(path.parent for path in place.rglob("config.json"))
    flags = ["--model", str(model), "--data", str(place / "reviews.csv"), "--train.epochs", "1", "--quiet"]
    flags += ["--train.learning_rate", "0.01", "--train.precision", "fp32", "--train.batch_size", "16"]
    return [*flags, "--evaluation.num_resamples", "20", "--folds", str(FOLDS), "--data.columns.text", "text"]


@pytest.fixture(scope="module")
def whole(place: Path, flags: list[str]) -> Path:
    folder = place / "whole"
    assert run(["cross-validate", *flags, "--repeats", "2", "--output", str(folder)]) == 0
    return folder


def record_of(folder: Path) -> dict:
    return json.loads((folder / "study.json").read_text())


def test_every_fold_is_a_run_and_the_interval_is_corrected(whole: Path) -> None:
    record = record_of(whole)
    assert (record["kind"], record["status"]) == ("cross-validation", "finished")
    assert [(one["repeat"], one["fold"], one["state"]) for one in record["folds"]] == [
        (repeat, fold, "done") for repeat in (1, 2) for fold in (1, 2)
    ]
    for one in record["folds"]:
        directory = RunDirectory(whole / one["folder"])
        assert directory.is_finished
        config = directory.read_config()
        assert config.data.fold == f"{one['fold']}/{FOLDS}"
        assert one["rows"] == ROWS // FOLDS
        assert directory.read_json("evaluation")["metrics"]["accuracy"]["value"] == one["metrics"]["accuracy"]
    seeds = [RunDirectory(whole / one["folder"]).read_config().train.seed for one in record["folds"]]
    assert len(set(seeds)) == 4
    values = [one["metrics"]["accuracy"] for one in record["folds"]]
    expected = fold_interval(values, num_train=27, num_test=30)
    found = record["metrics"]["accuracy"]
    assert found["value"] == pytest.approx(np.mean(values))
    assert found["low"] == pytest.approx(max(expected.low, 0.0))
    assert found["high"] == pytest.approx(min(expected.high, 1.0))
    assert found["degrees_of_freedom"] == 3
    assert "2 folds, repeated 2 times" in record["verdict"]
    assert record["baseline"]["name"].startswith("TF-IDF")


def test_every_row_is_predicted_once_a_repeat_by_a_model_that_has_not_seen_it(whole: Path) -> None:
    table = pq.read_table(whole / "predictions.parquet").to_pydict()
    assert len(table["row"]) == 2 * ROWS
    for repeat in (1, 2):
        rows = [row for row, own in zip(table["row"], table["repeat"], strict=True) if own == repeat]
        assert sorted(rows) == sorted(f"reviews.csv:{line}" for line in range(2, ROWS + 2))
    one = record_of(whole)["folds"][1]
    own = pq.read_table(whole / one["folder"] / "predictions.parquet").to_pydict()
    kept = dict(zip(zip(table["repeat"], table["row"], strict=True), table["prediction"], strict=True))
    assert all(kept[1, row] == said for row, said in zip(own["row"], own["prediction"], strict=True))
    folds = dict(zip(zip(table["repeat"], table["row"], strict=True), table["fold"], strict=True))
    assert sum(folds[1, row] != folds[2, row] for row in set(table["row"])) > ROWS // 3  # other cuts


def test_the_same_command_leaves_a_finished_one_as_it_is(whole: Path, flags: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("evaluation.json")}
    metrics = record_of(whole)["metrics"]
    assert run(["cross-validate", *flags, "--repeats", "2", "--output", str(whole)]) == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("evaluation.json")} == before
    assert record_of(whole)["metrics"] == metrics


def test_another_question_is_refused_in_the_same_folder(
    whole: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cross-validate", *flags, "--repeats", "3", "--output", str(whole)]) == 2
    assert "other values of repeats" in capsys.readouterr().err


def test_whole_groups_and_rates_inside_the_folds(place: Path, flags: list[str]) -> None:
    folder = place / "nested"
    arguments = ["cross-validate", *flags, "--rates", "2", "--data.group", "author", "--output", str(folder)]
    assert run(arguments) == 0
    record = record_of(folder)
    authors = {f"reviews.csv:{n + 2}": n // 6 for n in range(ROWS)}
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    fold_of: dict[int, int] = {}
    for row, fold in zip(table["row"], table["fold"], strict=True):
        assert fold_of.setdefault(authors[row], fold) == fold
    for one in record["folds"]:
        assert [rate["learning_rate"] for rate in one["tuning"]] == [0.01, 0.0033]
        values = {rate["learning_rate"]: rate["value"] for rate in one["tuning"]}
        assert values[one["learning_rate"]] == max(values.values())
        assert one["folder"].endswith(f"rate-{one['learning_rate']:g}")
        kept = [path.name for path in (folder / one["folder"]).parent.iterdir() if path.is_dir()]
        assert kept == [f"rate-{one['learning_rate']:g}"]  # the other one's test rows were never opened


def test_killed_it_goes_on_with_the_same_command(place: Path, flags: list[str], whole: Path) -> None:
    folder = place / "killed"
    process = command("cross-validate", *flags, "--output", str(folder))
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/repeat-1-fold-2/metrics.jsonl")):
        assert process.is_alive, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert record_of(folder)["status"] == "running"
    first = (folder / "runs/repeat-1-fold-1/evaluation.json").stat().st_mtime_ns
    assert run(["cross-validate", *flags, "--output", str(folder)]) == 0
    assert (folder / "runs/repeat-1-fold-1/evaluation.json").stat().st_mtime_ns == first
    folds, uninterrupted = (
        [one["metrics"] for one in record_of(place_of)["folds"] if one["repeat"] == 1] for place_of in (folder, whole)
    )
    assert folds == uninterrupted  # to the bit


def test_a_fold_that_fails_is_recorded_and_the_others_count(place: Path, flags: list[str], whole: Path) -> None:
    folder = place / "failing"
    shutil.copytree(whole, folder)
    journal = folder / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    shutil.rmtree(folder / "runs" / "repeat-2-fold-2")
    (folder / "runs" / "repeat-2-fold-2").mkdir()
    (folder / "runs" / "repeat-2-fold-2" / "thesis.txt").write_text("somebody's own")
    assert run(["cross-validate", *flags, "--repeats", "2", "--output", str(folder)]) == 0
    record = record_of(folder)
    assert [one["state"] for one in record["folds"]] == ["done"] * 3 + ["failed"]
    assert "thesis.txt" in record["folds"][-1]["reason"]
    assert record["metrics"]["accuracy"]["degrees_of_freedom"] == 2
    assert "1 of 4 folds could not be trained" in record["verdict"]
    assert len(pq.read_table(folder / "predictions.parquet")) == 2 * ROWS - ROWS // FOLDS


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--folds", "1"], "folds"),
        (["--folds", "100"], "cannot be cut into 100 folds"),
        (["--foldes", "3"], "Did you mean --folds"),
        (["--data.fold", "1/2"], "Leave it out"),
        (["--rates", "3", "--data.validation_fraction", "0"], "no validation rows to choose"),
        (["--evaluation.split", "validation"], "unjudged"),
    ],
)
def test_what_cannot_be_used_is_refused(
    place: Path, flags: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place / "refused"
    assert run(["cross-validate", *flags, *more, "--output", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()
