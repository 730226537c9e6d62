"""Images with a label, or with a question and its answer: the forms of the tasks that see.

Every image is opened once here, so that what cannot be shown to a model is known by its row before anything is trained.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.clean import BoolArray, Tally, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, as_text
from tunesmith.data.image_files import MAX_PIXELS, Fault, ImageBytes, ImageError, decode, require_pillow
from tunesmith.data.labelled import LABEL, LabelForm, LabelledTexts, label_type
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches
from tunesmith.types import ColumnChoice, Guess, Problem

IMAGE, CONTENT, QUESTION = "image", "content", "question"
"""``content`` is the SHA-256 of an image's bytes: images are compared by it, whatever their files are called."""

_WORDS: dict[Fault, str] = {
    "no image": "they name no image.",
    "missing": "the files of their images are not there.",
    "outside": "the paths of their images lead out of the folder of the data; lay the images beside the table.",
    "address": "their images are addresses on the web, and nothing is fetched: download them and give their paths.",
    "unreadable": "their images are of no kind that is read (PNG, JPEG, GIF, BMP, WebP, TIFF, PPM).",
    "damaged": "their images are cut off or damaged.",
    "too large": f"their images have more than {MAX_PIXELS // 1_000_000} million pixels, or 256 MB.",
}
_OPENED_LATELY = 65_536
"""Images whose state is remembered, for tables that name one in many rows."""
_YES_NO = frozenset(["yes", "no", "true", "false", "maybe", "unknown", "0", "1"])
_MOST_QUESTIONS = 100_000


class ImageRows(LabelledTexts):
    """``image`` (a reference), its ``content`` and, where it was chosen, a ``label`` of any kind."""

    misfits: ClassVar[tuple[Misfit, ...]] = tuple(
        Misfit(fault, words, refuses_prediction=True, recorded=f"image {fault}") for fault, words in _WORDS.items()
    )

    def __init__(self, columns: Columns, kind: pa.DataType | None, label_form: LabelForm | None) -> None:
        super().__init__(columns, kind, label_form)
        fields = [field for field in self.schema if field.name not in ("row", QUESTION)]
        if self.asks:
            fields.append(self.schema.field(QUESTION))
        self.schema = pa.schema([*fields, (CONTENT, pa.string()), ("row", pa.string())])
        self.texts = (CONTENT, QUESTION) if self.asks else (CONTENT,)
        self.fitting = CONTENT
        self._bytes = ImageBytes()
        self._look = lru_cache(_OPENED_LATELY)(self._opened)

    @property
    def asks(self) -> bool:
        """Whether rows keep their question."""
        return False

    def batches(self, dataset: Rows, clean: CleanConfig, tally: Tally) -> Iterator[pa.RecordBatch]:
        """Yield all rows as canonical batches, archives staying open meanwhile."""
        require_pillow()
        with self._bytes:
            yield from super().batches(dataset, clean, tally)

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        rows = batch.column(ROW)
        references = [text or "" for text in as_text(batch.column(self.columns[IMAGE][0])).to_pylist()]
        found = [self._look(reference.strip()) for reference in references]
        for fault in _WORDS:
            tally.add(fault, np.array([one == fault for _, one in found], dtype=np.bool_), rows)
        made = {IMAGE: pa.array(references, pa.string()), CONTENT: pa.array([sha for sha, _ in found], pa.string())}
        if self.asks:
            made[QUESTION] = tidy_text(as_text(batch.column(self.columns[QUESTION][0])), clean, tally, rows)
        if LABEL in self.columns:
            made[LABEL] = self._kept(self._labels(batch, self.columns[LABEL], clean, tally))
        arrays = [made[name] for name in self.schema.names[:-1]]
        return pa.RecordBatch.from_arrays([*arrays, rows], schema=self.schema)

    def group_values(self, column: str, values: Sequence[Any], batch: pa.RecordBatch) -> list[Any]:
        """Return the content of images that are groups: their paths differ from one machine to the next."""
        if column != self.columns[IMAGE][0]:
            return super().group_values(column, values, batch)
        return list(batch.column(CONTENT).to_pylist())

    def _kept(self, labels: pa.Array) -> pa.Array:
        """Return the labels that rows are learned by; null for those that are not learned."""
        return labels

    def _opened(self, reference: str) -> tuple[str | None, Fault | None]:
        """Return the hash of an image's bytes, or what is wrong with it."""
        try:
            content = self._bytes.read(reference)
            decode(content)
        except ImageError as error:
            return None, error.fault
        return hashlib.sha256(content).hexdigest(), None

    @classmethod
    def _label_of(
        cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes
    ) -> tuple[pa.DataType | None, LabelForm | None]:
        if LABEL not in columns:
            return None, None
        return label_type(datasets, columns[LABEL], as_numbers=wishes.as_numbers)

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        return cls(columns, *cls._label_of(datasets, columns, wishes)), []


class QuestionedImages(ImageRows):
    """``image``, its ``content``, the ``question`` that it is asked and, if known, the answer as ``label``."""

    @property
    def asks(self) -> bool:
        return True


class ClassifiedImages(ImageRows):
    """``image``, its ``content`` and ``label``: where images are asked questions, the answers to those of one kind.

    Answers that some question can have both of are of one family (colours; shapes; yes and no). Of the families with
    more in them than yes and no, that of the fewest answers names the classes, and rows of others are not learned.
    """

    def __init__(self, columns: Columns, kind: pa.DataType | None, label_form: LabelForm | None) -> None:
        super().__init__({role: names for role, names in columns.items() if role != QUESTION}, kind, label_form)
        self._classes: frozenset[str] | None = None
        self._chosen_by: tuple[Guess, ...] = ()

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return which columns fill the roles; the question that classes were chosen by is not needed any more."""
        return super().choices_for(path, dataset, [choice for choice in choices if choice.role != QUESTION])

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        form = cls(columns, *cls._label_of(datasets, columns, wishes))
        if QUESTION not in columns or LABEL not in columns:
            return form, []
        families = _families(datasets, columns[QUESTION][0], columns[LABEL][0])
        if not families:
            return form, []
        chosen, *others = families
        form._classes = frozenset(chosen)
        shown = [", ".join(sorted(family)[:8]) for family in families]
        counts = [sum(family.values()) for family in families]
        guess = Guess("classes", shown[0], counts[0], tuple(zip(shown[1:], counts[1:], strict=True)))
        form._chosen_by = (guess,)
        beside = f" (others: {'; '.join(shown[1:])})" if others else ""
        message = f"The images are asked questions: the answers {shown[0]} were taken for their classes{beside}."
        fix = "Give a table with a row and a label for each image to learn other classes, or learn all answers: "
        return form, [Problem("note", message, f"{fix}--task image_text.")]

    def guesses(self) -> list[Guess]:
        return list(self._chosen_by)

    def _kept(self, labels: pa.Array) -> pa.Array:
        if self._classes is None:
            return labels
        kept = [label if str(label) in self._classes else None for label in labels.to_pylist()]
        return pa.array(kept, labels.type)

    @property
    def without_label(self) -> str:
        return super().without_label if self._classes is None else "question of another kind"

    def unlabelled(self, batch: pa.RecordBatch) -> BoolArray:
        return Form.unlabelled(self, batch) if self._classes is not None else super().unlabelled(batch)


def _families(datasets: Sequence[Rows], question: str, answer: str) -> list[Counter[str]]:
    """Return the families of answers by how often each comes, those of fewest answers first; no yes and no."""
    counts: Counter[str] = Counter()
    first_to: dict[str, str] = {}
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while joined.setdefault(name, name) != name:
            name = joined[name]
        return name

    for dataset in datasets:
        for batch in batches(dataset, [question, answer]):
            pairs = zip(*(as_text(batch.column(name)).to_pylist() for name in (question, answer)), strict=True)
            for asked, said in pairs:
                if asked is None or said is None:
                    continue
                counts[said] += 1
                if len(first_to) < _MOST_QUESTIONS or asked in first_to:
                    joined[root(said)] = root(first_to.setdefault(asked, said))
    families: dict[str, Counter[str]] = {}
    for said, number in counts.items():
        families.setdefault(root(said), Counter())[said] = number
    usable = [one for one in families.values() if len(one) > 1 and not {name.lower() for name in one} <= _YES_NO]
    return sorted(usable, key=lambda one: (len(one), -sum(one.values())))
