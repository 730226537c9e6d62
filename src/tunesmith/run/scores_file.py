"""``scores.npz``: what a run's figures were computed from, row by row, so that they can be computed again.

Arrays by ``outputs/NAME``, ``targets/NAME`` and ``rival/NAME``; one whose rows have different numbers of values has
``NAME.offsets`` beside it, and one of texts is kept as JSON, in ``NAME.json``. Nothing of it is pickled.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.encoded import Array, Ragged
from tunesmith.types import InputError

OFFSETS, TEXTS = ".offsets", ".json"


@dataclass(frozen=True, slots=True)
class KeptScores:
    """What a model made of the judged rows, and what is true of them."""

    outputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    rival: Mapping[str, Any]
    """The outputs of what the model was judged against; empty without a rival."""


def pack_scores(kept: KeptScores) -> bytes:
    """Return the content of ``scores.npz``."""
    arrays: dict[str, Array] = {}
    groups = {"outputs": kept.outputs, "targets": kept.targets, "rival": kept.rival}
    for group, values in groups.items():
        for name, value in values.items():
            arrays |= _packed(f"{group}/{name}", value)
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)  # type: ignore[arg-type]
    return sink.getvalue()


def read_scores(path: Path) -> KeptScores:
    """Read what ``pack_scores`` made; ``InputError`` where the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        fix = "Train the run with evaluation.keep_scores: true."
        raise InputError(f"{path} is missing: the run has not kept what its figures come from.", fix) from None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    groups: dict[str, dict[str, Any]] = {"outputs": {}, "targets": {}, "rival": {}}
    for place, values in arrays.items():
        group, _, name = place.partition("/")
        if name.endswith(OFFSETS):
            continue
        if name.endswith(TEXTS):
            groups[group][name.removesuffix(TEXTS)] = np.array(json.loads(values.tobytes()), dtype=object)
        elif (offsets := arrays.get(place + OFFSETS)) is not None:
            groups[group][name] = Ragged(values, offsets)
        else:
            groups[group][name] = values
    return KeptScores(**groups)


def _packed(place: str, value: Any) -> dict[str, Array]:
    if isinstance(value, Ragged):
        return {place: np.asarray(value.values), place + OFFSETS: np.asarray(value.offsets)}
    values = np.asarray(value)
    if values.dtype != object:
        return {place: values}
    return {place + TEXTS: np.frombuffer(json.dumps(values.tolist()).encode(), dtype=np.uint8)}
