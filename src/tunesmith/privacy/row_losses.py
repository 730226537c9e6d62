"""The losses of rows, as somebody sees them who may ask the model about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged
from tunesmith.engine.predict import predict
from tunesmith.run.reference import before_training, refer
from tunesmith.tasks.objectives.row_losses import LOSS, RowLosses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunesmith.data.encoded import Encoded
    from tunesmith.run import Run
    from tunesmith.run.assembly import Network
    from tunesmith.tasks.base import Columns

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Losses:
    """What a model makes of N rows."""

    of_rows: FloatArray
    """Of each row; nan for one that nothing is read of."""
    units: Ragged | None
    """Of each token of each row, where it is a language model's."""


def encode(run: Run, columns: Columns) -> Encoded:
    """Return rows as the run's model reads them."""
    encoded = run.network.encode(run.task, columns)
    return refer(encoded, run.task, run.config, _weights(run))


def losses_of(run: Run, network: Network, encoded: Encoded) -> Losses:
    """Return what a model, that of the run or one that reads the same tokens, makes of encoded rows."""
    budget = run.config.compute.micro_batch_tokens
    found = predict(network.scorer, network.collate, RowLosses(run.task), encoded, budget).outputs[LOSS]
    if not isinstance(found, Ragged):
        return Losses(np.asarray(found, dtype=np.float64), None)
    lengths = found.lengths
    row_of_unit = np.repeat(np.arange(len(found)), lengths)
    sums = np.bincount(row_of_unit, weights=np.asarray(found.values, dtype=np.float64), minlength=len(found))
    means = np.where(lengths > 0, sums / np.maximum(lengths, 1), np.nan)
    return Losses(means, found if run.task.followed == "vocabulary" else None)


def before(run: Run) -> Network:
    """Return the run's model as it was before training; ``InputError`` where it is another one now."""
    return before_training(run.task, run.config, _weights(run))


def _weights(run: Run) -> str | None:
    recorded: Mapping[str, str] = run.directory.read_json("environment").get("model", {})
    return recorded.get("weights_sha256")
