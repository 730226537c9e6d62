"""How a step is made to fit into memory: smaller micro-batches, and layers that compute their activations again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tunesmith.engine.memory_needs import Needs, Remember, measure
from tunesmith.engine.recompute import can_recompute
from tunesmith.engine.step import Training

Wish = Literal["auto", "never", "always"]

RESERVE = 0.9
"""Share of the available memory that is planned with; the rest is for fragmentation, workspaces and other programs."""

FEWEST_TOKENS = 1024
"""Below this many tokens a micro-batch no longer fills the matrix units: then forgetting activations costs less."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a step is made to fit."""

    micro_batch_tokens: int
    checkpointing: bool
    predicted_bytes: int
    """At the peak of a step: on the device, or of the whole process on the CPU."""
    available_bytes: int
    """What could be taken besides what was taken already."""
    fits: bool
    """Whether the prediction is within what is available."""
    wanted_tokens: int
    """What was configured."""
    needs: Needs
    """What the prediction was made from."""
    in_use_bytes: int
    """What was taken when it was made."""

    def peak(self, micro_batch_tokens: int, *, checkpointing: bool, needs: Needs | None = None) -> int:
        """Return the bytes at the peak of a step that is split otherwise, or has other needs."""
        needs = needs or self.needs
        present = self.needs.weights + self.needs.masters
        return self.in_use_bytes + needs.peak(micro_batch_tokens, checkpointing=checkpointing) - present

    def scoring_peak(self, num_tokens: int) -> int:
        """Return the bytes at the peak of scoring micro-batches of so many tokens between steps."""
        return self.in_use_bytes + self.needs.scoring_peak(num_tokens) - self.needs.weights - self.needs.masters

    @property
    def longest_that_fits(self) -> int:
        """The tokens of the longest row with which a step would fit, split and computed as planned; 0 where none is."""
        present, room = self.needs.weights + self.needs.masters, RESERVE * self.available_bytes
        fitting, failing = 0, self.needs.longest
        while failing - fitting > 1:
            tokens = (fitting + failing) // 2
            few = replace(self.needs, lengths=np.minimum(self.needs.lengths, tokens))
            if few.peak(tokens, checkpointing=self.checkpointing) - present <= room:
                fitting = tokens
            else:
                failing = tokens
        return fitting

    @property
    def changes(self) -> str:
        """What was changed to make the step fit, in words; empty when nothing was."""
        found = []
        if self.micro_batch_tokens < self.wanted_tokens:
            found.append(f"micro-batches hold {self.micro_batch_tokens:,} tokens instead of {self.wanted_tokens:,}")
        if self.checkpointing:
            found.append("layers compute their activations again in the backward pass")
        return ", and ".join(found)


def plan_memory(
    training: Training, wish: Wish, *, in_use: int, available: int, remember: Remember = lambda _, make: make()
) -> MemoryPlan:
    """Return the plan for ``training``, whose parts are all on their device.

    One that goes on from a checkpoint is split as it was before, whatever memory there is now: otherwise its steps
    would be rounded differently.

    Args:
        training: The training that is to start.
        wish: ``compute.checkpointing``.
        in_use: Bytes taken now: by the device's tensors, or by the whole process on the CPU.
        available: Bytes that can be taken besides.
        remember: That of ``measure``.
    """
    needs = measure(training, remember)
    present = needs.weights + needs.masters
    wanted = training.compute.micro_batch_tokens
    can = can_recompute(training.scorer.model)

    def plan(tokens: int, checkpointing: bool) -> MemoryPlan:
        more = needs.peak(tokens, checkpointing=checkpointing) - present
        fits = more <= RESERVE * available
        return MemoryPlan(tokens, checkpointing, in_use + more, available, fits, wanted, needs, in_use)

    if training.token_budget:
        return plan(training.token_budget, training.recomputes)
    plans = [plan(*choice) for choice in choices(wanted, needs.longest, wish if can else "never")]
    return next((one for one in plans if one.fits), min(plans, key=lambda one: one.predicted_bytes))


def choices(wanted: int, longest: int, wish: Wish) -> Iterator[tuple[int, bool]]:
    """Yield (tokens of a micro-batch, checkpointing), from what costs no time to what costs most.

    Smaller micro-batches come first for as long as they fill the hardware, then checkpointing (a third
    more work), then ever smaller ones. Below the longest row nothing is gained.
    """
    sizes = [wanted]
    while sizes[-1] // 2 >= max(min(longest, wanted), 64):
        sizes.append(sizes[-1] // 2)
    large = [size for size in sizes if size >= FEWEST_TOKENS] or sizes[:1]
    if wish != "always":
        yield from ((size, False) for size in (sizes if wish == "never" else large))
    if wish != "never":
        yield from ((size, True) for size in sizes)
