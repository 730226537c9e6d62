"""A training that goes on with its weights in parts, and one whose weights are whole again on the first rank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from tunesmith.engine import ranks
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.precision import DTYPES, Precision
from tunesmith.engine.sharding.model import Sharding
from tunesmith.engine.sharding.optimizer import ShardedOptimizer
from tunesmith.engine.step import Training
from tunesmith.methods.base import ParameterGroup
from tunesmith.models.streaming import stream_of

Groups = Callable[[nn.Module], list[ParameterGroup]]


def divide_weights(training: Training, groups: Groups) -> None:
    """Divide the weights of a training before its first step over the ranks that make it; all do so at once.

    ``groups`` says what is trained. Whoever holds parameters of the model lets go of them before: they are others
    afterwards.
    """
    model, optimizer = training.scorer.model, training.optimizer
    dtype, stream = optimizer.parameters[0].dtype, stream_of(model)
    for parameter, master in zip(optimizer.parameters, optimizer.masters, strict=True):
        if stream is None or not stream.is_in_file(parameter):
            parameter.data = master.detach()  # what a rank keeps of a weight is its master
    penalties, optimizer = optimizer.penalties, None  # type: ignore[assignment]
    del training.optimizer  # and with it all that it holds of whole weights
    training.scorer.forget_parameters()
    sharding = Sharding(model, training.collate.device, dtype)
    training.scorer = replace(training.scorer, sharding=sharding)
    training.optimizer = ShardedOptimizer(
        model, groups(model), training.config.optimizer, training.learning_rate, penalties
    )


def make_whole(training: Training, groups: Groups, precision: Precision, *, may_stream: bool = False) -> None:
    """Put the weights together on the first rank, where everything is then as if one process had trained.

    All ranks ask; the others are left without a model. What the optimizer remembers is not gathered. Frozen weights
    that came from files may be streamed from there, if what is saved in the end is nothing of them.
    """
    sharding, penalties = training.scorer.sharding, training.optimizer.penalties
    assert sharding is not None, "there are parts to put together"
    trained, model, dtype = set(training.optimizer.names), training.scorer.model, DTYPES[precision]
    del training.optimizer
    sharding.end(may_stream=may_stream)
    if not ranks.is_first():
        return
    for name, parameter in model.named_parameters():
        if name in trained and parameter.dtype == torch.float32 and dtype != torch.float32:
            parameter.exact = parameter.detach()  # type: ignore[attr-defined]
            parameter.data = parameter.data.to(dtype)
    training.scorer = replace(training.scorer, sharding=None)
    training.optimizer = MasterOptimizer(
        model, groups(model), training.config.optimizer, training.learning_rate, penalties
    )
