"""Processes that each hold a part of a model never have room for all of it, and train as if each had loaded it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from forked_process import ForkedProcess, command
from run import loaded_whole
from run.test_interruption import arguments_of
from run.test_several_processes import start
from small_runs import small_config, write_reviews
from tiny import tiny_folder
from tunesmith.engine.rank_group import num_cores
from tunesmith.run import RunConfig

pytestmark = pytest.mark.skipif(num_cores() < 2, reason="two ranks take two cores")

DEEP = {"num_hidden_layers": 12, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
WEIGHTS = 12 * 12 * 512**2 * 4
"""Bytes of the layers' matrices: 144 MiB."""
PAUSE = 0.005
WHOLE = {0: loaded_whole.run_command, 1: loaded_whole.run_command}


def most_memory(processes: list[ForkedProcess]) -> int:
    """Wait for processes that must end well; return the most resident bytes that any of them ever had."""
    most = 0
    while any(process.is_alive for process in processes):
        most = max(most, *(_peak(process.pid) for process in processes), 0)
        time.sleep(PAUSE)
    assert [process.wait() for process in processes] == [0] * len(processes), processes[0].stderr
    return most


def _peak(pid: int) -> int:
    """Return the most that a process has had since it last began to count; 0 of one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return 0 if found is None else int(found[1]) << 10


def steps_of(folder: Path) -> list[tuple[float, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["loss"], line["gradient_norm"]) for line in lines if line["kind"] == "step"]


ROOM: dict[str, tuple[dict[str, Any], float]] = {
    "everything trained": ({"method": {"name": "full"}}, 1.25),
    "lora": ({"method": {"name": "lora", "rank": 4}}, 0.25),
}
"""How much less than one process that has all of the model each of two has at the most, in sizes of the model. Weights,
gradients and two moments are four of these, of which each has half; three layers are whole for a while."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process has at most is read from /proc")
@pytest.mark.parametrize("case", ROOM)
def test_no_process_ever_has_room_for_all_of_the_model(case: str, tmp_path: Path) -> None:
    method, less = ROOM[case]
    model, data = tiny_folder(tmp_path, **DEEP), write_reviews(tmp_path / "rows.csv", 64)
    sections = {**method, "train": {"max_steps": 3}, "evaluation": {"num_resamples": 0, "baseline": False}}

    def config(name: str, parallel: str) -> RunConfig:
        compute = {"parallel": parallel, "keep_states": False}
        return small_config(data, model, tmp_path / name, **sections, compute=compute)

    alone, divided = config("alone", "data"), config("divided", "fsdp")
    one = most_memory([command(*arguments_of(alone, tmp_path / "alone.yaml"))])
    two = most_memory(start(tmp_path, divided, divided))
    sys.stdout.write(f"{case}: {one >> 20} MiB by one process, {two >> 20} MiB at most by each of two\n")
    assert two < one - less * WEIGHTS
    ours, theirs = steps_of(Path(str(divided.output))), steps_of(Path(str(alone.output)))
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-3)


WAYS: dict[str, dict[str, Any]] = {
    "mapped": {"method": {"name": "full"}},
    "mapped, frozen": {"method": {"name": "freeze", "layers": 1}},
    "brought in": {"method": {"name": "full"}, "train": {"precision": "bf16"}},
    "brought in, frozen": {"method": {"name": "freeze", "layers": 1}, "train": {"precision": "bf16"}},
    "adapter": {"method": {"name": "lora", "rank": 4}},
    "adapter, brought in": {"method": {"name": "lora", "rank": 4}, "train": {"precision": "bf16"}},
}
QUICK = ("brought in", "adapter")


@pytest.mark.parametrize("way", [pytest.param(way, marks=[] if way in QUICK else pytest.mark.slow) for way in WAYS])
def test_a_model_that_is_divided_as_it_is_read_is_the_one_that_was_loaded(
    way: str, reviews: Path, bert_folder: Path, tmp_path: Path
) -> None:
    sections = dict(WAYS[way])
    sections["train"] = {"epochs": 1, **sections.get("train", {})}
    sections |= {"compute": {"parallel": "fsdp"}, "evaluation": {"num_resamples": 0, "baseline": False}}
    runs = []
    for name, calls in (("read", {}), ("loaded", WHOLE)):
        config = small_config(reviews, bert_folder, tmp_path / name, **sections)
        processes = start(tmp_path, config, config, calls=calls)
        assert [process.wait() for process in processes] == [0, 0], processes[0].stderr + processes[1].stderr
        runs.append(Path(str(config.output)))
    saved = "adapter_model.safetensors" if "adapter" in way else "model.safetensors"
    assert steps_of(runs[0]) == steps_of(runs[1])
    assert (runs[0] / saved).read_bytes() == (runs[1] / saved).read_bytes()
