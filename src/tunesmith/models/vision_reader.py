"""What a vision-language model reads with: the processor of ``transformers`` that its folder describes.

It makes two things of an image: the text that takes the place of the image's token, and the arrays that the model is
given. Both are made of each image by itself here; that batches of them are what the processor itself gives is looked
at when it is loaded.

Processors are used with the image processors that need nothing but Pillow and numpy, as ``image_reader.py`` does, and
without those of videos.

Shapes: C colours, H and W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.image_files import Rgb, require_pillow
from tunesmith.data.pictures import AnyArray, Joining, joined
from tunesmith.models.failures import loading
from tunesmith.models.image_reader import PROCESSOR_FILES, ImageReader, image_processor_in
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

IMAGE_TEXT = "AutoModelForImageTextToText"
KEPT_FILES = (*PROCESSOR_FILES, "video_preprocessor_config.json")
"""Files of a processor, which a run's folder gets as they are."""
_OF_TEXTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets")
KIND_OF_PLACE = "mm_token_type_ids"
"""The input that says of each token whether an image stands there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a processor makes of one image."""

    text: str
    """What takes the place of the image's token in a text."""
    arrays: Mapping[str, AnyArray]
    """What the model is given, by the names that ``forward`` has for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the arrays of one name have in common."""

    dtype: str
    num_axes: int
    joining: Joining


class VisionReader(ImageReader):
    """Has the face of a tokenizer, as every ``ImageReader``; ``whole`` is the processor of images and texts."""

    def __init__(self, whole: Any, folder: Path) -> None:
        self.whole = whole
        self.processor = whole.image_processor
        self.tokenizer: PreTrainedTokenizerBase = whole.tokenizer
        self._files = {name: (folder / name).read_bytes() for name in KEPT_FILES if (folder / name).is_file()}
        self._folder = folder

    @property
    def image_token(self) -> str:
        """What stands for an image in a text, before it is replaced."""
        return str(self.whole.image_token)

    @property
    def image_token_ids(self) -> tuple[int, ...]:
        """The tokens at which a model puts what it sees."""
        return tuple(int(one) for one in self.whole.image_token_ids if one is not None)

    @property
    def image_settings(self) -> dict[str, Any]:
        """All that decides how images become numbers and tokens, JSON-ready."""
        found = self.whole.to_dict()
        return {**found, "image_processor": self.processor.to_dict(), "video_processor": None}

    @property
    def tells_kinds(self) -> bool:
        """Whether the model is told of each token whether an image stands there."""
        return KIND_OF_PLACE in self.whole.model_input_names

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the processor's files, as they were, and the tokenizer."""
        for name, content in self._files.items():
            (Path(folder) / name).write_bytes(content)
        self.tokenizer.save_pretrained(folder)

    def see(self, image_HWC: Rgb) -> Seen:
        """Return what the processor makes of an image."""
        found = self._made([self.image_token], [image_HWC], return_text_replacement_offsets=True)
        (replaced,) = found["text_replacement_offsets"][0]
        return Seen(str(replaced["replacement"]), _arrays(found))

    def own(self, texts: Sequence[str], images: Sequence[Rgb], **options: Any) -> dict[str, AnyArray]:
        """Return what the processor itself gives for texts with image tokens, and their images, as one batch."""
        found = self._made(list(texts), images, return_tensors="np", padding=True, **options)
        return {name: np.asarray(values) for name, values in found.items()}

    def kinds_of(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Return [T]: what each token stands for, where the model is told that."""
        (found,) = self.whole.create_mm_token_type_ids([ids.tolist()])
        return np.array(found, dtype=np.int32)

    def probe_inputs(self) -> dict[str, Any]:
        """Return a batch to try the model on: a text with an image in it."""
        import torch

        (image, _) = probe_images()
        found = self.own([f"{self.image_token} one word"], [image])
        return {name: torch.from_numpy(values) for name, values in found.items()}

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The arrays that images become, and how those of a batch are joined.

        Raises ``InputError`` where what is joined here is not what the processor itself gives.
        """
        first, second = probe_images()
        token = self.image_token
        own = self.own([f"{token} and {token}", f"{token}"], [first, second, first])
        seen = [self.see(image).arrays for image in (first, second)]
        found: dict[str, Kind] = {}
        for name in seen[0]:
            one, other = (arrays[name] for arrays in seen)
            ways: dict[Joining, AnyArray] = {"images": joined([one, other, one], axis=0)}
            if one.ndim > 1 and one.shape[0] == 1:
                ways["sequences"] = joined([joined([one, other], axis=1), one], axis=0)
            fitting = [way for way, made in ways.items() if name in own and np.array_equal(made, own[name])]
            if not fitting:
                raise self.unlike(f"'{name}' of several images")
            found[name] = Kind(one.dtype.name, one.ndim, fitting[0])
        if unknown := own.keys() - found.keys() - set(_OF_TEXTS):
            raise self.unlike(f"its {', '.join(sorted(unknown))}")
        return found

    def unlike(self, what: str) -> InputError:
        """Return the error for a processor whose results cannot be made image by image."""
        return InputError(
            f"The processor {type(self.whole).__name__} of {self._folder} gives {what} otherwise than image by image, "
            "which is how batches are made here.",
            "Choose a model of another family: LLaVA, Qwen2-VL, Idefics3, SmolVLM.",
        )

    def _made(self, texts: list[str], images: Sequence[Rgb], **options: Any) -> Any:
        from PIL import Image

        with quiet():
            return self.whole(images=[Image.fromarray(image) for image in images], text=texts, **options)


def _arrays(found: Mapping[str, Any]) -> dict[str, AnyArray]:
    """Return what was made of images, fractions in single precision."""
    arrays = {name: np.asarray(values) for name, values in found.items() if name not in _OF_TEXTS}
    return {name: one.astype(np.float32) if one.dtype.kind == "f" else one for name, one in arrays.items()}


def probe_images() -> tuple[Rgb, Rgb]:
    """Return two images of different sizes in which no two places are alike."""
    generator = np.random.default_rng(0)
    first, second = (generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((48, 72), (120, 56)))
    return first, second


def load_vision_reader(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> VisionReader:
    """Return the processor that a model folder describes.

    Raises ``InputError`` where it describes none, or one that does not belong to the model or to the tokenizer.
    """
    require_pillow()
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise InputError(
            f"The model folder {folder} does not say how it reads images: it has neither preprocessor_config.json nor "
            "processor_config.json.",
            "Copy these files beside the weights, from where they came from.",
        )
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    processor_class: Any = PROCESSOR_MAPPING.get(type(config), None)
    if processor_class is None:
        raise InputError(
            f"transformers has no processor of images and texts for models of the type {config.model_type!r}.",
            "Choose a model of another type, such as LLaVA, Qwen2-VL or SmolVLM.",
        )
    with loading("processor", folder), quiet():
        image_processor = image_processor_in(folder)
        settings, _ = processor_class.get_processor_dict(folder, local_files_only=True)
        whole = _without_videos(processor_class, image_processor, tokenizer, settings)
    _check_token(whole, config, tokenizer, folder)
    if tokenizer.chat_template is None and isinstance(whole.chat_template, (str, dict)):
        tokenizer.chat_template = whole.chat_template
    reader = VisionReader(whole, folder)
    with loading("processor", folder):
        _ = reader.kinds
    return reader


def _without_videos(processor_class: Any, image_processor: Any, tokenizer: Any, settings: Mapping[str, Any]) -> Any:
    """Return a processor of the class that has parts for images and texts, and for nothing else."""
    parts = {"image_processor": image_processor, "tokenizer": tokenizer}

    def check(self: Any, name: str, part: Any) -> Any:
        return None if part is None else processor_class.check_argument_for_proper_class(self, name, part)

    names = [name for name in processor_class.get_attributes() if name in parts]
    changed = {"check_argument_for_proper_class": check, "get_attributes": classmethod(lambda _: names)}
    own = type(processor_class.__name__, (processor_class,), changed)
    taken = inspect.signature(processor_class.__init__).parameters
    others = dict.fromkeys(name for name in processor_class.get_attributes() if name not in parts)
    given = {name: settings[name] for name in taken if name in settings and name not in {**parts, **others}}
    return own(**parts, **others, **given)


def _check_token(whole: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    token = getattr(whole, "image_token", None)
    if not token:
        raise InputError(
            f"The processor {type(whole).__name__} of {folder} has no token that stands for an image.",
            "Choose a model of another family, such as LLaVA, Qwen2-VL or SmolVLM.",
        )
    known = tokenizer.get_vocab().get(token)
    if known is None:
        raise InputError(
            f"The tokenizer in {folder} does not know the token {token!r} that stands for an image.",
            "Copy the tokenizer's files from where the weights came from.",
        )
    expected = getattr(config, "image_token_id", None)
    if expected is not None and int(expected) != int(known):
        raise InputError(
            f"Config and tokenizer in {folder} do not belong together: the token {token!r} of an image has the number "
            f"{known} in the tokenizer, and the model expects {expected}.",
            "Copy the tokenizer's files from where the weights came from.",
        )
