"""Runs that promise something to those whose rows they learn from, and what cannot be promised."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.run import Run, RunConfig, train
from tunesmith.run.noise_accounting import epsilon_of, multiplier_for
from tunesmith.types import InputError

pytest.importorskip("opacus", reason="per-sample gradients and accounting are opacus': pip install 'tunesmith[privacy]'")

Configure = Callable[..., RunConfig]
LORA = {"name": "lora", "rank": 2}


def test_epsilon_is_that_of_published_figures() -> None:
    """Abadi et al. 2016, section 3.2: 1.26 by the moments accountant, whose bound has become tighter since."""
    assert epsilon_of(4.0, 0.01, 10_000, 1e-5, "rdp") == pytest.approx(1.1, abs=0.16)
    # opacus' own tests of its accountants
    assert epsilon_of(1.5, 0.04, round(90 / 0.04), 1e-5, "rdp") == pytest.approx(7.329, abs=1e-3)
    assert epsilon_of(1.5, 0.04, round(90 / 0.04), 1e-5, "prv") == pytest.approx(6.777, abs=0.02)


@pytest.mark.parametrize("accountant", ["prv", "rdp"])
def test_noise_is_what_the_promise_takes_and_no_more(accountant: Any) -> None:
    multiplier = multiplier_for(3.0, 0.05, 200, 1e-4, accountant)
    assert multiplier is not None
    assert 3.0 * 0.98 <= epsilon_of(multiplier, 0.05, 200, 1e-4, accountant) <= 3.0
    assert epsilon_of(0.95 * multiplier, 0.05, 200, 1e-4, accountant) > 3.0


@pytest.mark.parametrize("method", [{"name": "full"}, {"name": "freeze"}, LORA], ids=lambda one: one["name"])
def test_a_private_run_says_what_it_promised(configured: Configure, method: dict[str, Any]) -> None:
    folder = train(configured(method=method, privacy={"epsilon": 8}, train={"epochs": 1}))
    run = Run.open(folder)
    promised, rows = run.summary["privacy"], run.summary["rows"]["train"]
    assert 7.8 <= promised["epsilon"] <= 8
    assert promised["delta"] == pytest.approx(rows**-1.1, rel=0.05)
    assert promised["accountant"] == "prv"
    assert promised["unit"] == "row"
    assert promised["sample_rate"] == pytest.approx(16 / rows)
    assert promised["gradients_of_rows"] == "at once"
    assert run.summary["layout"] == "padded"
    assert run.summary["precision"] == "fp32"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "differential privacy" in card
    assert f"epsilon = {promised['epsilon']:.3g}" in card
    assert not list((folder / "checkpoints").glob("step-*")), "a finished run holds no secret"
    sizes = [json.loads(line)["rows"] for line in run.directory.metrics.read_text().splitlines() if '"step"' in line and '"rows"' in line]
    assert len(set(sizes)) > 1 or not sizes, "rows are drawn by chance"


def test_a_private_run_that_is_interrupted_goes_on_to_the_same_bits(configured: Configure, tmp_path: Path) -> None:
    config = configured(method=LORA, privacy={"epsilon": 8}, train={"epochs": 1}, compute={"checkpoint_steps": 1})
    folder = train(config, until=2)
    assert not (folder / "training.json").exists()
    shutil.copytree(folder, tmp_path / "copy")
    copied = config.changed(output=str(tmp_path / "copy"))
    train(config, resume=True)
    train(copied, resume=True, until=5)
    train(copied, resume=True)
    one, two = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "copy"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_private_runs_of_one_seed_are_not_the_same(configured: Configure, tmp_path: Path) -> None:
    folders = [
        train(configured(method=LORA, privacy={"epsilon": 8}, train={"max_steps": 2}, output=str(tmp_path / name)))
        for name in ("one", "two")
    ]
    one, two = (load_file(place / "adapter_model.safetensors") for place in folders)
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_steps_of_private_runs_are_large_where_nobody_says(configured: Configure) -> None:
    run = Run.open(train(configured(method=LORA, privacy={"epsilon": 8}, train={"batch_size": None, "max_steps": 1})))
    assert run.config.train.batch_size == 32
    assert "noise" in run.summary["defaults"]["train.batch_size"]["reason"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"compute": {"layout": "flat"}}, "compute.layout is flat"),
        ({"train": {"precision": "bf16"}}, "train.precision is bf16"),
        ({"compute": {"compile": "always"}}, "compute.compile is always"),
        ({"method": {"name": "adalora"}}, "decides by gradients"),
        ({"method": {"name": "lora", "start": "eva"}}, "looks at training rows"),
        ({"model": "cnn", "method": "full", "privacy": {"epsilon": 0.01}}, "nothing would be learned"),
        ({"privacy": {"epsilon": 8, "delta": 0.1}}, "privacy.delta is 0.1"),
    ],
)
def test_what_cannot_be_private_is_refused(configured: Configure, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(configured(**{"privacy": {"epsilon": 8}, **sections}))


def test_a_promise_that_rows_and_steps_cannot_keep_is_refused_with_one_that_they_can(configured: Configure) -> None:
    with pytest.raises(InputError) as refused:
        train(configured(method=LORA, privacy={"epsilon": 0.05}))
    told = str(refused.value)
    assert "0.05" in told
    possible = float(told.split("Give epsilon ")[1].split(" ")[0])
    assert possible > 0.05
    folder = train(configured(method=LORA, privacy={"epsilon": possible, "accountant": "rdp"}, train={"max_steps": 1}))
    assert Run.open(folder).summary["privacy"]["epsilon"] <= possible


def test_losses_that_hold_rows_against_each_other_are_refused(configured: Configure, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,positive\n" + "".join(f"great film {i},wonderful cast {i}\n" for i in range(60)))
    with pytest.raises(InputError, match="holds rows against each other"):
        train(configured(data=str(pairs), task="embedding", privacy={"epsilon": 8}))
