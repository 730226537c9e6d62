"""Whether a run's own scores tell rows of another kind than it was trained on: by energy, and by distance.

The energy of a row is minus the logarithm of the sum of the exponentials of its scores (Liu et al. 2020, equation 4);
its distance that of what the last layer reads of it, made as long as 1, from the tenth nearest training row (Sun et al.
2022). Of either, the AUROC is the chance that a row from outside has more of it than one from inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tunesmith.evaluate import IntervalDict, interval
from tunesmith.run import Run, general_text
from tunesmith.tasks.base import Columns, FloatArray
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.trust.nearest_rows import LastLayer, last_layer

MANUAL = general_text.MANUAL
"""The rows of another kind that every machine has."""
NEIGHBOUR = 10
MOST_ROWS = 2000
"""Training rows that distances are from, and rows that are judged, at most."""


def outside_report(run: Run, rows: JudgedRows, outside: str = MANUAL) -> dict[str, Any] | None:
    """Return the AUROC of both figures, with intervals; None for tasks without labels of single sequences.

    ``outside`` is a file of rows of another kind, or the prose of the manual that comes with Python.
    """
    if not rows.has_labels:
        return None
    others: Columns
    if outside == MANUAL:
        others = {name: list(general_text.read_passages(MANUAL)) for name in run.inputs}
    else:
        others = run.rows_to_predict(outside).columns()
    network, task, budget = run.network, rows.task, run.config.compute.micro_batch_tokens

    def seen(columns: Columns) -> LastLayer:
        return last_layer(network, task, network.encode(task, _without_truth(columns, task.truths)), budget)

    train, inside, beyond = map(seen, (run.labelled_columns(split="train")[0], rows.columns, others))
    return {
        "outside": outside,
        "rows": len(beyond.scores),
        "energy": _auroc(energy(inside), energy(beyond), rows),
        "distance": _auroc(distances(train, inside), distances(train, beyond), rows),
    }


def energy(layer: LastLayer) -> FloatArray:
    """Return [N]: the energy of every row."""
    found: FloatArray = -layer.scores.double().logsumexp(dim=1).numpy()
    return found


def distances(train: LastLayer, layer: LastLayer) -> FloatArray:
    """Return [N]: how far every row is from its tenth nearest training row."""
    known, asked = (functional.normalize(one.inputs.double(), dim=1) for one in (train, layer))
    nearest = torch.cdist(asked, known).topk(min(NEIGHBOUR, len(known)), largest=False).values[:, -1]
    found: FloatArray = nearest.numpy()
    return found


def _without_truth(columns: Columns, truths: Sequence[str]) -> Columns:
    """Return the first rows, up to ``MOST_ROWS``, without what is to be predicted."""
    return {name: list(values[:MOST_ROWS]) for name, values in columns.items() if name not in truths}


def auroc(inside_N: FloatArray, outside_M: FloatArray) -> float:
    """Return the chance that one from outside is larger than one from inside; ties count as half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside_N, outside_M]))[len(inside_N) :]
    number = len(outside_M)
    return float((ranks.sum() - number * (number + 1) / 2) / (number * len(inside_N)))


def _auroc(inside_N: FloatArray, outside_M: FloatArray, rows: JudgedRows) -> IntervalDict:
    random = np.random.default_rng(rows.seed)
    drawn = [
        auroc(random.choice(inside_N, len(inside_N)), random.choice(outside_M, len(outside_M)))
        for _ in range(rows.num_resamples)
    ]
    return interval(auroc(inside_N, outside_M), np.array(drawn), rows.confidence)
