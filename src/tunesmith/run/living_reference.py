"""The model as it was before training beside the one that is trained, where it is asked in every step."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.models.sharing import share_memory
from tunesmith.run.answering import Reference, referring
from tunesmith.run.reference import as_it_was
from tunesmith.run.session import Composed


def with_living_reference(composed: Composed) -> Composed:
    """Return the run with its reference, if that reads what is drawn in a step; it shares what is never trained.

    Called once methods have done what they do to a model before its first step.
    """
    task, config = composed.data.task, composed.config
    if not task.draws or task.reference is None:
        return composed
    composed.observers.working("loading the model as it was before training")
    network = as_it_was(composed.workshop.load(config, composed.data), config, task)
    if config.method.needs_base:
        share_memory(network.model, composed.network.model, set(composed.training.optimizer.names))
    own = referring(composed.network, Reference(network, task.reference, config))
    scorer = replace(composed.training.scorer, answering=own.scorer.answering)
    return replace(composed, network=own, training=replace(composed.training, scorer=scorer))
