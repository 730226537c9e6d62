"""Configurations of earlier versions: what moved, what is told of it, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.config.keys import list_keys
from tunesmith.config.load import dump_yaml, load_yaml, parse_yaml
from tunesmith.config.migrate import VERSION, former_names, migrate, note_moved, present_name
from tunesmith.engine.config import ComputeConfig, TrainConfig
from tunesmith.run import RunConfig

OLD = {
    "model": "lstm",
    "data": {"path": "x.csv"},
    "train": {
        "epochs": 2.0,
        "seed": 3,
        "device": "cpu",
        "layout": "padded",
        "micro_batch_tokens": 512,
        "micro_batch_rows": 4,
        "checkpointing": "never",
        "compile": "never",
        "kernels": "auto",
        "cuda_graphs": False,
        "keep_states": False,
        "deterministic": True,
        "checkpoint_steps": 7,
        "keep_checkpoints": 2,
    },
}
"""What the first version wrote: every key of the machine among those of the recipe."""

NEW = {"offload", "parallel", "rank_timeout"}
"""Keys of the machine that came later, and never stood among those of the recipe."""


def test_an_old_configuration_is_the_same_in_the_present_form() -> None:
    values, notes = migrate(OLD, "old.yaml")
    config = build(RunConfig, values)
    assert config.train == TrainConfig(epochs=2, seed=3)
    assert config.compute == ComputeConfig(
        device="cpu",
        layout="padded",
        micro_batch_tokens=512,
        micro_batch_rows=4,
        checkpointing="never",
        compile="never",
        keep_states=False,
        deterministic=True,
        checkpoint_steps=7,
        keep_checkpoints=2,
    )
    (note,) = notes
    assert note.severity == "note"
    assert note.message.startswith("old.yaml: train.device is compute.device now, train.layout is compute.layout now")
    assert all(f"compute.{name}" in note.message for name in ComputeConfig.model_fields.keys() - NEW)


def test_every_key_of_the_machine_was_one_of_the_recipe_and_is_no_more() -> None:
    known = {key.path for key in list_keys(RunConfig)}
    present = {former: present_name(former) for former in former_names()}
    assert known.issuperset(present.values())
    assert known.isdisjoint(present)
    assert set(present.values()) == {f"compute.{name}" for name in ComputeConfig.model_fields.keys() - NEW}
    assert present_name("--train.layout") == "--compute.layout"
    assert present_name("train.epochs") == "train.epochs"


def test_what_is_given_is_not_changed() -> None:
    given = copy.deepcopy(OLD)
    migrate(given)
    assert given == OLD


def test_a_configuration_in_the_present_form_stays_as_it_is(tmp_path: Path) -> None:
    config = build(RunConfig, {"model": "lstm", "data": "x.csv", "compute": {"layout": "flat"}})
    text = dump_yaml(config)
    assert text.startswith(f"version: {VERSION}\n")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    values = load_yaml(tmp_path / "config.yaml")
    assert migrate(values) == (values, [])
    assert build(RunConfig, values) == config


@pytest.mark.parametrize("version", [{}, {"version": 1}])
@pytest.mark.parametrize("beside", [{}, {"compute": None}, {"compute": {"device": "cpu"}}])
def test_former_and_present_names_may_stand_beside_each_other(version: Any, beside: Any) -> None:
    values, notes = migrate({**version, **beside, "train": {"layout": "flat", "epochs": 1}})
    assert values["train"] == {"epochs": 1}
    assert values["compute"] == {"layout": "flat", **(beside.get("compute") or {})}
    assert values.get("version", VERSION) == VERSION
    assert [note.message for note in notes] == ["train.layout is compute.layout now."]


def test_a_key_given_by_both_names_is_refused() -> None:
    text = "train: {layout: flat, device: cpu, compile: never}\ncompute: {layout: padded, device: cpu}\n"
    with pytest.raises(ConfigError) as caught:
        migrate(parse_yaml(text, "mine.yaml"), "mine.yaml")
    found = [problem.message for problem in caught.value.problems]
    assert found == [
        "mine.yaml: train.device and compute.device are both given; they are one key, which has moved.",
        "mine.yaml: train.layout and compute.layout are both given; they are one key, which has moved.",
    ]
    assert caught.value.problems[0].fix == "Leave out train.device."


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="version is 3; this tunesmith reads configurations up to version 2"
    ) as caught:
        migrate({"version": 3, "compute": {"quantum": True}}, "config.yaml")
    assert "newer tunesmith" in caught.value.problems[0].fix


@pytest.mark.parametrize(("given", "shown"), [("two", '"two"'), (True, "true"), (0, "0"), (1.5, "1.5"), (None, "null")])
def test_what_is_no_version_is_named(given: Any, shown: str) -> None:
    values, notes = migrate({"version": given, "model": "lstm", "data": "x.csv"})
    assert not notes
    with pytest.raises(ConfigError, match=rf"version is {shown}; expected"):
        build(RunConfig, values)


def test_the_present_form_knows_former_names_no_more_and_says_where_they_are() -> None:
    values, _ = migrate({"version": 2, "model": "lstm", "data": "x.csv", "train": {"keep_states": True}})
    with pytest.raises(ConfigError, match=r"train\.keep_states is not a known key") as caught:
        build(RunConfig, values)
    assert caught.value.problems[0].fix == "Did you mean 'compute.keep_states'?"


@pytest.mark.parametrize("odd", [{"train": "fast"}, {"train": None}, {"train": {"layout": "flat"}, "compute": "all"}])
def test_sections_that_are_none_are_left_to_be_refused(odd: dict[str, Any]) -> None:
    assert migrate(odd) == (odd, [])


def test_nothing_moved_is_nothing_told() -> None:
    assert note_moved([]) == []
