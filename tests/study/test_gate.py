"""Whether a new run may replace an old one: verdicts, exit statuses, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from small_runs import small_config
from tunesmith.cli.application import run as command
from tunesmith.run import Run, RunConfig, train
from tunesmith.study.gate import gate
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def good(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gate") / "good"
    settings = {"epochs": 10}
    return train(small_config(reviews, bert_folder, place, train=settings, evaluation={"num_resamples": 400}))


@pytest.fixture(scope="module")
def bad(reviews: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gate") / "bad"
    settings = {"max_steps": 1, "learning_rate": 1e-7, "evaluate_steps": 1}
    return train(small_config(reviews, bert_folder, place, train=settings, evaluation={"num_resamples": 400}))


def test_a_run_may_replace_itself_and_not_a_better_one(good: Path, bad: Path) -> None:
    same = gate(Run.open(good), Run.open(good))
    assert same.verdict == "passed"
    assert same.change == {"value": 0, "low": 0, "high": 0}
    assert same.margin == 0.01
    assert gate(Run.open(good), Run.open(bad)).verdict == "passed"
    worse = gate(Run.open(bad), Run.open(good))
    assert worse.verdict == "failed"
    assert worse.change["high"] < -0.01
    assert worse.new == pytest.approx(Run.open(bad).evaluation["metrics"][worse.metric]["value"])


def test_few_rows_decide_nothing_and_say_how_many_would(
    good: Path, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "a great film,good\na boring film,bad\nthe cast was dull,bad\nthe best of the year,good\na plot,good\n"
    (tmp_path / "few.csv").write_text("review,sentiment\n" + rows)
    found = gate(Run.open(bad), Run.open(good), data=str(tmp_path / "few.csv"), margin=40)
    assert found.verdict == "undecided"
    assert found.rows == 5
    given = ["gate", str(bad), "--against", str(good), "--data", str(tmp_path / "few.csv"), "--margin", "40"]
    assert command(given) == 3
    assert "is undecided" in capsys.readouterr().out


def test_the_exit_status_says_it(good: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["gate", str(good), "--against", str(bad)]) == 0
    assert "may replace" in capsys.readouterr().out
    assert command(["gate", str(bad), "--against", str(good), "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "failed"
    assert record["change"]["low"] < record["change"]["high"] < 0


def test_other_tasks_and_unknown_metrics_are_refused(good: Path, configured: Configure, tmp_path: Path) -> None:
    task = {"name": "masked_lm"}
    other = train(configured(task=task, train={"max_steps": 1, "evaluate_steps": 1}, output=str(tmp_path / "other")))
    with pytest.raises(InputError, match="Give two runs of one task"):
        gate(Run.open(good), Run.open(other))
    with pytest.raises(InputError, match="There is no metric 'beauty'"):
        gate(Run.open(good), Run.open(good), metric="beauty")
    assert command(["gate", str(good), "--against", str(other)]) == 2


def test_rows_that_the_old_run_may_have_learned_from_are_warned_of(
    good: Path, configured: Configure, reviews: Path, tmp_path: Path
) -> None:
    data = {"path": str(reviews), "split_seed": 7}
    other = train(configured(data=data, output=str(tmp_path / "other"), train={"epochs": 1}))
    (warning,) = gate(Run.open(good), Run.open(other)).problems
    assert "may have learned from" in str(warning)


def test_slices_are_judged_for_themselves(
    good: Path, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bad run says one label of everything: on the rows of that label it is right, on the others wrong."""
    rows = [(f"a {word} film {n}", label) for n in range(40) for word, label in (("great", "good"), ("boring", "bad"))]
    lines = [f"{text},{label},{('north', 'south')[label == 'good']}" for text, label in rows]
    lines += [f"the best plot {n},good,west" for n in range(3)]
    (tmp_path / "rows.csv").write_text("\n".join(["review,sentiment,region", *lines]) + "\n")
    data = str(tmp_path / "rows.csv")
    found = gate(Run.open(bad), Run.open(good), data=data, margin=60, by="region")
    assert found.slices is not None
    by_value = {one.value: one for one in found.slices.slices}
    assert {value: one.rows for value, one in by_value.items()} == {"north": 40, "south": 40, "west": 3}
    assert by_value["west"].verdict == "too few rows"
    assert found.slices.confidence == 0.975, "two are compared"
    verdicts = [by_value["north"].verdict, by_value["south"].verdict]
    assert sorted(verdicts) == ["failed", "passed"]
    assert found.verdict == "failed", "whatever all rows together say"
    assert command(["gate", str(bad), "--against", str(good), "--data", data, "--margin", "60", "--by", "region"]) == 1
    shown = capsys.readouterr().out
    assert "where region is" in shown
    assert "too few rows" in shown
    same = gate(Run.open(good), Run.open(good), by="sentiment")
    assert same.verdict == "passed"
    assert same.slices is not None
    assert sum(one.rows for one in same.slices.slices) == same.rows, "the run's own rows, by a column of its file"
    with pytest.raises(InputError, match="no column 'regoin'"):
        gate(Run.open(good), Run.open(good), data=data, by="regoin")
    with pytest.raises(InputError, match="slices are of many rows each"):
        gate(Run.open(good), Run.open(good), data=data, by="review")
