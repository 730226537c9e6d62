"""Hard negatives that the model itself finds before it is trained: what it takes for near, though it is not.

A candidate that lies nearer to the anchor than its positive, or nearly as near, may well be an answer that nobody
marked (Qu et al. 2021, section 4.2): only those are taken whose cosine is below the positive's by a margin (the guard
of NV-Retriever, Moreira et al. 2024, section 3.2, as a difference).

Shapes: N rows, S sequences, C candidates, D numbers a vector.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.tasks.embedding_encoding import TEXT, IntArray

MAX_SCORES = 8_000_000
"""Scores of anchors and candidates that are held at once."""


def choose(vectors_SD: npt.NDArray[Any], data: Encoded, number: int, margin: float) -> dict[str, Array]:
    """Return the negatives of each row among the positives of the others, nearest first.

    ``vectors_SD`` have length 1. Returns ``chosen``, int64 [N, number]: their sequences, -1 where there are no more;
    and ``too_near``, int64 [N]: how many others lie nearer than the margin allows.
    """
    assert data.rows is not None
    text_S, first_N = as_ragged(data.targets[TEXT]).values, data.rows[:-1]
    anchor_N, own_N = text_S[first_N], text_S[first_N + 1]
    _, once = np.unique(own_N, return_index=True)
    candidates_C = first_N[np.sort(once)] + 1  # each text once
    texts_C = text_S[candidates_C]
    right_of: dict[int, list[int]] = {}
    for anchor, own in zip(anchor_N.tolist(), own_N.tolist(), strict=True):
        right_of.setdefault(anchor, [anchor]).append(own)
    chosen = np.full((len(first_N), number), -1, dtype=np.int64)
    too_near = np.zeros(len(first_N), dtype=np.int64)
    step = max(1, MAX_SCORES // len(candidates_C))
    for start in range(0, len(first_N), step):
        rows = np.arange(start, min(start + step, len(first_N)))
        scores = (vectors_SD[first_N[rows]] @ vectors_SD[candidates_C].T).astype(np.float64)
        limits = (vectors_SD[first_N[rows]] * vectors_SD[first_N[rows] + 1]).sum(axis=1) - margin
        for place, row in enumerate(rows.tolist()):
            known = np.isin(texts_C, [*right_of[int(anchor_N[row])], *text_S[data.rows[row] : data.rows[row + 1]]])
            is_near = scores[place] > limits[place]
            too_near[row] = int((is_near & ~known).sum())
            allowed = np.flatnonzero(~known & ~is_near)
            best = allowed[np.argsort(-scores[place, allowed], kind="stable")[:number]]
            chosen[row, : len(best)] = candidates_C[best]
    return {"chosen": chosen, "too_near": too_near}


def with_negatives(data: Encoded, chosen_NK: IntArray) -> Encoded:
    """Return the rows with the ``chosen`` sequences after their own; -1 stands for none."""
    assert data.rows is not None
    parts = [
        np.concatenate([np.arange(data.rows[row], data.rows[row + 1]), more[more >= 0]])
        for row, more in enumerate(np.asarray(chosen_NK))
    ]
    order = np.concatenate(parts)
    inputs = {name: as_ragged(values).select(order) for name, values in data.inputs.items()}
    targets: dict[str, Array | Ragged] = {
        name: values.select(order) if isinstance(values, Ragged) else values for name, values in data.targets.items()
    }
    return replace(data, inputs=inputs, targets=targets, rows=np.cumsum([0, *map(len, parts)]))
