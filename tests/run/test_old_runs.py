"""Runs of earlier versions open, predict and go on: see ``old_runs/README.md``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tunesmith.files.manifest import MANIFEST, names_in_manifest, render_manifest
from tunesmith.run import Run, train
from tunesmith.run.directory import RunDirectory

OLD = Path(__file__).parent / "old_runs"
PLACE = "/old"
NAMING = ("config.yaml", "environment.json", "adapter_config.json")
"""Files that name the folder in which the runs were made."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of the folder, named as it is here."""
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    for path in [path for name in NAMING for path in folder.glob(f"*/{name}")]:
        path.write_text(path.read_text(encoding="utf-8").replace(PLACE, str(folder)), encoding="utf-8")
    for run in folder.glob(f"*/{MANIFEST}"):
        names = names_in_manifest(run.parent)
        assert names is not None
        run.write_text(render_manifest(run.parent, names), encoding="utf-8", newline="\n")
    return folder


def expected(old: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old / "expected.json").read_text(encoding="utf-8"))
    return found[name] | {"texts": found["texts"]}


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_finished_run_opens_predicts_and_is_judged_as_it_was(old: Path, name: str) -> None:
    before, run = expected(old, name), Run.open(old / name)
    for now, then in zip(run.predict(before["texts"]), before["predictions"], strict=True):
        assert now["label"] == then["label"]
        assert now["probabilities"] == pytest.approx(then["probabilities"], abs=1e-6)
    metrics = run.evaluate()["metrics"]
    assert {metric: metrics[metric]["value"] for metric in before["evaluation"]} == pytest.approx(
        before["evaluation"], abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize("name", ["stopped", "windows"])
def test_a_stopped_run_goes_on_to_the_end_that_it_would_have_had(old: Path, name: str) -> None:
    folder = train(RunDirectory(old / name).read_config(), resume=True)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert losses == pytest.approx(expected(old, name)["losses"], rel=1e-5)
    assert Run.open(folder).summary["status"] == "finished"
