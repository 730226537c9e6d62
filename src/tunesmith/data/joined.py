"""Encoded rows of two sources as one split."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.data.pictures import Pictures
from tunesmith.data.pixels import Pixels


def joined(first: Encoded, second: Encoded) -> Encoded:
    """Return the rows of ``first`` and then those of ``second``, which has the same inputs and is in memory afterwards.

    Targets that ``second`` has not are zero there. What is said of rows (``left_out``, ``remarks``) is said of
    ``first`` alone; nothing that is computed of rows later is there yet.
    """
    assert first.inputs.keys() == second.inputs.keys(), "rows of one task and one tokenizer are joined"
    assert first.keeps_rows == second.keeps_rows
    reads = None
    if first.reads is not None and second.reads is not None:
        reads = _one_after_the_other(first.reads, second.reads)
    return replace(
        first,
        inputs={name: _one_after_the_other(one, second.inputs[name]) for name, one in first.inputs.items()},
        targets={
            name: _one_after_the_other(one, second.targets.get(name, _zeros(one, second)))
            for name, one in first.targets.items()
        },
        num_truncated=first.num_truncated + second.num_truncated,
        reads=reads,
        rows=_rows(first, second),
        beside={},
    )


def _one_after_the_other(first: Any, second: Any) -> Any:
    if isinstance(first, (Pixels, Pictures)):
        return first.followed_by(second)
    if isinstance(first, Ragged):
        values = np.concatenate([first.values, second.values])
        return Ragged(values, np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]]))
    return np.concatenate([first, second])


def _zeros(like: Array | Ragged, rows: Encoded) -> Array | Ragged:
    """Return a target of nothing but zeros for ``rows``: one entry for each unit read, or for each sample."""
    if isinstance(like, Ragged):
        assert rows.reads is not None
        return Ragged(np.zeros((len(rows.reads.values), *like.values.shape[1:]), like.values.dtype), rows.reads.offsets)
    return np.zeros((rows.num_samples, *like.shape[1:]), like.dtype)


def _rows(first: Encoded, second: Encoded) -> Any:
    """Return the first sequence of every row; None where each row is one sequence."""
    if first.rows is None and second.rows is None:
        return None
    borders = [np.arange(len(one) + 1) if one.rows is None else one.rows for one in (first, second)]
    return np.concatenate([borders[0], borders[0][-1] + borders[1][1:]])
