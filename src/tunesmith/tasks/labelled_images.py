"""What the tasks share whose rows show an image and have a label: all of ``classification`` but what is read.

Shapes: N rows of a split, K labels, S sequences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tunesmith.data.encoded import Encoded
from tunesmith.data.image_rows import CONTENT, IMAGE
from tunesmith.data.pixels import Pixels
from tunesmith.tasks.base import Columns, FloatArray, Outputs
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.image_encoding import encode_images, image_reader_of
from tunesmith.types import Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIXELS = "pixel_values"
_IMAGE_NAMES = """
    image images img picture photo file_name filename file path image_path image_file img_path filepath image_id 图片
    图像
"""
IMAGE_ROLE = Role(
    IMAGE,
    tuple(_IMAGE_NAMES.split()),
    ("image",),
    purpose="the image: a path beside the table, or the image itself; or a folder of images",
)
_LABEL = Classification.roles[-1]
LABEL_ROLE = replace(_LABEL, names=(*_LABEL.names, "answer", "multiple_choice_answer", "回答", "答案"))


class LabelledImages(Classification):
    """A label for each image, or for what is asked about it."""

    mirror: bool = False
    """Whether training images change left and right at random, anew in every epoch."""
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of a training image that is seen at least: a part of random size and place, anew in every epoch, is
    stretched to the whole; 1 leaves images as they are."""

    inputs: ClassVar[tuple[str, ...]] = (IMAGE,)
    found_by_name: ClassVar[bool] = True
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "rule"
    not_encoded: ClassVar[frozenset[str]] = Classification.not_encoded | {"mirror", "crop"}

    @property
    def corrupts(self) -> bool:  # type: ignore[override]
        """Whether images are changed at random before the model sees them."""
        return self.mirror or self.crop < 1.0

    def vocabulary_texts(self, columns: Columns) -> Iterable[str]:
        """Yield the questions: names of images are no texts."""
        names = [name for name in self.inputs if name != IMAGE and name in columns]
        return (text or "" for name in names for text in columns[name])

    def pixels(self, columns: Columns, tokenizer: PreTrainedTokenizerBase) -> Pixels:
        """Return the images of rows."""
        return encode_images(columns[IMAGE], columns.get(CONTENT), image_reader_of(tokenizer))

    def corrupt(self, data: Encoded, sequences: npt.NDArray[np.int64], seed: int | None) -> Encoded:
        """Return these rows as a step of training sees them; without a seed (evaluation) as they are.

        What happens to an image depends on the step's seed and on its row alone.
        """
        chosen = data.select(sequences)
        if seed is None:
            return chosen
        images = chosen.inputs[PIXELS]
        assert isinstance(images, Pixels)
        draws = np.array([np.random.default_rng([seed, int(one)]).random(4) for one in sequences]).reshape(-1, 4)
        boxes = None if self.crop == 1.0 else _boxes(draws[:, 1:], images.images.shape[2:], self.crop)
        mirrored = draws[:, 0] < 0.5 if self.mirror else None
        return replace(chosen, inputs={**chosen.inputs, PIXELS: images.changed(boxes, mirrored)})

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``label``, ``score`` and ``probabilities`` of every row, with its ``image`` where that is known."""
        found = super().decode(outputs)
        if columns is None or IMAGE not in columns:
            return found
        return [{IMAGE: name, **one} for name, one in zip(columns[IMAGE], found, strict=True)]

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Return the shares of labels among the training rows, for every row."""
        shares_K = self._shares(train, np.arange(len(train["label"])))
        return "the commonest label", self.outputs_from(np.tile(shares_K, (len(rows[IMAGE]), 1)))

    def _shares(self, columns: Columns, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return [K]: how often labels come among some rows."""
        label = self.targets({"label": [columns["label"][int(row)] for row in rows]})["label"]
        assert isinstance(label, np.ndarray)
        if self.multi_label:
            return np.asarray(label.mean(axis=0), dtype=np.float64)
        return np.bincount(label.astype(np.int64), minlength=len(self.label_names)) / len(label)


def _boxes(draws_S3: npt.NDArray[np.float64], size: tuple[int, ...], least: float) -> npt.NDArray[np.int64]:
    """Return [S, 4]: parts of images of a size, in their proportions, of a share of at least ``least`` of the whole."""
    height, width = size
    sides_S = np.sqrt(least + (1.0 - least) * draws_S3[:, 0])
    heights_S = np.maximum(np.round(sides_S * height), 1).astype(np.int64)
    widths_S = np.maximum(np.round(sides_S * width), 1).astype(np.int64)
    tops_S = np.floor(draws_S3[:, 1] * (height - heights_S + 1)).astype(np.int64)
    lefts_S = np.floor(draws_S3[:, 2] * (width - widths_S + 1)).astype(np.int64)
    return np.stack([lefts_S, tops_S, lefts_S + widths_S, tops_S + heights_S], axis=1)


def code_of(labels: Sequence[str], threshold: float | FloatArray | None, inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the lines that print what a model of these labels says; ``inputs`` are further arguments of the model."""
    given = ", ".join(['**processor(images=image, return_tensors="pt")', *inputs.values()])
    said = (
        "print(dict(zip(labels, scores.softmax(-1)[0].tolist())))"
        if threshold is None
        else "print([label for label, p, t in zip(labels, scores.sigmoid()[0].tolist(), thresholds) if p > t])"
    )
    thresholds = () if threshold is None else (f"thresholds = {np.broadcast_to(threshold, len(labels)).tolist()}",)
    return (
        "from PIL import Image",
        "from transformers import AutoImageProcessor",
        "",
        f"labels = {list(labels)!r}",
        *thresholds,
        'processor = AutoImageProcessor.from_pretrained(folder, backend="pil")',
        'image = Image.open("image.png").convert("RGB")',
        "with torch.no_grad():",
        f"    scores = model({given}).logits",
        said,
    )
