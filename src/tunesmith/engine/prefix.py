"""The frozen prefix: what the layers below the lowest trained one make of every token, computed once.

A method that trains only the top of a model computes the same states of the same rows in every
epoch. They are computed once, kept in the model's own number format (``ColumnFile``), and handed to
the layers above. The model's code is not touched: while a step runs, the lowest layer gives the
states and the other frozen ones pass them on.

The frozen prefix runs without dropout whether its states are kept or not, so that keeping them
changes no result.

Shapes: T tokens of a split, D numbers per hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch, Collator
from tunesmith.engine.column_file import ColumnFile
from tunesmith.engine.first_output import first_output
from tunesmith.engine.order import micro_batches
from tunesmith.engine.stand_ins import standing_in
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.modes import evaluating


@dataclass(frozen=True)
class Prefix:
    """Everything below the lowest layer that is ever trained."""

    base: nn.Module
    """The base model, without the head."""
    layers: tuple[nn.Module, ...]
    """From the bottom up; at least one."""
    later: tuple[nn.Module, ...]
    """The layers above them."""
    is_all: bool = False
    """Whether nothing but the head is trained, which reads what the base model gives."""

    @property
    def is_resting(self) -> bool:
        """Whether ``rest`` was called since the model was last set to training or to scoring."""
        return not self.base.training and all(layer.training for layer in self.later)

    def rest(self) -> None:
        """Switch the prefix's dropout off, after the model was set to training."""
        if self.base.training:
            self.base.eval()
            for layer in self.later:
                layer.train()

    def save_states(
        self,
        data: Encoded,
        collate: Collator,
        run: Callable[[Batch], Any],
        token_budget: int,
        file: ColumnFile,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the states of every token of ``data`` into ``file``, whose rows are the sequences.

        ``run`` calls the base model on a batch. ``check`` is called between batches and may raise.
        """
        assert data.stream("") is not None, "states are those of tokens"
        with torch.inference_mode(), evaluating(self.base):
            for sequences in micro_batches(data, np.arange(data.num_samples), collate.layout, token_budget):
                check()
                batch = collate(data, sequences)
                laid_out = batch.sequences if batch.laid_out is None else batch.laid_out
                file.write(_real_tokens(self._topmost_states(batch, run), batch), laid_out)

    def save_read_states(
        self,
        data: Encoded,
        collate: Collator,
        read: Callable[[Batch], torch.Tensor],
        token_budget: int,
        file: ColumnFile,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write what the head reads of ``data``, and nothing more, into ``file``, whose rows are the sequences.

        For models of which nothing but the head is trained. ``read`` returns [U, D]: what the head
        reads of a batch. ``check`` is called between batches and may raise.
        """
        with torch.inference_mode(), evaluating(self.base):
            for sequences in micro_batches(data, np.arange(data.num_samples), collate.layout, token_budget):
                check()
                batch = collate(data, sequences)
                file.write(read(batch), batch.sequences)

    def _topmost_states(self, batch: Batch, run: Callable[[Batch], Any]) -> torch.Tensor:
        output = first_output(self.layers[-1], lambda: run(batch))
        states: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
        return states

    @contextmanager
    def standing_aside(self, states: torch.Tensor) -> Iterator[None]:
        """Make the prefix give ``states``, at no cost, inside the ``with`` block."""
        with ExitStack() as stack:
            for layer in self.layers[1:]:
                stack.enter_context(standing_in(layer, _unchanged))
            stack.enter_context(standing_in(self.layers[0], lambda *_, **__: states))
            yield


def find_prefix(model: nn.Module, trained: Collection[str]) -> Prefix | None:
    """Return what lies below the lowest of the parameters that are ever trained; None where there is no layer.

    Models whose layers are no column have none: see ``Anatomy.column``.
    """
    anatomy = Anatomy.of(model)
    depths, layers = anatomy.depths, anatomy.column
    lowest = min((depths[name] for name in trained), default=0)
    if lowest <= 1 or not layers:
        return None
    prefix = Prefix(anatomy.base, layers[: lowest - 1], layers[lowest - 1 :], lowest > len(layers))
    return prefix if _is_below(prefix, model, trained) else None


def _is_below(prefix: Prefix, model: nn.Module, trained: Collection[str]) -> bool:
    """Say whether everything trained comes after the prefix: weights that are new may stand anywhere."""
    frozen = {id(parameter) for layer in prefix.layers for parameter in layer.parameters()}
    ids = [id(parameter) for parameter in model.parameters()]
    last_frozen = max((place for place, parameter in enumerate(ids) if parameter in frozen), default=-1)
    named = dict(model.named_parameters())
    ever = {id(named[name]) for name in trained}
    return all(place > last_frozen for place, parameter in enumerate(ids) if parameter in ever)


def _unchanged(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def _real_tokens(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the states [T, D] of a batch's real tokens."""
    if batch.borders is not None:
        return states[0, : batch.num_tokens]
    return states[batch.read_mask]
