"""One training, and one of its steps under way: what the loop and those who serve it hand to each other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch, Collator, IntArray
from tunesmith.engine.config import ComputeConfig, TrainConfig
from tunesmith.engine.drawing import Drawn
from tunesmith.engine.noised_gradients import NoisedGradients
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.order import StepPlan, set_seed, step_seed
from tunesmith.engine.scorer import Scorer
from tunesmith.methods.hooks import StepHooks
from tunesmith.tasks.objective import Lesson, Objective

if TYPE_CHECKING:
    import torch

SPIKE_WINDOW = 32
"""Gradient norms that the spike guard compares with."""


@dataclass
class Training:
    """The parts of one training, and where it stands. What changes is what a checkpoint holds."""

    scorer: Scorer
    collate: Collator
    task: Objective
    data: Encoded
    plan: StepPlan
    optimizer: MasterOptimizer
    learning_rate: float
    config: TrainConfig
    method: StepHooks = field(default_factory=StepHooks)
    """Of it, the engine calls what is to be done between the parts of a step."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Of it, the engine reads how steps are split into micro-batches."""
    step: int = 0
    """Optimizer steps completed."""
    num_skipped: int = 0
    """Steps skipped in a row."""
    recent_norms: deque[float] = field(default_factory=lambda: deque(maxlen=SPIKE_WINDOW))
    token_budget: int = 0
    """Tokens per micro-batch; halved when memory runs out. 0 stands for the configured one."""
    recomputes: bool = False
    """Whether layers compute their activations again in the backward pass."""
    drawn: Drawn | None = None
    """The answers that the last step was learned from, where they serve for several steps."""
    noised: NoisedGradients | None = None
    """How a step's gradient is made of those of its rows, where it is not that of the sum of their losses."""


@dataclass
class Step:
    """One optimizer step under way: its micro-batches, and what they gave of its loss."""

    training: Training
    samples: IntArray
    seed: int
    """Of everything random in it: dropout, masked tokens."""
    lesson: Lesson | None = None
    """What is learned from instead of the samples themselves, of tasks that draw answers to them."""
    started: float = field(default_factory=time.perf_counter)
    batches: list[Batch] = field(default_factory=list)
    """Those with something to learn from that are this rank's, in the host's memory."""
    before: list[Batch] = field(default_factory=list)
    """Those of the ranks before this one, where the loss holds all rows of the step against each other."""
    after: list[Batch] = field(default_factory=list)
    """Those of the ranks after it."""
    idle: list[Batch] = field(default_factory=list)
    """What is passed through for nothing: weights in parts take all ranks for every pass, and others make more."""
    num_units: float = 0.0
    """Labelled units of the whole step, on all ranks."""
    num_tokens: int = 0
    """Real tokens, on all ranks."""
    losses: list[torch.Tensor] = field(default_factory=list)
    """Parts that add up, over all ranks, to the step's loss: scalars on the device."""
    note: str = ""
    num_hooks: int = 0
    """Hooks of the method called so far."""

    @contextmanager
    def hook(self) -> Iterator[None]:
        """Surround a hook of the method: it sees masters and whole gradients, and draws random numbers of its own."""
        self.num_hooks += 1
        set_seed(step_seed(self.seed, self.num_hooks), self.training.collate.device)
        with self.training.optimizer.as_masters():
            yield
