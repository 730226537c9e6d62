"""CUDA graphs of the base model, for models so small that launching kernels takes longer than running them.

A graph replays kernels on fixed addresses with fixed sizes. Micro-batches are therefore rounded up to a
few buckets: T to a multiple of a share of the budget, the number of rows and the longest length to powers
of two. What is added are filler tokens in a sequence of their own and empty sequences, which no other
sequence sees. The head and the loss, whose sizes differ from batch to batch, stay outside.

Graphs need bf16 weights: the gradients lie at fixed addresses too, and only those of weights with
separate masters are moved away before the next micro-batch overwrites them.

The passes are captured over leaves of their own that share the weights' memory. The weights themselves have a node in
every other graph of autograd that is still alive, which belongs to the stream on which that was made; a backward pass
that ends in such a node would make this stream wait for the one that captures, which CUDA refuses.

Shapes: T tokens, D numbers per hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.attention import borders_of
from tunesmith.engine.batch import Batch, Borders
from tunesmith.engine.cuda import attention as variable_length
from tunesmith.models.wrapping import inner

MAX_WEIGHTS = 1_000_000_000
"""Larger models keep a GPU busy by themselves."""

BUCKETS_PER_BUDGET = 4
"""T is rounded up to multiples of this share of the budget: an eighth of it is filler, on average."""

TILE = 128
"""Tokens that the kernel works on at once: shorter longest lengths are all the same to it."""

MOST_GRAPHS = 16
"""Buckets that are captured; batches of further ones run without a graph."""


NUM_WARM_UPS = 3
"""Passes before a capture."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The sizes that a graph is captured for."""

    tokens: int
    """T, filler included."""
    rows: int
    """Sequences, the filler's and empty ones included."""
    length: int
    """Longest sequence, the filler's included."""

    def lengths(self, cumulative: torch.Tensor) -> torch.Tensor:
        """Return cumulative lengths, int32 [rows + 1], for those of a batch: then the filler, then empty sequences."""
        return functional.pad(cumulative, (0, self.rows + 1 - len(cumulative)), value=self.tokens)


def bucket_of(num_tokens: int, num_rows: int, longest: int, budget: int) -> Bucket:
    """Return the smallest bucket that holds ``num_rows`` sequences of ``num_tokens`` tokens in all.

    ``budget`` is the most that a micro-batch holds; a single longer row has a bucket of its own.
    """
    unit = max(budget // BUCKETS_PER_BUDGET, 1)
    tokens = -(-num_tokens // unit) * unit
    return Bucket(tokens, _power_of_two(num_rows + 1), _power_of_two(max(longest, tokens - num_tokens, TILE)))


def _power_of_two(number: int) -> int:
    """Return the smallest power of two that is no less than ``number``."""
    return 1 << max(number - 1, 0).bit_length()


def hindrance(model: nn.Module) -> str:
    """Return why ``model``, on its device, cannot be captured; nothing if it can.

    In a graph all sequences must go through the kernel of variable lengths: other ways of attention launch as many
    kernels as a batch has groups.
    """
    config = inner(model).config.get_text_config()
    values = config.to_dict()
    dropout = max(
        (
            float(value)
            for key, value in values.items()
            if "att" in key and ("dropout" in key or "pdrop" in key) and isinstance(value, (int, float))
        ),
        default=0.0,
    )
    if dropout:
        return f"attention has dropout ({dropout:g})"
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    weight = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    if not variable_length.supports(weight.new_empty((1, 1, size)), 0.0):
        return f"no kernel for rows of any length takes heads of {size} numbers here"
    return ""


@dataclass
class BaseGraphs:
    """Runs a base model on flat batches from captured graphs, one for every bucket and set of trained weights."""

    base: nn.Module
    settings: Mapping[str, Any]
    """Further arguments of the base model: ``use_cache``."""
    budget: int
    _captured: dict[Any, Callable[..., torch.Tensor]] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> torch.Tensor | None:
        """Return the hidden states [1, T, D] of the batch's real tokens and its filler; None to run without a graph.

        A base that nothing of is trained runs without: there is no backward pass to capture.
        """
        if batch.borders is None or batch.states is not None or not torch.is_grad_enabled():
            return None
        cumulative = batch.borders.cumulative_lengths
        num_tokens = next(iter(batch.inputs.values())).shape[1]
        bucket = bucket_of(num_tokens, len(cumulative) - 1, batch.borders.max_length, self.budget)
        names = tuple(sorted(batch.inputs))
        weights = {name: weight for name, weight in self.base.named_parameters() if weight.requires_grad}
        if not weights:
            return None
        key = (bucket, names, tuple(weights), self.base.training)
        arguments = [functional.pad(batch.inputs[name], (0, bucket.tokens - num_tokens)) for name in names]
        arguments.append(bucket.lengths(cumulative))
        if key not in self._captured:
            if len(self._captured) >= MOST_GRAPHS:
                return None
            compute = partial(self._compute, names, bucket)
            self._captured[key] = _captured(compute, weights, arguments)
        return self._captured[key](list(weights.values()), arguments)[:, :num_tokens]

    def _compute(
        self, names: Sequence[str], bucket: Bucket, leaves: Mapping[str, torch.Tensor], tensors: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Return [1, T, D] for trained weights by name and inputs in the order of ``names``, lengths last."""
        *inputs, cumulative = tensors
        given = {**dict(zip(names, inputs, strict=True)), **self.settings}
        with borders_of(Borders((), cumulative, bucket.length)):
            hidden: torch.Tensor = torch.func.functional_call(self.base, dict(leaves), (), given).last_hidden_state
        return hidden


Compute = Callable[[Mapping[str, torch.Tensor], Sequence[torch.Tensor]], torch.Tensor]
"""From trained weights by name and inputs to hidden states."""


def leaves_of(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return new leaves of autograd that share the memory of ``weights``."""
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def _captured(
    compute: Compute, weights: Mapping[str, torch.Tensor], samples: Sequence[torch.Tensor]
) -> Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], torch.Tensor]:
    """Return ``compute`` with its forward and backward passes captured, for inputs of the sizes of ``samples``."""
    leaves, inputs = leaves_of(weights), [sample.clone() for sample in samples]
    trained = list(leaves.values())

    def differentiate(hidden: torch.Tensor, pull: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return torch.autograd.grad(hidden, trained, pull, allow_unused=True)

    torch.cuda.synchronize()
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(beside):  # libraries take their workspaces, which must not be captured
        for _ in range(NUM_WARM_UPS):
            hidden = compute(leaves, inputs)
            differentiate(hidden, torch.zeros_like(hidden))
            del hidden
    torch.cuda.synchronize()
    forward, backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle()
    with torch.cuda.graph(forward, pool=pool):
        hidden = compute(leaves, inputs)
    pull = torch.empty_like(hidden)
    with torch.cuda.graph(backward, pool=pool):
        gradients = differentiate(hidden, pull)
    passes = _Passes(forward, backward, inputs, hidden.detach(), pull, gradients)

    def replay(weights: Sequence[torch.Tensor], arguments: Sequence[torch.Tensor]) -> torch.Tensor:
        replayed: torch.Tensor = _Replay.apply(passes, arguments, *weights)  # type: ignore[no-untyped-call]
        return replayed

    return replay


@dataclass(frozen=True, slots=True)
class _Passes:
    """What was captured, and where it reads and writes."""

    forward: torch.cuda.CUDAGraph
    backward: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    hidden: torch.Tensor
    pull: torch.Tensor
    """The gradient of ``hidden``."""
    gradients: tuple[torch.Tensor | None, ...]


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: _Passes, arguments: Sequence[torch.Tensor], *_weights: torch.Tensor) -> torch.Tensor:
        ctx.passes = passes
        for place, argument in zip(passes.inputs, arguments, strict=True):
            place.copy_(argument)
        passes.forward.replay()
        return passes.hidden.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        passes: _Passes = ctx.passes
        passes.pull.copy_(gradients[0])
        passes.backward.replay()
        return None, None, *(None if one is None else one.detach() for one in passes.gradients)
