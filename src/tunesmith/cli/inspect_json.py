"""What ``tunesmith data inspect --json`` tells beyond columns and labels: what a person would see in its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunesmith.types import ColumnProfile, InputError, Problem

if TYPE_CHECKING:
    from tunesmith.cli.inspect_config import InspectConfig
    from tunesmith.data import PreparedData, RawData
    from tunesmith.run.rows import FoundRows
    from tunesmith.tasks import Task

MOST_CHARACTERS = 600
"""Of a cell that is shown."""
MOST_LABELS = 50
PERCENTILES = (0, 25, 50, 75, 95, 99, 100)
"""Nearest-rank percentiles of lengths and values that are shown."""


def details(found: FoundRows, prepared: PreparedData, task: Task, num_rows: int) -> dict[str, Any]:
    """Return sources, columns, why they were chosen, counts of labels, lengths and the first training rows."""
    rows = prepared.splits["train"]
    columns = rows.columns()
    return {
        "title": task.title,
        "reasons": list(found.reasons),
        "roles": [{"role": one.role, "column": one.column, "reason": one.reason} for one in prepared.choices],
        "sources": sources(found.raw),
        "profiles": profiles(found.profiles),
        "label_counts": label_counts(task, columns),
        "lengths": {
            name: _percentiles(sorted(len(text or "") for text in texts)) for name, texts in task.texts(columns).items()
        },
        "examples": [
            {name: _cut(value) for name, value in row.items() if name != "starts" and value is not None}
            for row in islice(rows, num_rows)
        ],
    }


def what_is_known(settings: InspectConfig, error: InputError) -> dict[str, Any]:
    """Return what can be told of data that cannot be used as it is: its columns, and every problem."""
    from tunesmith.data import profile, read

    known: dict[str, Any] = {"problems": problems(error.problems)}
    try:
        raw = read(settings.data)
        known |= {"sources": sources(raw), "profiles": profiles(profile(raw.splits["train"]))}
    except InputError:  # that is what the error is about
        pass
    return known


def problems(found: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return problems with how to mend them, and where they are."""
    return [
        {
            "severity": one.severity,
            "message": one.message,
            "fix": one.fix,
            "count": one.count,
            "rows": list(one.rows),
        }
        for one in found
    ]


def sources(raw: RawData) -> list[dict[str, Any]]:
    """Return the files that rows came from."""
    return [
        {"name": one.name, "split": one.split, "format": one.format, "encoding": one.encoding, "rows": one.num_rows}
        for one in raw.sources
    ]


def profiles(found: Mapping[str, ColumnProfile]) -> list[dict[str, Any]]:
    """Return what a look at each column told."""
    return [
        {
            "column": name,
            "kind": one.kind,
            "distinct": one.num_distinct,
            "missing": one.num_missing,
            "examples": [_cut(example) for example in one.examples[:3]],
        }
        for name, one in found.items()
    ]


def label_counts(task: Task, columns: Mapping[str, Sequence[Any]]) -> dict[str, int]:
    """Return how many training rows (or tokens) have each label; nothing where truths are numbers or texts."""
    texts = task.texts(columns)
    name = next((name for name in task.truths if name in columns and name not in texts), None)
    if name is None or task.writer is not None or not task.label_names:
        return {}
    labels = [label for value in columns[name] for label in (value if isinstance(value, list) else [value])]
    if any(isinstance(label, (dict, float)) for label in labels):
        return {}
    return {str(label): number for label, number in Counter(labels).most_common(MOST_LABELS)}


def masks(task: Task, columns: Mapping[str, Sequence[Any]], settings: InspectConfig) -> dict[str, Any]:
    """Return rows as the model reads them, in pieces, each with whether it is trained."""
    import numpy as np

    from tunesmith.cli.mask import encoded_rows
    from tunesmith.tasks.chat.shown import shown_pieces

    assert settings.model is not None
    encoded, tokenizer, noticed = encoded_rows(task, columns, settings.model)
    rows = []
    for row in range(len(encoded)):
        place = row if encoded.rows is None else int(np.searchsorted(encoded.rows, row, "right")) - 1
        pieces = shown_pieces(encoded, row, tokenizer)
        trained = 0 if encoded.reads is None else int(encoded.reads.lengths[row])
        rows.append(
            {
                "row": str(columns["row"][place]),
                "tokens": int(encoded.lengths[row]),
                "trained": trained,
                "pieces": [[text, is_trained] for text, is_trained in pieces],
            }
        )
    return {"mask": rows, "mask_problems": problems(noticed)}


def _percentiles(values: Sequence[float]) -> list[float]:
    return [values[min(len(values) - 1, len(values) * one // 100)] for one in PERCENTILES] if values else []


def _cut(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
