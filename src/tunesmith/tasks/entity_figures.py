"""What is made of tags: the entities that they mark, beside the true ones; metrics and the tables of a report.

Shapes: N rows, T tokens of all rows, C types, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tunesmith import metrics
from tunesmith.data.encoded import Ragged
from tunesmith.tasks.base import FloatArray
from tunesmith.tasks.tag_schemes import is_bio

IntArray = npt.NDArray[np.int64]

NO_ENTITY = "no entity"
"""Row and column of the confusion matrix for entities that only one side has."""
MAX_MATRIX = 200
"""With more types than this no confusion matrix is kept."""


def types_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the C types that are counted: of entities, or the tags themselves where they have no scheme."""
    return tuple(label[2:] for label in labels if label[:2] == "B-") if is_bio(labels) else tuple(labels)


@dataclass(frozen=True, slots=True)
class ComparedTags:
    """True and predicted tags of the same tokens, and the entities that they mark."""

    types: tuple[str, ...]
    has_scheme: bool
    """Whether tags mark entities; without a scheme every token is one."""
    truth: metrics.Entities
    predicted: metrics.Entities
    num_tokens: FloatArray
    """[N]: how many tags each row has."""
    num_right: FloatArray
    """[N]: how many of them are right."""

    @classmethod
    def of(cls, labels: Sequence[str], tags: Ragged, chosen_T: IntArray) -> Self:
        """Compare tags with those chosen in their place."""
        true_T = np.asarray(tags.values, dtype=np.int64)
        row_T = np.repeat(np.arange(len(tags)), tags.lengths)
        right_N = np.bincount(row_T, weights=(chosen_T == true_T).astype(np.float64), minlength=len(tags))
        truth, predicted = (_entities(labels, tags_T, tags.offsets) for tags_T in (true_T, chosen_T))
        tokens_N = tags.lengths.astype(np.float64)
        return cls(types_of(labels), is_bio(labels), truth, predicted, tokens_N, right_N.astype(np.float64))

    def measure(self, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return the metrics of entities, and the share of right tags as ``accuracy``."""
        return metrics.entity_metrics(
            self.truth, self.predicted, len(self.types), weights_RN, right_N=self.num_right, tokens_N=self.num_tokens
        )

    def measure_per_type(self, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return ``precision``, ``recall`` and ``f1`` of each type, [R, C] each."""
        num_rows = len(self.num_tokens)
        return metrics.entity_metrics_per_kind(self.truth, self.predicted, len(self.types), num_rows, weights_RN)

    def details(self) -> dict[str, Any]:
        """Return the types with their support, and which types were taken for which over the same tokens.

        ``counted`` says what that counts; ``unmatched`` names row and column of entities that only one side has.
        """
        support = np.bincount(self.truth.kinds, minlength=len(self.types)).tolist()
        found: dict[str, Any] = {
            "counted": "entities" if self.has_scheme else "tokens",
            "per_label": [{"label": kind, "support": count} for kind, count in zip(self.types, support, strict=True)],
        }
        if len(self.types) > MAX_MATRIX:
            return found
        matrix = self._confusion()
        if not self.has_scheme:
            return found | {"labels": list(self.types), "confusion_matrix": matrix[:-1, :-1].tolist()}
        names = {"labels": [*self.types, NO_ENTITY], "unmatched": NO_ENTITY}
        return found | names | {"confusion_matrix": matrix.tolist()}

    def _confusion(self) -> IntArray:
        """Return [C + 1, C + 1] counts, truth by prediction; the last row and column stand for no entity there."""
        num_types = len(self.types)
        first, second = metrics.match_entities(self.truth, self.predicted)
        matrix = np.zeros((num_types + 1, num_types + 1), dtype=np.int64)
        np.add.at(matrix, (self.truth.kinds[first], self.predicted.kinds[second]), 1)
        np.add.at(matrix[:, num_types], np.delete(self.truth.kinds, first), 1)
        np.add.at(matrix[num_types], np.delete(self.predicted.kinds, second), 1)
        return matrix


def _entities(labels: Sequence[str], tags_T: IntArray, offsets: IntArray) -> metrics.Entities:
    if not is_bio(labels):
        return metrics.find_entities(tags_T, np.ones(len(tags_T), dtype=np.bool_), offsets)
    index = {kind: c for c, kind in enumerate(types_of(labels))}
    kinds_K = np.array([index[label[2:]] if label[:2] in ("B-", "I-") else -1 for label in labels])
    opens_K = np.array([label.startswith("B-") for label in labels])
    return metrics.find_entities(kinds_K[tags_T], opens_K[tags_T], offsets)
