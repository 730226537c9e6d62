"""The contract of a task: columns in, encoding, head, loss, decoding, metrics.

A task is a frozen config. What it learns from the training rows (its label names) is a
field of that config too: ``bind`` returns a copy with it filled in, and the resolved
``config.yaml`` of a run therefore holds the complete task.

Shapes: N rows of a split, B rows and U labelled units (rows, tokens or spans) of a
micro-batch, K scores per unit, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tunesmith.config.base import Config
from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.types import ColumnProfile, HeadSettings, Problem, Role

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

Columns = Mapping[str, Sequence[Any]]
"""Canonical columns of some rows: ``{"text": [...], "label": [...]}``."""

Outputs = Mapping[str, Any]
"""What ``collect`` kept of the model's scores for a split, in row order: an array with one entry per row or,
for tasks that read tokens, a ``Ragged`` with one entry per token read."""

Targets = Mapping[str, Any]
"""What a split's rows are judged by: an array with one entry per row, or a ``Ragged``, by name."""

FloatArray = npt.NDArray[np.float64]


class Task(Config):
    """What is learned. One file and one entry of ``TASKS`` each."""

    name: str

    title: ClassVar[str]
    """What it is called in reports: ``Text classification``."""
    reads: ClassVar[Literal["row", "token"]] = "row"
    """Where the head reads: one pooled vector a row, or the tokens that ``Encoded.reads`` names."""
    roles: ClassVar[tuple[Role, ...]]
    """The canonical columns."""
    truths: ClassVar[tuple[str, ...]] = ("label",)
    """The canonical columns that hold what is to be predicted."""
    higher_is_better: ClassVar[Mapping[str, bool]]
    """Every metric's name and direction; the first is the task's main metric."""
    rival: ClassVar[Literal["classical", "untuned"]] = "classical"
    """What the trained model is judged against: a classical model trained on the same rows (where there is one), or
    the model as it was before training."""
    most_epochs: ClassVar[int] = 20
    """Passes over the rows beyond which a model rather knows them by heart, however few they are."""
    not_encoded: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing of what ``encode`` gives, so that rows need not be tokenised anew when they do."""
    joins_lines: ClassVar[bool] = False
    """Whether plain text files are read as passages of several lines rather than as one row a line."""
    generates: ClassVar[bool] = False
    """Whether predictions are texts that the model writes: ``encode_prompts`` and ``judge_answers`` are there."""
    corrupts: ClassVar[bool] = False
    """Whether rows are changed at random before the model sees them (masked tokens): ``corrupt`` is there."""
    plain_cross_entropy: ClassVar[bool] = False
    """Whether ``loss_sum`` is no more than the cross-entropy of the scores and ``targets["labels"]``: head and loss may
    then be computed in one."""
    answer_metrics: ClassVar[frozenset[str]] = frozenset()
    """Those metrics that exist only where answers were generated."""

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Return the roles to fill from these columns (by name): ``roles``, unless data comes in several forms.

        ``overrides`` (role to column) are the user's own word.
        """
        del profiles, overrides
        return cls.roles

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        """Say how well columns (by role) suit this task: 0 (not at all) to 1, and why."""
        raise NotImplementedError

    def bind(self, columns: Columns) -> Self:
        """Return the task with what it learns from the training rows (label names) filled in.

        Fields that are already filled are kept, so binding a bound task changes nothing.
        """
        raise NotImplementedError

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Return what is wrong with a split's labels, given a bound task (unknown labels, nan)."""
        raise NotImplementedError

    def wanted_steps(self, longer: int = 1) -> int:
        """Return the optimizer steps that learning the task well takes, where there are rows for so many.

        ``longer`` is how many times as many a model takes that begins with nothing.
        """
        return longer * 1000

    @property
    def sums_over_units(self) -> bool:
        """Whether ``loss_sum`` of parts of the units adds up to that of all (not so for a chain over a sentence)."""
        return True

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        """Set what the task needs of the tokenizer (a chat template), for training and for every later use.

        Returns what is worth saying about it. Doing it twice changes nothing.
        """
        del tokenizer
        return []

    @property
    def shortening(self) -> str:
        """What becomes of rows that are too long, as it follows on "3 rows are longer than 512 tokens and"."""
        return "lose their end"

    def complete(self, columns: Columns) -> Columns:
        """Return the canonical columns of rows that may have been given as plain texts."""
        return columns

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise rows. Without the label columns (prediction) ``targets`` is empty."""
        raise NotImplementedError

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return what the loss and the metrics read of the label columns: ``Encoded.targets`` without tokenising.

        Raises ``InputError`` with the problems that ``check`` reports as errors.
        """
        raise NotImplementedError

    def corrupt(self, data: Encoded, rows: npt.NDArray[np.int64], seed: int | None) -> Encoded:
        """Return these rows of ``data``, in this order, as the model is to see them, with what it is to restore.

        What happens to a row depends on the seed and on the row alone, never on the others. Without
        a seed (evaluation) it depends on the row's content, so that it is the same every time.
        """
        raise NotImplementedError

    def head(self) -> HeadSettings:
        """Return what the bound task asks of the model."""
        raise NotImplementedError

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the scalar *sum* of the losses over the micro-batch's units, in float32 or wider."""
        raise NotImplementedError

    def count_units(self, targets: Mapping[str, torch.Tensor]) -> float:
        """Return what the step's loss is divided by: the number (or total weight) of labelled units."""
        raise NotImplementedError

    def collect(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return what evaluation keeps of a micro-batch's scores: tensors with one entry per row (or token read)."""
        raise NotImplementedError

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return one JSON-ready prediction per row: ``label`` (or ``value``), ``score``, ``probabilities``.

        ``columns`` are those of the same rows, for tasks whose answers point into the text.
        """
        raise NotImplementedError

    def spell(self, predictions: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Return what ``decode`` gave with token ids, where there are some, written out as text."""
        del tokenizer
        return predictions

    def encode_prompts(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise what is to be answered: inputs only, one row each, ready for the model to go on from."""
        raise NotImplementedError

    def stop_tokens(self, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
        """Return the ids that end an answer."""
        raise NotImplementedError

    def judge_answers(self, answers: Sequence[str | None], columns: Columns) -> dict[str, Array]:
        """Return what ``measure`` needs of generated answers, to be added to the outputs: arrays [N, ...].

        ``answers`` are in row order; None for rows that none was generated for. The entry
        ``answers`` holds the texts themselves.
        """
        raise NotImplementedError

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return a true or predicted label of a row as people read it among the mistakes."""
        del columns, row
        return answer

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return every metric, each as an array of R values: one per row of row-weights.

        A bootstrap replicate is a vector of row counts, so that one call scores them all;
        the point estimate is the replicate whose weights are all 1.
        """
        raise NotImplementedError

    def main_metric(self) -> str:
        """Return the metric that picks the best step: the first one, unless a task says otherwise."""
        return next(iter(self.higher_is_better))

    def measure_per_label(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return metrics of each label, [R, K] each, in the order of ``details()["per_label"]``, or nothing."""
        del outputs, targets, weights_RN
        return {}

    def truth(self, targets: Targets) -> list[Any]:
        """Return the true label (or value) of every row, JSON-ready, in the form ``decode`` predicts it."""
        raise NotImplementedError

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how wrong each row's prediction is; 0 when it is right, more when it is surer or further off."""
        raise NotImplementedError

    def outputs_from(self, predictions: FloatArray) -> dict[str, Array]:
        """Return the outputs of predictions made by other means than a model of ours (a baseline).

        ``predictions`` are probabilities [N, K], or values [N] in the user's units.
        """
        raise NotImplementedError

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return JSON-ready tables and curves for the report (confusion matrix, ROC, ...)."""
        raise NotImplementedError
