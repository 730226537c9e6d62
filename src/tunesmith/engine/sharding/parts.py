"""How a tensor is divided over ranks: by its first dimension, as torch's ``fully_shard`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tunesmith.engine import ranks


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor, which shares its memory: all of one that is not divided."""
    divided: Any = tensor
    return divided.to_local().detach() if is_divided(tensor) else tensor


def is_divided(tensor: torch.Tensor) -> bool:
    """Say whether a tensor lies in parts."""
    return hasattr(tensor, "to_local")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a tensor of at least one dimension: each rank has as many rows, but for the last ones."""

    shape: tuple[int, ...]
    """Of the whole."""
    number: int
    """This rank's, from 0."""
    size: int
    """How many ranks there are."""

    @classmethod
    def of(cls, shape: torch.Size) -> Parts:
        """Return the parts of a tensor of a shape over the ranks that make steps together."""
        return cls(tuple(shape), ranks.number(), ranks.size())

    @property
    def rows(self) -> int:
        """How many rows a full part has."""
        return -(-self.shape[0] // self.size)

    @property
    def own(self) -> slice:
        """The rows of this rank, which may be none."""
        start = min(self.number * self.rows, self.shape[0])
        return slice(start, min(start + self.rows, self.shape[0]))

    def part_of(self, whole: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of the whole."""
        return whole[self.own]

    def whole_of(self, part: torch.Tensor) -> torch.Tensor | None:
        """Return the whole on the first rank, given every rank's part; None on all others, which must ask, too."""
        full = part.new_zeros((self.rows, *self.shape[1:]))
        full[: len(part)] = part
        found = ranks.on_first(full)
        return None if found is None else torch.cat(found)[: self.shape[0]]
