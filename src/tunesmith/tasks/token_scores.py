"""What tasks that learn texts token by token share: what is kept of scores, and the figures made of it.

Shapes: N rows, T tokens of all rows that are judged, U tokens read in a micro-batch, K tokens of the vocabulary,
R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from tunesmith import metrics
from tunesmith.data.encoded import Array, Ragged, Units, as_ragged
from tunesmith.metrics.answers import Reference
from tunesmith.tasks import losses
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task

ANSWER_METRICS = ("exact_match", "rouge_l", "chrf", "bleu")
STATISTICS = "answer_"
"""What the names of the outputs that judge answers begin with."""


class TokenByToken(Task):
    """A task that predicts every token of a text from what comes before it; ``encode`` alone makes its ``labels``."""

    reads: ClassVar[Literal["row", "token"]] = "token"

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Raise ``NotImplementedError``: what is to be predicted are tokens, which ``encode`` alone makes."""
        raise NotImplementedError(f"the targets of {self.title.lower()} come from the tokenizer: use encode().targets")

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of tokens to predict."""
        return float(targets["labels"].numel())

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep each token's ``loss``, float32 [U], and whether it was the most likely one: ``right``, uint8 [U]."""
        scores_UK, labels_U = losses.widen(scores_UK.detach()), targets["labels"].long()
        loss_U = functional.cross_entropy(scores_UK, labels_U, reduction="none")
        return {"loss": loss_U.float(), "right": (scores_UK.argmax(dim=-1) == labels_U).to(torch.uint8)}

    def truth(self, targets: Targets) -> list[Any]:
        """Return None for every row: token numbers tell a reader nothing. ``decode`` gives the ``reference``."""
        return [None] * len(as_ragged(targets["labels"]))

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the mean loss of each row's tokens; 0 for rows without any."""
        return np.nan_to_num(row_means(outputs["loss"]))


def answer_outputs(
    answers: Sequence[str | None], judged: Sequence[str | None], references: Sequence[Reference]
) -> dict[str, Array]:
    """Return ``answers`` and, where there are references, what ``answer_figures`` needs of what is ``judged``."""
    found: dict[str, Array] = {"answers": np.array([*answers, None], dtype=np.object_)[:-1]}
    has_reference = [isinstance(reference, str) or bool(reference) for reference in references]
    if any(answer is not None and has for answer, has in zip(judged, has_reference, strict=True)):
        statistics = metrics.answer_statistics(judged, references)
        found |= {f"{STATISTICS}{name}": value for name, value in statistics.items()}
    return found


def answered_like(outputs: Outputs, like: Outputs) -> dict[str, Any]:
    """Return outputs of which an answer counts only where ``like`` has a judged one, too."""
    name = f"{STATISTICS}given"
    return {**outputs, name: outputs[name] & like[name]} if name in outputs and name in like else dict(outputs)


def answer_figures(outputs: Outputs, weights_RN: FloatArray) -> dict[str, FloatArray]:
    """Return the metrics of written answers, [R] each; nothing where none was judged."""
    statistics = {
        name.removeprefix(STATISTICS): value for name, value in outputs.items() if name.startswith(STATISTICS)
    }
    if "given" not in statistics or not statistics["given"].any():
        return {}
    judged = metrics.answer_metrics(statistics, weights_RN)
    return {name: judged[name] for name in ANSWER_METRICS}


def _perplexities(outputs: Outputs) -> list[float | None]:
    """Return each row's perplexity; None for rows without tokens."""
    with np.errstate(over="ignore"):
        values: list[float] = np.exp(row_means(outputs["loss"])).tolist()
    return [value if np.isfinite(value) else None for value in values]


def decoded(outputs: Outputs) -> list[dict[str, Any]]:
    """Return for each row the ``answer`` written and the ``perplexity`` of its tokens, where there are any."""
    found: list[dict[str, Any]] = [{} for _ in range(len(next(iter(outputs.values()))))]
    if "answers" in outputs:
        for row, answer in zip(found, outputs["answers"], strict=True):
            row["answer"] = answer
    if "loss" in outputs:
        for row, value in zip(found, _perplexities(outputs), strict=True):
            row["perplexity"] = value
    return found


def row_sums(values: Any) -> FloatArray:
    """Return [N]: the sum over each row's tokens."""
    values = as_ragged(values)
    row_T = np.repeat(np.arange(len(values)), values.lengths)
    return np.bincount(row_T, weights=values.values, minlength=len(values)).astype(np.float64)


def row_means(values: Any) -> FloatArray:
    """Return [N]: the mean over each row's tokens; nan for rows without any."""
    lengths_N = as_ragged(values).lengths
    means: FloatArray = np.where(lengths_N > 0, row_sums(values) / np.maximum(lengths_N, 1), np.nan)
    return means
