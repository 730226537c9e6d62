"""The third contract of a task: from what was kept of scores to answers and figures. Used by evaluation and report.

Shapes: N rows of a split, K labels, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Ragged
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.rows import Columns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Outputs = Mapping[str, Any]
"""What ``Objective.collect`` kept of the model's scores for a split, in row order: an array with one entry per row,
where each row is one unit, else a ``Ragged`` with the units of each row."""

Targets = Mapping[str, Any]
"""What a split's rows are judged by: an array with one entry per row, or a ``Ragged``, by name."""

FloatArray = npt.NDArray[np.float64]


class Judge:
    """How good predictions are."""

    title: ClassVar[str]
    """What it is called in reports: ``Text classification``."""
    higher_is_better: ClassVar[Mapping[str, bool]]
    """Every metric's name and direction; the first is the task's main metric."""
    answer_metrics: ClassVar[frozenset[str]] = frozenset()
    """Those metrics that exist only where answers were generated."""
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "classical"
    """What the trained model is judged against: a classical model trained on the same rows (where there is one), the
    model as it was before training, or a simple rule (``answer_by_rule``)."""

    tuned: ClassVar[frozenset[str]] = frozenset()
    """Fields that ``tune`` fills in."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """What the bound task's answers are chosen from: labels, types of entities; empty for numbers and texts."""
        return ()

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        """Return what a model card says of the bound task, with the code that predicts.

        ``inputs`` are those that the run was trained with; ``tokenizer`` is the run's, where the code depends on it.
        """
        del inputs, tokenizer
        return TaskCard(labels=self.label_names)

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return one JSON-ready prediction per row: ``label`` (or ``value``), ``score``, ``probabilities``.

        ``columns`` are those of the same rows, for tasks whose answers point into the text.
        """
        raise NotImplementedError

    def spell(self, predictions: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Return what ``decode`` gave with token ids, where there are some, written out as text."""
        return predictions

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return a true or predicted label of a row as people read it among the mistakes."""
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

    def headline(self, measured: Collection[str]) -> str:
        """Return the metric, of those ``measured``, that says best how good the trained model is."""
        del measured
        return self.main_metric()

    def measure_per_label(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return metrics of each label, [R, K] each, in the order of ``details()["per_label"]``, or nothing."""
        return {}

    def truth(self, targets: Targets) -> list[Any]:
        """Return the true label (or value) of every row, JSON-ready, in the form ``decode`` predicts it."""
        raise NotImplementedError

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how wrong each row's prediction is; 0 when it is right, more when it is surer or further off."""
        raise NotImplementedError

    @property
    def answer_names(self) -> tuple[str, ...]:
        """What the K columns of ``answers`` stand for: labels or tags, in the model's order; empty for a number."""
        return ()

    def answers(self, outputs: Outputs) -> Array | Ragged | None:
        """Return what predictions of several models can be averaged as, in float64; None where there is no such thing.

        Probabilities [N, K], or of each row's words (``Ragged`` with values [T, K]), or numbers [N] in the user's
        units. Models of different architectures and tokenizers answer alike.
        """
        return None

    @property
    def has_answers(self) -> bool:
        """Whether ``answers`` of several models can be averaged."""
        return type(self).answers is not Judge.answers

    def vectors(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        """Return float32 [N, D]: the vectors of single texts, of tasks that make some (``Rows.vectors_of``)."""
        raise NotImplementedError

    def outputs_from(self, predictions: Any) -> dict[str, Any]:
        """Return the outputs of predictions made by other means than one model of ours (a baseline, several models).

        ``predictions`` have the form of ``answers``.
        """
        raise NotImplementedError

    def tune(self, outputs: Outputs, targets: Targets) -> Self:
        """Return the task with what the trained model's answers to validation rows decide (a threshold) filled in.

        Fields that are filled already are kept.
        """
        return self

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Return what a rule that learns nothing but counts answers to ``rows``: its name, and outputs as of a model.

        Asked for where ``rival`` is "rule"; ``train`` are the training rows.
        """
        raise NotImplementedError

    def footnotes(self, outputs: Outputs, columns: Columns) -> dict[str, Any]:
        """Return what is to be known of how the figures are computed, JSON-ready, beside the ``details``."""
        return {}

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return JSON-ready tables and curves for the report (confusion matrix, ROC, ...)."""
        return {}
