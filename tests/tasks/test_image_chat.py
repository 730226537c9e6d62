"""Conversations about images: tokens and pixels are the processor's own, the loss is the model's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from PIL import Image

from seeing import FAMILIES, shape_image, tokenizer_for, vision_folder
from tunesmith.data.encoded import Encoded, as_ragged
from tunesmith.data.image_chat_rows import read_conversation
from tunesmith.data.pictures import Pictures
from tunesmith.engine.batch import Collator
from tunesmith.engine.scorer import Scorer
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.pretrained import Pretrained
from tunesmith.tasks.image_chat import ImageChat
from tunesmith.types import InputError

TASK = ImageChat(form="chat")


def conversations(folder: Path) -> list[list[dict[str, Any]]]:
    """Return conversations with one image, two images in two turns, and none."""
    sizes = {"red": 20, "green": 33, "blue": 41}
    for colour, size in sizes.items():
        shape_image(colour, size=size).crop((0, 0, size, size - 7)).save(folder / f"{colour}.png")

    def shown(colour: str) -> dict[str, str]:
        return {"type": "image", "image": str(folder / f"{colour}.png")}

    def text(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    one = [shown("red"), text("Which colour?")]
    two = [text("This <image> and "), shown("green"), text("?")]
    return [
        [{"role": "user", "content": one}, {"role": "assistant", "content": "red"}],
        [
            {"role": "user", "content": one},
            {"role": "assistant", "content": "red"},
            {"role": "user", "content": [*two, shown("blue")]},
            {"role": "assistant", "content": "green, blue"},
        ],
        [{"role": "user", "content": "No image?"}, {"role": "assistant", "content": "none"}],
    ]


def columns_of(talks: list[list[dict[str, Any]]]) -> dict[str, Any]:
    return {"messages": [json.dumps(read_conversation(talk)) for talk in talks], "text": [""] * len(talks)}


def loaded(folder: Path, family: str) -> Any:
    found = Pretrained(name=str(vision_folder(folder, family))).load(TASK.head(), (), 0)
    TASK.adapt(found.tokenizer)
    return found


def plain_processor(folder: Path, family: str) -> Any:
    """Return the processor of transformers; of Qwen2-VL ours, since that cannot be had without its part for videos."""
    from transformers import AutoProcessor

    if family == "qwen2_vl":
        return loaded(folder, family).tokenizer.whole
    return AutoProcessor.from_pretrained(vision_folder(folder, family), backend="pil")


def own_inputs(processor: Any, talk: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what plain transformers makes of a conversation."""
    parts = [
        {
            **turn,
            "content": [{"type": "text", "text": turn["content"]}]
            if isinstance(turn["content"], str)
            else turn["content"],
        }
        for turn in talk
    ]
    images = [Image.open(part["image"]) for turn in parts for part in turn["content"] if part["type"] == "image"]
    parts = [
        {**turn, "content": [{"type": "image"} if part["type"] == "image" else part for part in turn["content"]]}
        for turn in parts
    ]
    text = processor.apply_chat_template(parts)
    return dict(processor(text=[text], images=images or None, add_special_tokens=False, return_tensors="pt"))


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_pixels_are_those_of_the_models_own_processor(tmp_path: Path, family: str) -> None:
    talks = conversations(tmp_path)
    talks[1][2]["content"][0]["text"] = "This and "  # plain processors take a quoted token for an image
    encoded = TASK.encode(columns_of(talks), loaded(tmp_path, family).tokenizer, 512)
    processor = plain_processor(tmp_path, family)
    collate = Collator("padded")
    for row, talk in enumerate(talks):
        own = own_inputs(processor, talk)
        batch = collate(encoded, np.array([row])).inputs
        shown = {name for name, values in encoded.inputs.items() if isinstance(values, Pictures)}
        assert batch["input_ids"].tolist() == own["input_ids"].tolist()
        assert batch.keys() & shown == own.keys() & shown
        for name in batch.keys() & (shown | {"mm_token_type_ids"} & own.keys()):
            assert torch.equal(batch[name], own[name].to(batch[name].dtype)), name
    assert {"pixel_values"} <= encoded.inputs.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_one_that_transformers_computes_of_labels(tmp_path: Path, family: str) -> None:
    network = loaded(tmp_path, family)
    encoded = TASK.encode(columns_of(conversations(tmp_path)), network.tokenizer, 512)
    batch = Collator("padded", network.tokenizer.pad_token_id)(encoded, np.arange(len(encoded)))
    scorer = Scorer(network.model, "padded", "token")
    with torch.no_grad():
        scores = scorer(batch)
        ours = TASK.loss_sum(scores, batch.targets, batch.units) / TASK.count_units(batch.targets, batch.units)
        labels = torch.full_like(batch.inputs["input_ids"], -100)
        for place, sequence in enumerate(batch.sequences.tolist()):
            assert encoded.reads is not None
            reads = torch.from_numpy(np.asarray(encoded.reads[sequence], dtype=np.int64)) + 1
            labels[place, reads] = batch.inputs["input_ids"][place, reads]
        theirs = network.model(**batch.inputs, labels=labels).loss
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    assert batch.inputs["pixel_values"].abs().sum() > 0


def test_only_answers_are_learned_and_an_image_is_no_text(tmp_path: Path) -> None:
    network = loaded(tmp_path, "llava")
    reader = network.tokenizer
    talks = conversations(tmp_path)
    encoded = TASK.encode(columns_of(talks), reader, 512)
    labels = as_ragged(encoded.targets["labels"])
    assert reader.decode(labels[0].tolist()) == "red</s>"
    assert reader.decode(labels[1].tolist()) == "red</s>green, blue</s>"
    whole = ImageChat(form="chat", train_on="all").encode(columns_of(talks), reader, 512)
    (token,) = reader.image_token_ids
    assert token in as_ragged(whole.inputs["input_ids"])[1]
    assert token not in as_ragged(whole.targets["labels"]).values
    # Somebody wrote "<image>" in the second conversation: that is text, and three images are shown.
    assert (as_ragged(encoded.inputs["input_ids"])[1] == token).sum() == 3 * 4
    assert "<image>" in reader.decode([one for one in as_ragged(encoded.inputs["input_ids"])[1] if one != token])


def test_rows_keep_their_images_through_disk_and_selection(tmp_path: Path) -> None:
    network = loaded(tmp_path, "idefics3")
    encoded = TASK.encode(columns_of(conversations(tmp_path)), network.tokenizer, 512)
    (tmp_path / "kept").mkdir()
    encoded.save(tmp_path / "kept")
    collate = Collator("padded", network.tokenizer.pad_token_id)
    for split in (
        encoded,
        Encoded.load(tmp_path / "kept"),
        encoded.select(np.array([2, 1, 0])).select(np.array([2, 1, 0])),
    ):
        for rows in ([0, 1, 2], [0], [1, 2]):
            found, expected = (collate(one, np.array(rows)).inputs for one in (split, encoded))
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in found)
    assert "pixel_values" not in collate(encoded, np.array([2])).inputs


def test_too_long_conversations_keep_their_images_or_are_left_out(tmp_path: Path) -> None:
    network = loaded(tmp_path, "llava")
    talks = conversations(tmp_path)
    talks[0][0]["content"][1]["text"] = "Which colour is it? " * 10
    encoded = TASK.encode(columns_of(talks[:1]), network.tokenizer, 40)
    ids = as_ragged(encoded.inputs["input_ids"])[0]
    assert len(ids) <= 40
    assert np.isin(ids, network.tokenizer.image_token_ids).sum() == 4
    encoded = TASK.encode(columns_of([*talks, talks[0]]), network.tokenizer, 9)
    assert encoded.left_out == {"show images that leave no room for an answer within 9 tokens": (1,)}
    assert np.isin(as_ragged(encoded.inputs["input_ids"])[0], network.tokenizer.image_token_ids).sum() == 4
    with pytest.raises(InputError, match=r"1 rows show images that alone take more than the 6 tokens"):
        TASK.encode_prompts(columns_of(talks[1:2]), network.tokenizer, 6)


@pytest.mark.parametrize("template", ["chatml", "{% for message in messages %}{{ message['content'] }}{% endfor %}"])
def test_templates_of_parts_and_of_texts_write_images(tmp_path: Path, template: str) -> None:
    network = loaded(tmp_path, "llava")
    task = ImageChat(form="chat", template=template, train_on="all")
    task.adapt(network.tokenizer)
    encoded = task.encode(columns_of(conversations(tmp_path)[:1]), network.tokenizer, 512)
    text = network.tokenizer.decode(as_ragged(encoded.inputs["input_ids"])[0].tolist())
    assert "<image>" * 4 + "Which colour?" in text


def test_adapters_stand_in_the_part_that_writes(tmp_path: Path) -> None:
    from tunesmith.methods.targets import find_targets

    for family in FAMILIES:
        model = loaded(tmp_path, family).model
        names = find_targets(model, method="lora")
        assert names
        assert not [name for name in names if "vision" in name or "visual" in name or "connector" in name]
        assert Anatomy.of(model).hidden_size == 32


def test_models_that_cannot_see_say_what_is_missing(tmp_path: Path) -> None:
    folder = vision_folder(tmp_path)

    def refused() -> str:
        with pytest.raises(InputError) as raised:
            Pretrained(name=str(folder)).load(TASK.head(), (), 0)
        return str(raised.value)

    described = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    assert "does not say how it reads images" in refused()
    (folder / "processor_config.json").write_text(json.dumps({**described, "image_token": "<picture>"}))
    assert "does not know the token '<picture>'" in refused()
    (folder / "processor_config.json").write_text(json.dumps({**described, "num_additional_image_tokens": 0}))
    assert "cannot compute" in refused()
    (folder / "processor_config.json").write_text(json.dumps(described))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "image_token_id": 5}))
    assert "do not belong together" in refused()
    with pytest.raises(InputError, match="no head for this task"):
        from tiny import tiny_folder

        Pretrained(name=str(tiny_folder(tmp_path / "text", "llama", head="causal"))).load(TASK.head(), (), 0)


def test_a_template_that_writes_no_images_is_refused_before_training(tmp_path: Path) -> None:
    network = loaded(tmp_path, "llava")
    task = ImageChat(form="chat", template="{% for message in messages %}{{ message['role'] }}{% endfor %}")
    with pytest.raises(InputError, match="cannot write a conversation with images"):
        task.adapt(network.tokenizer)


def test_a_processor_whose_batches_are_not_made_image_by_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    plain = CLIPImageProcessorPil.__call__

    def by_batch(self: Any, images: Any, *args: Any, **options: Any) -> Any:
        found = plain(self, images, *args, **options)
        found["pixel_values"] = [one + len(found["pixel_values"]) for one in found["pixel_values"]]
        return found

    monkeypatch.setattr(CLIPImageProcessorPil, "__call__", by_batch)
    with pytest.raises(InputError, match="otherwise than image by image"):
        loaded(tmp_path, "llava")


def test_the_tokenizer_of_the_tests_knows_its_tokens() -> None:
    for family in FAMILIES:
        tokenizer = tokenizer_for(family)
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in tokenizer("<image>")["input_ids"]
