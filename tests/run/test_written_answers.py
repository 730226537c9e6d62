"""Answers in parts: the same in one go and gone on with, nothing written twice, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.application import run as command
from tunesmith.files.root import cache_root
from tunesmith.run import Run, RunConfig, train, written_answers
from tunesmith.run import file_predictions as in_parts
from tunesmith.run.countdown import Countdown

Configure = Callable[..., RunConfig]


class Broken(Exception):  # noqa: N818
    """Stands for whatever ends a process."""


@pytest.fixture
def run(configured: Configure, llama_folder: Path, tmp_path: Path) -> Run:
    data = tmp_path / "chats.jsonl"
    rows = ({"prompt": f"say {i}", "completion": ("red", "green", "blue")[i % 3]} for i in range(60))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = configured(
        model=str(llama_folder),
        data=str(data),
        method={"name": "lora", "rank": 2},
        train={"max_steps": 2},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(tmp_path / "run"),
    )
    return Run.open(train(config))


@pytest.fixture
def parts_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (written_answers, in_parts):
        monkeypatch.setattr(module, "PART_ROWS", 4)


def breaking_after(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let the work end when ``number`` parts have been written; return the sizes of the parts that are asked for."""
    asked: list[int] = []
    write = written_answers.write_part

    def write_or_break(network: Any, task: Any, columns: Any, writing: Any, check: Any = lambda _: None) -> list[str]:
        asked.append(len(next(iter(columns.values()))))
        if len(asked) > number:
            raise Broken
        return write(network, task, columns, writing, check)

    for module in ("tunesmith.run.written_answers.write_part", "tunesmith.run.predictor.write_part"):
        monkeypatch.setattr(module, write_or_break)
    return asked


@pytest.mark.parametrize("flags", [[], ["--temperature", "1", "--seed", "3"], ["--num-beams", "2"]])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.usefixtures("parts_of_four")
def test_a_prediction_that_was_broken_off_goes_on_to_the_same_bytes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, flags: list[str]
) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"prompt": f"say {i}"}) + "\n" for i in range(10)), encoding="utf-8")

    def predict(output: Path) -> int:
        own = ["--data", str(asked), "--output", str(output), "--max-new-tokens", "4", "--quiet", *flags]
        return command(["predict", str(run.folder), *own])

    whole, other = tmp_path / f"whole.{suffix}", tmp_path / "other" / f"found.{suffix}"
    assert predict(whole) == 0
    with monkeypatch.context() as patch:
        breaking_after(patch, 2)
        assert predict(other) == 1
    assert not other.exists()
    (begun,) = other.parent.glob(".found*.partial-????????????????")
    assert begun.read_bytes().count(b"\n") == 8
    with monkeypatch.context() as patch:
        sizes = breaking_after(patch, 99)
        assert predict(other) == 0
        assert sizes == [2]
    assert other.read_bytes() == whole.read_bytes()
    assert [path.name for path in other.parent.iterdir()] == [other.name]


@pytest.mark.usefixtures("parts_of_four")
def test_an_evaluation_that_was_broken_off_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sacrebleu")
    said: list[str] = []
    whole = run.evaluate(split="train", answers=10, working=said.append)
    assert any("of 10" in line for line in said)
    with monkeypatch.context() as patch:
        breaking_after(patch, 1)
        with pytest.raises(Broken):
            run.evaluate(split="train", answers=10)
    assert len(list((cache_root() / "answers").glob(".*.partial-????????????????"))) == 1
    with monkeypatch.context() as patch:
        sizes = breaking_after(patch, 99)
        assert run.evaluate(split="train", answers=10) == whole
        assert sizes == [4, 2]
    assert not list((cache_root() / "answers").iterdir())


def test_the_time_left_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 0.5, 2.0, 2.1, 4.0])
    monkeypatch.setattr("tunesmith.run.countdown.time.monotonic", lambda: next(now))
    said: list[str] = []
    countdown = Countdown("writing", 40, said.append, done=20)
    for done in (20, 21, 25, 26, 40):
        countdown.tell(done)
    assert said == ["writing (20 of 40)", "writing (25 of 40, about 6.00 s left)", "writing (40 of 40)"]
