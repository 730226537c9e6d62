"""Little pictures with something to see in them, and tiny models that look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from PIL import Image
from transformers import (
    ViltConfig,
    ViltForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from tiny import VOCABULARY, tiny_tokenizer
from tunesmith.models.image_reader import ImageReader
from tunesmith.models.quiet import quiet

KINDS = ("high", "low", "wide")
SIZE = 16
_SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": SIZE,
    "patch_size": 8,
}


def picture(number: int, size: int = 24) -> Image.Image:
    """Return a picture of noise with a bright part: above, below, or across, by the number; no two are the same."""
    noise = np.random.default_rng(number).integers(0, 60, (size, size, 3), dtype=np.uint8)
    third = size // 3
    part = {"high": np.s_[:third, :], "low": np.s_[-third:, :], "wide": np.s_[:, :third]}[KINDS[number % 3]]
    noise[part] += 180
    return Image.fromarray(noise)


def draw(path: Path, number: int) -> Path:
    """Write a picture, in the format that the path's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path)
    return path


def class_folders(folder: Path, num: int, *, first: int = 0) -> Path:
    """Write pictures into a folder for each kind."""
    for number in range(first, first + num):
        draw(folder / KINDS[number % 3] / f"{number}.png", number)
    return folder


def image_reader(*, with_texts: bool = False) -> Any:
    """Return what the tiny models read with; a tokenizer beside the processor ``with_texts``."""
    config = ViTConfig(**_SIZES)
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    return ImageReader(processor, config, tiny_tokenizer() if with_texts else None)


def seeing_folder(folder: Path, *, with_texts: bool = False) -> Path:
    """Save a tiny ViT without a head or, ``with_texts``, a tiny ViLT; return its folder."""
    folder = folder / ("vilt" if with_texts else "vit")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        if with_texts:
            texts = {"vocab_size": VOCABULARY, "pad_token_id": 1, "max_position_embeddings": 64}
            model: Any = ViltForQuestionAnswering(ViltConfig(**_SIZES, **texts)).vilt
        else:
            model = ViTForImageClassification(ViTConfig(**_SIZES)).vit
        model.save_pretrained(folder)
        image_reader(with_texts=with_texts).save_pretrained(folder)
    return folder
