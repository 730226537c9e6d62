"""Runs that share a workshop are, to the bit, the runs that they are alone, and what can be shared is made once."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.files.hashing import hash_bytes
from tunesmith.models import OTHER_MODELS
from tunesmith.run import Observer, Run, RunConfig, Stopped, Workshop, train
from tunesmith.run import computed_columns as columns_module
from tunesmith.types import StepInfo

Configure = Callable[..., RunConfig]
TOP = {"name": "lora", "target_modules": ("encoder.layer.1.attention.self.query",)}
FROZEN = "computing the frozen layers once"


class Watcher(Observer):
    """Keeps what is said, and asks the process to stop after a step, as Ctrl-C does."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.work: list[str] = []

    def working(self, what: str) -> None:
        self.work.append(what)

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)


def contents(folder: Path) -> dict[str, Any]:
    """Return all of a run that does not tell when, where and how fast it was."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    evaluation.get("baseline", {}).pop("seconds", None)
    tensors = {path.name: hash_bytes(path.read_bytes()) for path in folder.glob("*.safetensors")}
    environment = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
    known = {key: environment[key] for key in ("versions", "data", "model", "tokenizer", "defaults")}
    curve = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return {"curve": curve, "evaluation": evaluation, "tensors": tensors, **known}


def test_runs_are_what_they_are_alone_and_the_model_is_loaded_once(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[Any] = [
        "full",
        "freeze",
        "lora",
        "bitfit",
        "ia3",
        {**TOP, "rank": 2, "dropout": 0.1},
        {"name": "freeze", "layers": 1},
        "full",
    ]
    loaded = []
    load = OTHER_MODELS.load

    def counted(source: Any, *arguments: Any, **options: Any) -> Any:
        loaded.append(source.name)
        return load(source, *arguments, **options)

    def configure(name: str, k: int) -> RunConfig:
        return configured(method=methods[k], output=str(tmp_path / f"{name}-{k}"), train={"seed": k // 2})

    with monkeypatch.context() as patch, Workshop() as workshop:
        patch.setattr(OTHER_MODELS, "load", counted)
        train(configure("first", 0), workshop=workshop)
        (template,) = workshop._templates.values()
        before = {name: tensor.clone() for name, tensor in template.model.state_dict().items()}
        for k in range(1, len(methods)):
            train(configure("first", k), workshop=workshop)
        for name, tensor in template.model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    first = [contents(tmp_path / f"first-{k}") for k in range(len(methods))]
    assert len(loaded) == 1
    assert not workshop._made
    assert not workshop._templates
    for k, found in enumerate(first):
        assert found == contents(train(configure("alone", k)))
    assert len({json.dumps(one["tensors"]) for one in first}) == len(methods)


def test_models_from_scratch_have_tokenizers_of_their_own(configured: Configure, tmp_path: Path, reviews: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(reviews.read_text(encoding="utf-8").replace("film", "picture"), encoding="utf-8")

    def configure(name: str, data: Path) -> RunConfig:
        return configured(model="lstm", data=str(data), output=str(tmp_path / name), train={"epochs": 1})

    with Workshop() as workshop:
        shared = [train(configure(f"shared-{data.stem}", data), workshop=workshop) for data in (reviews, other)]
    alone = [train(configure(f"alone-{data.stem}", data)) for data in (reviews, other)]
    assert [contents(one) for one in shared] == [contents(one) for one in alone]
    hashes = {Run.open(one).directory.read_json("environment")["tokenizer"]["sha256"] for one in shared}
    assert len(hashes) == 2


@pytest.mark.slow
def test_states_are_shared_by_runs_that_would_have_the_same_to_the_bit(configured: Configure, tmp_path: Path) -> None:
    watcher = Watcher()
    settings: list[dict[str, Any]] = [
        {"method": {**TOP, "rank": 2}},
        {"method": {**TOP, "rank": 4}, "train": {"seed": 1, "learning_rate": 3e-3}},
        {"method": {**TOP, "rank": 4}, "compute": {"micro_batch_tokens": 128}},
        {"method": {"name": "freeze"}},
    ]
    counts = []
    folder = tmp_path / "shared"
    for k, one in enumerate(settings):  # in workshops of their own: as in one process after the other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workshop, "close", lambda *_, **__: None)
            with Workshop(folder) as workshop:
                run = train(configured(**one, output=str(tmp_path / str(k))), observers=[watcher], workshop=workshop)
        counts.append(watcher.work.count(FROZEN))
        assert not (run / "states").exists()
    assert counts == [2, 2, 4, 6]
    assert len(list((folder / "states").glob("*/*"))) == 6
    for k, one in enumerate(settings):
        assert contents(tmp_path / str(k)) == contents(train(configured(**one, output=str(tmp_path / f"alone-{k}"))))
    workshop.close(delete=False)
    assert (folder / "states").exists()
    workshop.close()
    assert not (folder / "states").exists()


@pytest.mark.parametrize("restarted", [False, True])
def test_an_interrupted_run_takes_its_states_up_where_they_are_sure_to_be_whole(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    def configure(name: str) -> RunConfig:
        return configured(method=TOP, output=str(tmp_path / name))

    expected = contents(train(configure("whole")))
    with pytest.raises(Stopped):
        train(configure("stopped"), observers=[Watcher(stop_after=3)])
    kept = tmp_path / "stopped" / "states"
    assert {path.name for path in kept.iterdir()} == {"train", "validation"}
    if restarted:
        monkeypatch.setattr(columns_module, "machine_start", lambda: "another start")
    watcher = Watcher()
    assert contents(train(configure("stopped"), resume=True, observers=[watcher])) == expected
    assert watcher.work.count(FROZEN) == 2 * restarted
    assert not kept.exists()


def test_other_rows_have_other_states(configured: Configure, tmp_path: Path) -> None:
    watcher = Watcher()
    with Workshop() as workshop:
        for seed in (0, 1):
            config = configured(method=TOP, output=str(tmp_path / str(seed)))
            config = config.model_copy(update={"data": config.data.changed(split_seed=seed)})
            train(config, observers=[watcher], workshop=workshop)
    assert watcher.work.count(FROZEN) == 4
