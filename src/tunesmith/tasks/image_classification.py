"""Image classification: one label an image, or any number of labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith.data.encoded import Encoded
from tunesmith.data.forms import Form
from tunesmith.data.image_rows import IMAGE, QUESTION, ClassifiedImages
from tunesmith.tasks.base import Columns
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.labelled_images import IMAGE_ROLE, LABEL_ROLE, PIXELS, LabelledImages, code_of
from tunesmith.types import ColumnProfile, HeadSettings, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ImageClassification(LabelledImages):
    """Assign each image one of several labels, or any number of them."""

    name: Literal["image_classification"] = "image_classification"  # type: ignore[assignment]

    title: ClassVar[str] = "Image classification"
    roles: ClassVar[tuple[Role, ...]] = (
        IMAGE_ROLE,
        Role(
            QUESTION,
            ("question", "query", "问题"),
            ("text", "category"),
            required=False,
            purpose="what is asked about an image, where labels are answers to questions of several kinds",
        ),
        LABEL_ROLE,
    )
    inputs: ClassVar[tuple[str, ...]] = (IMAGE,)

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return ClassifiedImages

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        score, reason = super().fit_score(profiles)
        if QUESTION in profiles:
            return min(score, 0.5), f"{reason}, to questions about images"
        return 0.95 * score, f"column '{profiles[IMAGE].name}' names images, and {reason}"

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        targets = self.targets(columns) if "label" in columns else {}
        return Encoded({PIXELS: self.pixels(columns, tokenizer)}, targets)

    def head(self) -> HeadSettings:
        return replace(
            super().head(), auto_class="AutoModelForImageClassification", reads_texts=False, reads_images=True
        )

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs, tokenizer
        return TaskCard(
            purpose="gives an image any number of labels" if self.multi_label else "gives an image one label",
            labels=self.label_names,
            pipeline_tag="image-classification",
            limits=("Every image gets its answer from the labels above, whether one fits or not.",),
            code=code_of(self.label_names, self._threshold, {}),
            reads_texts=False,
        )
