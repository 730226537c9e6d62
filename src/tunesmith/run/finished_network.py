"""The model of a finished run, loaded from its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.models import load_trained, tokenizer_hash
from tunesmith.run.assembly import Network, make_network
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.run.offload import streaming_of
from tunesmith.tasks.saved_head import head_of_run
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def read_network(directory: RunDirectory, config: RunConfig) -> Network:
    """Load the model of a finished run, ready to score; ``InputError`` when the tokenizer is not the run's own."""
    task = config.task
    assert task is not None
    head, method = task.head(), config.method
    if method.needs_base:
        loaded = config.model.load(head, [], config.train.seed, head_of_run, streaming=streaming_of(config))
    else:
        loaded = load_trained(directory.path, head, directory.read_json("training")["max_length"])
    task.adapt(loaded.tokenizer)
    recorded = directory.read_json("environment")["tokenizer"]["sha256"]
    if tokenizer_hash(loaded.tokenizer) != recorded:
        raise InputError(
            f"The tokenizer of {loaded.source} is not the one that the run was trained with (its hash differs).",
            "Use the model that the run was trained from, or the run's own files as they were written.",
        )

    def restore(model: PreTrainedModel) -> nn.Module:
        """Add what the run trained to a base model; a whole model was loaded with it."""
        return method.load(model, directory.path) if method.needs_base else model

    return make_network(loaded, config, task, restore)
