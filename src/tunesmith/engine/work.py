"""How much there is to compute: for some rows, in proportion to others of the same training.

Steps are of different lengths, and a few of them are measured. What the others take follows from their work: linear
layers work on every token laid out, attention on every pair of tokens of a sequence, the head of a language model on
every token that it reads. The numbers are operations of a forward pass, counted roughly; only their proportions are
ever used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Collator, IntArray, LayoutName
from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import forward_tokens
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.weights import num_weights

PAIR = 3.0
"""What an operation on a pair of tokens costs beside one of a linear layer: exponentials, and smaller products."""
PER_SEQUENCE = 2e5
"""Operations that stand for laying a sequence out, and all that is done for it outside of the model."""
PER_BATCH = 2e7
"""The same for a micro-batch."""
SAMPLED_STEPS = 64
"""Steps that stand for all where rows are padded, so that it matters which of them come together."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward pass of a model takes."""

    layout: LayoutName
    per_token: float
    per_pair: float
    per_read: float
    """For every vector that the head reads."""
    backward: float
    """What a backward pass takes besides, in forward passes."""
    reads_states: bool = False
    """Whether all that the head reads is known, so that nothing below it runs."""

    @classmethod
    def of(cls, scorer: Scorer, data: Encoded, trained: Sequence[str]) -> Self:
        """Return the work of a model on data like ``data``, whose kept states spare it the layers below."""
        anatomy, prefix = Anatomy.of(scorer.model), scorer.prefix
        layers = anatomy.layer_modules or (anatomy.base,)
        above = layers if prefix is None else prefix.later
        sizes = [sum(num_weights(one) for one in layer.parameters()) for layer in layers]
        trainable = sizes[len(layers) - len(above) :]
        names = set(trained)
        depths = anatomy.depths
        lowest = min((depths[name] for name in names), default=0)
        weights = {name: num_weights(one) for name, one in scorer.model.named_parameters() if depths[name] >= lowest}
        share = sum(weights[name] for name in names if name in weights) / max(sum(weights.values()), 1)
        has_states = data.states is not None or data.read_states is not None
        counted = trainable if has_states else sizes
        output = scorer.num_outputs if scorer.reads == "token" else 1
        return cls(
            layout=scorer.layout,
            per_token=2.0 * sum(counted),
            per_pair=4.0 * PAIR * anatomy.hidden_size * len(counted),
            per_read=2.0 * anatomy.hidden_size * output,
            backward=(1.0 + share) * sum(trainable) / max(sum(counted), 1),
            reads_states=data.read_states is not None,
        )

    def of_batch(self, data: Encoded, sequences: IntArray) -> float:
        """Return the work of a micro-batch in a forward pass."""
        num_read = len(sequences) if data.reads is None else int(data.reads.lengths_of(sequences).sum())
        rest = self.per_read * num_read + PER_SEQUENCE * len(sequences) + PER_BATCH
        if self.reads_states:
            return rest
        lengths = data.lengths_of(sequences).astype(np.float64)
        if self.layout == "padded" and len(lengths):
            lengths[:] = lengths.max()
        return self.per_token * float(lengths.sum()) + self.per_pair * float((lengths**2).sum()) + rest

    def of_lengths(self, lengths: IntArray) -> float:
        """Return the work of the layers on sequences of these lengths, laid out without padding, in a forward pass."""
        tokens = lengths.astype(np.float64)
        return self.per_token * float(tokens.sum()) + self.per_pair * float((tokens**2).sum())

    def of_samples(self, data: Encoded, samples: IntArray, token_budget: int, max_samples: int | None = None) -> float:
        """Return the work of samples, split into micro-batches, in a forward pass."""
        batches = micro_batches(data, samples, self.layout, token_budget, max_samples)
        return sum(self.of_batch(data, sequences) for sequences in batches)

    def of_step(self, training: Training, step: int) -> float:
        """Return the work of an optimizer step, given by its index from 0, in both passes."""
        budget = training.token_budget or training.compute.micro_batch_tokens
        samples, most = training.plan.samples_of(step), training.compute.micro_batch_rows
        return (1.0 + self.backward) * self.of_samples(training.data, samples, budget, most)

    def of_steps(self, training: Training, steps: int) -> float:
        """Return the work of the first so many steps of a training: of some of them, which stand for all."""
        if steps <= SAMPLED_STEPS:
            return sum(self.of_step(training, step) for step in range(steps))
        sampled = np.linspace(0, min(steps, training.plan.steps_per_epoch) - 1, SAMPLED_STEPS).round().astype(int)
        rows = sum(len(training.plan.samples_of(int(step))) for step in sampled)
        per_row = sum(self.of_step(training, int(step)) for step in sampled) / rows
        return per_row * training.plan.epoch_after(steps) * training.plan.num_samples

    def of_scoring(self, data: Encoded, collate: Collator, token_budget: int) -> float:
        """Return the work of scoring all rows of a split."""
        return self.of_samples(data, np.arange(data.num_samples), forward_tokens(token_budget, collate.device))
