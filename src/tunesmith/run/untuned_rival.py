"""The model before its first step, judged on the rows that the trained one will be judged on.

Where few rows are drawn to train on, its prompts show them as examples, if it is prompted.
A column that is kept until the run ends, so that a resumed run has it too.
"""

from __future__ import annotations

import time

from tunesmith.evaluate import Baseline
from tunesmith.models.origin import origin
from tunesmith.readable import IN_CONTEXT, UNTUNED
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.run.in_context import shows_examples, with_examples
from tunesmith.run.judgement import judge, num_answers_wanted
from tunesmith.run.session import Composed
from tunesmith.types import Problem

NAME = UNTUNED


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
        *([data.prepared.hashes["train"], config.train.seed] if shows_examples(composed) else ()),
    ]

    def compute(folder: ColumnFolder) -> None:
        _judge(composed, split, folder)

    def join(kept: Kept) -> Baseline:
        if shows_examples(composed):
            composed.note(_examples_note(kept.facts.get("examples"), len(data.prepared.splits["train"])))
        num_parameters = sum(parameter.numel() for parameter in composed.network.model.parameters())
        name = IN_CONTEXT if kept.facts.get("examples") else NAME
        return Baseline(name, kept.values, kept.facts["seconds"], num_parameters, None)

    return composed.columns.get(Column("untuned", key, compute, join))


def _judge(composed: Composed, split: str, folder: ColumnFolder) -> None:
    working = composed.observers.working
    data, network = composed.data, composed.network
    began = time.perf_counter()
    encoded, columns = composed.encoded(split), data.columns(split)
    shown = with_examples(composed, split) if shows_examples(composed) else None
    if shown is not None:
        encoded, columns, folder.facts["examples"] = shown.encoded, shown.columns, shown.mean
    working(f"evaluating the model {NAME}" + (f", with {IN_CONTEXT}" if shown is not None else ""))
    judged = judge(network, data.task, encoded, columns, composed.config, working=working)
    folder.facts["seconds"] = time.perf_counter() - began
    for name, values in judged.outputs.items():
        folder.put(name, values)


def _examples_note(shown: float | None, num_rows: int) -> Problem:
    """Say how many examples the rival is shown, or that it is shown none."""
    if shown is None:
        message = "The chat template writes rows otherwise after examples: the model is judged without any beside it."
        return Problem("warning", message, "Give another template as task.template.")
    message = (
        f"The rival is the untuned model with {IN_CONTEXT}: {shown:.3g} of {num_rows} training rows, in the mean, "
    )
    message += "in the prompt of every judged row, as many as there is room for."
    return Problem("note", message, "Raise model.max_length for more." if shown < num_rows else "")
