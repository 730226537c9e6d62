"""The second contract of a task: the head, its units and their loss. It is all that the engine knows of a task.

Shapes: S sequences and U labelled units (sequences or tokens) of a micro-batch, K scores per unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tunesmith.data.encoded import Array, Encoded, Ragged, Units
from tunesmith.types import HeadSettings, Problem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


SURVEYED = "surveyed"
"""The target that holds the sums of what ``survey`` gave, [F]."""

Following = Literal["classes", "labels", "value", "vocabulary"]

Pooling = Literal["first", "last", "mean"]
"""What a row's last hidden states become one vector by."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the answers are written that a step is learned from, or a model is judged by."""

    copies: int
    """Answers to each row."""
    max_new_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn."""
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Written:
    """Answers that a model has just written: all to the first row, then all to the second, and so on."""

    tokens: Sequence[Sequence[int]]
    """Ids of each, with the one that ends it, if one did."""
    texts: Sequence[str]
    are_cut: Sequence[bool]
    """Whether each went on to the most tokens that it may have."""
    judged: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """What other models say of each answer, by the names of ``Objective.judges``."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is made of answers: rows to learn from, or to be judged by."""

    data: Encoded
    """A sequence an answer, what was asked with it."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Figures of a step, by name."""
    idle: str = ""
    """Why there is nothing in it to learn, if so."""


class Objective:
    """What is learned: scores of units, and the loss that they have."""

    reads: ClassVar[Literal["row", "token"]] = "row"
    """Where the head reads: one pooled vector a sequence, or the tokens that ``Encoded.reads`` names."""
    corrupts: ClassVar[bool] = False
    """Whether sequences are changed at random before the model sees them (masked tokens): ``corrupt`` is there."""
    reduces: ClassVar[bool] = False
    """Whether the loss reads a few numbers of each unit rather than all of its scores: ``reduce`` is there."""
    draws: ClassVar[bool] = False
    """Whether what a step is learned from are answers that the model itself writes at its beginning (and what it is
    judged by, too): ``drawing``, ``prompts`` and ``lesson`` are there, and rows are what is asked."""
    plain_cross_entropy: ClassVar[bool] = False
    """Whether the loss is the cross-entropy of the targets ``labels``, unweighted, so that a kernel may compute it."""
    most_epochs: ClassVar[int] = 20
    """Passes over the rows beyond which a model rather knows them by heart, however few they are."""
    rate_factor: ClassVar[float] = 1.0
    """What the usual learning rate is multiplied by where nobody gives one: below 1 for models that have no new head
    to learn and may already do well what they are trained for."""

    def wanted_steps(self, longer: int = 1) -> int:
        """Return the optimizer steps that learning the task well takes, where there are rows for so many.

        ``longer`` is how many times as many a model takes that begins with nothing.
        """
        return longer * 1000

    def head(self) -> HeadSettings:
        """Return what the bound task asks of the model."""
        raise NotImplementedError

    @property
    def row_pooling(self) -> Pooling | None:
        """How a row's last hidden states become its scores, D numbers; None where the model gets a head for that."""
        return None

    @property
    def needs_whole_step(self) -> bool:
        """Whether a step's loss needs the scores of all its rows at once, since these are held against each other.

        Rows are then read one vector a sequence, and kept together (``Encoded.keeps_rows``); ``loss_sum`` gets the
        whole step, however few of its rows are in memory at once.
        """
        return False

    @property
    def sums_over_units(self) -> bool:
        """Whether ``loss_sum`` of parts of the units adds up to that of all (not so for a chain over a sentence)."""
        return True

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the scalar *sum* of the losses over the micro-batch's units, in float32 or wider.

        ``targets`` are those of ``Encoded.targets``: one entry per sample, or per unit where they are ragged.
        ``units`` says which units are of one sequence, and which of one row; where the loss ``sums_over_units`` it may
        be given a part of them, that begins and ends anywhere.
        """
        raise NotImplementedError

    def reduce(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [U, R], float32 or wider: all that loss, ``survey`` and ``collect`` read of scores of some units.

        Each unit is reduced for itself, so that there are never the scores of all; the others are given it as scores.
        """
        raise NotImplementedError

    @property
    def surveys(self) -> int:
        """F: figures of the whole step that the loss of a unit depends on: where there are any, ``survey`` is there."""
        return 0

    def survey(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return [F]: figures of a micro-batch that add up to those of the step, or of all that is evaluated.

        The sums are given to ``loss_sum`` as the target ``SURVEYED``; they have no gradient.
        """
        raise NotImplementedError

    @property
    def reference(self) -> Objective | None:
        """What is asked of the model as it was before any training, about every unit; None where that is nothing.

        Where a task ``draws``, it is asked of the answers that were drawn.

        What its ``collect`` keeps, one value a unit, stands in the targets by its name when the loss is computed.
        Where it does not (a probe of how fast steps are) the loss has some value all the same.
        """
        return None

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return what the step's loss is divided by: the number (or total weight) of labelled units or rows."""
        raise NotImplementedError

    @property
    def followed(self) -> Following | None:
        """What the scores of a unit are, so that a teacher's can be followed; None where there is no such word.

        ``classes``: exclusive answers, by a softmax; ``labels``: independent ones, by a sigmoid each; ``value``: a
        number; ``vocabulary``: tokens, of which a teacher's likeliest are kept.
        """
        return None

    def scores_for(self, answers: Array | Ragged) -> Array | Ragged:
        """Return the scores, float32, that have these ``Judge.answers``: what a student's are held against."""
        raise NotImplementedError

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Return what evaluation keeps of a micro-batch's scores: tensors with one entry per unit."""
        raise NotImplementedError

    def conclude(self, outputs: Mapping[str, Array | Ragged], data: Encoded) -> Mapping[str, Array | Ragged]:
        """Return what evaluation keeps of a split, where rows are held against each other: an entry per row each.

        ``outputs`` are what ``collect`` kept of all rows of ``data``, in their order.
        """
        return outputs

    @property
    def mines(self) -> bool:
        """Whether rows get further sequences by what the untrained model makes of them: ``mine`` is there."""
        return False

    def mine(self, outputs: Mapping[str, Array | Ragged], data: Encoded) -> dict[str, Array]:
        """Return what is found in ``outputs``, what ``collect`` kept of all sequences of ``data``: arrays by name."""
        raise NotImplementedError

    def with_mined(self, data: Encoded, mined: Mapping[str, Array]) -> tuple[Encoded, list[Problem]]:
        """Return ``data`` with what ``mine`` found, and what is to be said of it.

        Raises ``InputError`` where nothing was found.
        """
        raise NotImplementedError

    def drawing(self, *, is_learned: bool) -> Drawing:
        """Return how answers are written: those that a step is learned from, or those that a model is judged by."""
        raise NotImplementedError

    @property
    def steps_per_drawing(self) -> int:
        """How many steps in a row are learned from the same answers."""
        return 1

    @property
    def at_drawing(self) -> Objective:
        """What is asked, where answers serve for several steps, of the model that has just written them.

        What its ``collect`` keeps stands in the targets, as that of ``reference`` does.
        """
        raise NotImplementedError

    @property
    def most_idle_steps(self) -> int | None:
        """After how many first steps with nothing to learn in any of them a training is given up; None for never."""
        return None

    @property
    def judges(self) -> Mapping[str, str]:
        """The finished runs that score answers, by name: folders."""
        return {}

    def prompts(self, data: Encoded, samples: npt.NDArray[np.int64]) -> Ragged:
        """Return the ids of what is asked in these samples of ``data``, one prompt each."""
        raise NotImplementedError

    def asked(self, data: Encoded, samples: npt.NDArray[np.int64]) -> Sequence[Sequence[Mapping[str, Any]]]:
        """Return the same as messages: what ``judges`` read before an answer."""
        raise NotImplementedError

    def lesson(self, data: Encoded, samples: npt.NDArray[np.int64], written: Written, *, is_learned: bool) -> Lesson:
        """Return what answers to these samples give: to be learned from, or for the model to be judged by.

        Raises ``RunError`` where an answer cannot be judged.
        """
        raise NotImplementedError

    def corrupt(self, data: Encoded, sequences: npt.NDArray[np.int64], seed: int | None) -> Encoded:
        """Return these sequences of ``data``, in this order, as the model is to see them, with what it is to restore.

        What happens to a sequence depends on the seed and on the sequence alone, never on the others. Without
        a seed (evaluation) it depends on its content, so that it is the same every time.
        """
        raise NotImplementedError
