"""The rows that a run is trained on, shown in the prompts of the model as it was: what few-shot training must beat.

Brown et al. 2020. Examples stand before every judged row as exchanges of the same conversation, as many as there is
room for beside the row itself, so that no row is shortened for their sake and all are judged by the same tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Encoded, as_ragged
from tunesmith.engine.order import epoch_order
from tunesmith.run.session import Composed
from tunesmith.tasks.base import Columns
from tunesmith.tasks.writer import EXAMPLES

BETWEEN = 8
"""Tokens that a template may write between two exchanges, beyond those of each by itself."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Judged rows with examples before them."""

    columns: Columns
    encoded: Encoded
    mean: float
    """Examples that a row has before it, in the mean."""


def shows_examples(composed: Composed) -> bool:
    """Say whether few training rows were drawn that prompts can show."""
    writer = composed.data.task.writer
    if composed.config.data.few_shot is None or writer is None:
        return False
    return writer.exchanges(composed.data.columns("train")) is not None


def with_examples(composed: Composed, split: str) -> Shown | None:
    """Return the rows of a split with the training rows as examples before them.

    None where the template writes a row otherwise when something stands before it, so that figures would not be of the
    same tokens.
    """
    data, network, writer = composed.data, composed.network, composed.data.task.writer
    assert writer is not None
    exchanges = writer.exchanges(data.columns("train"))
    assert exchanges is not None
    alone = composed.encoded(split)
    sizes = _longest(composed.encoded("train")) + BETWEEN
    order = [row for row in epoch_order(len(exchanges), composed.config.train.seed, 0) if exchanges[row] and sizes[row]]
    places = np.cumsum([sizes[row] for row in order])
    shown: list[list[Any]] = []
    total = 0
    for length in _longest(alone):
        number = int(np.searchsorted(places, network.max_length - length, side="right"))
        shown.append([message for row in order[:number] for message in exchanges[row]])
        total += number
    columns = {**data.columns(split), EXAMPLES: shown}
    encoded = network.encode(data.task, columns)
    before, after = as_ragged(alone.targets["labels"]), as_ragged(encoded.targets["labels"])
    if not (np.array_equal(before.offsets, after.offsets) and np.array_equal(before.values, after.values)):
        return None
    return Shown(columns, encoded, total / max(len(shown), 1))


def _longest(encoded: Encoded) -> npt.NDArray[np.int64]:
    """Return [N]: the tokens of each row of the data, of its longest sequence; 0 for one without any."""
    lengths = encoded.lengths
    if encoded.rows is None:
        return lengths
    borders = zip(encoded.rows[:-1], encoded.rows[1:], strict=True)
    return np.array([lengths[first:last].max(initial=0) for first, last in borders], dtype=np.int64)
