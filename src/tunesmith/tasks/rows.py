"""The first contract of a task: which columns it reads, what it learns from them, and how rows become numbers.

Used by the rooms that prepare data and runs. A task is a frozen config; what it learns from the training rows (its
label names) is a field of that config too: ``bind`` returns a copy with it filled in, and the resolved
``config.yaml`` of a run therefore holds the complete task.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.data.forms import Form
from tunesmith.data.labelled import LabelledTexts
from tunesmith.types import ColumnProfile, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Columns = Mapping[str, Sequence[Any]]
"""Canonical columns of some rows: ``{"text": [...], "label": [...]}``."""


class Rows:
    """From the user's columns to an encoded split."""

    roles: ClassVar[tuple[Role, ...]]
    """The canonical columns."""
    truths: ClassVar[tuple[str, ...]] = ("label",)
    """The canonical columns that hold what is to be predicted."""
    joins_lines: ClassVar[bool] = False
    """Whether plain text files are read as passages of several lines rather than as one row a line."""
    not_encoded: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing of what ``encode`` gives, so that rows need not be tokenised anew when they do."""

    kept_together: ClassVar[str | None] = None
    """The role whose equal values stay on one side where splits are cut, unless the user says what does."""

    inputs: ClassVar[tuple[str, ...]] = ("text",)
    """The canonical columns that a row to predict on is given by, where it comes as plain values: one for the first,
    and one for each of the others that the run was trained with."""

    found_by_name: ClassVar[bool] = False
    """Whether only names of columns tell that the task is meant: what it lacks in others is no news to anybody."""
    vectors_of: ClassVar[tuple[str, ...]] = ()
    """The canonical columns whose texts can be made vectors, each by itself: those that are searched by, and those
    that are found; empty where the task makes none."""

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        """Return the form that rows have in which these roles are filled: how cells are read, tidied and compared."""
        return LabelledTexts

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Return the roles to fill from these columns (by name): ``roles``, unless data comes in several forms.

        ``overrides`` (role to column) are the user's own word.
        """
        return cls.roles

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        """Say how well columns (by role) suit this task: 0 (not at all, unless asked for by name) to 1, and why."""
        del profiles
        return 0.0, "only when asked for by name"

    def bind(self, columns: Columns) -> Self:
        """Return the task with what it learns from the training rows (label names) filled in.

        Fields that are already filled are kept, so binding a bound task changes nothing.
        """
        return self

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Return what is wrong with a split's labels, given a bound task (unknown labels, nan)."""
        return []

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        """Set what the task needs of the tokenizer (a chat template), for training and for every later use.

        Returns what is worth saying about it. Doing it twice changes nothing.
        """
        return []

    def suited_to(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return the task with what it takes from the model that learns it, as it was loaded, filled in.

        Fields that are already filled are kept. Asked before ``adapt`` and before any row is encoded.
        """
        return self

    @property
    def shortening(self) -> str:
        """What becomes of rows that are too long, as it follows on "3 rows are longer than 512 tokens and"."""
        return "lose their end"

    def complete(self, columns: Columns) -> Columns:
        """Return the canonical columns of rows that may have been given as plain texts."""
        return columns

    def texts(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        """Return those canonical columns of some rows that hold the texts read, first to last."""
        return {name: columns[name] for name in self.inputs if name in columns}

    def vocabulary_texts(self, columns: Columns) -> Iterable[str]:
        """Yield the texts that a model from scratch learns its vocabulary from; ``columns`` are of training rows."""
        return (text or "" for texts in self.texts(columns).values() for text in texts)

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise rows, each to one or several sequences.

        Without the label columns (prediction) there are no targets.
        """
        raise NotImplementedError

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return what the loss and the metrics read of the label columns: ``Encoded.targets`` without tokenising.

        Raises ``InputError`` with the problems that ``check`` reports as errors.
        """
        raise NotImplementedError
