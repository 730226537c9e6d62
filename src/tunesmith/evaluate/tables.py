"""Predictions beside the rows they are for: the mistakes worth reading, and the whole table."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith.data.encoded import Ragged
from tunesmith.evaluate.baseline import Baseline
from tunesmith.tasks.base import Columns, Outputs, Targets, Task

MAX_MISTAKES = 20
MAX_EXCHANGES = 50
MAX_TEXT = 2000
"""Characters of a text that are shown."""


def mistakes(
    task: Task, outputs: Outputs, targets: Targets, columns: Columns, limit: int = MAX_MISTAKES
) -> list[dict[str, Any]]:
    """Return the ``limit`` worst mistakes: the surest wrong labels, or the largest errors, with their texts.

    Of rows that nothing is simply right or wrong for (texts that are modelled), the least expected ones: their
    ``perplexity``, and the reference and the answer where there are any.
    """
    errors_N = task.errors(outputs, targets)
    worst = np.argsort(-errors_N, kind="stable")[:limit]
    rows = [int(row) for row in worst if errors_N[row] > 0]
    shown = {name: [values[row] for row in rows] for name, values in columns.items()}
    predictions = task.decode({name: _select(values, rows) for name, values in outputs.items()}, shown)
    truths = task.truth({name: _select(values, rows) for name, values in targets.items()})
    texts = list(task.texts(shown).values())
    found = []
    for place, (row, prediction, truth) in enumerate(zip(rows, predictions, truths, strict=True)):
        entry = {
            "row": str(columns["row"][row]) if "row" in columns else str(row),
            "text": _shortened(prediction.get("prompt", texts[0][place] if texts else "")),
            "text_pair": _shortened(_beside(texts, place)),
        }
        if truth is None:
            entry |= {"label": prediction.get("reference"), "prediction": prediction.get("answer")}
            entry["perplexity"] = prediction.get("perplexity", prediction.get("value"))
            found.append(entry)
            continue
        entry["label"] = task.shown(truth, columns, row)
        entry["prediction"] = task.shown(_answer(prediction), columns, row)
        if "score" in prediction:
            entry["score"] = prediction["score"]
        elif isinstance(truth, (int, float)):
            entry["error"] = _answer(prediction) - truth
        found.append(entry)
    return found


def exchanges(
    task: Task, outputs: Outputs, columns: Columns, against: Baseline | None = None, limit: int = MAX_EXCHANGES
) -> list[dict[str, Any]]:
    """Return the first ``limit`` rows that an answer was written to: prompt, reference, answers before and after."""
    rows = [row for row, answer in enumerate(outputs["answers"]) if answer is not None][:limit]
    shown = {name: [values[row] for row in rows] for name, values in columns.items()}
    predictions = task.decode({name: _select(values, rows) for name, values in outputs.items()}, shown)
    texts = next(iter(task.texts(shown).values()))
    before = None if against is None else against.outputs.get("answers")
    return [
        {
            "row": str(columns["row"][row]) if "row" in columns else str(row),
            "prompt": prediction.get("prompt", text),
            "reference": prediction.get("reference"),
            "before": None if before is None else before[row],
            "after": prediction["answer"],
        }
        for row, text, prediction in zip(rows, texts, predictions, strict=True)
    ]


def predictions_table(task: Task, outputs: Outputs, targets: Targets, columns: Columns) -> dict[str, list[Any]]:
    """Return the columns of ``predictions.parquet``: row, text, text_pair, label, prediction, score, ``p:<label>``.

    The rows' columns are those that the task reads; tagged tokens have ``entities`` in predictions, too.
    ``targets`` may be empty (prediction without labels): then there is no ``label`` column.
    Labels and predictions of multi-label rows are lists. Rows that the model writes an answer to have the
    reference as their label; where it wrote none, the prediction is the perplexity of the row.
    """
    predictions = task.decode(outputs, columns)
    table: dict[str, list[Any]] = {
        "row": [str(place) for place in columns["row"]]
        if "row" in columns
        else [str(i) for i in range(len(predictions))],
    }
    read = (role.name for role in task.roles if role.name not in task.truths)
    table |= {name: list(columns[name]) for name in dict.fromkeys([*task.inputs, *read]) if name in columns}
    truths = task.truth(targets) if targets else []
    if any("reference" in prediction for prediction in predictions):
        table["label"] = [prediction["reference"] for prediction in predictions]
    elif any(truth is not None for truth in truths):
        table["label"] = truths
    table["prediction"] = [_answer(prediction) for prediction in predictions]
    if predictions and "score" in predictions[0]:
        table["score"] = [prediction["score"] for prediction in predictions]
    if predictions and "entities" in predictions[0]:
        table["entities"] = [prediction["entities"] for prediction in predictions]
    for label in predictions[0].get("probabilities", {}) if predictions else ():
        table[f"p:{label}"] = [prediction["probabilities"][label] for prediction in predictions]
    return table


def _beside(texts: list[Any], place: int) -> str | None:
    """Return what was read together with a row's first text; None where there is nothing."""
    others = [column[place] for column in texts[1:]]
    return others[0] if len(others) == 1 else "\n\n".join(filter(None, others)) or None


def _answer(prediction: dict[str, Any]) -> Any:
    return next(prediction[name] for name in ("label", "tags", "value", "answer", "perplexity") if name in prediction)


def _select(values: Any, rows: list[int]) -> Any:
    return values.select(rows) if isinstance(values, Ragged) else values[rows]


def _shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
