"""Runs that promise something to those whose rows they learn from, and what cannot be promised."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from small_runs import write_reviews
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.noise_accounting import epsilon_of, multiplier_for
from tunesmith.types import InputError

pytest.importorskip(
    "opacus", reason="per-sample gradients and accounting are opacus': pip install 'tunesmith[privacy]'"
)

Configure = Callable[..., RunConfig]
LORA = {"name": "lora", "rank": 2}
PRIVATE = {"epsilon": 8, "accountant": "rdp"}
"""Counted the quick way."""


def test_epsilon_is_that_of_published_figures() -> None:
    """Abadi et al. 2016, section 3.2: 1.26 by the moments accountant, whose bound has become tighter since."""
    assert 1.0 < epsilon_of(4.0, 0.01, 10_000, 1e-5, "rdp") < 1.26
    # opacus' own tests of its accountants
    assert epsilon_of(1.5, 0.04, round(90 / 0.04), 1e-5, "rdp") == pytest.approx(7.329, abs=1e-3)
    assert epsilon_of(1.5, 0.04, round(90 / 0.04), 1e-5, "prv") == pytest.approx(6.777, abs=0.02)


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_noise_is_what_the_promise_takes_and_no_more(accountant: Any) -> None:
    multiplier = multiplier_for(3.0, 0.05, 200, 1e-4, accountant)
    assert multiplier is not None
    assert 3.0 * 0.985 <= epsilon_of(multiplier, 0.05, 200, 1e-4, accountant) <= 3.0
    assert epsilon_of(0.95 * multiplier, 0.05, 200, 1e-4, accountant) > 3.0


@pytest.mark.parametrize(
    "method",
    [LORA, *(pytest.param({"name": name}, marks=pytest.mark.slow) for name in ("full", "freeze"))],
    ids=lambda one: one["name"],
)
def test_a_private_run_says_what_it_promised(configured: Configure, method: dict[str, Any]) -> None:
    settings = {"epochs": 1, "batch_size": None}
    folder = train(configured(method=method, privacy={"epsilon": 8}, train=settings, evaluation={"baseline": False}))
    run = Run.open(folder)
    promised, rows = run.summary["privacy"], run.summary["rows"]["train"]
    assert 7.8 <= promised["epsilon"] <= 8
    assert promised["delta"] == pytest.approx(rows**-1.1, rel=0.05)
    assert promised["accountant"] == "prv"
    assert promised["unit"] == "row"
    assert promised["sample_rate"] == pytest.approx(32 / rows)
    assert "noise" in run.summary["defaults"]["train.batch_size"]["reason"]
    assert promised["gradients_of_rows"] == "at once"
    assert run.summary["layout"] == "padded"
    assert run.summary["precision"] == "fp32"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "differential privacy" in card
    assert f"epsilon = {promised['epsilon']:.3g}" in card
    assert not list((folder / "checkpoints").glob("step-*")), "a finished run holds no secret"
    steps = [json.loads(line) for line in run.directory.metrics.read_text().splitlines()]
    sizes = {one["num_rows"] for one in steps if one["kind"] == "step"}
    assert len(sizes) > 1, "rows are drawn by chance"


def test_a_private_run_that_is_interrupted_goes_on_to_the_same_bits(configured: Configure, tmp_path: Path) -> None:
    quick = {"train": {"max_steps": 4}, "compute": {"checkpoint_steps": 1}, "evaluation": {"baseline": False}}
    config = configured(method=LORA, privacy=PRIVATE, **quick)
    folder = train(config, until=2)
    assert not (folder / "training.json").exists()
    shutil.copytree(folder, tmp_path / "copy")
    for place in (folder, tmp_path / "copy"):
        train(config.changed(output=str(place)), resume=True)
    one, two = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "copy"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def by_persons(path: Path, persons: int = 60) -> Path:
    """Write reviews of persons of whom some wrote many."""
    source = write_reviews(path / "plain.csv", 240)
    generator = random.Random(0)
    with source.open(encoding="utf-8", newline="") as read, (path / "persons.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        rows = list(csv.reader(read))
        writer.writerow([*rows[0], "person"])
        for row in rows[1:]:
            writer.writerow([*row, f"p{int(persons * generator.random() ** 2)}"])
    return path / "persons.csv"


def test_all_rows_of_a_person_are_protected_together(configured: Configure, tmp_path: Path) -> None:
    data = {"path": str(by_persons(tmp_path)), "group": "person"}
    quick = {"train": {"max_steps": 4, "batch_size": 64}, "compute": {"checkpoint_steps": 1}}
    config = configured(method=LORA, privacy=PRIVATE, data=data, evaluation={"baseline": False}, **quick)
    folder = train(config, until=2)
    shutil.copytree(folder, tmp_path / "copy")
    for place in (folder, tmp_path / "copy"):
        train(config.changed(output=str(place)), resume=True)
    one, two = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "copy"))
    assert all(torch.equal(one[name], two[name]) for name in one), "goes on to the same bits"
    run = Run.open(folder)
    promised = run.summary["privacy"]
    assert promised["unit"] == "group"
    assert promised["group"] == "person"
    assert 30 < promised["groups"] < 60
    assert promised["delta"] == pytest.approx(promised["groups"] ** -1.1, rel=0.05)
    assert f"every group of rows ({promised['groups']} by the column person)" in (folder / "README.md").read_text()
    expected = promised["sample_rate"] * promised["groups"]
    assert promised["epsilon"] == pytest.approx(
        epsilon_of(promised["noise_multiplier"], promised["sample_rate"], 4, promised["delta"], "rdp")
    )
    assert promised["noise_multiplier"] < expected


def test_what_cannot_be_promised_to_persons_is_refused(configured: Configure, tmp_path: Path) -> None:
    data = {"path": str(by_persons(tmp_path, persons=8)), "group": "person"}
    with pytest.raises(InputError, match=r"groups? in the mean: nothing would be learned") as caught:
        train(configured(method=LORA, privacy={**PRIVATE, "epsilon": 0.5}, data=data))
    assert "Give epsilon" in str(caught.value)
    with pytest.raises(InputError, match="no column says which rows belong together"):
        train(configured(method=LORA, privacy={**PRIVATE, "unit": "group"}))


@pytest.mark.slow
def test_two_private_runs_of_one_seed_are_not_the_same(configured: Configure, tmp_path: Path) -> None:
    folders = [
        train(configured(method=LORA, privacy=PRIVATE, train={"max_steps": 2}, output=str(tmp_path / name)))
        for name in ("one", "two")
    ]
    one, two = (load_file(place / "adapter_model.safetensors") for place in folders)
    assert not all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"compute": {"layout": "flat"}}, 'compute.layout is "flat"'),
        ({"train": {"precision": "bf16"}}, 'train.precision is "bf16"'),
        ({"compute": {"compile": "always"}}, 'compute.compile is "always"'),
        ({"method": {"name": "adalora"}}, "decides by gradients"),
        ({"method": {"name": "eva"}}, "looks at training rows"),
        ({"privacy": {"epsilon": 8, "delta": 0.1}}, "privacy.delta is 0.1"),
    ],
)
def test_what_cannot_be_private_is_refused(configured: Configure, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(configured(**{"privacy": PRIVATE, **sections}))


def test_a_promise_that_rows_and_steps_cannot_keep_is_refused_with_one_that_they_can(configured: Configure) -> None:
    with pytest.raises(InputError) as refused:
        train(configured(method=LORA, privacy={"epsilon": 0.01}))
    told = str(refused.value)
    assert "0.01" in told
    possible = float(told.split("Give epsilon ")[1].split(" ", maxsplit=1)[0])
    assert possible > 0.01
    folder = train(configured(method=LORA, privacy={"epsilon": possible, "accountant": "rdp"}, train={"max_steps": 8}))
    assert Run.open(folder).summary["privacy"]["epsilon"] <= possible


def test_losses_that_hold_rows_against_each_other_are_refused(configured: Configure, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,positive\n" + "".join(f"great film {i},wonderful cast {i}\n" for i in range(60)))
    with pytest.raises(InputError, match="holds rows against each other"):
        train(configured(data=str(pairs), task="embedding", privacy=PRIVATE))
