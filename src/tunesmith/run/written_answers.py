"""Answers that a model writes: some rows after the other, kept on disk as they come where that is asked for.

Rows are written to in parts of a fixed size, each by itself: what is held in memory does not grow with the rows, and
whoever goes on after some whole parts writes to the bit what would have been written in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.encoded import Ragged, as_ragged
from tunesmith.engine.generate import Sampling, generate
from tunesmith.files.hashing import hash_json
from tunesmith.files.partial import partial_of, sweep_partials
from tunesmith.run.countdown import Countdown
from tunesmith.tasks.base import Columns, Task, Writer
from tunesmith.version import __version__

if TYPE_CHECKING:
    from tunesmith.run.assembly import Network

Notify = Callable[[str], None]

PART_ROWS = 128
"""Rows whose answers are written together: twice as many as are at work at once."""
_SEEDS_APART = 1_000_003
_ABANDONED_SECONDS = 30 * 24 * 3600.0
"""After which nobody goes on with answers that are kept."""
WRITING = "writing answers"


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
    num_beams: int | None = None
    """Beams of the search for an answer; as the task says when not given."""
    length_penalty: float | None = None
    """The score of a beam is divided by its length to this power; as the task says when not given."""

    def of_part(self, number: int) -> Writing:
        """Return how a part of the rows is written to: what is drawn differs from part to part."""
        return replace(self, seed=self.seed + _SEEDS_APART * number)

    def search(self) -> dict[str, Any]:
        """Return what is said of beams, as settings of ``GenerationConfig`` of ``transformers``."""
        given = {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Kept:
    """Where answers are kept while they are written, so that work that was broken off goes on."""

    folder: Path
    model: str
    """Stands for the model that writes."""


def part_of(columns: Columns, start: int, size: int) -> dict[str, Sequence[Any]]:
    """Return some rows of columns."""
    return {name: values[start : start + size] for name, values in columns.items()}


def write_answers(
    network: Network,
    task: Task,
    columns: Columns,
    writing: Writing,
    *,
    notify: Notify = lambda _: None,
    kept: Kept | None = None,
) -> list[str]:
    """Return the model's answer to every row; ``notify`` is told how far that is.

    Where they are ``kept``, answers that were written before for the same are taken up, and nothing stays on disk when
    all are there.
    """
    if kept is None:
        return [text for part in _parts(network, task, columns, writing, notify=notify) for text in part]
    key = hash_json(
        [kept.model, __version__, asdict(writing), {name: list(values) for name, values in columns.items()}]
    )
    sweep_partials(kept.folder, _ABANDONED_SECONDS)
    with partial_of(kept.folder / key[:32], key, PART_ROWS) as file:
        for part in _parts(network, task, columns, writing, file.num_rows, notify=notify):
            file.add([{"answer": text} for text in part])
        found = [row["answer"] for row in file.rows()]
        file.remove()
    return found


def _parts(
    network: Network, task: Task, columns: Columns, writing: Writing, first: int = 0, *, notify: Notify
) -> Iterator[list[str]]:
    """Yield the answers of each part of the rows from ``first`` on."""
    num_rows = len(next(iter(columns.values())))
    countdown = Countdown(WRITING, num_rows, notify, done=first)
    for start in range(first, num_rows, PART_ROWS):
        part = part_of(columns, start, PART_ROWS)
        yield write_part(network, task, part, writing.of_part(start // PART_ROWS), after(start, countdown))


def after(start: int, countdown: Countdown) -> Callable[[int], None]:
    """Return what counts rows that are done after ``start`` others."""
    return lambda done: countdown.tell(start + done)


def write_part(
    network: Network, task: Task, columns: Columns, writing: Writing, check: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Return the model's answer to every row, written together; ``check`` is told how many are done."""
    prompts, beside = encode_prompts(network, task, columns, writing.max_new_tokens)
    found = generate(network.model, prompts, sampling_for(network, task, writing), check=check, beside=beside)
    return [text.strip() for text in network.tokenizer.batch_decode(found, skip_special_tokens=True)]


def encode_prompts(
    network: Network, task: Task, columns: Columns, max_new_tokens: int
) -> tuple[Ragged, dict[str, Any]]:
    """Return the prompts' ids, cut so that prompt and answer fit the length that the model was trained on.

    Beside them come the further inputs that the task has, by name: the images that prompts show.
    """
    room = network.max_length
    if _writer(task).shares_room:
        room = max(network.max_length - max_new_tokens, network.max_length // 2)
    inputs = dict(_writer(task).encode_prompts(columns, network.tokenizer, room).inputs)
    return as_ragged(inputs.pop("input_ids")), inputs


def sampling_for(network: Network, task: Task, writing: Writing) -> Sampling:
    """Return how answers are searched for with this model's and this task's own end tokens."""
    return Sampling(
        max_new_tokens=writing.max_new_tokens,
        stop_tokens=_writer(task).stop_tokens(network.tokenizer),
        pad_token_id=network.tokenizer.pad_token_id or 0,
        temperature=writing.temperature,
        top_p=writing.top_p,
        seed=writing.seed,
        search={**_writer(task).search(), **writing.search()},
    )


def _writer(task: Task) -> Writer:
    """Return the task as one that writes, as the caller knows that it does."""
    assert task.writer is not None
    return task.writer
