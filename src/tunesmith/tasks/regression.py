"""Regression: predict a number from a text or a pair of texts.

Shapes: N rows of a split, B rows of a micro-batch, R bootstrap replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from torch.nn import functional

from tunesmith import metrics
from tunesmith.data.cells import number_of
from tunesmith.data.encoded import Array, Encoded, Ragged, Units
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard, pipeline_of, scores_of
from tunesmith.tasks.columns import TEXT, TEXT_PAIR, numbers_are_labels, places
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objective import Following
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

MAX_SCATTER = 2000
NUM_RESIDUAL_BINS = 40
LARGEST = 1e38
"""Largest target that is learned as a multiple of the standard deviation; single precision ends at 3.4e38."""
LARGEST_SQUARED = 1e18
"""Largest target that is learned as it is: squares of it are added."""
SAME = 0.99
"""Share of the different targets that single precision must tell apart."""

_LABEL_NAMES = """
    label score target value rating similarity similarity_score relevance price y stars grade gold
    分数 评分 得分
"""


class Regression(Task):
    """Predict a number for each text (or pair of texts).

    With ``standardize`` the model learns ``(target - mean) / std``. The saved model then
    outputs that too: outside tunesmith, multiply its output by ``std`` and add ``mean``
    (both are in the run's ``config.yaml``).
    """

    name: Literal["regression"] = "regression"

    title: ClassVar[str] = "Text regression"

    loss: Literal["mse", "huber", "mae"] = "mse"
    """Squared error, absolute error, or Huber's mixture: squared up to `huber_delta`, then linear."""
    huber_delta: float = Field(default=1.0, gt=0.0)
    """Error at which the Huber loss turns linear, in the units the model learns."""
    standardize: bool = False
    """Whether the model learns targets shifted and scaled to mean 0 and standard deviation 1."""
    mean: float | None = None
    """Subtracted from targets when `standardize` is on; learned from the training rows when not given."""
    std: float | None = Field(default=None, gt=0.0)
    """Targets are divided by this when `standardize` is on; learned from the training rows when not given."""

    roles: ClassVar[tuple[Role, ...]] = (
        TEXT,
        TEXT_PAIR,
        Role(
            "label",
            tuple(_LABEL_NAMES.split()),
            ("float", "integer"),
            purpose="the number to be predicted",
        ),
    )
    inputs: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "rmse": False,
        "mae": False,
        "r2": True,
        "pearson": True,
        "spearman": True,
    }

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        label = profiles["label"]
        if label.kind not in ("float", "integer"):
            return 0.0, f"column '{label.name}' holds {label.kind} values, not numbers"
        kind = "fractions" if label.kind == "float" else "whole numbers"
        seen = f"column '{label.name}' holds {label.num_distinct} distinct {kind} in {label.num_rows} rows"
        if numbers_are_labels(label):
            return 0.4, f"{seen}, more likely labels than amounts"
        return 0.8, f"{seen}: amounts rather than labels"

    def bind(self, columns: Columns) -> Self:
        """Fill in the mean and standard deviation of the training targets, when they are asked for."""
        if not self.standardize:
            return self
        found = (value for value in map(_number, columns["label"]) if value is not None and abs(value) <= self._largest)
        values = np.array(list(found), dtype=np.float64)
        mean = self.mean if self.mean is not None else float(values.mean()) if len(values) else 0.0
        spread = float(values.std()) if len(values) else 0.0
        return self.changed(mean=mean, std=self.std if self.std is not None else spread or 1.0)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report targets that are not finite numbers, and training targets that never vary."""
        values = [_number(cell) for cell in columns["label"]]
        bad = [i for i, value in enumerate(values) if value is None]
        if bad:
            example = columns["label"][bad[0]]
            are = "row has" if len(bad) == 1 else "rows have"
            message = f"{len(bad)} {split} {are} a label that is not a finite number, such as {example!r}."
            fix = "Correct or remove the rows; for labels that are names use task: classification."
            return [Problem("error", message, fix, count=len(bad), rows=places(split, columns, bad))]
        large = [i for i, value in enumerate(values) if value is not None and abs(value) > self._largest]
        if large:
            have = "row has" if len(large) == 1 else "rows have"
            message = (
                f"{len(large)} {split} {have} a label too large to be computed with, such as "
                f"{columns['label'][large[0]]!r}: the largest is {self._largest:.2g}."
            )
            fix = "Correct the rows, or give the labels in a larger unit (thousands, millions)"
            fix += "." if self.standardize else ", or set --task.standardize true."
            return [Problem("error", message, fix, count=len(large), rows=places(split, columns, large))]
        if split == "train" and values and len(set(values)) == 1:
            message = f"Every training row has the same target, {values[0]}: there is nothing to learn."
            return [Problem("error", message, "Check data.columns.label.", count=len(values))]
        return _check_digits(values) if split == "train" else []

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        inputs, num_truncated = encode_texts(tokenizer, columns["text"], columns.get("text_pair"), max_length)
        return Encoded(inputs, self.targets(columns) if "label" in columns else {}, num_truncated)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``label``: float32 [N], in the user's units."""
        values = [_number(cell) for cell in columns["label"]]
        if any(value is None or abs(value) > self._largest for value in values):
            raise InputError(self.check("given", columns))
        return {"label": np.array(values, dtype=np.float32)}

    def head(self) -> HeadSettings:
        config = {"problem_type": "regression", "id2label": {0: "value"}, "label2id": {"value": 0}}
        return HeadSettings("AutoModelForSequenceClassification", 1, config)

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        scores_U = widen(scores_UK).squeeze(-1)
        target_U = (targets["label"].to(scores_U.dtype) - self._shift) / self._scale
        if self.loss == "mae":
            return functional.l1_loss(scores_U, target_U, reduction="sum")
        if self.loss == "huber":
            return functional.huber_loss(scores_U, target_U, reduction="sum", delta=self.huber_delta)
        return functional.mse_loss(scores_U, target_U, reduction="sum")

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return float(targets["label"].numel())

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``value``: the prediction in the user's units, float32 [N]."""
        return {"value": (widen(scores_UK.detach()).squeeze(-1) * self._scale + self._shift).float()}

    def answers(self, outputs: Outputs) -> FloatArray:
        """Return the predicted values, [N]."""
        return np.asarray(outputs["value"], dtype=np.float64)

    def outputs_from(self, predictions: FloatArray) -> dict[str, Array]:
        return {"value": predictions.astype(np.float32)}

    @property
    def followed(self) -> Following:
        return "value"

    def scores_for(self, answers: Array | Ragged) -> Array:
        """Return the values in the units that the model learns, [N, 1]."""
        values_N = np.asarray(answers, dtype=np.float64)
        return ((values_N - self._shift) / self._scale).astype(np.float32)[:, None]

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        return [{"value": value} for value in outputs["value"].astype(np.float64).tolist()]

    def truth(self, targets: Targets) -> list[Any]:
        values: list[Any] = targets["label"].astype(np.float64).tolist()
        return values

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the absolute error, in the user's units."""
        return np.abs(_residuals(outputs, targets))

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        truth_N, predicted_N = targets["label"].astype(np.float64), outputs["value"].astype(np.float64)
        return metrics.regression_metrics(truth_N, predicted_N, weights_RN)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return ``scatter``, a sample of [truth, prediction], and ``residuals``, a histogram of their difference."""
        truth_N, predicted_N = targets["label"].astype(np.float64), outputs["value"].astype(np.float64)
        rows = np.unique(np.linspace(0, len(truth_N) - 1, min(len(truth_N), MAX_SCATTER)).round().astype(np.int64))
        counts, edges = np.histogram(_residuals(outputs, targets), bins=NUM_RESIDUAL_BINS)
        return {
            "scatter": np.stack([truth_N[rows], predicted_N[rows]], axis=1).tolist(),
            "residuals": {"edges": edges.tolist(), "counts": counts.tolist()},
        }

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del tokenizer
        tag, note = "text-classification", ""
        if self.standardize and self.mean is not None and self.std is not None:
            note = f"The model learned standardised values: multiply its output by {self.std} and add {self.mean}."
        return TaskCard(
            purpose="predicts a number from a text",
            pipeline_tag=tag,
            code=(*scores_of(inputs), "print(scores[0].item())"),
            pipeline=pipeline_of(tag, inputs, ', function_to_apply="none"'),
            note=note,
            pipeline_note=note,
        )

    @property
    def _largest(self) -> float:
        """The largest target: as it is, its square must exist in single precision; as a multiple of std, itself."""
        return LARGEST if self.standardize else LARGEST_SQUARED

    @property
    def _shift(self) -> float:
        assert not self.standardize or self.mean is not None, "bind the task first"
        return self.mean or 0.0 if self.standardize else 0.0

    @property
    def _scale(self) -> float:
        assert not self.standardize or self.std is not None, "bind the task first"
        return self.std or 1.0 if self.standardize else 1.0


def _check_digits(values: Sequence[float | None]) -> list[Problem]:
    """Warn where targets that differ become equal in single precision: times in seconds, years with days."""
    exact = np.unique(np.array([value for value in values if value is not None], dtype=np.float64))
    num_kept = len(np.unique(exact.astype(np.float32)))
    if num_kept >= SAME * len(exact):
        return []
    message = (
        f"The training labels have {len(exact):,} different values, of which single precision (seven digits) tells "
        f"only {num_kept:,} apart: they lie close together and far from 0 ({exact[0]:.15g} to {exact[-1]:.15g})."
    )
    return [Problem("warning", message, "Subtract a constant from the labels, so that what differs comes first.")]


def _residuals(outputs: Outputs, targets: Targets) -> FloatArray:
    residuals: FloatArray = outputs["value"].astype(np.float64) - targets["label"].astype(np.float64)
    return residuals


def _number(cell: Any) -> float | None:
    """Return the finite number in a cell, or None."""
    if isinstance(cell, (bool, np.bool_)) or (isinstance(cell, Sequence) and not isinstance(cell, str)):
        return None
    try:
        number = number_of(cell) if isinstance(cell, str) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and math.isfinite(number) else None
