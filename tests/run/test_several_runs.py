"""Several runs of one call: each is the run that it is alone, and what they have in common is made once."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import small_config
from tunesmith.config.load import load_yaml
from tunesmith.engine import loop
from tunesmith.files.hashing import hash_bytes
from tunesmith.files.lock import locked
from tunesmith.run import Observer, Run, RunConfig, SomeRunsFailedError, Stopped, train, train_several
from tunesmith.types import InputError, Problem, RunError, StepInfo

Configure = Callable[..., RunConfig]
TOP = ("encoder.layer.1.attention.self.query",)

MANY: list[dict[str, Any]] = [
    {"method": {"name": "lora", "rank": 4, "dropout": 0.2}},
    {"method": "full", "train": {"seed": 1, "epochs": 3, "learning_rate": 3e-3}},
    {
        "method": {"name": "freeze", "layers": 1},
        "train": {"seed": 2, "epochs": 8, "evaluate_steps": 6, "early_stopping": {"patience": 1, "minimum_gain": 0.6}},
        "data": {"split_seed": 3, "limit": 120},
    },
    {"method": {"name": "lora", "target_modules": TOP}, "train": {"seed": 3, "schedule": {"name": "cosine"}}},
    {"model": "lstm", "method": "full", "train": {"epochs": 1}},
    {"method": {"name": "lora", "quantize": "int8"}, "task": "masked_lm", "train": {"epochs": 1}},
]
"""Runs of other methods, models, tasks, splits, seeds, rates and lengths; one stops early."""


@pytest.fixture(scope="module")
def many(
    reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[RunConfig]]:
    """Return a function that gives the configurations of ``MANY`` with outputs under a name."""
    folder = tmp_path_factory.mktemp("many")

    def configure(name: str) -> list[RunConfig]:
        return [
            small_config(
                reviews,
                bert_folder,
                folder / f"{name}-{k}",
                **{**one, "data": {"path": str(reviews), **one.get("data", {})}},
            )
            for k, one in enumerate(MANY)
        ]

    return configure


@pytest.fixture(scope="module")
def several(many: Callable[[str], list[RunConfig]]) -> list[Path]:
    """Return the folders of ``MANY``, trained by one call without interruption."""
    return train_several(many("several"))


def folders_of(configs: list[RunConfig]) -> list[Path]:
    return [Path(config.output or "") for config in configs]


def contents(folder: Path) -> dict[str, Any]:
    """Return all of a run that does not tell when, where and how fast it was."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    evaluation, environment, summary = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("evaluation", "environment", "training")
    )
    evaluation.get("baseline", {}).pop("seconds", None)
    weights = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.safetensors")}
    results = ("status", "steps", "best_step", "skipped_steps", "num_trained_parameters", "rows", "micro_batch_tokens")
    return {
        "names": sorted(path.name for path in folder.iterdir()),
        "config": {**load_yaml(folder / "config.yaml"), "output": ""},
        "curve": [{key: value for key, value in line.items() if key != "seconds"} for line in lines],
        "evaluation": evaluation,
        "weights": {name: hash_bytes(path.read_bytes()) for name, path in sorted(weights.items())},
        "predictions": hash_bytes((folder / "predictions.parquet").read_bytes()),
        "environment": {key: environment[key] for key in ("versions", "data", "model", "tokenizer", "defaults")},
        "summary": {key: summary[key] for key in results},
    }


def assert_same_runs(found: list[Path], alone: list[Path]) -> None:
    for one, other in zip(found, alone, strict=True):
        assert contents(one) == contents(other)


class Watcher(Observer):
    """Keeps what is said, and asks the process to stop after a step, as Ctrl-C does."""

    def __init__(self, stop_after: int = 0) -> None:
        self.stop_after = stop_after
        self.problems: list[Problem] = []
        self.num_steps = 0

    def noted(self, problem: Problem) -> None:
        self.problems.append(problem)

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        self.num_steps += 1
        if info.step == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)


def test_each_run_is_to_the_bit_the_one_it_is_alone(
    many: Callable[[str], list[RunConfig]], several: list[Path]
) -> None:
    folders = several
    assert folders == folders_of(many("several"))
    assert_same_runs(folders, [train(config) for config in many("alone")])
    summaries = [Run.open(folder).summary for folder in folders]
    assert [one["status"] for one in summaries].count("stopped early") == 1
    assert len({one["steps"] for one in summaries}) > 2
    assert Run.open(folders[1]).predict(["a great film"]) == Run.open(folders[1]).predict(["a great film"])


def test_language_models(configured: Configure, llama_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"say {k % 5}", "completion": "good" * (k % 7 + 1)} for k in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def configure(name: str, k: int) -> RunConfig:
        method: Any = {"name": "lora", "rank": 4, "dropout": 0.1} if k else "full"
        output = str(tmp_path / f"{name}-{k}")
        return configured(model=str(llama_folder), data=str(path), method=method, output=output, train={"seed": k})

    folders = train_several([configure("several", k) for k in range(2)])
    assert_same_runs(folders, [train(configure("alone", k)) for k in range(2)])


def test_stopped_runs_go_on_where_they_were(many: Callable[[str], list[RunConfig]], several: list[Path]) -> None:
    """The finished ones are left alone, the interrupted one goes on, those that never began begin."""
    configs = many("stopped")
    with pytest.raises(Stopped, match=r"after step 5 of 24; a checkpoint was saved.*the same command and --resume"):
        train_several(configs, observers=[[], [Watcher(stop_after=5)], *([] for _ in MANY[2:])])
    folders = folders_of(configs)
    assert (folders[1] / "checkpoints" / "step-5").is_dir()
    assert [(folder / "manifest.json").exists() for folder in folders[:3]] == [True, False, False]
    assert not folders[2].exists()
    watchers = [Watcher(), Watcher(), Watcher(stop_after=1), *(Watcher() for _ in MANY[3:])]
    with pytest.raises(Stopped, match="after step 1 of"):
        train_several(configs, resume=True, observers=[[one] for one in watchers])
    assert [one.num_steps for one in watchers[:3]] == [0, 24 - 5, 1]
    assert train_several(configs, resume=True) == folders
    for found, expected in zip(folders, several, strict=True):
        one, other = contents(found), contents(expected)
        for part in ("curve", "evaluation", "weights", "predictions", "config"):
            assert one[part] == other[part]
    watchers = [Watcher() for _ in MANY]
    assert train_several(configs, resume=True, observers=[[one] for one in watchers]) == folders
    assert not any(one.num_steps for one in watchers), "nothing is left to do"


def test_a_run_that_never_began_is_started_when_the_others_are_resumed(
    many: Callable[[str], list[RunConfig]],
) -> None:
    configs = many("some")[:2]
    with pytest.raises(InputError, match="nothing to resume"):
        train_several(configs, resume=True)
    assert not any(folder.exists() for folder in folders_of(configs))
    train(configs[0])
    folders = train_several(configs, resume=True)
    assert all(Run.open(folder).summary["status"] == "finished" for folder in folders)


def test_runs_that_were_to_be_replaced_are_replaced_after_an_interruption(
    configured: Configure, tmp_path: Path
) -> None:
    def configure(k: int) -> RunConfig:
        return configured(method="lora", output=str(tmp_path / str(k)), train={"seed": k, "epochs": 1})

    configs = [configure(k) for k in range(3)]
    folders = train_several(configs)
    old = [folder / "report.html" for folder in folders]
    for page in old:
        page.write_text('<meta name="generator" content="tunesmith old">', encoding="utf-8")
    with pytest.raises(Stopped):
        train_several(configs, overwrite=True, observers=[[], [Watcher(stop_after=2)], []])
    assert [page.exists() for page in old] == [False, True, True]
    assert [Run.open(folder).summary["steps"] for folder in folders] == [8, 8, 8], "what is there stays usable"
    watchers = [Watcher(), Watcher(), Watcher()]
    assert train_several(configs, resume=True, observers=[[one] for one in watchers]) == folders
    assert [one.num_steps for one in watchers] == [0, 6, 8]
    assert not any(page.exists() for page in old)
    assert not any((folder / ".new").exists() for folder in folders)


def test_a_run_that_gives_up_does_not_hold_up_the_others(configured: Configure, tmp_path: Path) -> None:
    configs = [
        configured(
            method="lora", output=str(tmp_path / str(k)), train={"seed": k, "learning_rate": rate, "clip_norm": None}
        )
        for k, rate in enumerate((1e-2, 1e30, 2e-2))
    ]
    watchers = [Watcher(), Watcher(), Watcher()]
    with pytest.raises(SomeRunsFailedError, match="1 of 3 runs could not go on") as caught:
        train_several(configs, observers=[[one] for one in watchers])
    folders = folders_of(configs)
    assert caught.value.finished == [folders[0], folders[2]]
    assert str(folders[1]) in str(caught.value)
    assert "5 steps in a row" in str(caught.value)
    errors = [any(problem.severity == "error" for problem in one.problems) for one in watchers]
    assert errors == [False, True, False]
    assert not (folders[1] / "manifest.json").exists()
    for k in (0, 2):
        alone = configs[k].model_copy(update={"output": str(tmp_path / f"alone-{k}")})
        assert_same_runs([folders[k]], [train(alone)])


def test_what_one_run_has_no_memory_for_does_not_end_the_others(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [configured(method="lora", output=str(tmp_path / str(k)), train={"seed": k}) for k in range(3)]
    original = loop._compute

    def compute(step: loop.Step) -> None:
        if step.training.config.seed == 1 and step.training.step == 10:
            raise torch.OutOfMemoryError("there is no memory")
        original(step)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_compute", compute)
        with pytest.raises(SomeRunsFailedError, match="1 of 3 runs could not go on") as caught:
            train_several(configs)
    assert "Out of memory" in str(caught.value)
    folders = folders_of(configs)
    assert caught.value.finished == [folders[0], folders[2]]
    assert (folders[1] / "checkpoints" / "step-8").is_dir()
    train_several(configs, resume=True)
    alone = [config.model_copy(update={"output": f"{config.output}-alone"}) for config in configs]
    assert_same_runs(folders, [train(config) for config in alone])


def test_what_a_model_does_not_allow_is_told_of_its_run_alone(configured: Configure, tmp_path: Path) -> None:
    def configure(name: str, target: str) -> RunConfig:
        return configured(
            method={"name": "lora", "target_modules": target}, output=str(tmp_path / name), train={"epochs": 1}
        )

    with pytest.raises(SomeRunsFailedError, match="no such module") as caught:
        train_several([configure("a", "querry"), configure("b", "query")])
    assert caught.value.finished == [tmp_path / "b"]
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="no such module") as refused:
        train_several([configure("c", "querry"), configure("d", "querry")])
    assert len(refused.value.problems) == 1, "what is wrong with all of them is said once"


def test_a_call_of_which_nothing_comes_says_so(configured: Configure, tmp_path: Path) -> None:
    settings = {"epochs": 1, "learning_rate": 1e30, "clip_norm": None}
    configs = [configured(output=str(tmp_path / name), train=settings) for name in "ab"]
    with pytest.raises(RunError, match="None of the 2 runs could go on") as caught:
        train_several(configs)
    assert not isinstance(caught.value, SomeRunsFailedError)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": "lstm", "method": "lora"}, "trains an adapter beside the weights of a pretrained model"),
        ({"data": "nowhere.csv"}, "nowhere.csv"),
        ({"task": "regression"}, "label"),
    ],
)
def test_rows_and_settings_of_all_are_looked_at_before_anything_is_trained(
    configured: Configure, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    configs = [
        configured(method="lora", output=str(tmp_path / "a")),
        configured(**sections, output=str(tmp_path / "b")),
    ]
    watcher = Watcher()
    with pytest.raises(InputError, match=message):
        train_several(configs, observers=[[watcher], []])
    assert not watcher.num_steps
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_two_runs_cannot_have_one_folder(configured: Configure) -> None:
    with pytest.raises(InputError, match="Several runs would be written into"):
        train_several([configured(method="lora"), configured(method="lora", train={"seed": 1})])


def test_folders_are_held_from_the_beginning(configured: Configure, tmp_path: Path) -> None:
    configs = [configured(output=str(tmp_path / name), train={"epochs": 1}) for name in "ab"]
    with locked(tmp_path / "b"), pytest.raises(InputError, match="is in use by"):
        train_several(configs)
    assert not (tmp_path / "a").exists()
    refusals = []

    class Taker(Watcher):
        def stepped(self, info: StepInfo, total_steps: int) -> None:
            try:
                with locked(tmp_path / "b"):
                    pass
            except InputError as error:
                refusals.append(error)

    train_several(configs, observers=[[Taker()], []])
    assert len(refusals) == 8, "while the first one is trained the second one's is held, too"
    with pytest.raises(InputError, match="already holds a finished run"):
        train_several(configs)


def test_one_config_is_a_run_like_any_other(configured: Configure) -> None:
    (folder,) = train_several([configured(train={"epochs": 1})])
    assert Run.open(folder).summary["status"] == "finished"


def test_what_runs_have_in_common_is_made_once(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.models import OTHER_MODELS
    from tunesmith.run import assembly, frozen_states, workshop

    calls: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, call)

    counted(workshop, "load_data")
    counted(workshop, "baseline")
    counted(OTHER_MODELS, "load")
    counted(assembly.Network, "encode_cached")
    counted(frozen_states, "_write")
    methods: list[Any] = [{"name": "lora", "target_modules": TOP, "rank": rank} for rank in (2, 4)]
    configs = [
        configured(method=method, output=str(tmp_path / str(k)), train={"seed": k})
        for k, method in enumerate([*methods, "full"])
    ]
    folders = train_several(configs)
    assert calls == {"load_data": 1, "baseline": 1, "load": 1, "encode_cached": 3, "_write": 2}
    assert not any((folder / "states").exists() for folder in folders)
