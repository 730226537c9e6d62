"""What the untrained model adds to the training rows (hard negatives): computed once, before anything is restored."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.predict import predict
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.session import Composed, Stage
from tunesmith.types import Problem


def with_mined_sequences(composed: Stage) -> Stage:
    """Return the run with the sequences that its task finds for the training rows by the model as it is now.

    Raises ``InputError`` where none is found.
    """
    training, task = composed.training, composed.data.task
    if not task.mines:
        return composed
    data, problems = composed.columns.get(_column(composed, training.data))
    for problem in problems:
        composed.note(problem)
    return replace(composed, training=replace(training, data=data))


def _column(composed: Composed, data: Encoded) -> Column[tuple[Encoded, list[Problem]]]:
    network, task, config = composed.network, composed.data.task, composed.config

    def compute(folder: ColumnFolder) -> None:
        composed.observers.working("reading the training rows with the untrained model")
        budget = config.compute.micro_batch_tokens
        seen = predict(
            network.scorer, network.collate, task, replace(data, targets={}), budget, check=composed.stop.check
        )
        for name, values in task.mine(seen.outputs, data).items():
            folder.put(name, values)

    def join(kept: Kept) -> tuple[Encoded, list[Problem]]:
        mined: dict[str, Array] = {
            name: values for name, values in kept.values.items() if not isinstance(values, Ragged)
        }
        return task.with_mined(data, mined)

    key = [task.model_dump(mode="json"), composed.data.prepared.hashes["train"], composed.model_key, config.train.seed]
    return Column("mined/train", key, compute, join)
