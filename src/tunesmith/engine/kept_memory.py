"""What layers keep of tokens for the backward pass: counted, in a few rows that are run forward as in training."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.data.pictures import Pictures
from tunesmith.data.pixels import Pixels
from tunesmith.engine.batch import Batch, Collator, NoiseSource
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.sharding.parts import local_part
from tunesmith.files.hashing import hash_bytes
from tunesmith.models.anatomy import Anatomy

PROBE_LENGTH = {"cpu": 512}
"""Longest row of a probe, by kind of device."""
PROBE_LENGTH_ELSEWHERE = 2048

PROBE_TOKENS = 256
"""Tokens of a probe, or a few more: it has two rows at least."""

PROBE_SHORTEST = 0.65
"""Rows of a probe are from this share of its longest up to it: real micro-batches hold near-equal rows, too."""


@dataclass(frozen=True, slots=True)
class KeptPerToken:
    """What is kept for the backward pass, in bytes per token laid out, for rows of one length."""

    length: int
    in_layers: float
    """By all layers together."""
    outside: float
    """By the embeddings and what follows the last layer."""
    widest: float
    """By the widest single tensor."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A few rows that are run forward to see what is kept."""

    scorer: Scorer
    collate: Collator
    data: Encoded
    length: int

    @property
    def key(self) -> list[Any]:
        """All that what is kept follows from beside the model: the probe's rows themselves."""
        row = int(self.data.lengths.argmax())
        found = [(name, *_content(values, row)) for name, values in sorted(self.data.inputs.items())]
        states = [] if self.data.states is None else _content(self.data.states, row)
        return [self.length, found, states]

    def measure(self) -> KeptPerToken:
        """Run them and count."""
        return measure_kept(self.scorer, self.collate, self.data, self.length)


def _content(values: Array | Ragged | Pixels | Pictures, row: int) -> list[Any]:
    """Return the kind of a row's values and a hash of them; of images, their sizes alone, which is what counts."""
    if isinstance(values, Pixels):
        return ["pixels", row]
    if isinstance(values, Pictures):
        return ["pictures", values.shapes_of(row).tolist()]
    found = np.ascontiguousarray(values[row])
    return [str(found.dtype), list(found.shape), hash_bytes(found.tobytes())]


def measure_kept(scorer: Scorer, collate: Collator, data: Encoded, length: int) -> KeptPerToken:
    """Run rows of about ``length`` tokens forward, as in training, and count what is kept for the backward pass."""
    probe = _probe_rows(data, length)
    batch = collate(probe, np.arange(len(probe)), NoiseSource(0))
    num_tokens = _num_laid_out(batch, probe)
    was_training = scorer.model.training
    devices = [batch.first_tokens.device] if batch.first_tokens.is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices):
            scorer.set_training()
            counted = _count_kept(scorer, batch)
    finally:
        scorer.model.train(was_training)
    in_layers, outside, widest = (number / num_tokens for number in counted)
    return KeptPerToken(length, in_layers, outside, widest)


def _num_laid_out(batch: Batch, probe: Encoded) -> int:
    """Return the tokens of a batch with its padding, and the places of its images."""
    tokens = 0 if probe.stream("") is None else next(iter(batch.inputs.values())).numel()
    return max(tokens + len(probe) * probe.num_image_positions, 1)


def _count_kept(scorer: Scorer, batch: Batch) -> tuple[int, int, int]:
    """Return the bytes kept in layers, outside of them, and by the widest tensor."""
    model = scorer.model
    own = _places((*model.parameters(), *model.buffers(), *batch.inputs.values()))
    seen: dict[int, StorageWeakRef] = {}  # nothing is held: a probe must not take what a step cannot have
    sums, widest, depth = [0, 0], 0, 0
    passing: list[set[int]] = []

    def keep(tensor: torch.Tensor) -> None:
        """Count a tensor; nothing is kept in its place, for a node that held its own output would never be freed."""
        nonlocal widest
        # A function that called itself would hold itself, and all that was kept with it.
        parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
        for storage in (part.untyped_storage() for part in parts):
            place = storage.data_ptr()
            # Addresses are given out again.
            is_known = place in own or (place in seen and not seen[place].expired())  # type: ignore[no-untyped-call]
            if not is_known:
                seen[place] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                sums[0 if depth else 1] += storage.nbytes()
                widest = max(widest, storage.nbytes())

    def enter(layer: nn.Module, *_: Any) -> None:
        nonlocal depth
        depth += 1
        passing.append(_places(layer.parameters()) - own)  # of weights in parts: until now there was no whole layer
        own.update(passing[-1])

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1
        own.difference_update(passing.pop())

    with ExitStack() as stack:
        stack.enter_context(scorer.surrounding(batch))
        for layer in Anatomy.of(model).layer_modules:
            stack.callback(layer.register_forward_pre_hook(enter).remove)
            stack.callback(layer.register_forward_hook(leave).remove)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            scorer(batch) if scorer.reads == "row" else scorer.base(batch)
    return sums[0], sums[1], widest


def _places(tensors: Iterable[torch.Tensor]) -> set[int]:
    return {local_part(tensor).untyped_storage().data_ptr() for tensor in tensors}


def _probe_rows(data: Encoded, length: int) -> Encoded:
    """Return rows of ``length`` tokens and a little fewer: pieces of the longest row.

    Rows that show images are given whole, since the tokens of an image stand for all of it.
    """
    row = int(data.lengths.argmax())
    if any(isinstance(one, Pictures) for one in data.inputs.values()):
        num_rows = max(PROBE_TOKENS // max(int(data.lengths[row]), 1), 2)
        chosen = replace(data, targets={}, reads=None, rows=None).select(np.full(num_rows, row))
        return replace(chosen, states=None, read_states=None)
    shortest = max(round(length * PROBE_SHORTEST), 1)
    num_rows = max(2 * PROBE_TOKENS // (length + shortest), 2)
    lengths = np.linspace(shortest, length, num_rows).round().astype(np.int64)

    def pieces(values: Array | Ragged | Pixels | Pictures) -> Array | Ragged | Pixels | Pictures:
        if isinstance(values, (Pixels, Pictures)):
            return values.select(np.full(num_rows, row))
        if not isinstance(values, Ragged):
            return np.repeat(values[row : row + 1], num_rows, axis=0)
        whole = values[row]
        shares = np.maximum(lengths * len(whole) // longest, 1)  # each stream has its own length
        return Ragged(np.concatenate([whole[:one] for one in shares]), np.concatenate([[0], np.cumsum(shares)]))

    longest = int(data.lengths[row])
    states = None if data.states is None else as_ragged(pieces(data.states))
    return Encoded({name: pieces(values) for name, values in data.inputs.items()}, {}, states=states)
