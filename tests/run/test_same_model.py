"""A run goes on from, and is opened with, the very weights that it was started from."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_folder
from tunesmith.files.hashing import hash_file
from tunesmith.models import location
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]

LORA = {"name": "lora", "rank": 2}


class StopAtOnce(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_whose_base_was_written_again_is_refused_by_name(configured: Configure, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    folder = train(configured(model=str(base), method=LORA, train={"max_steps": 2}))
    recorded = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["model"]
    assert recorded["weights_sha256"] == hash_file(base / "model.safetensors")
    expected = Run.open(folder).predict(["a wonderful film"])
    tiny_folder(tmp_path, seed=1)
    with pytest.raises(InputError, match=rf"base model {base} does not hold the weights .* was trained beside"):
        Run.open(folder).predict(["a wonderful film"])
    with pytest.raises(InputError, match="was trained beside"):
        train(configured(model=str(folder), output=str(tmp_path / "next")))
    tiny_folder(tmp_path)
    assert Run.open(folder).predict(["a wonderful film"]) == expected


@pytest.mark.parametrize("method", [LORA, {"name": "full"}], ids=["lora", "full"])
def test_resuming_from_other_weights_is_refused(method: Any, configured: Configure, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    config = configured(model=str(base), method=method)
    with pytest.raises(Stopped):
        train(config, observers=[StopAtOnce()])
    tiny_folder(tmp_path, seed=1)
    with pytest.raises(InputError, match=rf"The model {base} has changed since the run in .* was started"):
        train(config, resume=True)
    tiny_folder(tmp_path)
    train(config, resume=True)


def test_a_branch_that_moved_is_not_taken_for_the_commit_it_was(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is stood in for: what a branch means there is another thing the second time."""
    commits = {"main": "a" * 40}
    for index, commit in enumerate(("a" * 40, "b" * 40)):
        shutil.move(tiny_folder(tmp_path / "made", seed=index), tmp_path / commit)

    def download(hub_id: str, revision: str | None, check: object) -> tuple[Path, str]:
        commit = commits.get(revision or "main", revision or "")
        return tmp_path / commit, commit

    monkeypatch.setattr(location, "download_model", download)
    config = configured(model="somebody/model", method=LORA, train={"max_steps": 2})
    folder = train(config)
    assert Run.open(folder).config.model_dump()["model"]["revision"] == "a" * 40
    expected = Run.open(folder).predict(["dull"])
    stopped = configured(model="somebody/model", method=LORA, output=str(tmp_path / "stopped"))
    with pytest.raises(Stopped):
        train(stopped, observers=[StopAtOnce()])
    commits["main"] = "b" * 40
    assert Run.open(folder).predict(["dull"]) == expected
    branch = {"name": "somebody/model", "revision": "main"}
    assert train(configured(model=branch, method=LORA, train={"max_steps": 2}), resume=True) == folder, "it is finished"
    with pytest.raises(InputError, match=r"other values of model\.revision"):
        train(configured(model={**branch, "revision": "b" * 40}, method=LORA, train={"max_steps": 2}), resume=True)
    with pytest.raises(InputError, match=r"other values of model\.revision"):
        train(stopped, resume=True)
    train(configured(model=str(folder), output=str(tmp_path / "next"), train={"max_steps": 1}))


@pytest.mark.parametrize(("model", "target"), [("cnn", "convolutions.0"), ("lstm", "embeddings")])
def test_no_adapter_is_trained_beside_random_weights(
    model: str, target: str, configured: Configure, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"(?s)the model '{model}' is trained from scratch.*Use --method full"):
        train(configured(model=model, method={**LORA, "target_modules": [target]}))
    assert not (tmp_path / "run").exists()
