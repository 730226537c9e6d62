"""Images and questions about them: found by their columns, changed in training alone, judged against simple rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from images import KINDS, SIZE, draw, image_reader
from tunesmith.data.encoded import Encoded, Units
from tunesmith.data.pixels import Pixels
from tunesmith.engine.batch import Collator
from tunesmith.tasks import TASKS, detect, image_encoding
from tunesmith.tasks.image_classification import ImageClassification
from tunesmith.tasks.image_text import ImageText
from tunesmith.types import ColumnProfile, InputError

QUESTIONS = ("Where is it bright?", "Is it bright?")


def profile(name: str, kind: Any, num_distinct: int = 3) -> ColumnProfile:
    words = 5.0 if kind == "text" else 1.0
    examples = ("what is it?",) if kind == "text" else ("a", "b")
    return ColumnProfile(name, kind, 100, 0, num_distinct, 20.0, words, examples=examples)


def profiles(**kinds: Any) -> dict[str, ColumnProfile]:
    return {name: profile(name, kind, 90 if kind in ("text", "image") else 3) for name, kind in kinds.items()}


@pytest.mark.parametrize(
    ("kinds", "task"),
    [
        ({"image": "image", "label": "category"}, "image_classification"),
        ({"file_name": "image", "class": "integer"}, "image_classification"),
        ({"anything": "image", "tags": "list"}, "image_classification"),
        ({"image": "image", "question": "text", "answer": "category"}, "image_text"),
        ({"image": "image", "question": "text", "answer": "text"}, "image_chat"),
        ({"text": "text", "photo": "image", "label": "category"}, "classification"),
    ],
)
def test_the_task_is_found_from_the_columns(kinds: dict[str, Any], task: str) -> None:
    assert detect(profiles(**kinds)).task is TASKS[task]


def columns(folder: Path, num: int = 12) -> dict[str, list[Any]]:
    images = [str(draw(folder / f"{number % 9}.png", number % 9)) for number in range(num)]
    questions = [QUESTIONS[number % 2] for number in range(num)]
    labels = [("yes" if number % 4 == 1 else "no") if number % 2 else KINDS[number % 3] for number in range(num)]
    return {"image": images, "question": questions, "label": labels, "row": [f"rows.csv:{n + 2}" for n in range(num)]}


def bound(name: str, given: dict[str, list[Any]], **settings: Any) -> Any:
    return TASKS[name](**settings).bind(given)


@pytest.mark.parametrize("few", [100, 1])
def test_equal_images_are_kept_once_in_memory_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(image_encoding, "FEW", few)
    given = columns(tmp_path)
    encoded = bound("image_classification", given).encode(given, image_reader(), 5)
    pixels = encoded.inputs["pixel_values"]
    assert pixels.images.shape == (9, 3, SIZE, SIZE)
    assert isinstance(pixels.images, np.memmap) == (few == 1)
    assert encoded.lengths.tolist() == [5] * 12
    encoded.save(tmp_path)
    again = Encoded.load(tmp_path)
    np.testing.assert_array_equal(again.inputs["pixel_values"][np.arange(12)], pixels[np.arange(12)])
    batch = Collator("padded")(again, np.array([3, 0]))
    assert batch.inputs["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert batch.num_tokens == 10


def test_an_image_that_changed_since_it_was_read_is_an_error(tmp_path: Path) -> None:
    given = columns(tmp_path)
    task = bound("image_classification", given)
    with pytest.raises(InputError, match="has changed"):
        task.encode({**given, "content": ["0" * 64] * 12}, image_reader(), 5)
    with pytest.raises(InputError, match="is not there"):
        task.encode({**given, "image": [str(tmp_path / "none.png")] * 12}, image_reader(), 5)


def test_images_change_in_training_alone_by_row_and_seed(tmp_path: Path) -> None:
    given = columns(tmp_path)
    plain = bound("image_classification", given)
    task = bound("image_classification", given, mirror=True, crop=0.4)
    assert task.corrupts
    assert not plain.corrupts
    encoded = task.encode(given, image_reader(), 5)
    every = np.arange(12)

    def seen(sequences: list[int], seed: int | None) -> np.ndarray[Any, Any]:
        changed = task.corrupt(encoded, np.array(sequences), seed)
        pixels = changed.inputs["pixel_values"]
        assert isinstance(pixels, Pixels)
        return pixels[np.arange(len(sequences))]

    untouched = encoded.inputs["pixel_values"][every]
    np.testing.assert_array_equal(seen(list(every), None), untouched)
    first = seen(list(every), 7)
    np.testing.assert_array_equal(seen(list(every), 7), first)
    np.testing.assert_array_equal(seen([5, 2], 7), first[[5, 2]])  # whatever the rows beside it
    assert (seen(list(every), 8) != first).any()
    assert (first != untouched).any(axis=(1, 2, 3)).sum() > 9
    np.testing.assert_array_equal(task.corrupt(encoded, every, 7).targets["label"], encoded.targets["label"])


def test_only_mirrors_give_images_or_their_mirrors(tmp_path: Path) -> None:
    given = columns(tmp_path)
    task = bound("image_classification", given, mirror=True)
    encoded = task.encode(given, image_reader(), 5)
    plain = encoded.inputs["pixel_values"][np.arange(12)]
    found = task.corrupt(encoded, np.arange(12), 3).inputs["pixel_values"][np.arange(12)]
    same = (found == plain).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found[~same], plain[~same][:, :, :, ::-1])
    assert 0 < same.sum() < 12


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    given = columns(tmp_path)
    task = bound("image_classification", given)
    reader = image_reader()
    encoded = task.encode(given, reader, 5)
    settings = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = ViTForImageClassification(ViTConfig(image_size=SIZE, patch_size=8, num_labels=5, **settings)).eval()
    batch = Collator("padded")(encoded, np.arange(12))
    expected = model(**batch.inputs, labels=batch.targets["label"]).loss
    scores = model(**batch.inputs).logits
    found = task.loss_sum(scores, batch.targets, Units.single(12)) / task.count_units(batch.targets, Units.single(12))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    from PIL import Image

    images = [Image.open(name) for name in (given["image"][row] for row in batch.sequences)]
    pixels = reader.processor(images=images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(batch.inputs["pixel_values"], pixels, rtol=0, atol=0)


def test_questions_stand_beside_their_images(tmp_path: Path) -> None:
    given = columns(tmp_path)
    task = bound("image_text", given)
    assert list(task.vocabulary_texts(given)) == given["question"]
    assert list(bound("image_classification", given).vocabulary_texts(given)) == []
    encoded = task.encode(given, image_reader(with_texts=True), 20)
    assert encoded.inputs.keys() == {"input_ids", "pixel_values"}
    np.testing.assert_array_equal(encoded.lengths, encoded.inputs["input_ids"].lengths + 5)
    batch = Collator("padded", pad_token_id=1)(encoded, np.array([0, 1]))
    assert batch.inputs["attention_mask"].shape == batch.inputs["input_ids"].shape
    assert batch.inputs["pixel_values"].shape == (2, 3, SIZE, SIZE)


def test_rules_know_labels_and_questions_alone(tmp_path: Path) -> None:
    given = columns(tmp_path)
    rows = {name: values[:4] for name, values in given.items()}
    task = bound("image_classification", given)
    name, outputs = task.answer_by_rule(given, rows)
    assert name == "the commonest label"
    chances = np.array([one["probabilities"]["no"] for one in task.decode(outputs)])
    np.testing.assert_allclose(chances, given["label"].count("no") / 12, atol=1e-6)
    asked = bound("image_text", given)
    rows["question"] = [*rows["question"][:3], "something else?"]
    name, outputs = asked.answer_by_rule(given, rows)
    found = asked.decode(outputs)
    assert name == "the commonest answer to the question"
    assert found[1]["probabilities"]["yes"] == pytest.approx(0.5, abs=1e-6)
    assert found[0]["probabilities"]["yes"] == pytest.approx(0.0, abs=1e-6)
    assert found[3]["probabilities"]["yes"] == pytest.approx(0.25, abs=1e-6)


def test_cards_say_what_the_model_does() -> None:
    seeing = ImageClassification(labels=("a", "b"), multi_label=False)
    assert seeing.head().auto_class == "AutoModelForImageClassification"
    assert (seeing.head().reads_texts, seeing.head().reads_images) == (False, True)
    assert "gives an image one label" in seeing.card(seeing.inputs).purpose
    several = ImageClassification(labels=("a", "b"), multi_label=True)
    assert "any number" in several.card(several.inputs).purpose
    asked = ImageText(labels=("a", "b"), multi_label=False)
    assert asked.head().reads_texts
    assert asked.head().reads_images
