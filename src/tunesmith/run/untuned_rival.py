"""The model before its first step, judged on the rows that the trained one will be judged on.

A column that is kept until the run ends, so that a resumed run has it too.
"""

from __future__ import annotations

import time

from tunesmith.evaluate import Baseline
from tunesmith.models.origin import origin
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.judgement import judge, num_answers_wanted
from tunesmith.run.session import Composed

NAME = "before fine-tuning"


def judge_untuned(composed: Composed) -> Baseline | None:
    """Return what the model makes of the judged rows as it is now; None where the task has another rival."""
    data, config = composed.data, composed.config
    split = composed.judged_split
    if data.task.rival != "untuned" or not config.evaluation.baseline or split not in data.prepared.splits:
        return None
    known = origin(composed.network.model)
    key = [
        data.task.model_dump(mode="json"),
        data.prepared.hashes[split],
        composed.model_key,
        num_answers_wanted(data.task, config),
        config.evaluation.max_new_tokens,
        config.train.seed if known is None or known.new_parameters else None,
    ]

    def compute(folder: ColumnFolder) -> None:
        _judge(composed, split, folder)

    def join(kept: Kept) -> Baseline:
        num_parameters = sum(parameter.numel() for parameter in composed.network.model.parameters())
        return Baseline(NAME, kept.values, kept.facts["seconds"], num_parameters, None)

    return composed.columns.get(Column("untuned", key, compute, join))


def _judge(composed: Composed, split: str, folder: ColumnFolder) -> None:
    working = composed.observers.working
    working(f"evaluating the model {NAME}")
    data, network = composed.data, composed.network
    began = time.perf_counter()
    encoded, columns = composed.encoded(split), data.columns(split)
    judged = judge(network, data.task, encoded, columns, composed.config, working=working)
    folder.facts["seconds"] = time.perf_counter() - began
    for name, values in judged.outputs.items():
        folder.put(name, values)
