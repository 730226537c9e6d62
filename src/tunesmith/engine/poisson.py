"""Steps whose rows are drawn by chance, each for itself, and the secret that all chance of a private training is from.

What differential privacy is accounted for (Abadi et al. 2016, section 3.1; Mironov et al. 2019) is that every row takes
part in a step with the same probability, whatever the others do: a step has as many rows as chance gives it, none
included. Whoever knew the random numbers could subtract the noise, so none of them follows from the run's seed, which
stands in the run folder.

Where samples belong together, whole groups take part.

Shapes: E samples of the training rows, G groups of them.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

import numpy as np

from tunesmith.engine.batch import IntArray
from tunesmith.engine.order import StepPlan

_SECRET_BYTES = 32


@dataclass(eq=False)
class Secret:
    """What the random numbers of a private training follow from: drawn from the system's entropy, and never shown.

    A training that goes on from a checkpoint takes up the one of its first steps.
    """

    value: bytes = field(default_factory=lambda: secrets.token_bytes(_SECRET_BYTES), repr=False)

    def generator(self, purpose: str, step: int) -> np.random.Generator:
        """Return the random numbers that a step has for one purpose: the same whenever they are asked for.

        The seed is a keyed hash, so that those of one step tell nothing of another's.
        """
        digest = hashlib.blake2b(f"{purpose} {step}".encode(), key=self.value, digest_size=_SECRET_BYTES).digest()
        words: list[int] = np.frombuffer(digest, dtype=np.uint32).tolist()
        return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(words)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoissonPlan(StepPlan):
    """A plan whose steps draw every sample with one probability; ``batch_size`` is how many that are in the mean."""

    secret: Secret
    group_of_sample: IntArray | None = field(default=None, compare=False)
    """[E]: the group of each sample, from 0 on; None where each is drawn for itself."""

    @property
    def sample_rate(self) -> float:
        """The probability with which a sample, or a group of them, takes part in a step."""
        return min(self.batch_size / self.num_samples, 1.0)

    @property
    def num_units(self) -> int:
        """How many are drawn, each for itself: E samples, or G groups."""
        return self.num_samples if self.group_of_sample is None else int(self.group_of_sample.max()) + 1

    def samples_of(self, step: int) -> IntArray:
        is_drawn = self.secret.generator("samples", step).random(self.num_units) < self.sample_rate
        return np.flatnonzero(is_drawn if self.group_of_sample is None else is_drawn[self.group_of_sample])
