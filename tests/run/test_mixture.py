"""Several data sets in one training: united, mixed, judged each apart, resumed to the same bits."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from run.test_chat import write_chats
from small_runs import write_reviews
from tunesmith.report import write_report
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError, StepInfo

Configure = Callable[..., RunConfig]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Return two sets of reviews, in other files, formats and columns."""
    first = write_reviews(tmp_path / "films.csv", 120)
    with write_reviews(tmp_path / "other.csv", 60, seed=1).open(encoding="utf-8", newline="") as file:
        rows = [{"comment": row["review"], "verdict": row["sentiment"]} for row in csv.DictReader(file)]
    return [str(first), write_jsonl(tmp_path / "shops.jsonl", rows)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def said(run: Run) -> str:
    return "\n".join(problem["message"] for problem in run.summary["problems"])


def test_a_mixture_of_one_set_is_that_set_alone(configured: Configure, sets: list[str], tmp_path: Path) -> None:
    alone = train(configured(data=sets[0], output=str(tmp_path / "alone")))
    mixed = train(configured(data={"mixture": [{"path": sets[0], "weight": 3}]}, output=str(tmp_path / "mixed")))
    assert same(alone, mixed)
    assert Run.open(alone).evaluation["metrics"] == Run.open(mixed).evaluation["metrics"]


def test_sets_are_united_mixed_and_judged_each_apart(configured: Configure, sets: list[str], tmp_path: Path) -> None:
    mixture = [{"path": sets[0]}, {"path": sets[1], "epochs": 2}]
    run = Run.open(train(configured(data={"mixture": mixture}, train={"epochs": 1})))
    rows = run.summary["rows"]
    assert rows == {"train": 144, "validation": 18, "test": 18}
    assert run.summary["steps"] == -(-(96 + 2 * 48) // 16)
    assert "films 1 times (96 rows, 50% of those read); shops 2 times (48 rows, 50% of those read)" in said(run)
    apart = run.evaluation["sets"]
    assert [(one["name"], one["num_rows"]) for one in apart] == [("films", 12), ("shops", 6)]
    whole = sum(one["metrics"]["accuracy"]["value"] * one["num_rows"] for one in apart) / 18
    assert run.evaluation["metrics"]["accuracy"]["value"] == pytest.approx(whole)
    assert all(one["metrics"]["accuracy"]["low"] <= one["metrics"]["accuracy"]["high"] for one in apart)
    page = write_report([run.folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Each set apart" in page
    assert run.config.data.mixture[1].columns == {"text": "comment", "label": "verdict"}
    assert run.evaluate()["metrics"]["accuracy"]["value"] == pytest.approx(
        run.evaluation["metrics"]["accuracy"]["value"]
    )
    again = train(run.config.model_copy(update={"output": str(tmp_path / "again")}))
    assert same(run.folder, again)


class StopAt(Observer):
    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_mixture_that_was_stopped_goes_on_to_the_same_bits(
    configured: Configure, sets: list[str], tmp_path: Path
) -> None:
    data = {"mixture": [{"path": sets[0], "weight": 1}, {"path": sets[1], "weight": 3}]}
    whole, stopped = (configured(data=data, output=str(tmp_path / name)) for name in ("whole", "stopped"))
    train(whole)
    with pytest.raises(Stopped):
        train(stopped, observers=[StopAt()])
    train(stopped, resume=True)
    assert same(tmp_path / "whole", tmp_path / "stopped")


def test_no_row_counts_twice_and_none_is_judged_that_another_set_trains_on(
    configured: Configure, tmp_path: Path
) -> None:
    rows = [{"text": f"a film of number {number}", "label": "ab"[number % 2]} for number in range(60)]
    held = [{"text": f"HELD out   {number}", "label": "ab"[number % 2]} for number in range(10)]
    repeated = [{"text": f"held out {number}", "label": "ab"[number % 2]} for number in range(10)]
    first = write_jsonl(tmp_path / "one.jsonl", rows[:30])
    second = write_jsonl(tmp_path / "two.jsonl", [*rows[25:], *repeated])
    test = write_jsonl(tmp_path / "test.jsonl", held)
    data = {
        "validation_fraction": 0.0,
        "mixture": [
            {"path": first, "test": test},
            {
                "path": second,
                "test": write_jsonl(tmp_path / "two-test.jsonl", [{"text": "something else", "label": "a"}]),
            },
        ],
    }
    run = Run.open(train(configured(data=data, train={"epochs": 1})))
    assert run.summary["rows"] == {"train": 60, "test": 11}
    assert run.summary["left_out"] == {"in another set": 5, "judged elsewhere": 10}
    problem = next(one for one in run.summary["problems"] if "judged on the same texts" in one["message"])
    assert problem["message"].startswith("two: 10 rows of train left out")
    assert problem["rows"][0] == "two.jsonl:36"


def test_labels_are_united_and_what_does_not_go_together_is_refused(
    configured: Configure, sets: list[str], tmp_path: Path
) -> None:
    numbers = write_jsonl(tmp_path / "numbers.jsonl", [{"text": f"{i} films", "label": i % 3} for i in range(60)])
    run = Run.open(
        train(
            configured(
                data={"mixture": [{"path": sets[0]}, {"path": numbers}]}, task="classification", train={"epochs": 1}
            )
        )
    )
    assert run.config.task.labels == ("0", "1", "2", "bad", "good")
    assert "The labels of the sets were united to 5: films lacks 0, 1, 2; numbers lacks bad, good." in said(run)
    lists = write_jsonl(
        tmp_path / "lists.jsonl", [{"text": f"{i} films", "label": ["a", "b"][: 1 + i % 2]} for i in range(40)]
    )
    with pytest.raises(InputError, match="in forms that do not go together"):
        train(configured(data={"mixture": [{"path": sets[0]}, {"path": lists}]}, output=str(tmp_path / "x")))
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl",
        [{"text": f"{i} films", "text_pair": f"{i} plots", "label": "ab"[i % 2]} for i in range(40)],
    )
    with pytest.raises(InputError, match="pairs has 'text_pair', and films not"):
        train(configured(data={"mixture": [{"path": sets[0]}, {"path": pairs}]}, output=str(tmp_path / "x")))
    with pytest.raises(InputError, match=r"missing: .*missing.csv does not exist"):
        train(
            configured(
                data={"mixture": [{"path": sets[0]}, {"path": str(tmp_path / "missing.csv")}]},
                output=str(tmp_path / "x"),
            )
        )


@pytest.mark.parametrize(
    ("mixture", "others", "words"),
    [
        ([{"path": "a.csv", "weight": 2}, {"path": "b.csv", "epochs": 1}], {}, "weight and epochs say the same"),
        ([{"path": "a.csv", "weight": 2}], {"temperature": 2}, "weight and temperature say the same"),
        ([{"path": "a.csv", "replay": True}], {}, "every set of the mixture is replayed"),
        ([{"path": "a.csv"}, {"path": "b.txt", "replay": True, "weight": 2}], {}, "a set that is replayed"),
        ([{"path": "a.csv"}], {"test": "t.csv"}, "give validation and test rows with their sets"),
        ([{"path": "a.csv"}, {"path": "b.csv", "wieght": 2}], {}, "wieght"),
    ],
)
def test_what_contradicts_itself_is_refused(
    configured: Configure, mixture: list[Any], others: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        configured(data={"mixture": mixture, **others})


def test_general_text_is_replayed_beside_conversations(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", 60)
    general = tmp_path / "general.txt"
    general.write_text(
        "".join(f"This is sentence {i} of a text about nothing in particular.\n" for i in range(200)), encoding="utf-8"
    )
    data = {"mixture": [{"path": str(chats)}, {"path": str(general), "replay": 0.25}], "passage": 100}
    run = Run.open(train(configured(model=str(llama_folder), data=data, train={"epochs": 1})))
    rows = run.summary["rows"]
    assert rows["train"] == 48
    assert rows["replay"] > 50
    assert run.summary["steps"] == 4  # 48 rows and a third as many again, 16 a step
    assert "25% of those read" in said(run)
    assert run.evaluation["forgetting"]["text"] == "python-manual"
    assert [one["name"] for one in run.evaluation["sets"]] == ["chats"]
    assert run.evaluation["num_rows"] == rows["test"] == 6
