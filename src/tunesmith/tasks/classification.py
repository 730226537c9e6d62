"""Text classification: one label a row, or any number of labels a row.

Shapes: N rows of a split, B rows of a micro-batch, K labels, R bootstrap replicates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator, model_validator

from tunesmith import metrics
from tunesmith.data.encoded import Array, Encoded, Ragged, Units
from tunesmith.tasks import losses
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.class_figures import (
    BoolArray,
    best_thresholds,
    decide,
    log_odds,
    log_probabilities,
    report_details,
    sigmoid,
    softmax,
)
from tunesmith.tasks.class_weights import bound_weights, check_weights, weights_tensor
from tunesmith.tasks.classification_card import card_of
from tunesmith.tasks.columns import TEXT, TEXT_PAIR, numbers_are_labels
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.label_checks import lopsided_labels, quoted, rows_without_one_label, unknown_labels
from tunesmith.tasks.labels import LabelCells, form_of_cells, is_list, label_name, sorted_labels
from tunesmith.tasks.objective import Following
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LABEL_NAMES = """
    label labels class category target sentiment intent topic tag tags y label_text label_name polarity rating
    stars gold_label 标签 类别 分类 情感
"""


STEPS_PER_LABEL = 25
"""Steps that learning a label takes (measured on 77 labels: docs/defaults.md)."""


class Classification(Task):
    """Assign each text (or pair of texts) one of several labels, or any number of them."""

    name: Literal["classification"] = "classification"

    title: ClassVar[str] = "Text classification"

    labels: tuple[str, ...] | None = None
    """Label names in the order of the model's outputs; found in the training rows when not given."""
    multi_label: bool | None = None
    """Whether a row may have any number of labels; seen from the training rows when not given
    (lists, or texts such as `sports|politics`)."""
    delimiter: str | None = None
    """What separates several labels in one cell; seen from the training rows when not given."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target spread evenly over all labels."""
    class_weights: Literal["balanced"] | dict[str, float] | tuple[float, ...] | None = None
    """Weight of each label in the loss: a mapping or a list in the order of `labels` (labels left
    out of the mapping weigh 1), or `balanced`: inversely to the label's frequency in training.
    With several labels a row, the weight applies to rows that have the label."""
    focal_gamma: float = Field(default=0.0, ge=0.0, le=10.0)
    """Exponent of the focal loss, which plays down rows that are already right; 0 switches it off."""
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """With several labels a row: the probability above which a label is predicted."""
    thresholds: dict[str, Annotated[float, Field(gt=0.0, lt=1.0)]] | None = None
    """The same for single labels; those left out have `threshold`."""
    tune_thresholds: bool = False
    """With several labels a row: choose the threshold of each label by which its F1 is best on the validation rows,
    unless `thresholds` has it."""

    roles: ClassVar[tuple[Role, ...]] = (
        TEXT,
        TEXT_PAIR,
        Role(
            "label",
            tuple(_LABEL_NAMES.split()),
            ("category", "boolean", "list", "integer", "float"),
            purpose="what is to be predicted: a label, or a list of labels",
        ),
    )
    inputs: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        {"label_smoothing", "class_weights", "focal_gamma", "threshold", "thresholds", "tune_thresholds"}
    )
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "accuracy": True,
        "macro_f1": True,
        "micro_f1": True,
        "macro_precision": True,
        "micro_precision": True,
        "macro_recall": True,
        "micro_recall": True,
        "mcc": True,
        "balanced_accuracy": True,
        "roc_auc": True,
        "pr_auc": True,
        "log_loss": False,
        "brier": False,
        "expected_calibration_error": False,
        "hamming_loss": False,
    }

    def wanted_steps(self, longer: int = 1) -> int:
        """Return more for many labels, each of which few of a step's rows have; a long training meets all of them."""
        return max(longer * 1000, STEPS_PER_LABEL * len(self.labels or ()))

    # ---- configuration -------------------------------------------------------------------------

    @field_validator("labels", mode="before")
    @classmethod
    def _name_labels(cls, labels: Any) -> Any:
        """YAML reads labels such as 1 and true as numbers and booleans."""
        return tuple(label_name(label) for label in labels) if is_list(labels) else labels

    @field_validator("labels")
    @classmethod
    def _distinct_labels(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is not None:
            twice = [name for name, count in Counter(labels).items() if count > 1]
            if not labels or "" in labels or twice:
                raise ValueError(f"expected distinct names that are not empty; received {list(labels)}")
        return labels

    @field_validator("class_weights", mode="before")
    @classmethod
    def _name_weights(cls, weights: Any) -> Any:
        if isinstance(weights, Mapping):
            return {label_name(label): weight for label, weight in weights.items()}
        return weights

    @field_validator("class_weights")
    @classmethod
    def _usable_weights(cls, weights: Any) -> Any:
        if isinstance(weights, (dict, tuple)):
            check_weights(weights.values() if isinstance(weights, dict) else weights)
        return weights

    @model_validator(mode="after")
    def _one_loss(self) -> Self:
        if self.focal_gamma and self.label_smoothing:
            raise ValueError("focal_gamma and label_smoothing cannot be used together; set one of them to 0")
        return self

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        label = profiles["label"]
        seen = f"column '{label.name}' holds"
        if label.kind == "list":
            return 0.95, f"{seen} lists of labels"
        if label.kind in ("category", "boolean"):
            return 0.9, f"{seen} {label.num_distinct} distinct labels"
        if label.kind not in ("integer", "float"):
            return 0.0, f"{seen} {label.kind} values, not labels"
        numbers = f"{label.num_distinct} distinct numbers in {label.num_rows} rows"
        if numbers_are_labels(label):
            return 0.8, f"{seen} {numbers}, whole and few enough to be labels"
        return 0.2, f"{seen} {numbers}, too many or too finely divided to be labels"

    # ---- labels --------------------------------------------------------------------------------

    def bind(self, columns: Columns) -> Self:
        """Fill in the labels, whether and how rows hold several, and the weight of each label.

        Raises ``InputError`` when there are no labels, or the weights do not fit them.
        """
        cells = LabelCells.of(columns["label"])
        multi_label, delimiter = form_of_cells(cells, self.labels, self.multi_label, self.delimiter)
        counts = cells.name_counts(delimiter, self.labels)
        labels = self.labels
        if labels is None:
            labels = sorted_labels(counts)
        if not labels:
            raise InputError("The training rows hold no labels.", "Check data.columns.label.")
        if unknown := [name for name in self.thresholds or () if name not in labels]:
            raise InputError(
                f"task.thresholds names labels that there are not: {quoted(unknown)}.", f"Labels: {quoted(labels)}."
            )
        weights = bound_weights(self.class_weights, labels, counts, num_rows=len(cells.codes) if multi_label else None)
        return self.changed(labels=labels, multi_label=multi_label, delimiter=delimiter, class_weights=weights)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows without a (single) label, labels unseen in training, and labels nothing can be learned of."""
        cells = LabelCells.of(columns["label"])
        names_D = cells.split(self.delimiter, self._labels)
        problems = [] if self.multi_label else rows_without_one_label(split, columns, cells, names_D)
        problems += unknown_labels(split, columns, cells, names_D, self._labels)
        if split == "train":
            counts = cells.name_counts(self.delimiter, self._labels)
            problems += lopsided_labels(counts, len(cells.codes), self._labels, multi_label=bool(self.multi_label))
        return problems

    @property
    def _labels(self) -> tuple[str, ...]:
        assert self.labels is not None, "bind the task first"
        return self.labels

    # ---- rows to numbers -----------------------------------------------------------------------

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        inputs, num_truncated = encode_texts(tokenizer, columns["text"], columns.get("text_pair"), max_length)
        return Encoded(inputs, self.targets(columns) if "label" in columns else {}, num_truncated)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``label``: int64 [N] of label indices, or float32 [N, K] of zeros and ones."""
        index = {name: k for k, name in enumerate(self._labels)}
        cells = LabelCells.of(columns["label"])
        names_D = cells.split(self.delimiter, self._labels)
        usable = all(name in index for names in names_D for name in names)
        if not usable or (not self.multi_label and any(len(names) != 1 for names in names_D)):
            raise InputError(problem for problem in self.check("given", columns) if problem.severity == "error")
        if not self.multi_label:
            label_D = np.array([index[names[0]] for names in names_D], dtype=np.int64)
            return {"label": label_D[cells.codes]}
        label_DK = np.zeros((len(names_D), len(self._labels)), dtype=np.float32)
        for row, names in enumerate(names_D):
            label_DK[row, [index[name] for name in names]] = 1.0
        return {"label": label_DK[cells.codes]}

    def head(self) -> HeadSettings:
        kind = "multi_label_classification" if self.multi_label else "single_label_classification"
        return HeadSettings(
            "AutoModelForSequenceClassification",
            len(self._labels),
            {
                "id2label": dict(enumerate(self._labels)),
                "label2id": {name: k for k, name in enumerate(self._labels)},
                "problem_type": kind,
            },
        )

    # ---- loss ----------------------------------------------------------------------------------

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the summed cross-entropy (or focal loss); divided by ``count_units`` it is torch's mean."""
        scores_UK = losses.widen(scores_UK)
        weights_K = self._weights(scores_UK)
        label = targets["label"]
        if self.multi_label:
            if self.focal_gamma:
                return losses.binary_focal_sum(scores_UK, label, weights_K, self.focal_gamma)
            return losses.binary_cross_entropy_sum(scores_UK, label, weights_K, self.label_smoothing)
        if self.focal_gamma:
            return losses.focal_sum(scores_UK, label, weights_K, self.focal_gamma)
        return losses.cross_entropy_sum(scores_UK, label, weights_K, self.label_smoothing)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of rows, their total class weight when weighted, or rows x labels for multi-label."""
        label, weights = targets["label"], self._weights(torch.empty(0, dtype=torch.float64))
        if self.multi_label or weights is None:
            return float(label.numel())
        return float(weights[label.cpu().long()].sum())

    def _weights(self, like: torch.Tensor) -> torch.Tensor | None:
        return weights_tensor(self.class_weights, self._labels, like)

    # ---- scores to answers and numbers ---------------------------------------------------------

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``scores``: the logits, float32 [N, K]."""
        return {"scores": scores_UK.detach().float()}

    @property
    def answer_names(self) -> tuple[str, ...]:
        return self._labels

    def answers(self, outputs: Outputs) -> FloatArray:
        """Return the probabilities of the labels, [N, K]."""
        return self.probabilities(outputs)

    def outputs_from(self, predictions: FloatArray) -> dict[str, Array]:
        return {"scores": self.scores_for(predictions)}

    @property
    def followed(self) -> Following:
        return "labels" if self.multi_label else "classes"

    def classes(self, targets: Mapping[str, Array | Ragged]) -> npt.NDArray[np.int64] | None:
        return None if self.multi_label else np.asarray(targets["label"], dtype=np.int64)

    def scores_for(self, answers: Array | Ragged) -> Array:
        """Return the logarithms of the probabilities, or of the odds of independent labels."""
        return log_odds(answers) if self.multi_label else log_probabilities(answers)

    def probabilities(self, outputs: Outputs) -> FloatArray:
        """Return [N, K]: softmax of the scores, or the sigmoid of each for multi-label."""
        return sigmoid(outputs["scores"]) if self.multi_label else softmax(outputs["scores"])

    @property
    def _threshold(self) -> float | FloatArray | None:
        """The threshold, or one for each label, where labels are independent; None where they exclude each other."""
        if not self.multi_label:
            return None
        own = self.thresholds
        return np.array([own.get(name, self.threshold) for name in self._labels]) if own else self.threshold

    @property
    def tuned(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"thresholds"} if self.multi_label and self.tune_thresholds else ())

    def tune(self, outputs: Outputs, targets: Targets) -> Self:
        """Choose the threshold of each label by which its F1 is best on validation rows, unless there are some."""
        if not self.tuned or self.thresholds is not None:
            return self
        chosen = best_thresholds(_positive(targets), self.probabilities(outputs), self.threshold)
        return self.changed(thresholds=dict(zip(self._labels, chosen, strict=True)))

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``label``, ``score`` and ``probabilities`` of every row.

        Multi-label: ``label`` lists the labels above the threshold, and ``score`` is the
        probability of the least certain of the row's K decisions.
        """
        probabilities_NK = self.probabilities(outputs)
        chosen_NK, score_N = decide(probabilities_NK, self._threshold)
        label_N: list[Any]
        if self.multi_label:
            label_N = [[self._labels[k] for k in np.flatnonzero(chosen)] for chosen in chosen_NK]
        else:
            label_N = [self._labels[k] for k in chosen_NK.argmax(axis=1).tolist()]
        return [
            {"label": label, "score": score, "probabilities": dict(zip(self._labels, probabilities, strict=True))}
            for label, score, probabilities in zip(label_N, score_N.tolist(), probabilities_NK.tolist(), strict=True)
        ]

    def truth(self, targets: Targets) -> list[Any]:
        if self.multi_label:
            return [[self._labels[k] for k in np.flatnonzero(row)] for row in targets["label"]]
        return [self._labels[k] for k in targets["label"].astype(np.int64)]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the probability given to what is wrong (of the surest wrong decision); 0 for right rows."""
        probabilities_NK = self.probabilities(outputs)
        chosen_NK, score_N = decide(probabilities_NK, self._threshold)
        if self.multi_label:
            sure_NK = np.where(chosen_NK, probabilities_NK, 1.0 - probabilities_NK)
            return cast("FloatArray", np.where(chosen_NK != _positive(targets), sure_NK, 0.0).max(axis=1))
        right_N = probabilities_NK.argmax(axis=1) == targets["label"]
        return np.where(right_N, 0.0, score_N)

    def main_metric(self) -> str:
        return "micro_f1" if self.multi_label else "accuracy"

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return the metrics of ``tunesmith.metrics``: single-label ones, or multi-label ones."""
        probabilities_NK = self.probabilities(outputs)
        threshold = self._threshold
        if threshold is not None:
            return metrics.multi_label_metrics(_positive(targets), probabilities_NK, threshold, weights_RN)
        return metrics.single_label_metrics(targets["label"].astype(np.int64), probabilities_NK, weights_RN)

    def measure_per_label(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return ``precision``, ``recall`` and ``f1`` of each label, [R, K] each."""
        probabilities_NK = self.probabilities(outputs)
        threshold = self._threshold
        if threshold is not None:
            return metrics.multi_label_per_class(_positive(targets), probabilities_NK > threshold, weights_RN)
        truth_N, predicted_N = targets["label"].astype(np.int64), probabilities_NK.argmax(axis=1)
        return metrics.single_label_per_class(truth_N, predicted_N, len(self._labels), weights_RN)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return the labels, the support of each, curves, and the confusion matrix of single labels."""
        if self.multi_label:
            positive_NK = _positive(targets)
        else:
            positive_NK = np.arange(len(self._labels)) == targets["label"].astype(np.int64)[:, None]
        return report_details(self._labels, positive_NK, self.probabilities(outputs), self._threshold)

    # ---- said of the model -----------------------------------------------------------------------

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.labels or ()

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del tokenizer
        threshold = self.threshold if self.multi_label else None
        return card_of(self.label_names, inputs, threshold, self.thresholds or {})


def _positive(targets: Targets) -> BoolArray:
    return np.asarray(targets["label"], dtype=np.float32) > 0.5
