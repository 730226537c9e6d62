"""How a model is judged on some rows: scored, asked for answers, measured with intervals.

One path for the end of a run, for the model before its first step, and for a finished run that
is opened again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Array, Encoded, Ragged, as_ragged
from tunesmith.engine.generate import Sampling, generate
from tunesmith.engine.predict import predict
from tunesmith.evaluate import Baseline, evaluate
from tunesmith.metrics import require_answer_metrics
from tunesmith.tasks import writing
from tunesmith.tasks.base import Columns, Task, Writer
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.run.assembly import Network
    from tunesmith.run.config import RunConfig

Notify = Callable[[str], None]

SPEED_ROWS, LATENCY_ROWS = 256, 15
"""Rows that a speed is measured with, at most: together, and each alone."""
SPEED_TOKENS = 8192
"""Tokens of a micro-batch when it is measured."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written."""

    max_new_tokens: int = 256
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are drawn, the more freely the higher."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model made of some rows."""

    outputs: Mapping[str, Any]
    targets: Mapping[str, Array | Ragged]
    loss: float | None


def judge(
    network: Network,
    task: Task,
    encoded: Encoded,
    columns: Columns,
    config: RunConfig,
    *,
    working: Notify = lambda _: None,
) -> Judged:
    """Score the rows and, as far as ``evaluation.answers`` asks for it, have answers written."""
    scored = predict(network.scorer, network.collate, task, encoded, config.compute.micro_batch_tokens)
    outputs: dict[str, Any] = dict(scored.outputs)
    settings, wanted = config.evaluation, num_answers_wanted(task, config)
    num_rows = len(next(iter(columns.values())))
    refused = {row for rows in encoded.left_out.values() for row in rows}
    rows = [row for row in range(num_rows) if row not in refused][:wanted] if wanted else []
    if (num_answers := len(rows)) and task.writer is not None:
        first = rows[-1] + 1
        asked = {name: values[:first] for name, values in columns.items()}
        asked = {name: [values[row] for row in rows] for name, values in asked.items()}

        def tell(done: int) -> None:
            working(f"writing answers ({done} of {num_answers})")

        answers = write_answers(network, task, asked, Writing(settings.max_new_tokens), tell)
        of_row = dict(zip(rows, answers, strict=True))
        outputs |= task.writer.judge_answers([of_row.get(row) for row in range(num_rows)], columns)
    return Judged(outputs, scored.targets, scored.loss)


def figures(
    task: Task,
    judged: Judged,
    columns: Columns,
    config: RunConfig,
    *,
    split: str,
    rival: Baseline | None = None,
    beside: Sequence[Baseline] = (),
) -> dict[str, Any]:
    """Return the content of ``evaluation.json``; others are set ``beside`` on the same rows."""
    settings = config.evaluation
    evaluation = evaluate(
        task,
        judged.outputs,
        judged.targets,
        seed=config.train.seed,
        num_resamples=settings.num_resamples,
        confidence=settings.confidence,
        columns=columns,
        against=rival,
        beside=beside,
    )
    return {"split": split, "loss": judged.loss, **evaluation}


def prediction_speed(network: Network, task: Task, columns: Columns) -> dict[str, float]:
    """Return ``latency``, the seconds that one row alone takes, and ``rows_per_second`` where they come together.

    Both are from text to scores, tokenising included, in the process and on the device at hand; of rows that are
    written to, until the row itself is scored. The latency is the median over rows.
    """
    num_rows = len(next(iter(columns.values())))
    rows = np.linspace(0, num_rows - 1, min(num_rows, SPEED_ROWS), dtype=np.int64).tolist()
    chosen = {name: [values[row] for row in rows] for name, values in columns.items()}

    def seconds(rows: Columns) -> float:
        began = time.perf_counter()
        predict(network.scorer, network.collate, task, network.encode(task, rows), SPEED_TOKENS)
        return time.perf_counter() - began

    alone = [
        {name: [value] for name, value in zip(chosen, row, strict=True)} for row in zip(*chosen.values(), strict=True)
    ]
    seconds(alone[0])  # what is made once is not a row's
    latency = statistics.median(map(seconds, alone[:LATENCY_ROWS]))
    return {"latency": latency, "rows_per_second": len(rows) / seconds(chosen)}


def num_answers_wanted(task: Task, config: RunConfig) -> int:
    """Return how many of the judged rows answers are written to: as the user says, else as is usual for the task.

    None for tasks that draw answers: to be scored is to be answered there.
    """
    if task.draws:
        return 0
    if config.evaluation.answers is not None:
        return config.evaluation.answers
    return 0 if task.writer is None else task.writer.usual_answers


def check_answers(task: Task, num_answers: int) -> None:
    """Refuse to have answers written by a task that writes none."""
    if num_answers and task.writer is None:
        raise InputError(
            f"evaluation.answers: the task {task.name} writes no answers.",
            f"Leave it out, or use the task {writing()}.",
        )
    if num_answers:
        require_answer_metrics()


def write_answers(
    network: Network, task: Task, columns: Columns, writing: Writing, check: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Return the model's answer to every row; ``check`` is told how many are done."""
    prompts = encode_prompts(network, task, columns, writing.max_new_tokens)
    found = generate(network.model, prompts, sampling_for(network, task, writing), check=check)
    return [text.strip() for text in network.tokenizer.batch_decode(found, skip_special_tokens=True)]


def encode_prompts(network: Network, task: Task, columns: Columns, max_new_tokens: int) -> Ragged:
    """Return the prompts' ids, cut so that prompt and answer fit the length that the model was trained on."""
    room = network.max_length
    if _writer(task).shares_room:
        room = max(network.max_length - max_new_tokens, network.max_length // 2)
    return as_ragged(_writer(task).encode_prompts(columns, network.tokenizer, room).inputs["input_ids"])


def sampling_for(network: Network, task: Task, writing: Writing) -> Sampling:
    """Return how answers are searched for with this model's and this task's own end tokens."""
    return Sampling(
        stop_tokens=_writer(task).stop_tokens(network.tokenizer),
        pad_token_id=network.tokenizer.pad_token_id or 0,
        search=_writer(task).search(),
        **asdict(writing),
    )


def _writer(task: Task) -> Writer:
    """Return the task as one that writes, as the caller knows that it does."""
    assert task.writer is not None
    return task.writer
