"""What nobody says about a training is decided by model, task, method and data, and what is said stays as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.application import run as command
from tunesmith.run import Observer, Run, RunConfig, train, train_several
from tunesmith.run import defaults as rules
from tunesmith.run.composition import compose
from tunesmith.run.defaults import as_record
from tunesmith.run.directory import RunDirectory
from tunesmith.run.observers import Observers
from tunesmith.run.session import Composed
from tunesmith.run.signals import StopRequests
from tunesmith.run.workshop import Workshop
from tunesmith.tasks.classification import Classification

UNSAID: dict[str, Any] = {
    "epochs": None,
    "batch_size": None,
    "learning_rate": None,
    "evaluate_steps": None,
    "early_stopping": {},
}
KEYS = {
    "train.batch_size",
    "train.epochs",
    "train.learning_rate",
    "method.head_factor",
    "train.schedule.warmup",
    "train.evaluate_steps",
    "train.early_stopping.patience",
    "model.max_length",
}


def write_rows(path: Path, num_rows: int) -> Path:
    """Write texts whose label follows from one of their words."""
    generator = random.Random(0)
    words = ("the", "film", "and", "plot", "cast", "time", "song")
    lines = ["text,label"]
    for index in range(num_rows):
        sign = ("great", "good") if index % 2 else ("dull", "bad")
        text = [*generator.choices(words, k=generator.randint(3, 9)), sign[0]]
        generator.shuffle(text)
        lines.append(f"{' '.join(text)},{sign[1]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def composed(config: RunConfig) -> tuple[Composed, RunConfig]:
    """Put a run together without training it."""
    made = compose(config, RunDirectory(Path(config.output or "")), Observers([]), StopRequests(), Workshop())
    return made, made.resolved


@pytest.fixture
def undecided(configured: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a configuration with nothing said about training but what is given."""

    def build(num_rows: int = 160, train: dict[str, Any] | None = None, **sections: Any) -> RunConfig:
        rows = write_rows(tmp_path / f"rows-{num_rows}.csv", num_rows)
        method = sections.pop("method", "full")
        method = {"head_factor": None, **({"name": method} if isinstance(method, str) else method)}
        return configured(data=str(rows), train={**UNSAID, **(train or {})}, method=method, **sections)

    return build


def test_what_is_not_said_is_decided_and_recorded(undecided: Callable[..., RunConfig]) -> None:
    run = Run.open(train(undecided(train={"max_steps": 6})))
    decided = run.summary["defaults"]
    assert decided.keys() == KEYS
    assert all(one.keys() == {"value", "reason"} and one["reason"] for one in decided.values())
    saved = run.config.model_dump()
    for key, one in decided.items():
        *sections, last = key.split(".")
        held: Any = saved
        for section in sections:
            held = held[section]
        assert held[last] == one["value"], key


def test_what_is_said_stays(undecided: Callable[..., RunConfig]) -> None:
    said = {
        "epochs": 1.5,
        "batch_size": 7,
        "learning_rate": 0.0123,
        "evaluate_steps": 3,
        "early_stopping": {"patience": 9},
        "schedule": {"name": "cosine", "warmup": 0},
    }
    session, resolved = composed(undecided(train=said))
    assert session.decisions.keys() == {"method.head_factor", "model.max_length"}
    for key, value in said.items():
        found = getattr(resolved.train, key)
        if isinstance(value, dict):
            assert value.items() <= found.model_dump().items()
        else:
            assert found == value
    assert session.training.plan.total_steps == math.ceil(math.ceil(128 / 7) * 1.5)


def test_a_larger_batch_gets_a_larger_rate(undecided: Callable[..., RunConfig]) -> None:
    rates = [composed(undecided(train={"batch_size": size}))[1].train.learning_rate for size in (8, 32)]
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.1)


def test_a_larger_model_gets_a_smaller_rate_and_an_adapter_a_larger_one(undecided: Callable[..., RunConfig]) -> None:
    session, resolved = composed(undecided())
    small = resolved.train.learning_rate
    model = session.network.model
    model.add_module("more", __import__("torch").nn.Linear(1000, 1000))
    assert rules.suited_rate(session.config, session.data.task, model, 8) < small
    adapted = composed(undecided(method="lora"))[1].train.learning_rate
    assert adapted > 3 * small
    scaled = composed(undecided(method={"name": "lora", "alpha": 64}))[1].train.learning_rate
    assert scaled < adapted
    head = composed(undecided(method="freeze"))[1].train.learning_rate
    assert head > small


HEAD = ("classifier", "score", "modules_to_save")


@pytest.mark.parametrize(
    ("method", "rate", "factor"),
    [
        ("full", 1e-4, 30.0),  # at most
        ("full", 1e-3, 10.0),
        ("full", 1.0, 1.0),  # at least
        ("lora", 1e-3, 10.0),
        ("freeze", 1e-3, 1.0),  # nothing but the head is trained
        ({"name": "freeze", "layers": 1}, 1e-3, 10.0),
        ({"name": "freeze", "gradual": True}, 1e-3, 10.0),
    ],
)
def test_a_new_head_has_the_rate_that_suits_it_alone(
    undecided: Callable[..., RunConfig], method: Any, rate: float, factor: float
) -> None:
    suiting = _suiting(undecided(method=method))
    options = suiting[0].method.default_learning_rate * suiting[0].method.rate_factor()
    scale = rules.suited_rate(*suiting) / options
    made, resolved = composed(undecided(method=method, train={"learning_rate": rate * scale}))
    assert resolved.method.head_factor == pytest.approx(factor, rel=0.05)  # both rates are rounded
    for group in resolved.method.parameter_groups(made.network.model):
        are_heads = {any(part in name for part in HEAD) for name in group.names}
        assert group.learning_rate_scale == (resolved.method.head_factor if True in are_heads else 1.0)
        assert len(are_heads) == 1 or factor == 1


def _suiting(config: RunConfig) -> tuple[RunConfig, Any, Any, int]:
    made, resolved = composed(config)
    assert resolved.train.batch_size
    return config, made.data.task, made.network.model, resolved.train.batch_size


def test_what_is_not_new_has_the_rate_of_the_rest(undecided: Callable[..., RunConfig], tmp_path: Path) -> None:
    said = composed(undecided(method={"name": "full", "head_factor": 3.0}))[1]
    assert said.method.head_factor == 3.0
    assert composed(undecided(model="lstm"))[1].method.head_factor == 1.0
    first = train(undecided(train={"max_steps": 2}, output=str(tmp_path / "first")))
    assert Run.open(first).config.method.head_factor > 1  # type: ignore[operator]
    assert composed(undecided(model=str(first), output=str(tmp_path / "second")))[1].method.head_factor == 1.0


@pytest.mark.parametrize("num_rows", [100, 300, 1_000, 3_000, 10_000, 100_000, 3_000_000])
def test_steps_are_enough_and_bounded(undecided: Callable[..., RunConfig], num_rows: int) -> None:
    task = composed(undecided())[0].data.task
    size, _ = rules._batch_size(num_rows)
    per_epoch = math.ceil(num_rows / size)
    epochs, _ = rules._epochs(task, per_epoch, 1, has_validation=True)
    steps = per_epoch * epochs
    assert steps >= min(task.wanted_steps(), per_epoch * task.most_epochs)
    assert epochs == 1 or steps <= rules.AFFORDABLE_STEPS
    assert 1 <= epochs <= task.most_epochs


def test_many_labels_are_learned_in_more_steps() -> None:
    few, many = (Classification(labels=tuple(map(str, range(number)))) for number in (40, 77))
    assert few.wanted_steps() == Classification().wanted_steps() == 1000
    assert many.wanted_steps() == 77 * 25
    assert many.wanted_steps(longer=2) == 2000
    epochs = [rules._epochs(task, 282, 1, has_validation=True) for task in (few, many)]
    assert [number for number, _ in epochs] == [4, 7]
    assert "1,925 steps or more" in epochs[1][1]


def test_without_validation_rows_nothing_stops_early_and_epochs_are_few(undecided: Callable[..., RunConfig]) -> None:
    config = undecided()
    none = config.data.model_copy(update={"validation_fraction": 0.0})
    session, resolved = composed(config.model_copy(update={"data": none}))
    assert resolved.train.early_stopping.patience == "never"
    assert resolved.train.epochs == rules.FEWEST_EPOCHS < composed(config)[1].train.epochs
    assert session.decisions["train.early_stopping.patience"].reason


class Crash(BaseException):
    """The process ends."""


class Interrupter(Observer):
    """Stops a run after so many steps as a crash would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == self.after:
            raise Crash


def test_a_resumed_run_keeps_what_was_decided(
    undecided: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = undecided(train={"epochs": 3}, compute={"checkpoint_steps": 5})
    whole = Run.open(train(config.model_copy(update={"output": str(tmp_path / "whole")})))
    with pytest.raises(Crash):
        train(config, observers=[Interrupter(12)])
    monkeypatch.setattr(rules, "SIZE_EXPONENT", 2.0)  # another version of the rules
    monkeypatch.setattr(rules, "PATIENCE", 1)
    monkeypatch.setattr(rules, "BATCH_SIZES", (64, 128))
    resumed = Run.open(train(config, resume=True))
    assert resumed.summary["defaults"] == whole.summary["defaults"]
    assert resumed.summary["steps"] == whole.summary["steps"]
    assert resumed.config.train == whole.config.train
    weights = [(run.directory.path / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_runs_of_one_call_decide_each_for_itself(undecided: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = undecided(method="lora", train={"max_steps": 4})
    runs = [
        config.model_copy(
            update={
                "output": str(tmp_path / str(alpha)),
                "method": config.method.model_copy(update={"alpha": alpha}),
            }
        )
        for alpha in (8.0, 128.0)
    ]
    folders = train_several(runs)
    decided = [Run.open(folder).summary["defaults"] for folder in folders]
    assert [one["train.learning_rate"]["value"] for one in decided] == [
        composed(replace_output(one, tmp_path / "alone"))[1].train.learning_rate for one in runs
    ]
    assert decided[0]["train.learning_rate"] != decided[1]["train.learning_rate"]


def replace_output(config: RunConfig, folder: Path) -> RunConfig:
    return config.model_copy(update={"output": str(folder)})


def test_help_says_what_the_data_decide(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    of_auto = {"method.start", "method.rank"}  # what the method auto leaves open
    of_texts = {"task.via", "task.judged_by", "evaluation.answers"}
    assert shown.count("by data]") == len({*KEYS, *of_auto, *of_texts})


def test_one_line_says_what_was_decided(undecided: Callable[..., RunConfig]) -> None:
    session, resolved = composed(undecided(train={"epochs": 2}))
    line = rules.in_one_line(session.decisions)
    assert f"rate {resolved.train.learning_rate:g}" in line
    assert "epoch" not in line
    assert rules.in_one_line({}) == ""
    assert as_record(session.decisions)["train.batch_size"]["value"] == resolved.train.batch_size


# ---- what to try first ---------------------------------------------------------------------------


def hints(run: Run) -> list[str]:
    return [one["fix"] for one in run.summary["problems"] if one["fix"].startswith("Try first: ")]


JUDGED: dict[str, Any] = {"baseline": True, "num_resamples": 200}


def test_a_run_behind_its_rival_says_what_to_try(undecided: Callable[..., RunConfig]) -> None:
    run = Run.open(train(undecided(400, train={"epochs": 1, "batch_size": 32}, evaluation=JUDGED)))
    assert run.evaluation["difference"]["accuracy"]["high"] < 0
    (hint,) = hints(run)
    assert "--train.epochs" in hint


def test_a_rate_far_from_what_suits_is_named_first(undecided: Callable[..., RunConfig]) -> None:
    config = undecided(400, train={"epochs": 1, "learning_rate": 1e-7}, evaluation=JUDGED)
    suited = composed(replace_rate(config))[1].train.learning_rate
    (hint,) = hints(Run.open(train(config)))
    assert f"--train.learning_rate {suited:g}" in hint


def replace_rate(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": None})})


def test_a_run_that_is_no_worse_than_wanted_says_nothing(configured: Callable[..., RunConfig]) -> None:
    config = configured(train={"epochs": 8}, evaluation={"baseline": False})
    assert not hints(Run.open(train(config)))
