"""What fine-tuning makes a language model forget: its loss on general text, before and after.

The text is the user's, or prose from the manual that comes with Python, which every machine has: nothing is
fetched for it. The figure before training is a column that the run keeps, so that a resumed run has it too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.columns import NOTHING
from tunesmith.engine.predict import predict
from tunesmith.evaluate import difference, interval, score
from tunesmith.evaluate.bootstrap import Scores
from tunesmith.files.hashing import hash_json
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.run.assembly import Network, TaskData
    from tunesmith.run.config import RunConfig
    from tunesmith.run.session import Composed, Ready
    from tunesmith.tasks.base import Task

MANUAL = "python-manual"
"""The text that is on every machine."""
NUM_PASSAGES = 64
SHORTEST, LONGEST = 160, 600
"""Characters of a passage."""
_PARAGRAPH = re.compile(r"\n\s*\n")


def with_general_text(config: RunConfig, data: TaskData) -> RunConfig:
    """Return the configuration with the manual to measure forgetting by, where rows are replayed against it."""
    is_replayed = any(one.config.replay for one in data.sets)
    if not is_replayed or config.evaluation.general_text is not None or data.task.on_texts() is None:
        return config
    return config.model_copy(update={"evaluation": config.evaluation.changed(general_text=MANUAL)})


def judge_general_text(composed: Composed) -> Kept | None:
    """Return what the model before training makes of general text; None where that is not asked, or means nothing."""
    task, name = _task_on_texts(composed), composed.config.evaluation.general_text
    if task is None or name is None or name.strip().lower() == NOTHING:
        return None
    texts = read_passages(name)

    def compute(folder: ColumnFolder) -> None:
        composed.observers.working("reading general text before fine-tuning")
        for kind, values in _scored(composed.network, task, texts, composed.config.compute.micro_batch_tokens).items():
            folder.put(kind, values)

    # The weights that a seed makes change what the model reads, too.
    key = [task.model_dump(mode="json"), hash_json(texts), composed.model_key, composed.config.train.seed]
    return composed.columns.get(Column("general", key, compute, lambda kept: kept))


def forgetting(session: Ready) -> dict[str, Any] | None:
    """Return the loss before and after, in nats per token, and its growth with an interval over passages."""
    before, task, name = session.general, _task_on_texts(session), session.config.evaluation.general_text
    if before is None or task is None or name is None:
        return None
    texts, settings = read_passages(name), session.config.evaluation
    tokens = session.config.compute.micro_batch_tokens
    after = _scored(session.network, task, texts, tokens)
    losses = [_losses(task, kept, session) for kept in (before.values, after)]
    grown = difference(losses[1], losses[0], settings.confidence)["loss"]
    values = [interval(one.values["loss"], one.resampled["loss"], settings.confidence)["value"] for one in losses]
    return {
        "text": name,
        "passages": len(texts),
        "before": values[0],
        "after": values[1],
        "difference": grown["value"],
        "low": grown["low"],
        "high": grown["high"],
    }


def read_passages(name: str) -> list[str]:
    """Return at most ``NUM_PASSAGES`` passages of a text file, or of the manual, from all over it.

    Raises ``InputError`` where the file cannot be read, or holds no prose.
    """
    if name == MANUAL:
        from pydoc_data.topics import topics

        whole = "\n\n".join(topics[key] for key in sorted(topics))
        accept: Callable[[str], bool] = _is_prose
    else:
        try:
            whole = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"evaluation.general_text: {name} cannot be read as text ({error})."
            raise InputError(message, f"Give a text file in UTF-8, or {MANUAL}.") from error
        accept = bool
    paragraphs = (" ".join(part.split()) for part in _PARAGRAPH.split(whole))
    passages = [part[:LONGEST] for part in paragraphs if len(part) >= SHORTEST and accept(part)]
    if not passages:
        message = f"evaluation.general_text: {name} holds no paragraph of {SHORTEST} characters or more."
        raise InputError(message, "Give a longer text, with empty lines between its paragraphs.")
    places = np.linspace(0, len(passages) - 1, min(len(passages), NUM_PASSAGES), dtype=np.int64)
    return [passages[place] for place in places]


def _is_prose(paragraph: str) -> bool:
    """Say whether a paragraph is sentences, rather than a table, a grammar or an example."""
    letters = sum(letter.isalpha() or letter in " ,.;" for letter in paragraph)
    return paragraph[0].isupper() and paragraph.endswith(".") and letters > 0.93 * len(paragraph)


def _task_on_texts(composed: Composed) -> Task | None:
    return composed.data.task.on_texts()


def _scored(network: Network, task: Task, texts: Sequence[str], tokens: int) -> dict[str, Any]:
    """Return outputs and targets of the texts, by ``outputs/NAME`` and ``targets/NAME``."""
    encoded = network.encode(task, {"text": list(texts)})
    scored = predict(network.scorer, network.collate, task, encoded, tokens)
    named = {"outputs": scored.outputs, "targets": scored.targets}
    return {f"{group}.{name}": values for group, found in named.items() for name, values in found.items()}


def _losses(task: Task, kept: Mapping[str, Any], session: Ready) -> Scores:
    """Return the loss on the texts and on resamples of them: the logarithm of the perplexity."""
    groups: dict[str, dict[str, Any]] = {"outputs": {}, "targets": {}}
    for place, values in kept.items():
        group, _, name = place.partition(".")
        groups[group][name] = values
    settings = session.config.evaluation
    found = score(
        task,
        groups["outputs"],
        groups["targets"],
        seed=session.config.train.seed,
        num_resamples=settings.num_resamples,
        per_label=False,
    )
    perplexity = task.main_metric()
    value, resampled = found.values[perplexity], found.resampled[perplexity]
    return Scores({"loss": math.log(value)}, {"loss": np.log(resampled)}, {}, {})
