"""Several runs trained together: every folder is the one that the run gives alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.config.load import load_yaml
from tunesmith.engine import loop
from tunesmith.engine.batch import Batch
from tunesmith.run import Observer, Run, RunConfig, SomeRunsFailedError, Stopped, train, train_together
from tunesmith.types import InputError, Problem, StepInfo

Configure = Callable[..., RunConfig]

MANY: list[dict[str, Any]] = [
    {"method": {"name": "lora", "rank": 4}},
    {"method": {"name": "lora", "rank": 2, "dropout": 0.2}, "train": {"seed": 1, "epochs": 3, "learning_rate": 3e-2}},
    {
        "method": {"name": "lora", "rank": 8, "rslora": True},
        "train": {"seed": 2, "epochs": 8, "evaluate_steps": 6, "early_stopping": {"patience": 1, "minimum_gain": 0.6}},
        "data": {"split_seed": 3, "limit": 120},
    },
    {"method": {"name": "lora", "alpha": 3.0}, "train": {"seed": 3, "schedule": {"name": "cosine"}, "clip_norm": 0.01}},
]


@pytest.fixture
def many(configured: Configure, reviews: Path, tmp_path: Path) -> Callable[[str], list[RunConfig]]:
    """Return a function that gives the configurations of ``MANY`` with outputs under a name."""

    def configure(name: str) -> list[RunConfig]:
        return [
            configured(
                **{**one, "data": {"path": str(reviews), **one.get("data", {})}}, output=str(tmp_path / f"{name}-{k}")
            )
            for k, one in enumerate(MANY)
        ]

    return configure


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def curve(folder: Path) -> list[Any]:
    return [(one["kind"], one["step"], one["loss"]) for one in records(folder)]


def assert_same_run(found: Path, alone: Path, tolerance: float = 1e-4) -> None:
    assert {path.name for path in found.iterdir()} == {path.name for path in alone.iterdir()}
    names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (found, alone)]
    assert names[0] == names[1]
    assert {**load_yaml(found / "config.yaml"), "output": ""} == {**load_yaml(alone / "config.yaml"), "output": ""}
    for one, other in zip(records(found), records(alone), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=tolerance)
        for key in ("kind", "step", "epoch", "learning_rate", "num_tokens", "num_rows"):
            assert one.get(key) == other.get(key)
    weights, expected = (load_file(folder / "adapter_model.safetensors") for folder in (found, alone))
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=0.01, atol=1e-3, msg=name)
    runs = [Run.open(folder) for folder in (found, alone)]
    for key in ("status", "steps", "epochs", "best_step", "skipped_steps", "num_trained_parameters", "rows", "layout"):
        assert runs[0].summary[key] == runs[1].summary[key]
    metrics = [{name: value["value"] for name, value in run.evaluation["metrics"].items()} for run in runs]
    assert metrics[0] == pytest.approx(metrics[1], rel=0.01, abs=1e-3)
    if "baseline" in runs[0].evaluation:
        assert runs[0].evaluation["baseline"]["metrics"] == runs[1].evaluation["baseline"]["metrics"]


def test_each_run_is_the_one_it_is_alone(many: Callable[[str], list[RunConfig]]) -> None:
    """Of other seeds, ranks, rates, lengths, splits; with dropout; one stops early."""
    folders = train_together(many("together"))
    assert folders == [Path(config.output or "") for config in many("together")]
    for folder, config in zip(folders, many("alone"), strict=True):
        assert_same_run(folder, train(config))
    summaries = [Run.open(folder).summary for folder in folders]
    assert [one["status"] for one in summaries] == ["finished", "finished", "stopped early", "finished"]
    assert len({one["steps"] for one in summaries}) > 1
    assert all(any("with 3 other runs" in problem["message"] for problem in one["problems"]) for one in summaries)
    text = ["a great film"]
    assert Run.open(folders[1]).predict(text)[0]["label"] == Run.open(folders[1]).predict(text)[0]["label"]


@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_language_models(configured: Configure, llama_folder: Path, tmp_path: Path, quantize: str) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"say {k % 5}", "completion": "good" * (k % 7 + 1)} for k in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def configure(name: str, k: int) -> RunConfig:
        method = {"name": "lora", "rank": 4 + k, "dropout": 0.1 * k, "quantize": quantize}
        return configured(
            model=str(llama_folder),
            data=str(path),
            method=method,
            output=str(tmp_path / f"{name}-{k}"),
            train={"seed": k},
        )

    folders = train_together([configure("together", k) for k in range(2)])
    for k, folder in enumerate(folders):
        assert_same_run(folder, train(configure("alone", k)), 1e-3)


class Signal(Observer):
    """Asks the process to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_layers_of_all_runs_are_computed_again_where_it_was_asked_for(configured: Configure, tmp_path: Path) -> None:
    def configure(name: str, k: int, checkpointing: str) -> RunConfig:
        sections = {"train": {"seed": k, "epochs": 1 + k}, "compute": {"checkpointing": checkpointing}}
        method = {"name": "lora", "dropout": 0.1}
        return configured(method=method, output=str(tmp_path / f"{name}-{k}"), **sections)

    folders = train_together([configure("again", k, "always") for k in range(2)])
    for folder, kept in zip(folders, train_together([configure("kept", k, "never") for k in range(2)]), strict=True):
        assert Run.open(folder).summary["checkpointing"]
        assert curve(folder) == curve(kept)


def test_stopped_runs_resume_to_the_same_bytes(many: Callable[[str], list[RunConfig]]) -> None:
    whole = train_together(many("whole"))
    configs = many("stopped")
    with pytest.raises(Stopped, match=r"every run under way \(4\)"):
        train_together(configs, observers=[[], [], [Signal(4)], []])
    for config in configs:
        assert (Path(config.output or "") / "checkpoints" / "step-4").is_dir()
    with pytest.raises(Stopped, match=r"every run under way \(3\)"):  # one stopped early
        train_together(configs, resume=True, observers=[[], [Signal(14)], [], []])
    folders = train_together(configs, resume=True)
    for folder, expected in zip(folders, whole, strict=True):
        assert curve(folder) == curve(expected)
        name = "adapter_model.safetensors"
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    assert train_together(configs, resume=True) == folders  # nothing is left to do


def test_a_run_that_never_began_is_started_when_the_others_are_resumed(
    many: Callable[[str], list[RunConfig]],
) -> None:
    configs = many("some")[:2]
    with pytest.raises(InputError, match="nothing to resume"):
        train_together(configs, resume=True)
    train(configs[0])
    folders = train_together(configs, resume=True)
    assert all(Run.open(folder).summary["status"] == "finished" for folder in folders)


class Notes(Observer):
    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def noted(self, problem: Problem) -> None:
        self.problems.append(problem)


def test_a_run_that_gives_up_does_not_hold_up_the_others(configured: Configure, tmp_path: Path) -> None:
    configs = [
        configured(
            method="lora", output=str(tmp_path / str(k)), train={"seed": k, "learning_rate": rate, "clip_norm": None}
        )
        for k, rate in enumerate((1e-2, 1e30, 2e-2))
    ]
    notes = [Notes(), Notes(), Notes()]
    with pytest.raises(SomeRunsFailedError, match="1 of 3 runs could not go on") as caught:
        train_together(configs, observers=[[one] for one in notes])
    folders = [Path(config.output or "") for config in configs]
    assert caught.value.finished == [folders[0], folders[2]]
    assert str(folders[1]) in str(caught.value)
    assert "5 steps in a row" in str(caught.value)
    assert [any(problem.severity == "error" for problem in one.problems) for one in notes] == [False, True, False]
    assert not (folders[1] / "manifest.json").exists()
    for k in (0, 2):
        alone = configs[k].model_copy(update={"output": str(tmp_path / f"alone-{k}")})
        assert_same_run(folders[k], train(alone))


def test_what_one_run_has_no_memory_for_does_not_end_the_others(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [configured(method="lora", output=str(tmp_path / str(k)), train={"seed": k}) for k in range(3)]
    original = loop.Step.mean_loss

    def mean_loss(step: loop.Step, batch: Batch) -> torch.Tensor:
        if step.training.config.seed == 1 and step.training.step == 5:
            raise torch.OutOfMemoryError("there is no memory")
        return original(step, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Step, "mean_loss", mean_loss)
        with pytest.raises(SomeRunsFailedError, match="1 of 3 runs could not go on") as caught:
            train_together(configs)
    assert "Out of memory" in str(caught.value)
    folders = [Path(config.output or "") for config in configs]
    assert caught.value.finished == [folders[0], folders[2]]
    assert (folders[1] / "checkpoints" / "step-5").is_dir()
    train_together(configs, resume=True)
    for folder, config in zip(folders, configs, strict=True):
        assert Run.open(folder).summary["micro_batch_tokens"] == 4096
        assert_same_run(folder, train(config.model_copy(update={"output": str(tmp_path / f"alone-{folder.name}")})))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"method": "full"}, "method 'full' does not leave frozen"),
        ({"model": "lstm", "method": "lora"}, "'lstm' is trained from scratch"),
        ({"method": {"name": "lora", "target_modules": "query"}}, "the same method.target_modules"),
        ({"method": {"name": "lora", "quantize": "int8"}}, "the same method.quantize; here it is none, int8"),
        ({"method": "lora", "train": {"precision": "bf16"}}, "the same train.precision; here it is fp32, bf16"),
        ({"method": "lora", "compute": {"checkpointing": "always"}}, "the same compute.checkpointing"),
        ({"method": "lora", "task": "masked_lm"}, "the same task"),
    ],
)
def test_what_cannot_be_trained_together_is_refused_before_anything_is_written(
    configured: Configure, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    configs = [
        configured(method="lora", output=str(tmp_path / "a")),
        configured(**sections, output=str(tmp_path / "b")),
    ]
    with pytest.raises(InputError, match=message):
        train_together(configs)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("settings", "message"), [({"dora": True}, "two matrices"), ({"bias": "all"}, "the base itself")]
)
def test_adapters_that_change_the_base_are_refused(
    configured: Configure, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    method = {"name": "lora", **settings}
    configs = [configured(method=method, output=str(tmp_path / name)) for name in "ab"]
    with pytest.raises(InputError, match=message) as caught:
        train_together(configs)
    assert len(caught.value.problems) == 2


def test_what_is_off_where_runs_are_trained_together_is_said(configured: Configure, tmp_path: Path) -> None:
    notes = [Notes(), Notes()]
    configs = [
        configured(method="lora", output=str(tmp_path / wish), train={"epochs": 1}, compute={"compile": wish})
        for wish in ("always", "auto")
    ]
    folders = train_together(configs, observers=[[one] for one in notes])
    said = [any("compute.compile: always: switched off" in one.message for one in each.problems) for each in notes]
    assert said == [True, False]
    assert Run.open(folders[0]).summary["compiled_layers"] == 0


def test_two_runs_cannot_have_one_folder(configured: Configure) -> None:
    with pytest.raises(InputError, match="Several runs would be written into"):
        train_together([configured(method="lora"), configured(method="lora", train={"seed": 1})])


def test_one_config_is_a_run_like_any_other(configured: Configure) -> None:
    (folder,) = train_together([configured(train={"epochs": 1})])
    assert Run.open(folder).summary["status"] == "finished"


def test_data_model_and_rival_are_made_once(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.run import workshop

    calls: dict[str, int] = {}

    def counted(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return original(*arguments, **settings)

        monkeypatch.setattr(module, name, call)

    counted(workshop, "load_data")
    counted(workshop, "baseline")
    configs = [
        configured(method="lora", output=str(tmp_path / str(k)), train={"seed": k, "epochs": 1}) for k in range(3)
    ]
    train_together(configs)
    assert calls == {"load_data": 1, "baseline": 1}


def test_frozen_layers_are_run_once_for_all(configured: Configure, tmp_path: Path) -> None:
    top = ("encoder.layer.1.attention.self.query",)

    def configure(name: str, k: int) -> RunConfig:
        method = {"name": "lora", "target_modules": top, "rank": 2 + k}
        output = str(tmp_path / f"{name}-{k}")
        return configured(method=method, output=output, train={"seed": k, "epochs": 1 + k})

    folders = train_together([configure("together", k) for k in range(2)])
    for k, folder in enumerate(folders):
        assert_same_run(folder, train(configure("alone", k)))
        assert not (folder / "states").exists()
