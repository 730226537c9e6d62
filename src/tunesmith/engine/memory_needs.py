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
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine import ranks
from tunesmith.engine.batch import IntArray, LayoutName
from tunesmith.engine.blocks.install import SparseTable
from tunesmith.engine.kept_memory import PROBE_LENGTH, PROBE_LENGTH_ELSEWHERE, KeptPerToken, Probe
from tunesmith.engine.losses import max_scores
from tunesmith.engine.optimizer_trial import state_bytes
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.sharding.parts import local_part
from tunesmith.engine.stand_ins import has_stand_ins
from tunesmith.engine.step import Training
from tunesmith.kernels.cross_entropy import MIN_CLASSES
from tunesmith.kernels.library import serves
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.streaming import NUM_AT_ONCE, in_memory, stream_of

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
    streamed: int = 0
    """Of layers whose weights are in files but when they compute, as many as are in memory at once."""
    streamable: int = 0
    """Of layers' frozen weights that are in memory, what need not be if they were streamed from files."""
    passing: int = 0
    """Weights that are whole while they compute, and their gradients, where several processes have a part of all."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths[0])

    @property
    def resident(self) -> int:
        """What is there between steps."""
        return self.weights + self.masters + self.optimizer + self.streamed

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
        return self.resident + self.passing + int(max(scores, layer, backward, update))

    def scoring_peak(self, num_tokens: int) -> int:
        """Return the bytes in use while micro-batches of so many tokens are scored between steps."""
        scores = min(self.read_share * num_tokens * self.num_outputs, self.max_scores) * self.score_bytes
        return self.resident + self.passing + int(num_tokens * (INPUT_BYTES + PASSING * self.hidden) + scores)

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
    probes = [Probe(scorer, training.collate, data, length) for length in lengths]
    reads = data.reads
    head = {id(one): one for one in scorer.head_parameters()}.values() if scorer.reads == "token" else ()
    resident = _resident(training, remember)
    with scorer.at_hand():
        kept = tuple(remember(["kept", *one.key], one.measure) for one in probes)
        hidden, score_bytes = _hidden_bytes(anatomy), _score_bytes(scorer)
    return Needs(
        **resident,
        steps_from_gradients=optimizer.steps_in_one_pass,
        num_layers=max(anatomy.num_layers, 1),
        hidden=hidden,
        kept=kept,
        num_outputs=scorer.num_outputs if scorer.reads == "token" else 0,
        score_bytes=score_bytes,
        max_scores=max_scores(scorer),
        read_share=1.0 if reads is None else len(reads.values) / max(int(data.lengths.sum()), 1),
        head_gradients=sum(one.nbytes for one in head),
        head_sums=sum(4 * one.numel() for one in head),
        lengths=_representative(data.lengths),
        step_tokens=_step_tokens(data, training.plan.batch_size, training.collate.layout),
        streamed=0 if (stream := stream_of(model)) is None else stream.bytes_at_once,
        streamable=_streamable(model, anatomy) if stream is None and scorer.sharding is None else 0,
    )


def _resident(training: Training, remember: Remember) -> dict[str, int]:
    """Return the bytes of weights and of what belongs to each of them, by the names of ``Needs``."""
    optimizer, model = training.optimizer, training.scorer.model
    tables = {
        id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding) and has_stand_ins(one, SparseTable)
    }
    at_once = training.method.trained_at_once(model)
    chosen = [at_once is None or name in at_once for name in optimizer.names]
    masters = list(itertools.compress(optimizer.masters, chosen))
    if (sharding := training.scorer.sharding) is not None:
        # Parts are not all of one size; all ranks plan by the largest.
        own = [bytes_of(list(map(local_part, (*model.parameters(), *model.buffers())))), bytes_of(masters)]
        own.append(state_bytes(optimizer.optimizer, masters))
        weights, gradients, state = map(int, ranks.maxima(own))
        return {
            "weights": weights,
            "masters": 0,
            "optimizer": state,
            "gradients": gradients,
            "master_gradients": 0,
            "passing": sharding.passing_bytes,
        }
    asleep = {id(one) for one, is_trained in zip(optimizer.parameters, chosen, strict=True) if not is_trained}
    return {
        "weights": bytes_of([*(one for _, one in in_memory(model)), *model.buffers()]),
        "masters": bytes_of(separate_masters(optimizer)),
        "optimizer": remember(["of optimizer", *chosen], lambda: state_bytes(optimizer.optimizer, masters)),
        "gradients": bytes_of([one for one in optimizer.parameters if id(one) not in tables | asleep]),
        "master_gradients": bytes_of(separate_masters(optimizer, tables | asleep)),
    }


def _streamable(model: nn.Module, anatomy: Anatomy) -> int:
    """Return the bytes of layers' frozen weights without those of the layers that are in memory at once."""
    frozen = {id(one) for one in model.parameters() if not one.requires_grad}
    layers = (set(layer.parameters()) for layer in anatomy.layer_modules)
    sizes = sorted(sum(one.nbytes for one in layer if id(one) in frozen) for layer in layers)
    return sum(sizes[:-NUM_AT_ONCE])


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
