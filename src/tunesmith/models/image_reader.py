"""What a model of images reads with: an image processor of ``transformers``, and a tokenizer where it reads texts too.

Only processors that need nothing but Pillow and numpy are used, whatever else is installed: their results are the same
everywhere.

Shapes: C colours, H and W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.image_files import Rgb, require_pillow
from tunesmith.models.failures import loading
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_PATCH = 16
"""Pixels a side of what one place of a model sees, where its config does not say."""


class ImageReader:
    """Has the face of a tokenizer as far as a run asks for one; what it is asked beyond that, its own tokenizer is."""

    def __init__(
        self, processor: Any, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        self.processor = processor
        self.tokenizer = tokenizer
        self._patch = _side(getattr(config, "patch_size", None)) or _PATCH
        self.size: tuple[int, int] = self._seen_size()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tokenizer" or self.tokenizer is None:
            raise AttributeError(name)
        return getattr(self.tokenizer, name)

    def __len__(self) -> int:
        return 0 if self.tokenizer is None else len(self.tokenizer)

    def get_vocab(self) -> dict[str, int]:
        """Return the tokenizer's words; none where there is no tokenizer."""
        return {} if self.tokenizer is None else self.tokenizer.get_vocab()

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The tokenizer's; nothing where there is no tokenizer."""
        return {} if self.tokenizer is None else dict(self.tokenizer.special_tokens_map)

    @property
    def pad_token_id(self) -> int | None:
        """The tokenizer's; None where there is no tokenizer."""
        return None if self.tokenizer is None else self.tokenizer.pad_token_id

    @property
    def num_positions(self) -> int:
        """Places that an image takes in the model: its patches and one for all of them."""
        height, width = self.size
        return max(height // self._patch, 1) * max(width // self._patch, 1) + 1

    @property
    def image_settings(self) -> dict[str, Any]:
        """All that decides how images become numbers, JSON-ready."""
        return {key: value for key, value in self.processor.to_dict().items() if key != "image_processor_class"}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the processor, and the tokenizer if there is one, as plain ``transformers`` reads them."""
        with quiet():
            self.processor.save_pretrained(str(folder))
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def resized(self, image_HWC: Rgb) -> npt.NDArray[np.uint8]:
        """Return [C, H, W]: an image as the processor cuts and stretches it, in shades still."""
        given = {"do_rescale": False, "do_normalize": False, "input_data_format": "channels_last"}
        found = np.asarray(self.processor(images=[image_HWC], return_tensors="np", **given)["pixel_values"][0])
        return found.astype(np.uint8)

    def values(self) -> npt.NDArray[np.float32]:
        """Return [C, 256]: the number that the processor makes of each shade, by its own arithmetic."""
        processor = self.processor
        shades: Any = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), (3, 16, 16)).copy()
        if processor.do_rescale:
            shades = processor.rescale(shades, processor.rescale_factor)
        if processor.do_normalize:
            shades = processor.normalize(shades, processor.image_mean, processor.image_std)
        return np.ascontiguousarray(np.asarray(shades, dtype=np.float32).reshape(3, 256))

    def _seen_size(self) -> tuple[int, int]:
        """Return the size that all images get. Raises ``InputError`` where it depends on the image."""
        sizes = {self.resized(np.zeros((height, width, 3), np.uint8)).shape[1:] for height, width in _SHAPES}
        if len(sizes) > 1:
            raise InputError(
                f"The image processor {type(self.processor).__name__} gives images of different sizes "
                f"({' and '.join(f'{height} x {width}' for height, width in sorted(sizes))}); one size is needed.",
                "Set do_resize and a size of height and width (or a center crop) in its preprocessor_config.json, or "
                "choose another model, such as vit.",
            )
        height, width = next(iter(sizes))
        return int(height), int(width)


_SHAPES = ((40, 60), (60, 40), (300, 300))


def _side(value: Any) -> int | None:
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    return value if isinstance(value, int) and value > 0 else None


def image_processor_in(folder: Path) -> Any:
    """Return the image processor that a model folder describes, in its form for Pillow."""
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, backend="pil", trust_remote_code=False, local_files_only=True
    )


def load_image_reader(
    folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None
) -> ImageReader:
    """Return what a model folder says of how it reads images. Raises ``InputError`` where it says nothing usable."""
    require_pillow()
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise InputError(
            f"The model folder {folder} does not say how it reads images: it has no preprocessor_config.json.",
            "Copy that file beside the weights.",
        )
    with loading("image processor", folder), quiet():
        processor = image_processor_in(folder)
    with loading("image processor", folder):
        return ImageReader(processor, config, tokenizer)


def scratch_image_reader(
    size: int, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None = None
) -> ImageReader:
    """Return how models from scratch read images: stretched to ``size`` x ``size`` pixels, shades from -1 to 1."""
    require_pillow()
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ImageReader(ViTImageProcessorPil(size={"height": size, "width": size}), config, tokenizer)


def text_part(tokenizer: Any) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of what a model reads with; None where it reads images alone."""
    found: PreTrainedTokenizerBase | None = tokenizer.tokenizer if isinstance(tokenizer, ImageReader) else tokenizer
    return found
