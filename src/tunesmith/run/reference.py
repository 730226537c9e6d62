"""What the model as it was before any training says of a run's rows, where the loss reads that: its reference.

It is asked as a model of its own, without what a method adds or chooses.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.predict import predict
from tunesmith.models.base import LoadedModel
from tunesmith.models.origin import origin
from tunesmith.run.assembly import Network, make_network
from tunesmith.run.config import RunConfig
from tunesmith.run.offload import streaming_of
from tunesmith.tasks.base import Task
from tunesmith.tasks.objective import Objective
from tunesmith.tasks.saved_head import head_of_run
from tunesmith.types import InputError

Values = Mapping[str, Array | Ragged]


def refer(encoded: Encoded, task: Task, config: RunConfig, weights_sha256: str | None) -> Encoded:
    """Return rows of a finished run with what its reference says of them, where its loss reads that.

    The run's model is loaded once more as it was before training. Raises ``InputError`` where it is another one now.
    """
    objective = task.reference
    if objective is None or task.draws:
        return encoded
    reference = before_training(task, config, weights_sha256)
    return encoded.with_targets(ask(reference, objective, encoded, config))


def before_training(task: Task, config: RunConfig, weights_sha256: str | None) -> Network:
    """Return the model of a finished run as it was before training, loaded once more.

    Raises ``InputError`` where it is another one now than that of this hash.
    """
    loaded = config.model.load(task.head(), [], config.train.seed, head_of_run, streaming=streaming_of(config))
    known = origin(loaded.model)
    if weights_sha256 is not None and known is not None and known.weights_sha256 not in (None, weights_sha256):
        raise InputError(
            f"The model {config.model.name} has changed since the run was trained, which is judged against it as it "
            "was.",
            "Bring the model back as it was.",
        )
    return as_it_was(loaded, config, task)


def as_it_was(loaded: LoadedModel, config: RunConfig, task: Task) -> Network:
    """Return a model as it was loaded, ready to score."""
    task.adapt(loaded.tokenizer)
    return make_network(loaded, config, task, lambda model: model)


def ask(network: Network, objective: Objective, encoded: Encoded, config: RunConfig) -> Values:
    """Return what an objective keeps of a model's scores, by name, one value for each unit of the sequences."""
    found = predict(network.scorer, network.collate, objective, encoded, config.compute.micro_batch_tokens)
    return {name: of_units(values, encoded) for name, values in found.outputs.items()}


def num_units(encoded: Encoded) -> int:
    """Return how many units the sequences have."""
    return len(encoded) if encoded.reads is None else len(encoded.reads.values)


def flat(values: Array | Ragged) -> Array:
    """Return the values of all units."""
    return values.values if isinstance(values, Ragged) else values


def of_units(values: Array | Ragged, encoded: Encoded) -> Array | Ragged:
    """Return values of rows as those of their sequences, which follow each other in the same order."""
    return flat(values) if encoded.reads is None else Ragged(flat(values), encoded.reads.offsets)
