"""The frozen prefix: what the layers below the lowest trained one make of every token, computed once.

A method that trains only the top of a model computes the same states of the same rows in every
epoch. They are computed once, kept in the model's own number format, memory-mapped where they are
large, and handed to the layers above. The model's code is not touched: while a step runs, the
lowest layer gives the states and the other frozen ones pass them on.

The frozen prefix runs without dropout whether its states are kept or not, so that keeping them
changes no result.

Shapes: T tokens of a split, D numbers per hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import Batch, Collator, states_to_numpy
from tunesmith.engine.order import micro_batches
from tunesmith.models import structure


@dataclass(frozen=True)
class Prefix:
    """Everything below the lowest layer that is ever trained."""

    base: nn.Module
    """The base model, without the head."""
    layers: tuple[nn.Module, ...]
    """From the bottom up; at least one."""
    later: tuple[nn.Module, ...]
    """The layers above them."""

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
        path: Path,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Encoded:
        """Return ``data`` with the states of every token, kept in the file ``path``, memory-mapped.

        ``run`` calls the base model on a batch. ``check`` is called between batches and may raise.
        """
        offsets = data.inputs["input_ids"].offsets
        kept: np.memmap[Any, Any] | None = None
        with torch.inference_mode(), _evaluating(self.base):
            for rows in micro_batches(np.arange(len(data)), data.lengths, collate.layout, token_budget):
                check()
                batch = collate(data, rows)
                states = states_to_numpy(_real_tokens(self._topmost_states(batch, run), batch))
                if kept is None:
                    shape = (int(offsets[-1]), states.shape[1])
                    kept = np.lib.format.open_memmap(path, mode="w+", dtype=states.dtype, shape=shape)
                start = 0
                for row in batch.rows.tolist():
                    length = int(offsets[row + 1] - offsets[row])
                    kept[offsets[row] : offsets[row + 1]] = states[start : start + length]
                    start += length
        assert kept is not None
        kept.flush()
        return replace(data, states=Ragged(np.load(path, mmap_mode="r", allow_pickle=False), offsets))

    def _topmost_states(self, batch: Batch, run: Callable[[Batch], Any]) -> torch.Tensor:
        found: list[torch.Tensor] = []

        def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
            found.append(output if isinstance(output, torch.Tensor) else output[0])
            raise _Enough

        hook = self.layers[-1].register_forward_hook(keep)
        try:
            run(batch)
        except _Enough:
            pass
        finally:
            hook.remove()
        (states,) = found
        return states

    @contextmanager
    def standing_aside(self, states: torch.Tensor) -> Iterator[None]:
        """Make the prefix give ``states``, at no cost, inside the ``with`` block."""
        with ExitStack() as stack:
            for layer in self.layers[1:]:
                stack.enter_context(standing_in(layer, _unchanged))
            stack.enter_context(standing_in(self.layers[0], lambda *_, **__: states))
            yield


class _Enough(Exception):  # noqa: N818 (no error)
    """Ends a forward pass whose rest nobody needs."""


def find_prefix(model: nn.Module, trained: Collection[str]) -> Prefix | None:
    """Return what lies below the lowest of the parameters that are ever trained; None where there is no layer.

    Two stacks (an encoder's and a decoder's) have none: what the upper one computes depends on both inputs.
    """
    whole: Any = structure.inner(model)
    if getattr(whole.config, "is_encoder_decoder", False):
        return None
    depths = structure.parameter_depths(model)
    lowest = min((depths[name] for name in trained), default=0)
    found = structure.layers(model)
    if lowest <= 1 or [index for index, _ in found] != list(range(len(found))):
        return None
    layers = [model.get_submodule(name) for _, name in found]
    return Prefix(structure.base_model(whole), tuple(layers[: lowest - 1]), tuple(layers[lowest - 1 :]))


@contextmanager
def standing_in(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let ``forward`` stand in for a module's own inside the ``with`` block."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = before


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _unchanged(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def _real_tokens(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the states [T, D] of a batch's real tokens."""
    if batch.borders is not None:
        return states[0, : batch.num_tokens]
    return states[batch.inputs["attention_mask"].bool()]
