"""How much memory a step will take.

What the layers keep for the backward pass is not guessed from their kind: a few tokens are run through
the model itself, as it will train (method, number format, layout, kernels, dropout), and every tensor
that autograd keeps is counted once. The rest is arithmetic: weights, fp32 masters, gradients, the
optimizer's state, the scores of a language model.

A step's peak is the largest of four moments: the end of a forward pass, when everything is kept and the
head's scores are there; the differentiation of the topmost layer; the end of a backward pass, when all
gradients are there; the update, when the masters have theirs.

    scores    = prior + kept(T) + scores of the head(U) + gradients of the head
    layer     = prior + kept(T) + workspace of a layer(T) + gradients of the head
    backward  = prior + gradients of the weights
    update    = gradients of the masters
    peak      = weights + masters + optimizer's state + max(scores, layer, backward, update)

where ``prior`` are gradients of earlier micro-batches of the same step. With activation checkpointing
``kept`` is one input a layer, and the workspace holds what a single layer keeps.

Shapes: T tokens of a micro-batch, U tokens that the head reads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.data.pictures import Pictures
from tunesmith.data.pixels import Pixels
from tunesmith.engine.batch import Batch, Collator, IntArray, LayoutName, NoiseSource
from tunesmith.engine.blocks.install import SparseTable
from tunesmith.engine.loop import Training
from tunesmith.engine.losses import max_scores
from tunesmith.engine.optimizer_trial import state_bytes
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import has_stand_ins
from tunesmith.files.hashing import hash_bytes
from tunesmith.kernels.cross_entropy import MIN_CLASSES
from tunesmith.kernels.library import serves
from tunesmith.models.anatomy import Anatomy

PROBE_LENGTH = {"cpu": 512}
"""Longest row of a probe, by kind of device."""
PROBE_LENGTH_ELSEWHERE = 2048

PROBE_TOKENS = 256
"""Tokens of a probe, or a few more: it has two rows at least."""

PROBE_SHORTEST = 0.65
"""Rows of a probe are from this share of its longest up to it: real micro-batches hold near-equal rows, too."""

WORKSPACE = 2.5
"""Gradients of the widest kept tensor that exist at once while a layer is differentiated (measured)."""

RECOMPUTED_WORKSPACE = 2.0
"""The same for a layer whose activations were computed again (measured)."""

SCORE_COPIES_BYTES = 12
"""Per score of the head at the peak of the loss: its logarithm and two gradients, in float32 (measured). Native code
turns the scores themselves into their gradient instead."""

MOST_LENGTHS = 4096
"""Lengths of rows that stand for those of all rows."""

PASSING = 16
"""Hidden states that a layer takes while it computes, where it keeps nothing (frozen; measured)."""

INPUT_BYTES = 64
"""Per token: ids, positions, borders."""


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
class Needs:
    """Everything that decides a step's peak, in bytes."""

    weights: int
    """Parameters and buffers of the model."""
    masters: int
    """fp32 masters, where they are not the weights themselves."""
    optimizer: int
    """The optimizer's state after its first step."""
    gradients: int
    """Of all trained weights, in their own number format; of word embeddings, only few rows have one."""
    master_gradients: int
    """The same in fp32; 0 where the weights are their own masters."""
    steps_from_gradients: bool
    """Whether the optimizer takes gradients as they come, without a copy in fp32."""
    num_layers: int
    hidden: int
    """Per token: one hidden state."""
    kept: tuple[KeptPerToken, ...]
    """For two lengths of rows, ascending."""
    num_outputs: int
    """Scores per token read; 0 where the head reads rows."""
    score_bytes: int
    """Per score, at the peak of the loss."""
    max_scores: int
    """Computed at once."""
    read_share: float
    """U / T."""
    head_gradients: int
    """Of the head's trained weights, in their own number format."""
    head_sums: int
    """The same in float32: how they are added up while the loss is computed in parts."""
    lengths: npt.NDArray[np.float64]
    """Tokens of rows, the longest first: all of them, or so many that they stand for all."""
    step_tokens: float
    """Tokens of a large step, as laid out."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths[0])

    @property
    def resident(self) -> int:
        """What is there between steps."""
        return self.weights + self.masters + self.optimizer

    def peak(self, micro_batch_tokens: int, *, checkpointing: bool) -> int:
        """Return the bytes in use at the peak of a step."""
        num_tokens = max(min(micro_batch_tokens, self.step_tokens), self.longest)
        accumulates = self.step_tokens > micro_batch_tokens
        per_layer, outside, widest = self._kept_per_token(num_tokens)
        kept = INPUT_BYTES + outside + self.num_layers * (self.hidden if checkpointing else per_layer)
        workspace = per_layer + RECOMPUTED_WORKSPACE * widest if checkpointing else WORKSPACE * widest
        prior = self._earlier_gradients(micro_batch_tokens)
        scores = prior + num_tokens * kept + self._head(num_tokens)
        layer = prior + num_tokens * (kept + max(workspace, PASSING * self.hidden)) + self.head_gradients
        backward = prior + (self.gradients if self.master_gradients or not accumulates else 0)
        update = self.gradients if self.steps_from_gradients and not accumulates else self.master_gradients
        return self.resident + int(max(scores, layer, backward, update))

    def scoring_peak(self, num_tokens: int) -> int:
        """Return the bytes in use while micro-batches of so many tokens are scored between steps."""
        scores = min(self.read_share * num_tokens * self.num_outputs, self.max_scores) * self.score_bytes
        return self.resident + int(num_tokens * (INPUT_BYTES + PASSING * self.hidden) + scores)

    def _earlier_gradients(self, micro_batch_tokens: int) -> int:
        """Return what gradients of a step's earlier micro-batches take: one's as they came, of several summed in fp32.

        Micro-batches are not filled to the last token, so that half a one more than needed is reckoned with.
        """
        if self.step_tokens <= micro_batch_tokens:
            return 0
        summed = self.master_gradients or self.gradients
        return self.gradients if self.step_tokens <= 1.5 * micro_batch_tokens else summed

    def _kept_per_token(self, num_tokens: float) -> tuple[float, float, float]:
        """Return what a layer keeps of a token, what is kept outside of the layers, and the widest tensor.

        Where attention keeps a score for every pair of tokens, that grows with the length of the rows. The
        micro-batch that keeps most is the last of a step: its longest rows.
        """
        short, long = self.kept[0], self.kept[-1]
        slope = (long.in_layers - short.in_layers) / max(long.length - short.length, 1)
        share = min(num_tokens / self.step_tokens, 1.0)
        longest = self.lengths[: np.searchsorted(np.cumsum(self.lengths), share * self.lengths.sum()) + 1]
        length = float((longest**2).sum() / longest.sum())  # that of the row in which a token of them stands
        in_layers = max(long.in_layers + max(slope, 0.0) * (length - long.length), long.in_layers / 2)
        return in_layers / self.num_layers, max(one.outside for one in self.kept), max(one.widest for one in self.kept)

    def _head(self, num_tokens: float) -> float:
        """Return what the scores of the head take, all at once or, where they are many, a part at a time.

        While they are there the gradient of the head's weights is made of them.
        """
        num_read = self.read_share * num_tokens
        if num_read * self.num_outputs <= self.max_scores:
            return num_read * self.num_outputs * self.score_bytes + self.head_gradients
        parts = 2 * num_read * self.hidden + self.head_sums
        return self.max_scores * self.score_bytes + parts + self.head_gradients


Remember = Callable[[Sequence[Any], Callable[[], Any]], Any]
"""Returns what a function gives, or gave before with an equal key (JSON values) of an equal model and optimizer."""


def measure(training: Training, remember: Remember = lambda _, make: make()) -> Needs:
    """Return what a step of ``training`` needs; runs two forward passes over a few tokens each.

    Whoever has measured trainings alike may ``remember`` what was found then.
    """
    scorer, optimizer, data = training.scorer, training.optimizer, training.data
    model, longest = scorer.model, int(data.lengths.max())
    anatomy = Anatomy.of(model)
    device = training.collate.device
    most = min(longest, PROBE_LENGTH.get(device.type, PROBE_LENGTH_ELSEWHERE))
    lengths = sorted({min(max(most // 2, int(data.lengths.min()), 1), most), most})
    probes = [_Probe(scorer, training.collate, data, length) for length in lengths]
    reads = data.reads
    tables = {
        id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding) and has_stand_ins(one, SparseTable)
    }
    head = {id(one): one for one in scorer.head_parameters()}.values() if scorer.reads == "token" else ()
    at_once = training.method.trained_at_once(model)
    chosen = [at_once is None or name in at_once for name in optimizer.names]
    masters = list(itertools.compress(optimizer.masters, chosen))
    asleep = {id(one) for one, is_trained in zip(optimizer.parameters, chosen, strict=True) if not is_trained}
    return Needs(
        weights=bytes_of([*model.parameters(), *model.buffers()]),
        masters=bytes_of(separate_masters(optimizer)),
        optimizer=remember(["of optimizer", *chosen], lambda: state_bytes(optimizer.optimizer, masters)),
        gradients=bytes_of([one for one in optimizer.parameters if id(one) not in tables | asleep]),
        master_gradients=bytes_of(separate_masters(optimizer, tables | asleep)),
        steps_from_gradients=optimizer.steps_in_one_pass,
        num_layers=max(anatomy.num_layers, 1),
        hidden=_hidden_bytes(anatomy),
        kept=tuple(remember(["kept", *one.key], one.measure) for one in probes),
        num_outputs=scorer.num_outputs if scorer.reads == "token" else 0,
        score_bytes=_score_bytes(scorer),
        max_scores=max_scores(scorer),
        read_share=1.0 if reads is None else len(reads.values) / max(int(data.lengths.sum()), 1),
        head_gradients=sum(one.nbytes for one in head),
        head_sums=sum(4 * one.numel() for one in head),
        lengths=_representative(data.lengths),
        step_tokens=_step_tokens(data, training.plan.batch_size, training.collate.layout),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
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
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    own |= {tensor.untyped_storage().data_ptr() for tensor in batch.inputs.values()}
    seen: dict[int, torch.UntypedStorage] = {}  # held, so that no address is given out twice
    sums, widest, depth = [0, 0], 0, 0

    def keep(tensor: torch.Tensor) -> None:
        """Count a tensor; nothing is kept in its place, for a node that held its own output would never be freed."""
        nonlocal widest
        # A function that called itself would hold itself, and all that was kept with it.
        parts = (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
        for storage in (part.untyped_storage() for part in parts):
            if storage.data_ptr() not in own and storage.data_ptr() not in seen:
                seen[storage.data_ptr()] = storage
                sums[0 if depth else 1] += storage.nbytes()
                widest = max(widest, storage.nbytes())

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    with ExitStack() as stack:
        stack.enter_context(scorer.surrounding(batch))
        for layer in Anatomy.of(model).layer_modules:
            stack.callback(layer.register_forward_pre_hook(enter).remove)
            stack.callback(layer.register_forward_hook(leave).remove)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
            scorer(batch) if scorer.reads == "row" else scorer.base(batch)
    return sums[0], sums[1], widest


def _representative(lengths: IntArray) -> npt.NDArray[np.float64]:
    """Return lengths of rows in descending order: every so many of them, and the longest."""
    descending = np.sort(lengths)[::-1].astype(np.float64)
    return descending[:: -(-len(descending) // MOST_LENGTHS)]


def _step_tokens(data: Encoded, batch_size: int, layout: LayoutName) -> float:
    """Return the tokens of a step larger than nearly all others: the mean and three times its spread."""
    lengths = data.sample_lengths
    batch_size = min(batch_size, len(lengths))
    if layout == "padded":
        return batch_size * len(data) / len(lengths) * float(data.lengths.max())
    rest = (len(lengths) - batch_size) / max(len(lengths) - 1, 1)  # a step of all rows is always the same
    return batch_size * float(lengths.mean()) + 3 * float(lengths.std()) * math.sqrt(batch_size * rest)


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


def separate_masters(optimizer: MasterOptimizer, without: Collection[int] = ()) -> list[torch.Tensor]:
    """Return the masters that are not the weights themselves; ``without`` those of some parameters, by identity."""
    pairs = zip(optimizer.parameters, optimizer.masters, strict=True)
    return [master for parameter, master in pairs if master is not parameter and id(parameter) not in without]


def _score_bytes(scorer: Scorer) -> int:
    weight = next(scorer.model.parameters())
    in_place = scorer.reads == "token" and scorer.num_outputs >= MIN_CLASSES and serves(weight.contiguous())
    return weight.element_size() if in_place else SCORE_COPIES_BYTES


def _hidden_bytes(anatomy: Anatomy) -> int:
    return anatomy.hidden_size * next(anatomy.base.parameters()).element_size()


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """Return the bytes of tensors, memory that several share counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
