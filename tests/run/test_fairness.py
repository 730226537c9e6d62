"""Groups that are to be served alike: weights and draws by hand, and a planted bias that each way takes away."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.data.encoded import Units
from tunesmith.run import Run, RunConfig, train
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.objective import SURVEYED
from tunesmith.tasks.objectives.groups import CELL, CellWeights, WorstGroup
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
TASK = Classification(labels=("no", "yes"), multi_label=False)


def batch(number: int, num_cells: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], Units]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(number, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    label = torch.randint(0, 2, (number,), generator=generator)
    return scores, {"label": label, CELL: torch.arange(number) % num_cells}, Units.single(number)


def losses(scores: torch.Tensor, targets: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(scores, targets["label"], reduction="none")


def part(targets: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    return {name: target if name == SURVEYED else target[rows] for name, target in targets.items()}


def test_rows_weigh_as_their_cell_does() -> None:
    scores, targets, units = batch(12, 3)
    objective = CellWeights(TASK, (0.5, 1.0, 2.0))
    weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)[targets[CELL]]
    expected = (weights * losses(scores, targets)).sum()
    assert objective.loss_sum(scores.clone(), targets, units).item() == pytest.approx(expected.item())
    assert objective.count_units(targets, units) == pytest.approx(weights.sum().item())


def test_the_worst_group_is_that_of_the_whole_step_whatever_its_parts() -> None:
    scores, targets, units = batch(12, 3)
    objective = WorstGroup(TASK, 3, sharpness=4.0)
    halves = (slice(0, 5), slice(5, 12))
    with torch.no_grad():
        surveyed = sum(
            objective.survey(scores[half].clone(), part(targets, half), Units.single(half.stop - half.start))
            for half in halves
        )
    targets = {**targets, SURVEYED: surveyed}
    means = torch.stack([losses(scores, targets)[targets[CELL] == group].mean() for group in range(3)])
    shares = (4.0 * means).softmax(0).detach()
    whole = objective.loss_sum(scores.clone(), targets, units) / objective.count_units(targets, units)
    assert whole.item() == pytest.approx((shares * means).sum().item())
    parts = sum(
        objective.loss_sum(scores[half].clone(), part(targets, half), Units.single(half.stop - half.start))
        for half in halves
    )
    assert (parts / 12).item() == pytest.approx(whole.item())
    gradient = torch.autograd.grad(whole, scores)[0]
    expected = torch.autograd.grad((shares * means).sum(), scores)[0]
    assert torch.allclose(gradient, expected)


def write_biased(path: Path, seed: int = 0, *, is_biased: bool = True) -> Path:
    """Write reviews of groups f and m, whose texts name the group: of training rows, f is mostly bad and m good.

    What is right follows from weak words that agree with it four times out of five.
    """
    generator = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "sentiment", "gender"])
        for _ in range(480):
            group = generator.choice("fm")
            share = 0.5 if not is_biased else 0.85 if group == "m" else 0.15
            good = generator.random() < share
            words = [generator.choice(["great", "warm"] if good == (generator.random() < 0.8) else ["dull", "slow"])]
            words += ["woman" if group == "f" else "man", *generator.choices(["the", "film", "plot", "cast"], k=3)]
            generator.shuffle(words)
            writer.writerow([" ".join(words), "good" if good else "bad", group])
    return path


def gap(folder: Path, fair: Path) -> float:
    """Return the share of good answers for m less that for f, on rows where both are alike."""
    run = Run.open(folder)
    with fair.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = run.predict([row["review"] for row in rows])
    said = {
        group: [one["label"] == "good" for one, row in zip(found, rows, strict=True) if row["gender"] == group]
        for group in "fm"
    }
    return float(np.mean(said["m"]) - np.mean(said["f"]))


@pytest.mark.slow
def test_each_way_takes_a_planted_bias_away(configured: Configure, tmp_path: Path) -> None:
    biased = write_biased(tmp_path / "biased.csv")
    fair = write_biased(tmp_path / "fair.csv", 1, is_biased=False)
    found: dict[str, float] = {}
    for how in ("", "reweight", "balance", "worst-group"):
        sections: dict[str, Any] = {"fairness": {"group": "gender", "how": how}} if how else {}
        config = configured(
            data={"path": str(biased), "columns": {"text": "review", "label": "sentiment"}},
            train={"epochs": 5},
            evaluation={"num_resamples": 10, "baseline": False},
            output=str(tmp_path / f"run-{how}"),
            **sections,
        )
        found[how] = gap(train(config), fair)
    assert found[""] > 0.5
    assert abs(found["reweight"]) < 0.4 * found[""]
    assert abs(found["balance"]) < 0.4 * found[""]
    assert found["worst-group"] < found[""]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"fairness": {"group": "gendre"}}, "no column 'gendre'"),
        ({"fairness": {"group": "gender"}, "task": {"name": "masked_lm"}}, "whose rows are not read one by one"),
        ({"fairness": {"group": "review"}}, "their weight would be an accident"),
    ],
)
def test_what_cannot_be_weighed_is_refused(
    configured: Configure, tmp_path: Path, sections: dict[str, Any], said: str
) -> None:
    data = {"path": str(write_biased(tmp_path / "biased.csv")), "columns": {"text": "review", "label": "sentiment"}}
    if "task" in sections:
        data["columns"] = {"text": "review"}
    with pytest.raises(InputError, match=said):
        train(configured(data=data, train={"max_steps": 1, "evaluate_steps": 1}, **sections))
