from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.report.load import load_run, load_runs
from tunesmith.types import InputError

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))


def test_reads_everything(tmp_path: Path) -> None:
    record = load_run(runs.write_kind("two", tmp_path / "run"))
    assert record.training
    assert record.training.num_parameters == 22_713_986 + 737_858
    assert record.evaluation
    assert record.evaluation.main_metric == "accuracy"
    assert record.evaluation.metrics["accuracy"].value == 0.853
    assert record.environment
    assert record.environment.seed == 0
    assert len(record.steps) == 360
    assert len(record.checks) == 6
    assert record.setting("method", "rank") == 16
    assert record.setting("nothing", "name") is None


def test_main_metric_is_the_one_the_task_names(tmp_path: Path) -> None:
    evaluation = runs.evaluation_of(["a", "b"]) | {"main_metric": "macro_f1"}
    record = load_run(runs.write_run(tmp_path / "run", evaluation=evaluation))
    assert record.evaluation
    assert record.evaluation.main_metric == "macro_f1"


@pytest.mark.parametrize(
    "name", ["config.yaml", "training.json", "environment.json", "evaluation.json", "metrics.jsonl"]
)
def test_any_file_may_be_missing(tmp_path: Path, name: str) -> None:
    folder = runs.write_kind("two", tmp_path / "run")
    (folder / name).unlink()
    load_run(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("training.json", b'{"status": "fin'),
        ("training.json", b"[1, 2]"),
        ("training.json", b"\xff\xfe{}"),
        ("environment.json", b'{"versions": 3}'),
        ("evaluation.json", b'{"metrics": {"accuracy": "good"}}'),
        ("evaluation.json", b'{"per_label": 7}'),
        ("evaluation.json", b"[" * 200_000),
        ("config.yaml", b"model: [\n"),
        ("config.yaml", b"- a list\n"),
        ("metrics.jsonl", b'{"kind": "step", "st\n{"kind": "step", "step": 2}\n'),
        ("metrics.jsonl", b'{"kind": "step", "step": "two"}\n'),
        ("metrics.jsonl", b"[1]\n"),
    ],
)
def test_corrupt_files_are_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    folder = runs.write_kind("two", tmp_path / "run")
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_run(folder)


def test_all_problems_at_once(tmp_path: Path) -> None:
    folder = runs.write_kind("two", tmp_path / "run")
    (folder / "training.json").write_text("{")
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(InputError) as caught:
        load_runs([folder, tmp_path / "nowhere"])
    assert len(caught.value.problems) == 3


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    folder = runs.write_kind("partial", tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 58, "lo')
    assert len(load_run(folder).steps) == 57


def test_steps_done_again_after_a_resume_count_once(tmp_path: Path) -> None:
    lines = [{"kind": "step", "step": step, "loss": loss} for step, loss in ((1, 0.9), (2, 0.8), (3, 0.7), (2, 0.5))]
    record = load_run(runs.write_run(tmp_path / "run", lines=lines))
    assert [(step.step, step.loss) for step in record.steps] == [(1, 0.9), (2, 0.5), (3, 0.7)]


def test_nan_and_null_are_numbers_that_are_not_known(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(
        '{"kind": "step", "step": 1, "loss": NaN}\n{"kind": "step", "step": 2, "loss": null}\n'
    )
    (folder / "evaluation.json").write_text(
        json.dumps({"metrics": {"roc_auc": {"value": None, "low": None, "high": None}}})
    )
    record = load_run(folder)
    assert all(step.loss != step.loss for step in record.steps)


def test_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        load_run(tmp_path / "none")
