"""Sequences laid out for the device: ``flat`` (no padding between them) or ``padded``.

In the flat layout a batch is ONE row of T real tokens, sequence after sequence, sorted by
length; everything but attention works on it as it is. ``Borders`` tells attention where
the sequences are. In the padded layout a batch is the usual [B, L] with a mask.

Libraries that compile a kernel per shape (oneDNN for bf16 on the CPU) pay for every new T
in time and memory. ``Shapes`` then rounds T up with a few filler tokens at the end, a
sequence of their own that nothing reads, and the blocks of attention likewise.

Both layouts yield scores in the same order, that of ``Batch.sequences``, so that targets,
losses and outputs do not depend on the layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith.data.encoded import DECODER, PARTNERS, SHARE_OF_OWN, Array, Encoded, Ragged, Units
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
    """One micro-batch on the device: S sequences."""

    sequences: IntArray
    """[S]: indices into the split, in the order of targets and scores: rows that belong together follow each other."""
    inputs: Mapping[str, torch.Tensor]
    """Flat: [1, T] each, with ``position_ids``. Padded: [S, L] each, with an ``attention_mask`` for every stream of
    tokens. What is no tokens is [S, ...] in either."""
    targets: Mapping[str, torch.Tensor]
    """One entry per row, or per token read; empty when the split has no targets."""
    units: Units
    first_tokens: torch.Tensor
    """[S]: where each sequence starts in the flat row."""
    last_tokens: torch.Tensor
    """[S]: where each sequence ends (inclusive)."""
    num_tokens: int
    """Real tokens of all streams; in the flat layout the first ones of the row."""
    borders: Borders | None
    """Set in the flat layout only."""
    read_tokens: torch.Tensor | None = None
    """[U]: which real tokens, counted over the whole batch, the head reads; None when it reads sequences."""
    states: torch.Tensor | None = None
    """Flat: [1, T, D]. Padded: [S, L, D]. What the frozen layers make of the tokens, where that was computed before."""
    read_states: torch.Tensor | None = None
    """[U, D]: what a frozen model makes of all that the head reads, where that was computed before. There are no
    ``inputs`` then."""
    noise_keys: torch.Tensor | None = None
    """[T] int32: what dropout's noise depends on; None for torch's generator, or for no dropout at all."""
    partners: torch.Tensor | None = None
    """Laid out as ``input_ids``: of each token the one that its vector is mixed with; None where none is."""
    share_of_own: torch.Tensor | None = None
    """[1, T, 1] in the flat layout, [S, 1, 1] in the padded one: how much of a mixed vector is the token's own."""
    laid_out: IntArray | None = None
    """[S]: the sequences as they follow each other in the flat row, where that is another order."""

    @property
    def read_mask(self) -> torch.Tensor:
        """[S, L] boolean: the real tokens of the padded stream that a head reads, the decoder's where there is one."""
        name = f"{DECODER}attention_mask"
        return self.inputs[name if name in self.inputs else "attention_mask"].bool()


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """What the noise of a step depends on."""

    seed: int
    names: IntArray | None = None
    """What identifies each sequence of the data; its index when not given."""


@dataclass(frozen=True, slots=True)
class Collator:
    """Turns sequences of a split into batches of one layout on one device."""

    layout: LayoutName
    pad_token_id: int = 0
    position_offset: int = 0
    """Position of the first token (RoBERTa counts from ``padding_idx + 1``)."""
    device: torch.device = HOST
    shapes: Shapes = EXACT
    """For the flat layout."""

    def __call__(self, data: Encoded, sequences: IntArray, noise: NoiseSource | None = None) -> Batch:
        """Lay out ``sequences`` of ``data`` on the device. ``noise`` is for training."""
        return to_device(self.on_host(data, sequences, noise), self.device)

    def on_host(self, data: Encoded, sequences: IntArray, noise: NoiseSource | None = None) -> Batch:
        """Lay out ``sequences`` of ``data`` in the host's memory, where what the loop must know of them costs no wait.

        Sequences that are samples of their own are sorted by length, the longest last. Those of rows that belong
        together stay in the order given, which holds whole rows; only the flat row is sorted.
        """
        if not data.keeps_rows:
            sequences = sequences[np.argsort(data.lengths_of(sequences), kind="stable")]
        lengths = _lengths_laid_out(data, sequences)
        places = _Places.of(lengths, is_sorted=self.layout == "flat")
        flat = self.layout == "flat"
        laid_out = sequences[places.order]
        batch = Batch(
            sequences=sequences,
            laid_out=laid_out if data.keeps_rows and flat else None,
            inputs={},
            targets=targets_of(data, sequences),
            units=units_of(data, sequences),
            first_tokens=torch.from_numpy(places.starts),
            last_tokens=torch.from_numpy(places.starts + lengths - 1),
            num_tokens=int(data.lengths_of(sequences).sum()),
            borders=None,
            read_tokens=None if data.reads is None else _tensor(_tokens_read(data.reads, sequences, places.starts)),
            noise_keys=self._noise_keys(noise, laid_out, lengths[places.order]) if noise is not None and flat else None,
        )
        if (found := data.read_states) is not None:
            read = found.take(sequences) if isinstance(found, Ragged) else np.asarray(found)[sequences]
            return replace(batch, read_states=states_to_tensor(read))
        ordered = lengths[places.order]
        inputs = self._flat_inputs(data, laid_out, ordered) if flat else self._padded_inputs(data, sequences)
        partners = inputs.pop(PARTNERS, None)
        return replace(
            batch,
            inputs=inputs,
            partners=partners,
            share_of_own=None if partners is None else self._share_of_own(data, laid_out, ordered),
            borders=find_borders(ordered.tolist(), HOST, self.shapes) if flat else None,
            states=None if data.states is None else self._states(data.states, laid_out, ordered),
        )

    def _share_of_own(self, data: Encoded, sequences: IntArray, lengths: IntArray) -> torch.Tensor:
        share_S = np.asarray(data.targets[SHARE_OF_OWN])[sequences]
        if self.layout == "padded":
            return _tensor(share_S)[:, None, None]
        filler = np.ones(num_filler_tokens(lengths, self.shapes), dtype=share_S.dtype)
        return _tensor(np.concatenate([np.repeat(share_S, lengths), filler]))[None, :, None]

    def _noise_keys(self, noise: NoiseSource, sequences: IntArray, lengths: IntArray) -> torch.Tensor | None:
        if self.device.type != "cpu":
            return None  # the accelerator's own generator is as fast
        keys = token_keys(noise.seed, sequences if noise.names is None else noise.names[sequences], lengths)
        return functional.pad(torch.from_numpy(keys), (0, num_filler_tokens(lengths, self.shapes)))

    def _flat_inputs(self, data: Encoded, sequences: IntArray, lengths: IntArray) -> dict[str, torch.Tensor]:
        num_filler = num_filler_tokens(lengths, self.shapes)
        inputs = {}
        for name, values in data.inputs.items():
            assert isinstance(values, Ragged), "only tokens can be laid out flat"
            assert not name.startswith(DECODER), "a decoder's stream cannot be laid out flat"
            filler = np.full(num_filler, self.pad_token_id if name in ("input_ids", PARTNERS) else 0)
            inputs[name] = _tensor(np.concatenate([values.take(sequences), filler]))[None].long()
        positions = [*(np.arange(length) for length in lengths), np.zeros(num_filler, dtype=np.int64)]
        inputs["position_ids"] = _tensor(np.concatenate(positions) + self.position_offset)[None]
        return inputs

    def _padded_inputs(self, data: Encoded, sequences: IntArray) -> dict[str, torch.Tensor]:
        inputs: dict[str, torch.Tensor] = {}
        masks: dict[str, npt.NDArray[np.bool_]] = {}
        for prefix in ("", DECODER):
            if (stream := data.stream(prefix)) is not None:
                lengths = stream.lengths_of(sequences)
                masks[prefix] = np.arange(lengths.max()) < lengths[:, None]
                inputs[f"{prefix}attention_mask"] = _tensor(masks[prefix].astype(np.int64))
        for name, values in data.inputs.items():
            if not isinstance(values, Ragged):
                inputs[name] = _tensor(values[sequences])
                continue
            mask = masks[DECODER if name.startswith(DECODER) else ""]
            filler = self.pad_token_id if name.endswith("input_ids") or name == PARTNERS else 0
            block = np.full(mask.shape, filler, dtype=np.int64)
            block[mask] = values.take(sequences)
            inputs[name] = _tensor(block)
        return inputs

    def _states(self, states: Ragged, sequences: IntArray, lengths: IntArray) -> torch.Tensor:
        real_TD = states_to_tensor(states.take(sequences))
        if self.layout == "flat":
            return functional.pad(real_TD, (0, 0, 0, num_filler_tokens(lengths, self.shapes)))[None]
        mask = torch.from_numpy(np.arange(lengths.max()) < lengths[:, None])
        block = real_TD.new_zeros((*mask.shape, real_TD.shape[1]))
        block[mask] = real_TD
        return block


@dataclass(frozen=True, slots=True)
class _Places:
    """Where sequences are laid out."""

    order: IntArray
    """[S]: the sequences as they follow each other in the layout."""
    starts: IntArray
    """[S]: the first token of each sequence, in the order given."""

    @classmethod
    def of(cls, lengths: IntArray, *, is_sorted: bool) -> Self:
        """Lay out sequences of these lengths, the longest last where the layout ``is_sorted``."""
        order = np.argsort(lengths, kind="stable") if is_sorted else np.arange(len(lengths))
        ordered = lengths[order]
        starts = np.empty_like(ordered)
        starts[order] = np.cumsum(ordered) - ordered
        return cls(order, starts)


def _lengths_laid_out(data: Encoded, sequences: IntArray) -> IntArray:
    """Return [S]: the tokens of the stream that a head reads; 1 where inputs are no tokens."""
    stream = data.stream(DECODER) or data.stream("")
    return np.ones(len(sequences), dtype=np.int64) if stream is None else stream.lengths_of(sequences)


def _rows_of(data: Encoded, sequences: IntArray) -> IntArray:
    """Return the rows of the data that whole rows' sequences are from, each once."""
    assert data.rows is not None
    found = np.searchsorted(data.rows, sequences, side="right") - 1
    return found[np.flatnonzero(np.diff(found, prepend=-1))]


def targets_of(data: Encoded, sequences: IntArray) -> dict[str, torch.Tensor]:
    """Return the targets of sequences as ``Batch`` holds them; of rows that belong together all are given."""

    def of(target: Array | Ragged) -> torch.Tensor:
        if isinstance(target, Ragged):
            return _tensor(target.take(sequences))
        return _tensor(target[_rows_of(data, sequences) if data.keeps_rows else sequences])

    return {name: of(target) for name, target in data.targets.items()}


def units_of(data: Encoded, sequences: IntArray) -> Units:
    """Return the borders of the units of sequences, in their order."""
    num_read = np.ones(len(sequences), dtype=np.int64) if data.reads is None else data.reads.lengths_of(sequences)
    borders = np.concatenate([[0], np.cumsum(num_read)])
    if not data.keeps_rows:
        return Units(borders, borders)
    rows = _rows_of(data, sequences)
    assert data.rows is not None
    counts = data.rows[rows + 1] - data.rows[rows]
    assert int(counts.sum()) == len(sequences), "a row that belongs together was taken apart"
    return Units(borders, borders[np.concatenate([[0], np.cumsum(counts)])])


def _tensor(array: npt.NDArray[np.generic]) -> torch.Tensor:
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


def _tokens_read(reads: Ragged, sequences: IntArray, first_tokens: IntArray) -> IntArray:
    """Return the positions read within ``sequences`` as positions within the whole batch."""
    return reads.take(sequences).astype(np.int64) + np.repeat(first_tokens, reads.lengths_of(sequences))


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
