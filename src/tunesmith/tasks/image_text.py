"""Questions about images: the answer is chosen from those that the training rows give, by image and question."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.data.forms import Form
from tunesmith.data.image_rows import IMAGE, QUESTION, QuestionedImages
from tunesmith.tasks.base import Columns
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.image_encoding import image_reader_of
from tunesmith.tasks.labelled_images import IMAGE_ROLE, LABEL_ROLE, PIXELS, LabelledImages, code_of
from tunesmith.types import ColumnProfile, HeadSettings, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 64
"""Of a question, where nobody says."""


class ImageText(LabelledImages):
    """Answer questions about images, by one of the answers that the training rows give."""

    name: Literal["image_text"] = "image_text"  # type: ignore[assignment]

    title: ClassVar[str] = "Questions about images"
    roles: ClassVar[tuple[Role, ...]] = (
        IMAGE_ROLE,
        Role(
            QUESTION,
            ("question", "query", "text", "caption", "sentence", "问题"),
            ("text", "category"),
            purpose="what is asked about the image, or said of it",
        ),
        LABEL_ROLE,
    )
    inputs: ClassVar[tuple[str, ...]] = (IMAGE, QUESTION)
    kept_together: ClassVar[str | None] = IMAGE

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return QuestionedImages

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        score, reason = super().fit_score(profiles)
        images, asked = profiles[IMAGE].name, profiles[QUESTION].name
        if asked.strip().lower() not in cls.roles[1].names[:2]:
            return min(score, 0.5), f"column '{images}' names images beside the texts of '{asked}'"
        return min(1.1 * score, 0.99), f"column '{images}' names images, '{asked}' what they are asked, and {reason}"

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        reader = image_reader_of(tokenizer)
        assert reader.tokenizer is not None, "questions are texts"
        inputs, num_truncated = encode_texts(reader.tokenizer, columns[QUESTION], None, max_length)
        targets = self.targets(columns) if "label" in columns else {}
        return Encoded({**inputs, PIXELS: self.pixels(columns, tokenizer)}, targets, num_truncated)

    def head(self) -> HeadSettings:
        return replace(
            super().head(),
            auto_class="AutoModelForVisualQuestionAnswering",
            default_max_length=MOST_TOKENS,
            reads_images=True,
        )

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Return how often the training rows give each answer to the same question, whatever the image."""
        rows_of: dict[str, list[int]] = {}
        for row, question in enumerate(train[QUESTION]):
            rows_of.setdefault(_plain(question), []).append(row)
        every = self._shares(train, np.arange(len(train["label"])))
        shares = {asked: self._shares(train, np.array(own)) for asked, own in rows_of.items()}
        chances_NK = np.stack([shares.get(_plain(question), every) for question in rows[QUESTION]])
        return "the commonest answer to the question", self.outputs_from(chances_NK)

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs, tokenizer
        asked = {QUESTION: '**tokenizer("What is this?", return_tensors="pt", truncation=True)'}
        return TaskCard(
            purpose="answers questions about images by one of the answers that it was trained with",
            labels=self.label_names,
            pipeline_tag="visual-question-answering",
            limits=("Every question gets one of the answers above, whether one fits or not.",),
            code=code_of(self.label_names, self._threshold, asked),
        )


def _plain(question: str | None) -> str:
    return " ".join((question or "").casefold().split())
