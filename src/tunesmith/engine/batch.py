"""Rows laid out for the device: ``flat`` (no padding between rows) or ``padded``.

In the flat layout a batch is ONE row of T real tokens, sequence after sequence, sorted by
length; everything but attention works on it as it is. ``Borders`` tells attention where
the sequences are. In the padded layout a batch is the usual [B, L] with a mask.

Libraries that compile a kernel per shape (oneDNN for bf16 on the CPU) pay for every new T
in time and memory. ``Shapes`` then rounds T up with a few filler tokens at the end, a
sequence of their own that nothing reads, and the blocks of attention likewise.

Both layouts list rows in the same order and yield scores in the same order, so that
targets, losses and outputs do not depend on the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.kernels.noise import token_keys

HOST = torch.device("cpu")

LayoutName = Literal["flat", "padded"]

IntArray = npt.NDArray[np.int64]

MAX_GROUP_WASTE = 0.25
"""Attention in a group works on at most this share of padding; more starts another group."""

MIN_GROUP_ROWS = 4
"""Below this many rows a group is not closed for waste: one more kernel call costs more."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What sizes are rounded up to, so that few distinct shapes occur."""

    tokens: int = 1
    """T becomes a multiple of this."""
    length: int = 1
    """The length L of an attention block becomes a multiple of this."""


EXACT = Shapes()
FEW = Shapes(tokens=64, length=8)
"""On average 32 filler tokens a micro-batch buy a quarter of the memory of a bf16 MiniLM run, at no loss of speed."""


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive sequences of a flat batch on which attention runs as one dense batch.

    Sequences of one length are a view of the flat row. Near-equal ones are gathered into
    a padded block and scattered back; their padding is masked.
    """

    start: int
    """First token of the group in the flat row."""
    num_rows: int
    length: int
    """L: the longest sequence of the group, or a little more."""
    lengths: tuple[int, ...]
    gather: torch.Tensor | None = None
    """[num_rows * length]: token (counted from ``start``) for each cell; any token for padding.
    None when every sequence has length L."""
    scatter: torch.Tensor | None = None
    """[number of tokens]: cell of each token."""
    is_padding: torch.Tensor | None = None
    """[num_rows, length] boolean."""

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Borders:
    """Where the sequences of a flat batch begin and end; built once per batch on the host."""

    groups: tuple[Group, ...]
    cumulative_lengths: torch.Tensor
    """[B + 1] int32, the form that variable-length kernels take."""
    max_length: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch on the device."""

    rows: IntArray
    """[B]: indices into the split, in batch order."""
    inputs: Mapping[str, torch.Tensor]
    """Flat: [1, T] each, with ``position_ids``. Padded: [B, L] each, with ``attention_mask``."""
    targets: Mapping[str, torch.Tensor]
    """One entry per row, or per token read in flat order; empty when the split has no targets."""
    first_tokens: torch.Tensor
    """[B]: where each sequence starts in the flat row."""
    last_tokens: torch.Tensor
    """[B]: where each sequence ends (inclusive)."""
    num_tokens: int
    """Real tokens; in the flat layout the first ones of the row."""
    borders: Borders | None
    """Set in the flat layout only."""
    read_tokens: torch.Tensor | None = None
    """[U]: which real tokens, counted over the whole batch, the head reads; None when it reads rows."""
    states: torch.Tensor | None = None
    """Flat: [1, T, D]. Padded: [B, L, D]. What the frozen layers make of the tokens, where that was computed before."""
    read_states: torch.Tensor | None = None
    """[U, D]: what a frozen model makes of all that the head reads, where that was computed before. There are no
    ``inputs`` then."""
    noise_keys: torch.Tensor | None = None
    """[T] int32: what dropout's noise depends on; None for torch's generator, or for no dropout at all."""


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """What the noise of a step depends on."""

    seed: int
    names: IntArray | None = None
    """What identifies each row of the data; its index when not given."""


@dataclass(frozen=True, slots=True)
class Collator:
    """Turns rows of a split into batches of one layout on one device."""

    layout: LayoutName
    pad_token_id: int = 0
    position_offset: int = 0
    """Position of the first token (RoBERTa counts from ``padding_idx + 1``)."""
    device: torch.device = HOST
    shapes: Shapes = EXACT
    """For the flat layout."""

    def __call__(self, data: Encoded, rows: IntArray, noise: NoiseSource | None = None) -> Batch:
        """Lay out ``rows`` of ``data`` on the device; sorted by length, longest last. ``noise`` is for training."""
        return to_device(self.on_host(data, rows, noise), self.device)

    def on_host(self, data: Encoded, rows: IntArray, noise: NoiseSource | None = None) -> Batch:
        """Lay out ``rows`` of ``data`` in the host's memory, where what the loop must know of them costs no wait."""
        lengths = data.lengths[rows]
        order = np.argsort(lengths, kind="stable")
        rows, lengths = rows[order], lengths[order]
        ends = np.cumsum(lengths)
        flat = self.layout == "flat"
        noise_keys = self._noise_keys(noise, rows, lengths) if noise is not None and flat else None
        if data.read_states is not None:
            return self._batch_of_read_states(data, rows, lengths, noise_keys)
        inputs = self._flat_inputs(data, rows, lengths) if flat else self._padded_inputs(data, rows, lengths)
        return Batch(
            rows=rows,
            inputs=inputs,
            targets={name: self._target(target, rows) for name, target in data.targets.items()},
            first_tokens=torch.from_numpy(ends - lengths),
            last_tokens=torch.from_numpy(ends - 1),
            num_tokens=int(ends[-1]),
            borders=find_borders(lengths.tolist(), HOST, self.shapes) if flat else None,
            states=None if data.states is None else self._states(data.states, rows, lengths),
            read_tokens=None if data.reads is None else self._tensor(_tokens_read(data.reads, rows, ends - lengths)),
            noise_keys=noise_keys,
        )

    def _batch_of_read_states(
        self, data: Encoded, rows: IntArray, lengths: IntArray, noise_keys: torch.Tensor | None
    ) -> Batch:
        found, ends = data.read_states, np.cumsum(lengths)
        read = found.take(rows) if isinstance(found, Ragged) else np.asarray(found)[rows]
        return Batch(
            rows=rows,
            inputs={},
            targets={name: self._target(target, rows) for name, target in data.targets.items()},
            first_tokens=torch.from_numpy(ends - lengths),
            last_tokens=torch.from_numpy(ends - 1),
            num_tokens=int(ends[-1]),
            borders=None,
            read_tokens=None if data.reads is None else self._tensor(_tokens_read(data.reads, rows, ends - lengths)),
            noise_keys=noise_keys,
            read_states=states_to_tensor(read),
        )

    def _noise_keys(self, noise: NoiseSource, rows: IntArray, lengths: IntArray) -> torch.Tensor | None:
        if self.device.type != "cpu":
            return None  # the accelerator's own generator is as fast
        keys = token_keys(noise.seed, rows if noise.names is None else noise.names[rows], lengths)
        return functional.pad(torch.from_numpy(keys), (0, num_filler_tokens(lengths, self.shapes)))

    def _flat_inputs(self, data: Encoded, rows: IntArray, lengths: IntArray) -> dict[str, torch.Tensor]:
        num_filler = num_filler_tokens(lengths, self.shapes)
        inputs = {}
        for name, ragged in data.inputs.items():
            filler = np.full(num_filler, self.pad_token_id if name == "input_ids" else 0)
            inputs[name] = self._tensor(np.concatenate([ragged.take(rows), filler]))[None].long()
        positions = [*(np.arange(length) for length in lengths), np.zeros(num_filler, dtype=np.int64)]
        inputs["position_ids"] = self._tensor(np.concatenate(positions) + self.position_offset)[None]
        return inputs

    def _padded_inputs(self, data: Encoded, rows: IntArray, lengths: IntArray) -> dict[str, torch.Tensor]:
        mask = np.arange(lengths.max()) < lengths[:, None]
        inputs = {"attention_mask": self._tensor(mask.astype(np.int64))}
        for name, ragged in data.inputs.items():
            block = np.full(mask.shape, self.pad_token_id if name == "input_ids" else 0, dtype=np.int64)
            block[mask] = ragged.take(rows)
            inputs[name] = self._tensor(block)
        return inputs

    def _states(self, states: Ragged, rows: IntArray, lengths: IntArray) -> torch.Tensor:
        real_TD = states_to_tensor(states.take(rows))
        if self.layout == "flat":
            return functional.pad(real_TD, (0, 0, 0, num_filler_tokens(lengths, self.shapes)))[None]
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        block = real_TD.new_zeros((*mask.shape, real_TD.shape[1]))
        block[mask] = real_TD
        return block

    def _target(self, target: npt.NDArray[np.generic] | Ragged, rows: IntArray) -> torch.Tensor:
        return self._tensor(target.take(rows) if isinstance(target, Ragged) else target[rows])

    def _tensor(self, array: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))


def states_to_numpy(states_TD: torch.Tensor) -> npt.NDArray[Any]:
    """Return hidden states as an array: bf16, which numpy has not, as its bits."""
    states_TD = states_TD.cpu().contiguous()
    array: npt.NDArray[Any] = (states_TD.view(torch.uint16) if states_TD.dtype == torch.bfloat16 else states_TD).numpy()
    return array


def states_to_tensor(states_TD: npt.NDArray[Any]) -> torch.Tensor:
    """Return what ``states_to_numpy`` was given."""
    tensor = torch.from_numpy(np.ascontiguousarray(states_TD))
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def _tokens_read(reads: Ragged, rows: IntArray, first_tokens: IntArray) -> IntArray:
    """Return the positions read within ``rows`` as positions within the whole batch."""
    return reads.take(rows).astype(np.int64) + np.repeat(first_tokens, reads.lengths[rows])


def num_filler_tokens(lengths: Sequence[int] | IntArray, shapes: Shapes) -> int:
    """Return how many filler tokens follow sequences of ``lengths``."""
    return -int(sum(lengths)) % shapes.tokens


def find_borders(lengths: Sequence[int], device: torch.device, shapes: Shapes = EXACT) -> Borders:
    """Group ascending sequence ``lengths`` for attention: few groups, little padding. Filler is a group of its own."""
    groups: list[Group] = []
    first, start = 0, 0
    while first < len(lengths):
        last = _group_end(lengths, first)
        group_lengths = tuple(lengths[first:last])
        groups.append(_group(start, group_lengths, device, shapes))
        start += sum(group_lengths)
        first = last
    if filler := num_filler_tokens(lengths, shapes):
        groups.append(_group(start, (filler,), device, shapes))
        lengths = [*lengths, filler]
    cumulative = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=device)
    return Borders(tuple(groups), cumulative, max(lengths))


def _group_end(lengths: Sequence[int], first: int) -> int:
    """Return the end of the group that starts at ``first``: the longest that wastes little."""
    total, end = 0, first
    while end < len(lengths):
        total += lengths[end]
        num_rows = end - first + 1
        waste = 1 - total / (num_rows * lengths[end])
        if waste > MAX_GROUP_WASTE and num_rows > MIN_GROUP_ROWS:
            break
        end += 1
    return end


def _group(start: int, lengths: tuple[int, ...], device: torch.device, shapes: Shapes) -> Group:
    length = -(-lengths[-1] // shapes.length) * shapes.length
    if lengths[0] == length:
        return Group(start, len(lengths), length, lengths)
    is_real = np.arange(length) < np.array(lengths)[:, None]
    gather = np.zeros(is_real.shape, dtype=np.int64)
    gather[is_real] = np.arange(sum(lengths))
    return Group(
        start,
        len(lengths),
        length,
        lengths,
        gather=torch.from_numpy(gather.reshape(-1)).to(device),
        scatter=torch.from_numpy(np.flatnonzero(is_real)).to(device),
        is_padding=torch.from_numpy(~is_real).to(device),
    )
