"""A small vision transformer trained from scratch: alone for images, with a question beside for images and texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.models.base import HeadOfRun, LoadedModel
from tunesmith.models.scratch import ScratchSource
from tunesmith.models.scratch_tokenizer import learn_tokenizer
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from tunesmith.models.streaming import StreamSettings
    from tunesmith.types import HeadSettings


class Vit(ScratchSource):
    """Patches of an image, and the words of a question beside them, in one transformer.

    Of images alone it is a ViT (Dosovitskiy et al. 2021), of images and texts a ViLT (Kim et al. 2021); what is saved
    are models of these kinds, which plain ``transformers`` loads.
    """

    name: Literal["vit"] = "vit"

    title: ClassVar[str] = "vision transformer"
    is_plain: ClassVar[bool] = True
    default_learning_rate: ClassVar[float | None] = 1e-3

    image_size: Annotated[int, Field(ge=8, le=1024)] = 64
    """Pixels a side: images are stretched to it."""
    patch_size: Annotated[int, Field(ge=1)] = 8
    """Pixels a side of the squares that an image is cut into; divides `image_size`."""
    embedding_size: Annotated[int, Field(ge=1)] = 128
    """Numbers per patch and word, in every layer."""
    num_layers: Annotated[int, Field(ge=1)] = 4
    """Layers."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Heads of attention; `embedding_size` is divided among them."""
    feedforward_size: Annotated[int, Field(ge=1)] = 512
    """Numbers per patch and word inside a layer."""

    def load(
        self,
        head: HeadSettings,
        texts: Iterable[str],
        seed: int,
        head_of_run: HeadOfRun | None = None,  # noqa: ARG002
        *,
        streaming: StreamSettings | None = None,  # noqa: ARG002
    ) -> LoadedModel:
        """Initialise the weights from ``seed``; learn a tokenizer from ``texts`` where the task reads some.

        Raises ``InputError`` for tasks without images, and for sizes that do not fit each other.
        """
        import torch
        import transformers

        from tunesmith.models.image_reader import scratch_image_reader
        from tunesmith.models.loading import apply_head, class_for

        if not head.reads_images:
            raise InputError(
                f"The model 'vit' reads images, and the task reads texts ({head.auto_class}).",
                "Choose --task image_classification or image_text, or another model, such as sample:minilm.",
            )
        self._check_sizes()
        max_length = self.max_length or head.default_max_length
        tokenizer = None
        settings: dict[str, Any] = {}
        if head.reads_texts:
            tokenizer = learn_tokenizer(
                list(texts),
                self.tokenizer,
                vocabulary_size=self.vocabulary_size,
                min_frequency=self.min_frequency,
                lowercase=self.lowercase,
                max_length=max_length,
            )
            settings = {
                "vocab_size": len(tokenizer),
                "pad_token_id": tokenizer.pad_token_id,
                "max_position_embeddings": max_length,
            }
        config = self.network_config(settings)
        if class_for(config, head) is None:
            raise InputError(
                f"The model 'vit' chooses answers, and writes none: it has no head for this task ({head.auto_class}).",
                "Choose a pretrained model that sees and writes, such as llava-hf/llava-interleave-qwen-0.5b-hf, or "
                "--task image_text for answers out of those that the training rows give.",
            )
        apply_head(config, head)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = getattr(transformers, head.auto_class).from_config(config)
        reader: Any = scratch_image_reader(self.image_size, config, tokenizer)
        return LoadedModel(model, reader, max_length if tokenizer else reader.num_positions, "vit, from scratch")

    def network_config(self, settings: dict[str, Any]) -> PretrainedConfig:
        """Return the config of a ViT or, where there are words (``vocab_size``), of a ViLT."""
        from transformers import ViltConfig, ViTConfig

        make = ViltConfig if "vocab_size" in settings else ViTConfig
        dropout = 0.0 if self.dropout is None else self.dropout
        return make(
            hidden_size=self.embedding_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            intermediate_size=self.feedforward_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            image_size=self.image_size,
            patch_size=self.patch_size,
            **settings,
        )

    def _check_sizes(self) -> None:
        if self.image_size % self.patch_size:
            raise InputError(
                f"model.image_size is {self.image_size}, which squares of {self.patch_size} pixels do not fill.",
                "Choose a model.patch_size that divides it.",
            )
        if self.embedding_size % self.num_heads:
            raise InputError(
                f"model.embedding_size is {self.embedding_size}, which {self.num_heads} heads cannot share evenly.",
                f"Choose a multiple of {self.num_heads}.",
            )
