"""What a model is seen to do with one short row: its hidden states, what layers tell attention, what the head reads.

A configuration says what a model may have; what it uses shows only when it runs. ``transformers`` lets a function of
ours stand in for attention, and another for its masks: both write down what they are given, and the model computes on.

Shapes: H heads of queries, G of keys and values, L tokens, D numbers each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from tunesmith.models.head_scores import head_inputs
from tunesmith.models.modes import evaluating
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inputs_for, takes_images

OBSERVING = "tunesmith_observing"
"""Name under which the functions are registered with ``transformers``."""

VARIANTS = ("softcap", "position_bias", "s_aux", "head_mask")
"""What attention may be told that changes what it computes, besides a scale and a window."""

NUM_TOKENS = 4

EVEN = 1e-2
"""Spread of gradients, relative to the largest, up to which they count as equal: roundings of short formats."""

RowReading = Literal["first", "last", "mean"]
"""What of a row's last hidden states a head makes its scores of: the first one, the last one, or the mean of all."""


@dataclass(frozen=True, slots=True)
class Attention:
    """What one attention module tells the function that attends for it."""

    window: int | None
    """A token sees ``window - 1`` tokens back and, unless causal, as many ahead."""
    variants: frozenset[str]
    """Those of ``VARIANTS`` that are asked for."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen."""

    hidden_size: int
    """Numbers of one of the base model's last hidden states."""
    attentions: Mapping[str, Attention]
    """By the module's name; empty where the model attends by code of its own."""
    masked: frozenset[int]
    """Windows and chunks that the model's own masks are made for."""
    row_reading: RowReading | None
    """None where the head scores no rows, or reads them in another way."""


@dataclass(frozen=True, slots=True)
class _Notes:
    attentions: dict[nn.Module, Attention] = field(default_factory=dict)
    masked: set[int] = field(default_factory=set)


_notes: ContextVar[_Notes | None] = ContextVar("notes", default=None)


def observe(whole: Any, base: nn.Module) -> Observed:
    """Run a few tokens through ``whole``, a ``transformers`` model with the given ``base``.

    The model is left as it was: mode, attention, gradients and random numbers. What its base raises is raised; a head
    may fail on such a row, and is then one that scores no rows. Of models that are given images only the size of their
    hidden states is told, by their config.
    """
    if takes_images(whole):
        return Observed(_hidden_size(whole.config), {}, frozenset(), None)
    notes = _Notes()
    states: list[torch.Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        states.append(output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0])

    def differentiable(_module: nn.Module, _arguments: Any, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.detach().requires_grad_().clone()

    ids, reading = _row(whole), None
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(evaluating(whole))
        stack.enter_context(_taking_notes(whole, notes))
        stack.callback(base.register_forward_hook(keep).remove)
        stack.callback(whole.get_input_embeddings().register_forward_hook(differentiable).remove)
        try:
            output = whole(**head_inputs(whole, inputs_for(whole, ids)))
            reading = _reading(getattr(output, "logits", None), states[0])
        except Exception:
            if not states:
                raise
    names = {module: name for name, module in whole.named_modules()}
    attentions = {names[module]: attention for module, attention in notes.attentions.items()}
    return Observed(int(states[0].shape[-1]), attentions, frozenset(notes.masked), reading)


def _hidden_size(config: Any) -> int:
    """Return the numbers of a last hidden state, of models whose stages may have different ones."""
    config = config.get_text_config()  # of models that read texts, too, the part that writes
    found = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", None) or 1
    return int(found[-1] if isinstance(found, (list, tuple)) else found)


@torch.no_grad()
def first_decoder_inputs(whole: Any) -> list[tuple[int, int]]:
    """Return, for two targets, the token that a model's decoder reads first and the token that the target ends in."""
    found: list[tuple[int, int]] = []

    def keep(_module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        seen.append(int(ids[0, 0]))

    ids_1L = _row(whole)
    with evaluating(whole), ExitStack() as stack:
        stack.callback(whole.get_decoder().register_forward_pre_hook(keep, with_kwargs=True).remove)
        for target_1L in (ids_1L[:, :-1], ids_1L[:, :-2]):  # what is special stands at the end of the row
            seen: list[int] = []
            whole(input_ids=ids_1L, labels=target_1L)
            found.append((seen[0], int(target_1L[0, -1])))
    return found


def _reading(scores_1K: torch.Tensor | None, hidden_1LD: torch.Tensor) -> RowReading | None:
    """Return what of a row's hidden states its scores depend on, told by their gradient."""
    if scores_1K is None or scores_1K.dim() != 2 or len(scores_1K) != 1:
        return None
    pull_K = torch.linspace(1, 2, scores_1K.shape[1]).to(scores_1K)  # of no two scores the same
    (gradient_1LD,) = torch.autograd.grad((scores_1K * pull_K).sum(), hidden_1LD)
    gradient_LD = gradient_1LD[0].float()
    is_read = gradient_LD.abs().sum(dim=1) > 0
    if is_read.tolist() == [True] + [False] * (NUM_TOKENS - 1):
        return "first"
    if is_read.tolist() == [False] * (NUM_TOKENS - 1) + [True]:
        return "last"
    spread = (gradient_LD - gradient_LD.mean(dim=0)).abs().max()
    return "mean" if bool(is_read.all()) and bool(spread <= EVEN * gradient_LD.abs().max()) else None


def _row(whole: Any) -> torch.Tensor:
    """Return one row of ids that every kind of head accepts: no padding, and the end token, if any, at the end."""
    config = whole.config.get_text_config()
    weight = whole.get_input_embeddings().weight
    end = getattr(config, "eos_token_id", None)
    end = end[0] if isinstance(end, list) else end
    special = {end, getattr(config, "pad_token_id", None)}
    ids = [number for number in range(len(weight)) if number not in special][:NUM_TOKENS]
    if isinstance(end, int) and end < len(weight):
        ids[-1] = end
    return torch.tensor([ids], device=weight.device)


@contextmanager
def _taking_notes(whole: Any, notes: _Notes) -> Iterator[None]:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(OBSERVING, _attend)
    AttentionMaskInterface.register(OBSERVING, _mask)
    before = whole.config._attn_implementation
    token = _notes.set(notes)
    try:
        with quiet():  # a model that attends by code of its own says so
            whole.set_attn_implementation(OBSERVING)
        yield
    finally:
        _notes.reset(token)
        with quiet():
            whole.set_attn_implementation(before)


def _attend(
    module: nn.Module,
    query_1HLD: torch.Tensor,
    _key: torch.Tensor,
    value_1GLD: torch.Tensor,
    _mask: torch.Tensor | None,
    *_: Any,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Write down what attention is told, and let every token see the mean of all: it matters to nobody."""
    notes = _notes.get()
    assert notes is not None
    variants = frozenset(name for name in VARIANTS if settings.get(name) is not None)
    notes.attentions[module] = Attention(sliding_window, variants)
    mean_1G1D = value_1GLD.mean(dim=2, keepdim=True)
    num_heads, length = query_1HLD.shape[1:3]
    mean_1H1D = mean_1G1D.repeat_interleave(num_heads // mean_1G1D.shape[1], dim=1)
    return mean_1H1D.expand(-1, -1, length, -1).transpose(1, 2).contiguous(), None


def _mask(*_: Any, local_size: int | None = None, **__: Any) -> None:
    notes = _notes.get()
    assert notes is not None
    if local_size is not None:
        notes.masked.add(local_size)
