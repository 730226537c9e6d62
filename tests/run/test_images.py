"""Runs on images as users make them: from scratch and on a pretrained encoder, resumed, opened again, asked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from images import KINDS, class_folders, draw, picture, seeing_folder
from tunesmith.export import export
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.assembly import load_data
from tunesmith.run.observers import Observer
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
VIT = {
    "name": "vit",
    "image_size": 16,
    "patch_size": 8,
    "embedding_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "feedforward_size": 32,
}


class StopAfter(Observer):
    """Asks a training to stop after a few steps, as a shell does."""

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_transformer_from_scratch_learns_pictures_and_plain_transformers_loads_it(
    configured: Configure, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "pictures", 120)
    config = configured(model=VIT, data=str(data), train={"epochs": 5, "batch_size": 8, "learning_rate": 5e-3})
    run = Run.open(train(config))
    assert run.task.name == "image_classification"
    metrics = run.evaluation["metrics"]
    assert metrics["accuracy"]["value"] > 0.8 > run.evaluation["baseline"]["metrics"]["accuracy"]["value"]
    assert run.evaluation["baseline"]["name"] == "the commonest label"
    assert run.summary["layout"] == "padded"
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    path = draw(tmp_path / "new" / "high.jpg", 300)
    (alone,) = run.predict([str(path)])
    assert alone["label"] == KINDS[0]
    assert run.predict_file(path.parent) == [alone]
    assert run.predict([{"image": str(path)}]) == [alone]
    (of_bytes,) = run.predict([{"image": path.read_bytes()}])
    assert of_bytes["probabilities"] == alone["probabilities"]
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(run.folder).eval()
    processor = AutoImageProcessor.from_pretrained(run.folder, backend="pil")
    scores = model(**processor(images=Image.open(path), return_tensors="pt")).logits.softmax(-1)[0].tolist()
    assert dict(zip(run.task.label_names, scores, strict=True)) == pytest.approx(alone["probabilities"], abs=1e-6)


def test_a_stopped_run_goes_on_to_the_same_bits_though_images_change_in_every_step(
    configured: Configure, tmp_path: Path
) -> None:
    data = class_folders(tmp_path / "pictures", 60)

    def config(folder: str, **task: Any) -> RunConfig:
        return configured(
            model=VIT,
            data=str(data),
            task={"name": "image_classification", **task},
            train={"epochs": 2, "batch_size": 8},
            evaluation={"num_resamples": 0, "baseline": False},
            output=str(tmp_path / folder),
        )

    changes = {"mirror": True, "crop": 0.5}
    whole = train(config("whole", **changes))
    with pytest.raises(Stopped):
        train(config("resumed", **changes), observers=[StopAfter()])
    resumed = train(config("resumed", **changes), resume=True)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    assert losses(train(config("plain"))) != losses(whole)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [one["loss"] for one in map(json.loads, lines) if one["kind"] == "step"]


def asked(folder: Path, num: int) -> Path:
    """Write questions about pictures whose answers need both."""
    rows = []
    for number in range(num):
        draw(folder / "images" / f"{number}.png", number)
        kind = KINDS[number % 3]
        rows += [
            {"image": f"{number}.png", "question": "where is it bright?", "answer": kind},
            {"image": f"{number}.png", "question": "is it high?", "answer": "yes" if kind == "high" else "no"},
        ]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_questions_about_pictures_are_answered_by_both(configured: Configure, tmp_path: Path) -> None:
    config = configured(
        model={**VIT, "num_layers": 2, "embedding_size": 32, "feedforward_size": 64, "min_frequency": 1},
        data=str(asked(tmp_path, 120)),
        train={"epochs": 20, "batch_size": 8, "learning_rate": 3e-3, "evaluate_steps": 48},
    )
    run = Run.open(train(config))
    assert run.task.name == "image_text"
    assert run.config.data.group == "image"  # no image on two sides
    assert run.evaluation["baseline"]["name"] == "the commonest answer to the question"
    assert run.evaluation["metrics"]["accuracy"]["value"] > 0.8
    assert run.evaluation["baseline"]["metrics"]["accuracy"]["value"] < 0.7
    again = run.evaluate()
    assert again["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-5)
    path = str(draw(tmp_path / "new.png", 301))
    place, high = run.predict([(path, "where is it bright?"), (path, "is it high?")])
    assert (place["label"], high["label"]) == ("low", "no")


def test_models_and_tasks_that_do_not_go_together_say_what_would(configured: Configure, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "pictures", 30)
    with pytest.raises(InputError, match="no head for this task") as raised:
        train(configured(data=str(data)))  # a model of texts
    assert "such as vit" in str(raised.value)
    with pytest.raises(InputError, match="trained from scratch"):
        train(configured(model=VIT, data=str(data), method="lora"))
    with pytest.raises(InputError, match="the task reads texts"):
        train(configured(model=VIT))


def test_a_run_refuses_pictures_that_do_not_open(configured: Configure, tmp_path: Path) -> None:
    data = class_folders(tmp_path / "pictures", 30)
    config = configured(model=VIT, data=str(data), train={"max_steps": 2}, evaluation={"num_resamples": 0})
    run = Run.open(train(config))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.png"):
        run.predict([str(bad)])
    with pytest.raises(InputError, match="no kind that is read"):
        run.predict_file(bad)
    with pytest.raises(InputError, match="looks at images"):
        export(run, "safetensors", tmp_path / "exported")


@pytest.mark.parametrize("method", ["lora", "freeze"])
def test_a_pretrained_encoder_is_adapted(configured: Configure, tmp_path: Path, method: str) -> None:
    data = class_folders(tmp_path / "pictures", 48)
    config = configured(
        model=str(seeing_folder(tmp_path)),
        data=str(data),
        method={"name": method},
        train={"epochs": 1, "batch_size": 8, "learning_rate": None},
        evaluation={"num_resamples": 0, "baseline": False},
    )
    run = Run.open(train(config))
    assert run.summary["num_trained_parameters"] < run.summary["num_parameters"] / 2
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    image = tmp_path / "one.png"
    picture(5).save(image)
    chances = run.predict([str(image)])[0]["probabilities"]
    assert np.isclose(sum(chances.values()), 1.0)


def test_a_split_is_the_same_wherever_the_pictures_lie(configured: Configure, tmp_path: Path) -> None:
    shapes = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        config = configured(model={**VIT, "min_frequency": 1}, data=str(asked(tmp_path / place, 30)), task="image_text")
        splits = load_data(config).prepared.splits
        shapes.append({name: [Path(one).name for one in rows.columns()["image"]] for name, rows in splits.items()})
    assert shapes[0] == shapes[1]
    assert not set(shapes[0]["train"]) & set(shapes[0]["test"])
