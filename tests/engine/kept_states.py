"""Rows with the states that frozen layers make of them, as a run keeps these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import Batch, Collator
from tunesmith.engine.column_file import ColumnFile
from tunesmith.engine.prefix import Prefix

if TYPE_CHECKING:
    import torch


def keep_states(
    prefix: Prefix, data: Encoded, collate: Collator, run: Callable[[Batch], Any], token_budget: int, path: Path
) -> Encoded:
    stream = data.stream("")
    assert stream is not None
    file = ColumnFile(path, stream.offsets)
    prefix.save_states(data, collate, run, token_budget, file)
    file.close()
    return replace(data, states=Ragged(np.load(path, mmap_mode="r", allow_pickle=False), stream.offsets))


def keep_read_states(
    prefix: Prefix,
    data: Encoded,
    collate: Collator,
    read: Callable[[Batch], torch.Tensor],
    token_budget: int,
    path: Path,
) -> Encoded:
    file = ColumnFile(path, np.arange(len(data) + 1) if data.reads is None else data.reads.offsets)
    prefix.save_read_states(data, collate, read, token_budget, file)
    file.close()
    states = np.load(path, mmap_mode="r", allow_pickle=False)
    return replace(data, read_states=states if data.reads is None else Ragged(states, data.reads.offsets))
