"""Records that every room shares: problems found, columns seen, model inputs.

This module imports nothing from tunesmith and nothing heavy, so that any room,
including the command line before it has parsed anything, may use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

MAX_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing found wrong, or worth saying, in what the user gave."""

    severity: Severity
    message: str
    """What happened: what was received and what was expected."""
    fix: str = ""
    """How to mend it, as an instruction."""
    count: int = 1
    """How many rows, files or keys it concerns."""
    rows: tuple[str, ...] = ()
    """The first places concerned, as ``file:line`` or ``split:row``."""

    def __str__(self) -> str:
        shown = self.rows[:MAX_ROWS_SHOWN]
        places = f" [{', '.join(shown)}{', …' if self.count > len(shown) else ''}]" if shown else ""
        return f"{self.message}{places}" + (f"\n  → {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Guess:
    """A choice about the form of the user's data that was made by content, with what else it could have been."""

    name: str
    """What was guessed, such as ``delimiter``, ``encoding``, ``header`` or ``scheme``."""
    chosen: str
    explained: int
    """How many rows the choice explains, over the whole file."""
    alternatives: tuple[tuple[str, int], ...] = ()
    """The other readings, best first, each with the number of rows that it explains."""
    flag: str = ""
    """The option that decides it instead, such as ``data.delimiter``; empty where there is none."""
    source: str = ""
    """The file it is about; empty where it is about all of them."""


class InputError(ValueError):
    """The user's input cannot be used; carries every problem found, not just the first.

    The command line prints the problems and exits with status 2, without a traceback.
    """

    def __init__(self, problems: Problem | str | Iterable[Problem], fix: str = "") -> None:
        if isinstance(problems, str):
            problems = Problem("error", problems, fix)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class MissingExtraError(InputError):
    """An optional dependency is needed and not installed."""

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            f"pip install 'tunesmith[{extra}]'",
        )


class RunError(RuntimeError):
    """Work that started well cannot go on (disk full, loss not finite, out of memory).

    The command line prints the message and exits with status 1; what was saved stays.
    """


class DiskError(RunError):
    """Something could not be written: the disk is full, read-only or forbids it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}\n  → {fix}")
        self.what = what


ColumnKind = Literal[
    "text",  # free text: many distinct values, mostly several words
    "category",  # few distinct short strings
    "integer",
    "float",
    "boolean",
    "list",  # a list in every cell (JSON formats), or text that splits into few distinct parts
    "object",  # nested records
    "image",  # references to images (``tunesmith.data.image_files``)
    "empty",
]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What a look at the content of one user column tells."""

    name: str
    kind: ColumnKind
    num_rows: int
    num_missing: int
    """Cells that are null or, for text, blank."""
    num_distinct: int
    """Distinct values; counted exactly up to the sample that was profiled."""
    mean_length: float = 0.0
    """Characters per cell for text and category columns."""
    mean_words: float = 0.0
    low: float | None = None
    """Smallest value of a numeric column."""
    high: float | None = None
    examples: tuple[str, ...] = ()
    tags_of: tuple[str, ...] = ()
    """Columns of tokens that its cells hold a tag each for: as many in every row, and few different ones."""
    holds_spans: bool = False
    """Whether its cells hold places in a text, each with a label."""
    has_no_spans: bool = False
    """Whether none of the cells looked at can be read as such places, whatever the column's name."""
    shows_images: bool = False
    """Whether some of its cells hold messages with images in them."""
    are_graded: bool = False
    """Whether its cells are lists of objects that say of themselves how good they are, by a score or a rank."""
    is_decorated: bool = False
    """Whether its cells are amounts written with units, currencies or separated thousands: no plain numbers."""
    is_stamp: bool = False
    """Whether its cells say when or where, and nothing else: dates, times, addresses."""


@dataclass(frozen=True, slots=True)
class Role:
    """A canonical column of a task, and how the user's own column for it is recognised."""

    name: str
    """Canonical name, such as ``text`` or ``label``; the name used in ``data.columns``."""
    names: tuple[str, ...]
    """Usual names of such a column, best first, lower case."""
    kinds: tuple[ColumnKind, ...]
    """Kinds of content that can fill it."""
    required: bool = True
    purpose: str = ""
    reason: str = ""
    """Why the column of this name is meant, where its name alone is not the reason."""
    columns: tuple[str, ...] = ()
    """The columns that fill it together, where their names say so: they go before all others."""

    @property
    def holds_numbers(self) -> bool:
        """Whether its cells are read as numbers, rather than as what is written."""
        return bool(self.kinds) and set(self.kinds) <= {"float", "integer"}


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The user's column that fills a role, and why it was chosen."""

    role: str
    column: str
    reason: str
    is_number: bool = False
    """Whether the task reads the cells as numbers; other tasks read what is written."""


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """What a task asks of the model: given by ``tunesmith.tasks``, read by ``tunesmith.models``."""

    auto_class: str
    """Name of the ``transformers`` auto class, such as ``AutoModelForSequenceClassification``."""
    num_outputs: int | None
    """K, scores per unit; None when it is the model's own (the vocabulary of a language model)."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model's own config: ``id2label``, ``label2id``, ``problem_type``."""
    default_max_length: int = 512
    """Longest row in tokens when the user names none and the model allows more."""
    other_class: str = ""
    """Another auto class that will do, where the model has none of the first."""
    reads_texts: bool = True
    """Whether the model is given texts, so that it needs a tokenizer."""
    reads_images: bool = False
    """Whether the model is given images, so that it needs an image processor."""

    @property
    def auto_classes(self) -> tuple[str, ...]:
        """The auto classes that will do, best first."""
        return (self.auto_class, self.other_class) if self.other_class else (self.auto_class,)


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric with its bootstrap confidence interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One optimizer step, as the training loop yields it."""

    step: int
    """Steps completed, this one included; starts at 1."""
    epoch: float
    """Passes over the training rows completed, as a fraction."""
    loss: float
    """Sum of the losses over the step's labelled units, divided by their number."""
    learning_rate: float
    gradient_norm: float
    """L2 norm of the whole gradient before clipping."""
    num_rows: int
    num_tokens: int
    """Real tokens, padding not counted."""
    seconds: float
    skipped: str = ""
    """Why no update was made (``loss is nan``); empty when one was."""
    rows: tuple[int, ...] = field(default=(), repr=False)
    """Indices of the training rows of a skipped step."""
    note: str = ""
    """Something to tell the user once (memory ran out and micro-batches were halved)."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Further figures of the step, by name, of tasks that have some (the reward of the answers it was learned from)."""
    idle: str = ""
    """Why the step had nothing to learn, of tasks that can tell; empty where it had."""
