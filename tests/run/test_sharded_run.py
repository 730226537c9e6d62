"""One run by real processes each of which holds a part of the weights: an ordinary run, whatever happens on the way."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from run.test_interruption import arguments_of, trained_bytes, wait_for_step
from run.test_several_processes import (
    LONG,
    Begin,
    assert_same_curve,
    begin,
    ended_at_random,
    killed_at_random,
    losses,
    start,
)
from small_runs import small_config
from tunesmith.engine.rank_group import num_cores
from tunesmith.run import Run, RunConfig, train

__all__ = ["begin"]

pytestmark = pytest.mark.skipif(num_cores() < 2, reason="two ranks take two cores")

IN_PARTS: dict[str, Any] = {**LONG, "compute": {**LONG["compute"], "parallel": "fsdp"}}


SHORT: dict[str, Any] = {**IN_PARTS, "train": {"epochs": 1}}
"""8 steps."""


def made_by_two(config: RunConfig, place: Path) -> Path:
    """Return the run that two processes made, and nobody interrupted."""
    processes = start(place, config, config)
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr + processes[1].stderr
    return Path(str(config.output))


@pytest.fixture(scope="module")
def twin(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of 64 steps that two processes made with the weights in parts."""
    place = tmp_path_factory.mktemp("twin")
    return made_by_two(small_config(reviews, bert_folder, place / "run", **IN_PARTS), place)


@pytest.fixture(scope="module")
def short(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a shorter one."""
    place = tmp_path_factory.mktemp("short")
    return made_by_two(small_config(reviews, bert_folder, place / "run", **SHORT), place)


def test_the_run_of_parts_is_that_of_one_process(short: Path, configured: Callable[..., RunConfig]) -> None:
    twin, alone = short, train(configured(**SHORT))
    ours, theirs = losses(twin), losses(alone)
    assert ours.keys() == theirs.keys() == set(range(1, 9))
    assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-3)
    ours, theirs = (json.loads((folder / "training.json").read_text()) for folder in (twin, alone))
    assert [(one["ranks"], one["parallel"]) for one in (ours, theirs)] == [(2, "fsdp"), (1, None)]
    assert ours["num_trained_parameters"] == theirs["num_trained_parameters"]
    assert any("this is one: it has all of it" in problem["message"] for problem in theirs["problems"])
    (said,), (expected,) = (Run.open(folder).predict(["a great film"]) for folder in (twin, alone))
    assert said["label"] == expected["label"]
    assert said["score"] == pytest.approx(expected["score"], abs=1e-4)


def test_plain_transformers_opens_the_run(short: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    config = json.loads((short / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    model = AutoModelForSequenceClassification.from_pretrained(short).eval()
    inputs = AutoTokenizer.from_pretrained(short)("a great film", return_tensors="pt")
    with torch.no_grad():
        label = model.config.id2label[int(model(**inputs).logits.argmax())]
    assert label == Run.open(short).predict(["a great film"])[0]["label"]


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_with_any_number_of_processes(
    twin: Path, begin: Begin, configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = configured(**IN_PARTS)
    folder = Path(str(config.output))
    first, second = begin(config, config)
    wait_for_step(folder, 20, first)
    second.send_signal(signal.SIGKILL)
    assert first.wait() == 1
    assert f"ank 1 (process {second.pid}" in first.stderr
    (step, *_) = sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-*"))
    assert step
    with safe_open(folder / "checkpoints" / f"step-{step}" / "optimizer.safetensors", "numpy") as file:
        names = set(file.keys())
    assert {name.rpartition("/")[2] for name in names} == {"exp_avg", "exp_avg_sq", "step"}
    shutil.copytree(folder, tmp_path / "copy")
    processes = begin(config, config, flags=("--resume",))
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    assert trained_bytes(folder) == trained_bytes(twin), "as many ranks: to the byte"
    other = train(config.model_copy(update={"output": str(tmp_path / "copy")}), resume=True)  # alone
    assert_same_curve(other, twin)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_parts(twin: Path, begin: Begin, configured: Callable[..., RunConfig]) -> None:
    config = configured(**LONG)
    train(config, until=21)
    folder = Path(str(config.output))
    divided = configured(**IN_PARTS)
    processes = begin(divided, divided, flags=("--resume",))
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    assert_same_curve(folder, twin)


@pytest.mark.slow
def test_adapters_in_parts_are_a_plain_adapter_in_the_end(begin: Begin, configured: Callable[..., RunConfig]) -> None:
    lora = {"method": {"name": "lora", "rank": 4}}
    config = configured(**IN_PARTS, **lora)
    processes = begin(config, config)
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr + processes[1].stderr
    divided = Path(str(config.output))
    assert (divided / "adapter_model.safetensors").exists()
    alone = train(configured(**LONG, **lora).model_copy(update={"output": str(divided) + "-alone"}))
    assert_same_curve(divided, alone)
    (said,), (expected,) = (Run.open(folder).predict(["a dull film"]) for folder in (divided, alone))
    assert said["score"] == pytest.approx(expected["score"], abs=1e-3)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_saves(
    twin: Path, begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    config = configured(**IN_PARTS)
    processes = begin(config, config)
    wait_for_step(Path(str(config.output)), 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in processes] == [143, 143], processes[0].stderr
    processes = begin(config, config, flags=("--resume",))
    assert [process.wait() for process in processes] == [0, 0], processes[0].stderr
    assert trained_bytes(Path(str(config.output))) == trained_bytes(twin)


def test_what_cannot_be_done_on_parts_is_refused_before_training(
    begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    optimizer = {**LONG["train"], "optimizer": {"name": "adafactor"}}
    config = configured(**{**IN_PARTS, "train": optimizer, "method": {"name": "lisa", "layers": 1}})
    first, _ = begin(config, config)
    assert first.wait() == 2
    assert "fsdp does not fit the method 'lisa': it changes what is trained from step to step" in first.stderr
    assert "fsdp does not fit the optimizer adafactor" in first.stderr
    assert "Choose adamw" in first.stderr
    assert not Path(str(config.output)).exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_whose_processes_were_ended_at_random_is_its_twin(
    seed: int, twin: Path, begin: Begin, configured: Callable[..., RunConfig]
) -> None:
    config = configured(**IN_PARTS)
    ended_at_random(random.Random(seed), begin, config)
    assert trained_bytes(Path(str(config.output))) == trained_bytes(twin)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_process_killed_at_random_is_begun_anew_by_torchrun(
    seed: int, twin: Path, configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = configured(**IN_PARTS)
    arguments = [sys.executable, "-m", "tunesmith", *arguments_of(config, tmp_path / "config.yaml")]
    killed_at_random(random.Random(seed), arguments, Path(str(config.output)), tmp_path / "said")
    assert trained_bytes(Path(str(config.output))) == trained_bytes(twin)
