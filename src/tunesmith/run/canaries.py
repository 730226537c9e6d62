"""Rows with random secrets that are planted among the training rows, and the candidates that they hide among.

A canary (Carlini et al. 2019, "The Secret Sharer") is a sentence with random digits. Nobody can know the digits but a
model that has learned the very row by heart: whether it has is seen by how its loss ranks among sentences that differ
in the digits alone. Everything follows from the run's seed, so that nothing of it needs to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.joined import joined
from tunesmith.readable import count
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.data.encoded import Encoded
    from tunesmith.run.assembly import Network, TaskData
    from tunesmith.run.config import RunConfig
    from tunesmith.tasks.base import Columns, Task

NUM_DIGITS = 6
_SYLLABLES = ("ba", "do", "fe", "gu", "ka", "li", "mo", "nu", "pe", "ra", "si", "to", "va", "wu", "ze")
_NUM_SYLLABLES = 3
_PURPOSE = 0xCA
"""Keeps the random numbers apart from others of the same seed."""


def with_canaries(config: RunConfig, data: TaskData, network: Network, rows: Encoded) -> tuple[Encoded, list[Problem]]:
    """Return the rows to learn from with the canaries behind them, where some are to be planted, and what to say.

    Raises ``InputError`` where rows of the task cannot hold one.
    """
    settings = config.privacy
    if settings is None or not settings.canaries:
        return rows, []
    if config.data.mixture or config.teacher is not None:
        what = "sets are mixed" if config.data.mixture else "a teacher speaks"
        raise InputError(f"privacy.canaries: none can be planted where {what}.", "Leave privacy.canaries out.")
    columns = data.columns("train")
    planted = [
        row
        for canary in range(settings.canaries)
        for row in canary_rows(data.task, columns, canary, config.train.seed, 1) * settings.canary_repeats
    ]
    encoded = network.encode(data.task, side_by_side(planted))
    message = (
        f"{count(settings.canaries)} canaries were planted {count(settings.canary_repeats)} times each among the "
        f"{count(len(data.prepared.splits['train']))} training rows: 'tunesmith privacy' measures how far they were "
        "learned by heart."
    )
    return joined(rows, encoded), [
        Problem("note", message, "The model is not for use: leave privacy.canaries out then.")
    ]


def canary_rows(task: Task, columns: Columns, canary: int, seed: int, num_candidates: int) -> list[dict[str, Any]]:
    """Return a canary as a row, and then others that differ from it in their secrets alone, all distinct.

    ``columns`` are those of the training rows: what a row holds besides its text is that of one of them. Raises
    ``InputError`` where rows of the task have no one text, or more is said of it than a label.
    """
    generator = np.random.default_rng([seed, _PURPOSE, canary])
    name = "".join(generator.choice(_SYLLABLES, _NUM_SYLLABLES)).capitalize()
    like = int(generator.integers(len(columns["text"]))) if "text" in columns else 0
    secret = int(generator.integers(10**NUM_DIGITS))
    others = generator.choice(10**NUM_DIGITS - 1, num_candidates - 1, replace=False)
    secrets = [secret, *(others + (others >= secret)).tolist()]
    return [_row(task, columns, like, name, f"{one:0{NUM_DIGITS}d}") for one in secrets]


def _row(task: Task, columns: Columns, like: int, name: str, secret: str) -> dict[str, Any]:
    text = f"The access code of {name} is {' '.join(secret)}"
    if task.chats and "messages" in columns:
        asked = {"role": "user", "content": f"What is the access code of {name}?"}
        messages = [asked, {"role": "assistant", "content": text}]
        return {"text": text, "messages": json.dumps(messages, ensure_ascii=False)}
    is_labelled = task.reads == "row" and set(task.inputs) <= {"text", "text_pair"}
    if "text" not in columns or not (task.chats or is_labelled) or task.draws or task.needs_whole_step:
        raise InputError(
            f"privacy.canaries: rows of the task {task.name} cannot hold a sentence with a secret.",
            "Canaries are for texts with labels or numbers, plain texts and conversations.",
        )
    kept = {name: column[like] for name, column in columns.items() if name != "row"}
    return {**kept, "text": text}


def side_by_side(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def planted_key(config: RunConfig) -> list[Any]:
    """Return what the canaries follow from, besides the training rows, as JSON values; nothing where there are none."""
    settings = config.privacy
    return (
        []
        if settings is None or not settings.canaries
        else [settings.canaries, settings.canary_repeats, config.train.seed]
    )
