"""What models of images read with gives the very numbers that the processors of ``transformers`` give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from transformers import ConvNextConfig, ConvNextV2Config, DeiTConfig, Dinov2Config, ResNetConfig, SwinConfig, ViTConfig

from images import KINDS, picture, seeing_folder
from tiny import tiny_tokenizer
from tunesmith.models import OTHER_MODELS, load_trained, tokenizer_hash
from tunesmith.models.image_reader import ImageReader, load_image_reader
from tunesmith.models.quiet import quiet
from tunesmith.models.vit import Vit
from tunesmith.types import HeadSettings, InputError

HEAD = HeadSettings(
    "AutoModelForImageClassification",
    3,
    {"id2label": dict(enumerate(KINDS)), "label2id": {name: k for k, name in enumerate(KINDS)}},
    reads_texts=False,
    reads_images=True,
)
_sides = {"image_size": 32, "patch_size": 8}
_blocks = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, **_sides}
_stages = {"depths": [1, 1], "hidden_sizes": [8, 16]}
ARCHITECTURES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "vit": (ViTConfig(**_blocks), "vit.image_processing_pil_vit", {"size": {"height": 32, "width": 32}}),
    "deit": (
        DeiTConfig(**_blocks),
        "deit.image_processing_pil_deit",
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    "dinov2": (
        Dinov2Config(**{**_blocks, "mlp_ratio": 2}),
        "bit.image_processing_pil_bit",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "swin": (
        SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4),
        "vit.image_processing_pil_vit",
        {"size": {"height": 32, "width": 32}},
    ),
    "convnext": (
        ConvNextConfig(num_stages=2, **_stages),
        "convnext.image_processing_pil_convnext",
        {"size": {"shortest_edge": 32}},
    ),
    "convnextv2": (
        ConvNextV2Config(num_stages=2, **_stages),
        "convnext.image_processing_pil_convnext",
        {"size": {"shortest_edge": 32}},
    ),
    "resnet": (
        ResNetConfig(embedding_size=8, layer_type="basic", **_stages),
        "convnext.image_processing_pil_convnext",
        {"size": {"shortest_edge": 32}},
    ),
}


def processor_of(name: str) -> Any:
    from importlib import import_module

    _, place, settings = ARCHITECTURES[name]
    module = import_module(f"transformers.models.{place}")
    return getattr(module, module.__all__[0])(**settings)


def saved(folder: Path, name: str) -> Path:
    from transformers import AutoModel

    with quiet():
        AutoModel.from_config(ARCHITECTURES[name][0]).save_pretrained(folder)
        processor_of(name).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numbers_are_those_of_the_processor_and_the_model_is_trained_and_reopened(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "model", name)
    loaded = OTHER_MODELS(name=str(folder)).load(HEAD, [], 0)
    reader: Any = loaded.tokenizer
    assert reader.size == (32, 32)
    images = [np.asarray(picture(number, size)) for number, size in enumerate((24, 50, 33))]
    expected = processor_of(name)(images=images, return_tensors="np", input_data_format="channels_last")["pixel_values"]
    for image, numbers in zip(images, expected, strict=True):
        shades = reader.resized(image)
        found = np.stack([values[shade] for values, shade in zip(reader.values(), shades, strict=True)])
        np.testing.assert_array_equal(found, numbers)
    assert loaded.model.config.num_labels == 3
    loaded.model.save_pretrained(tmp_path / "run")
    reader.save_pretrained(tmp_path / "run")
    again = load_trained(tmp_path / "run", HEAD)
    assert tokenizer_hash(again.tokenizer) == tokenizer_hash(loaded.tokenizer)


def test_what_decides_the_numbers_is_in_the_hash(tmp_path: Path) -> None:
    reader: Any = load_image_reader(seeing_folder(tmp_path), ViTConfig())
    before = tokenizer_hash(reader)
    reader.processor.image_mean = [0.4, 0.5, 0.5]
    assert tokenizer_hash(reader) != before


def test_a_reader_has_the_face_of_its_tokenizer(tmp_path: Path) -> None:
    seeing_folder(tmp_path, with_texts=True)
    tokenizer = tiny_tokenizer()
    reader: Any = load_image_reader(tmp_path / "vilt", ViTConfig(), tokenizer)
    assert len(reader) == len(tokenizer)
    assert reader.pad_token_id == tokenizer.pad_token_id
    assert reader.unk_token_id == tokenizer.unk_token_id
    alone: Any = load_image_reader(tmp_path / "vilt", ViTConfig())
    assert (len(alone), alone.pad_token_id, alone.get_vocab()) == (0, None, {})
    with pytest.raises(AttributeError):
        _ = alone.unk_token_id


def test_processors_whose_sizes_depend_on_the_image_are_refused(tmp_path: Path) -> None:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    with pytest.raises(InputError, match="different sizes"):
        ImageReader(ViTImageProcessorPil(do_resize=False), ViTConfig())
    folder = seeing_folder(tmp_path)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"no preprocessor_config\.json"):
        OTHER_MODELS(name=str(folder)).load(HEAD, [], 0)


def test_a_transformer_from_scratch_is_the_same_for_the_same_seed() -> None:
    source = Vit(image_size=16, patch_size=8, embedding_size=16, num_layers=1, num_heads=2, feedforward_size=16)
    first, same, other = (source.load(HEAD, [], seed).model.state_dict() for seed in (1, 1, 2))
    assert all((first[name] == same[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    assert source.load(HEAD, [], 0).max_length == 5
    with pytest.raises(InputError, match="squares of 7 pixels"):
        Vit(image_size=16, patch_size=7).load(HEAD, [], 0)
    with pytest.raises(InputError, match="the task reads texts"):
        Vit().load(HeadSettings("AutoModelForSequenceClassification", 2), ["a text"], 0)
