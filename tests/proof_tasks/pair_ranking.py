"""Which of two texts is the better one: a pair-ranking loss over two sequences a row (Bradley and Terry 1952).

Shapes: N rows of a split, B rows of a micro-batch, U = 2 B sequences, R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.columns import places
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.losses import widen
from tunesmith.types import HeadSettings, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIDES = ("first", "second")


class PairRanking(Task):
    """Score two texts, so that the better one scores more."""

    name: Literal["pair_ranking"] = "pair_ranking"

    title: ClassVar[str] = "Pair ranking"
    roles: ClassVar[tuple[Role, ...]] = (
        *(Role(side, (side,), ("text", "category"), purpose=f"the {side} text") for side in SIDES),
        Role("label", ("better",), ("category",), purpose="which text is the better one: first or second"),
    )
    rival: ClassVar[Literal["classical", "untuned"]] = "untuned"
    higher_is_better: ClassVar[Mapping[str, bool]] = {"accuracy": True, "margin": True}

    def check(self, split: str, columns: Columns) -> list[Problem]:
        wrong = [row for row, label in enumerate(columns["label"]) if label not in SIDES]
        message = f"{len(wrong)} {split} rows name neither the first text nor the second one as the better."
        found = f"{message} The first: {columns['label'][wrong[0]]}." if wrong else ""
        return (
            [Problem("error", found, "Write first or second.", len(wrong), places(split, columns, wrong))]
            if wrong
            else []
        )

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        texts = list(chain.from_iterable(zip(*(columns[side] for side in SIDES), strict=True)))
        inputs, num_truncated = encode_texts(tokenizer, texts, None, max_length)
        targets = self.targets(columns) if "label" in columns else {}
        return Encoded(inputs, targets, num_truncated, rows=np.arange(0, len(texts) + 1, 2), keeps_rows=True)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        return {"label": np.array([SIDES.index(label) for label in columns["label"]])}

    def head(self) -> HeadSettings:
        return HeadSettings(
            "AutoModelForSequenceClassification", 1, {"id2label": {0: "worth"}, "label2id": {"worth": 0}}
        )

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        scores_B2 = torch.stack(scores_UK.squeeze(-1).split(units.per_row))
        return functional.cross_entropy(widen(scores_B2), targets["label"], reduction="sum")

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return float(len(units.per_row))

    @property
    def sums_over_units(self) -> bool:
        return False

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        return {"scores": scores_UK.detach().squeeze(-1).float()}

    def _chances_of_second(self, outputs: Outputs) -> FloatArray:
        """Return [N]: the probability that the second text is the better one."""
        scores_N2 = as_ragged(outputs["scores"]).values.reshape(-1, 2).astype(np.float64)
        return 1 / (1 + np.exp(scores_N2[:, 0] - scores_N2[:, 1]))

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        return [
            {
                "label": SIDES[share > 0.5],
                "score": max(share, 1 - share),
                "probabilities": {SIDES[0]: 1 - share, SIDES[1]: share},
            }
            for share in self._chances_of_second(outputs).tolist()
        ]

    def truth(self, targets: Targets) -> list[Any]:
        return [SIDES[label] for label in targets["label"]]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        wrong_N = np.abs(self._chances_of_second(outputs) - targets["label"])
        return np.where(wrong_N > 0.5, wrong_N, 0.0)

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        shares_RN = weights_RN / weights_RN.sum(axis=1, keepdims=True)
        right_N = 1 - np.abs(self._chances_of_second(outputs) - targets["label"])
        return {"accuracy": shares_RN @ (right_N > 0.5), "margin": shares_RN @ (2 * right_N - 1)}

    def outputs_from(self, predictions: FloatArray) -> dict[str, Any]:
        scores_N2 = np.log(np.clip(np.stack([1 - predictions, predictions], axis=1), 1e-12, 1.0))
        return {"scores": Ragged(scores_N2.reshape(-1), np.arange(0, scores_N2.size + 1, 2))}
