"""Plans: what is said of methods before anything is trained, and what would make them fit."""

from __future__ import annotations

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import tiny_folder
from tunesmith.api import plan
from tunesmith.cli.application import run
from tunesmith.config.build import build
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.methods import METHODS
from tunesmith.methods.choosing import FEW_ROWS, Trained, likely_quality, wanted_rank
from tunesmith.methods.situation import Situation
from tunesmith.run import RunConfig, Workshop
from tunesmith.run.forecast import Forecast, forecast
from tunesmith.study import PlanConfig
from tunesmith.study.fitting import make_fit
from tunesmith.types import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plans")
    tiny_folder(place)
    with (place / "reviews.csv").open("w", newline="") as file:
        rows = [(f"the film of day {n} was {word}", word) for n in range(40) for word in ("great", "dull")]
        rows += [("the film of day 3 was great", "dull"), ("a film", "great"), ("a film", "dull")]
        csv.writer(file).writerows([("text", "label"), *rows])
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> Forecast:
    """A forecast of a real run, in which steps are said to take long and much."""
    train = {"batch_size": 4, "epochs": 4, "learning_rate": 0.01}
    sections = {"model": str(folder / "bert"), "data": str(folder / "reviews.csv"), "train": train, "method": "lora"}
    with Workshop() as workshop:
        real = forecast(build(RunConfig, sections), workshop, seconds=0.1)
    table = replace(real.timetable, seconds_of_all_steps=100.0, seconds_of_evaluation=0.0, seconds_of_checkpoint=0.0)
    kept = tuple(replace(one, in_layers=1e6) for one in real.memory.needs.kept)
    needs = replace(real.memory.needs, kept=kept, num_layers=2, step_tokens=8192.0)
    memory = replace(real.memory, needs=needs, in_use_bytes=0)
    peak = memory.peak(memory.micro_batch_tokens, checkpointing=False)
    return replace(
        real, timetable=table, memory=memory, seconds_of_training=100.0, seconds_around=10.0, peak_memory=peak
    )


# ---- what is said ------------------------------------------------------------------------------------


def test_a_plan_says_what_methods_take_and_the_command_it_recommends_works(folder: Path, capsys: Any) -> None:
    given = ["--model", str(folder / "bert"), "--data", str(folder / "reviews.csv"), "--train.max_steps", "3"]
    given += ["--evaluation.baseline", "false"]
    before = sorted(path.name for path in folder.iterdir())
    assert run(["plan", *given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in said["candidates"]] == ["full", "lora", "freeze"]
    for one in said["candidates"]:
        assert one["fits"]
        assert one["seconds"] > one["seconds_of_training"] > 0
        assert one["peak_memory"] > 10**7
        assert one["disk"] > 0
        assert one["steps"] == 3
        assert one["quality"] in ("best", "good", "fair")
        assert one["quality_reasons"]
    assert any("with another label" in note for note in said["notes"])
    assert sorted(path.name for path in folder.iterdir()) == before
    words = shlex.split(said["recommended"]["command"])
    assert words[:2] == ["tunesmith", "train"]
    assert run([*words[1:], "--output", str(folder / "run"), "--quiet"]) == 0
    record = json.loads((folder / "run" / "training.json").read_text())
    assert record["steps"] == 3
    config = (folder / "run" / "config.yaml").read_text()
    assert f"name: {said['recommended']['method'].partition('(')[0]}" in config


def test_what_no_method_can_keep_to_is_said_with_what_it_takes_at_least(folder: Path, capsys: Any) -> None:
    given = ["--model", str(folder / "bert"), "--data", str(folder / "reviews.csv"), "--methods", "freeze,bitfit"]
    assert run(["plan", *given, "--within", "1s", "--memory", "1MB", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "Recommended: nothing. None fits." in said
    assert "and there are 1.00 s and it takes" in said
    assert "there are to be 1.0 MB; no change known here is enough" in said


def test_a_method_that_the_model_cannot_take_is_a_candidate_that_does_not_fit(folder: Path) -> None:
    made = plan(folder / "reviews.csv", model=str(folder / "bert"), methods=["freeze(layers=9)", "freeze"])
    assert [one.fits for one in made.candidates] == [False, True]
    assert "9" in made.candidates[0].reason
    assert made.recommended is made.candidates[1]
    with pytest.raises(InputError, match="layers"):
        plan(folder / "reviews.csv", model=str(folder / "bert"), methods=["freeze(layers=9)"])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("within", "10 minutes?", "no duration"),
        ("memory", "lots", "no amount of memory"),
        ("methods", "lorra", "lora"),
        ("methods", "lora(rnk=3)", "rank"),
        ("quality", "superb", "best"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_could(folder: Path, key: str, value: str, said: str) -> None:
    values = {"model": "sample:minilm", "data": str(folder / "reviews.csv"), key: value}
    with pytest.raises(InputError, match=said):
        build(PlanConfig, values).contestants()


def test_the_method_that_was_asked_for_comes_first() -> None:
    method = {"name": "freeze", "layers": 1}
    config = build(PlanConfig, {"model": "sample:minilm", "data": "x.csv", "method": method})
    assert [one.name for one in config.contestants()] == ["freeze(layers=1)", "full", "lora", "freeze"]


# ---- what would fit ----------------------------------------------------------------------------------


def test_what_fits_is_changed_by_nothing(found: Forecast) -> None:
    change = make_fit(found, 1000.0, 10**15)
    assert change is not None
    assert not change.flags
    assert change.peak_memory == found.peak_memory


def test_smaller_micro_batches_come_first_then_layers_that_are_computed_again(found: Forecast) -> None:
    smaller = make_fit(found, None, int(0.7 * found.peak_memory))
    assert smaller is not None
    assert smaller.flags == {"compute.micro_batch_tokens": "2048"}
    assert smaller.peak_memory < 0.7 * found.peak_memory
    again = make_fit(found, None, found.peak_memory // 10)
    assert again is not None
    assert again.flags["compute.checkpointing"] == "always"
    assert again.seconds > smaller.seconds
    assert not again.trains_less
    assert make_fit(found, None, 1) is None


def test_a_base_is_streamed_before_rows_are_cut_and_what_that_costs_is_said(found: Forecast) -> None:
    weights = 10**11
    needs = replace(found.memory.needs, weights=weights, streamable=weights - 10**9)
    memory = replace(found.memory, needs=needs)
    large = replace(found, memory=memory, peak_memory=found.peak_memory + weights)
    streamed = make_fit(large, None, large.peak_memory - 10**10)
    assert streamed is not None
    assert streamed.flags == {"compute.offload": "cpu"}
    assert streamed.words == ("the base's layers streamed from files",)
    assert streamed.peak_memory == large.peak_memory - needs.streamable
    assert not streamed.trains_less
    parts = 8192 / memory.micro_batch_tokens
    read = 2 * parts * found.timetable.num_steps * needs.streamable / 1e9
    assert streamed.seconds == pytest.approx(large.seconds + read)
    config = large.config.model_copy(update={"compute": large.config.compute.model_copy(update={"compile": "always"})})
    hindered = make_fit(replace(large, config=config), None, large.peak_memory - 10**10)
    assert hindered is None or "compute.offload" not in hindered.flags


def test_fewer_passes_are_made_in_less_time_and_far_fewer_of_shorter_rows(found: Forecast) -> None:
    half = make_fit(found, 60.0, None)
    assert half is not None
    assert half.flags == {"train.epochs": "2"}
    assert half.seconds == pytest.approx(60.0)
    assert half.trains_less
    assert make_fit(found, 10.0, None) is None, "what comes before and after takes as long"


def test_rows_are_cut_where_passes_alone_are_not_enough(found: Forecast) -> None:
    lengths = np.arange(10, 110)
    rows = Encoded({"input_ids": Ragged.from_rows([np.zeros(length) for length in lengths])}, {})
    few = make_fit(replace(found, rows=rows), 30.0, None)  # a fifth of the time that its steps take
    assert few is not None
    longest = int(few.flags["model.max_length"])
    assert longest in (84, 59)
    assert f"rows cut at {longest} tokens" in few.words[0]
    cut = np.minimum(lengths, longest)
    linear, quadratic = (cut.sum() / lengths.sum(), (cut**2).sum() / (lengths**2).sum())
    assert 4 * 0.2 / linear < float(few.flags["train.epochs"]) < 4 * 0.2 / quadratic


# ---- what is known beforehand ------------------------------------------------------------------------


def situation(**changes: Any) -> Situation:
    usual = Situation(num_rows=10_000, num_answers=10_000, writes=False, noise=0.0, num_weights=100_000_000)
    return replace(usual, **changes)


HEAD, ADAPTER = Trained(1000, 0, 10**8), Trained(301_000, 300_000, 10**8)
WHOLE, PART = Trained(10**8, 10**8 - 1000, 10**8), Trained(10**7, 10**7 - 1000, 10**8)


@pytest.mark.parametrize(
    ("method", "trained", "changes", "quality", "word"),
    [
        ("full", WHOLE, {}, "best", "plentiful"),
        ("full", WHOLE, {"num_rows": FEW_ROWS - 1}, "good", "by heart"),
        ("full", WHOLE, {"noise": 0.2}, "good", "wrong labels"),
        ("freeze", PART, {}, "good", "stays as it was"),
        ("freeze", HEAD, {}, "fair", "linear probe"),
        ("freeze", HEAD, {"num_rows": 100}, "good", "by heart"),
        ("lora", ADAPTER, {}, "best", "Schulman"),
        ("lora", ADAPTER, {"num_answers": 10**6}, "good", "fewer than"),
        ("lora", ADAPTER, {"writes": True}, "good", "rank 8: language models below 2 billion"),
        ("lora", ADAPTER, {"writes": True, "num_weights": 7 * 10**9}, "best", "tokens of answers"),
    ],
)
def test_what_is_known_of_methods(
    method: str, trained: Trained, changes: dict[str, Any], quality: str, word: str
) -> None:
    found = likely_quality(METHODS[method](), trained, situation(**changes))
    assert found.quality == quality
    assert any(word in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("per_rank", "changes", "rank"),
    [
        (40_000, {}, 8),
        (40_000, {"num_answers": 500_000}, 16),
        (40_000, {"num_answers": 10**9}, 256),
        (300_000, {"writes": True}, 16),
        (300_000, {"writes": True, "num_weights": 3 * 10**9}, 8),
    ],
)
def test_the_rank_is_enough_for_the_answers(per_rank: int, changes: dict[str, Any], rank: int) -> None:
    assert wanted_rank(per_rank, situation(**changes))[0] == rank
