"""An optimizer over parts of weights: each rank steps on its own, and nothing of the others' is ever in its memory.

A master is this rank's part of a weight, in the very memory that FSDP2 puts layers together from. Its gradient comes
summed over all ranks already. What an optimizer does must follow from each number for itself
(``sharding.divisible``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith.engine import ranks
from tunesmith.engine.optimizers import MasterOptimizer, norm_of
from tunesmith.engine.sharding.parts import Parts, local_part


class ShardedOptimizer(MasterOptimizer):
    """Steps on this rank's parts of a model's trained weights, which are in fp32 or wider."""

    def _make_master(self, parameter: nn.Parameter, places: torch.Tensor | None) -> torch.Tensor:
        assert places is None, "methods that train places of weights are refused before"
        return local_part(parameter).requires_grad_()

    def _is_copy(self, _index: int) -> bool:
        return False  # the master's memory is the parameter's

    def _collect(self, index: int, *, copy: bool = False) -> None:  # noqa: ARG002 (torch's sums are in memory of their own)
        parameter = self.parameters[index]
        if parameter.grad is not None:
            given, before = local_part(parameter.grad), self._collected[index]
            self._collected[index] = given if before is None else before.add_(given)  # type: ignore[union-attr]
            parameter.grad = None

    @contextmanager
    def last_backward(self) -> Iterator[None]:
        """Do nothing besides: FSDP2 sums the gradients of every layer as soon as they are there."""
        yield

    def finish_sums(self) -> None:
        """Do nothing: sums have come to their end with each backward pass."""

    def sum_over_ranks(self) -> None:
        """Do nothing: gradients are sums already."""

    def gradient_norm(self) -> torch.Tensor:
        """Return the L2 norm of the whole gradient, of all ranks' parts: a scalar in float64 on the device."""
        own = [one for one in self._gradients() if isinstance(one, torch.Tensor) and one.numel()]
        squares = ranks.sum(float(norm_of(own)) ** 2 if own else 0.0)
        return torch.tensor(math.sqrt(squares), dtype=torch.float64, device=self.masters[0].device)

    @property
    def num_trained(self) -> int:
        """How many weights are ever trained, by all ranks together."""
        return sum(parameter.numel() for parameter in self.parameters)

    @torch.no_grad()
    def load_master_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set this rank's parts from whole masters."""
        for name, master, parameter in zip(self.names, self.masters, self.parameters, strict=True):
            master.copy_(Parts.of(parameter.shape).part_of(weights[name]))

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Set the state of this rank's parts from that of whole weights."""
        own = {key: tensor if not tensor.dim() else self._parts(key).part_of(tensor) for key, tensor in tensors.items()}
        super().load_state({key: tensor.clone() for key, tensor in own.items()}, values)

    def shapes_of(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return kind and shape, as wholes, of tensors of ``state`` or ``master_weights``, in the order of a file."""
        return {
            key: (tensors[key].dtype, self._parts(key).shape if tensors[key].dim() else ())
            for key in sorted(tensors, key=lambda key: in_files(key, tensors[key].dtype))
        }

    def wholes(self, tensors: Mapping[str, torch.Tensor]) -> Iterator[torch.Tensor | None]:
        """Yield such tensors whole on the first rank, one after the other; None on the others, which must ask, too."""
        for key in self.shapes_of(tensors):
            yield self._parts(key).whole_of(tensors[key]) if tensors[key].dim() else tensors[key]

    def _parts(self, key: str) -> Parts:
        """Return how what is kept under a weight's name, or an entry of its state, is divided."""
        named = dict(zip(self.names, self.parameters, strict=True))
        found = named.get(key)
        return Parts.of((named[key.rpartition("/")[0]] if found is None else found).shape)


def in_files(name: str, dtype: torch.dtype) -> tuple[int, str]:
    """Return where a tensor comes in a file, to be sorted by: wider numbers first, so that all lie aligned."""
    return -dtype.itemsize, name
