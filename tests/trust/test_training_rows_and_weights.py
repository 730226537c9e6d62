"""The training rows that a prediction rests on, and what training changed: against gradients and weights themselves."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from small_runs import small_config
from tunesmith.cli.application import run as command
from tunesmith.models.wrapping import inner
from tunesmith.run import Run, RunConfig, train
from tunesmith.trust.nearest_rows import NearestRows, last_layer
from tunesmith.trust.weight_changes import update_rank, weight_changes
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


def test_products_are_those_of_the_gradients_of_the_last_layer(run: Run) -> None:
    network, task = run.network, run.task
    columns = {"text": ["a great film", "dull, slow and boring", "the plot"], "label": ["good", "bad", "good"]}
    layer = last_layer(network, task, network.encode(task, columns), 4096)
    head = inner(network.model).classifier
    gradients = []
    for row in range(3):
        data = network.encode(task, {name: [values[row]] for name, values in columns.items()})
        batch = network.collate(data, np.array([0]))
        head.requires_grad_(True)
        with network.scorer.surrounding(batch):
            loss = task.loss_sum(network.scorer(batch).clone(), batch.targets, batch.units)
        found = torch.autograd.grad(loss, list(head.parameters()))
        gradients.append(torch.cat([one.flatten() for one in found]))
    expected = torch.stack(gradients) @ torch.stack(gradients).T
    assert torch.allclose(layer.products(layer), expected, atol=1e-5, rtol=1e-3)


def test_rows_with_the_same_word_and_label_speak_for_a_prediction(run: Run) -> None:
    found = NearestRows(run).of({"text": ["a boring plot"]}, 5)
    assert [row.influence for row in found[:5]] == sorted((row.influence for row in found[:5]), reverse=True)
    assert all(row.influence > 0 and row.label == "bad" for row in found[:5])
    assert [row.influence for row in found[5:]] == sorted(row.influence for row in found[5:])
    assert found[5].influence < found[4].influence
    assert all(row.row.startswith("grouped.csv:") for row in found)


@pytest.mark.slow
def test_without_its_nearest_rows_a_prediction_is_less_sure_than_without_others(
    grouped: Path, bert_folder: Path, tmp_path: Path
) -> None:
    """Train again without the rows that speak most for a prediction, and without as many drawn at random."""
    columns = {"text": "review", "label": "sentiment"}
    settings = {"data": {"path": str(grouped), "columns": columns}, "train": {"epochs": 20}, "method": "freeze"}
    first = Run.open(train(small_config(grouped, bert_folder, tmp_path / "first", **settings)))
    texts, sure = ["a dull plot", "the wonderful cast", "this slow movie"], {"nearest": [], "random": []}
    known = NearestRows(first)
    with grouped.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    places = [str(place) for place in first.labelled_columns(split="train")[0]["row"]]
    for number, text in enumerate(texts):
        near = {row.row for row in known.of({"text": [text]}, 60)[:60]}
        drawn = set(np.random.default_rng(number).choice(places, 60, replace=False).tolist())
        label = first.predict([text])[0]["label"]
        for name, gone in (("nearest", near), ("random", drawn)):
            path = tmp_path / f"{name}{number}.csv"
            kept = [row for line, row in enumerate(rows, start=1) if f"grouped.csv:{line}" not in gone]
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(kept)
            again = {**settings, "data": {"path": str(path), "columns": columns}}
            run = Run.open(train(small_config(path, bert_folder, tmp_path / f"run-{name}{number}", **again)))
            sure[name].append(run.predict([text])[0]["probabilities"][label])
    assert np.mean(sure["nearest"]) < np.mean(sure["random"]) - 0.01


def test_ranks_are_those_of_the_singular_values() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(30, 3, generator=generator) @ torch.randn(3, 20, generator=generator)
    assert update_rank(low) <= 3
    full = torch.randn(30, 20, generator=generator)
    squares = torch.linalg.svdvals(full.double()).square()
    assert update_rank(full) == int((squares.cumsum(0) < 0.99 * squares.sum()).sum()) + 1
    assert update_rank(torch.zeros(4, 4)) is None


def test_an_adapter_of_rank_two_changes_as_many_directions(
    configured: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(
        method={"name": "lora", "rank": 2}, train={"epochs": 1}, evaluation={"num_resamples": 10, "baseline": False}
    )
    folder = train(config)
    found = {one.name: one for one in weight_changes(Run.open(folder))}
    layers = [one for name, one in found.items() if ".layer." in name]
    assert len(layers) == 2
    assert all(1 <= one.rank <= 2 and one.norm > 0 for one in layers if one.rank is not None)
    assert any(one.rank is not None for one in layers)
    embeddings = [one for name, one in found.items() if "embeddings" in name]
    assert all(one.changed == 0 for one in embeddings)
    whole = found["all"]
    assert whole.norm == pytest.approx(sum(one.norm**2 for name, one in found.items() if name != "all") ** 0.5)
    assert command(["explain", str(folder), "--changes"]) == 0
    assert "What training changed" in capsys.readouterr().out


def test_tasks_without_rows_of_their_own_have_no_nearest(configured: Configure) -> None:
    config = configured(task={"name": "masked_lm"}, train={"max_steps": 1, "evaluate_steps": 1})
    with pytest.raises(InputError, match="Nearest training rows are not known"):
        NearestRows(Run.open(train(config)))
