"""What a run's loss reads of its reference, the model as it was before any training: asked once, before the first step.

The column's key holds the rows' content and the weights' hash, so that runs that differ in method or rate have the
same; it is kept until the run ends, so that a resumed run has it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from tunesmith.models.origin import origin
from tunesmith.run.assembly import Network
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.reference import Values, as_it_was, ask, flat, num_units, of_units
from tunesmith.run.session import Composed
from tunesmith.tasks.objective import Objective


def with_reference(composed: Composed) -> Composed:
    """Return the run with what its reference says of the training rows, and of those that it is judged on."""
    objective, data = composed.data.task.reference, composed.data
    if objective is None or data.task.draws:  # what is drawn in a step, it is asked then
        return composed

    @cache
    def network() -> Network:
        """Load the reference if anything has to be computed; it is gone with this function."""
        composed.observers.working("asking the model as it was before training")
        return as_it_was(composed.workshop.load(composed.config, data), composed.config, data.task)

    said = {
        split: composed.columns.get(_column(composed, objective, split, network))
        for split in dict.fromkeys(("train", "validation", composed.judged_split))
        if split in data.prepared.splits
    }
    training, validation = composed.training, composed.validation
    return replace(
        composed,
        referred=said,
        training=replace(training, data=training.data.with_targets(said["train"])),
        validation=None if validation is None else validation.with_targets(said["validation"]),
    )


def _column(composed: Composed, objective: Objective, split: str, network: Callable[[], Network]) -> Column[Values]:
    task, config, known = composed.data.task, composed.config, origin(composed.network.model)
    encoded = composed.encoded(split)

    def compute(folder: ColumnFolder) -> None:
        for name, values in ask(network(), objective, encoded, config).items():
            folder.put(name, values)

    def join(kept: Kept) -> Values:
        assert all(len(flat(values)) == num_units(encoded) for values in kept.values.values()), "one of each unit"
        return {name: of_units(values, encoded) for name, values in kept.values.items()}

    key = [
        task.model_dump(mode="json", exclude=set(task.not_encoded)),
        composed.data.prepared.hashes[split],
        config.model.model_dump(mode="json"),
        None if known is None else known.weights_sha256,
        config.train.seed if known is None or known.new_parameters else None,
        composed.network.precision,
        composed.workshop.tokenizer_sha256(composed.network),
        composed.network.max_length,
    ]
    return Column(f"reference/{split}", key, compute, join, num_bytes=4 * num_units(encoded))
