"""What frozen layers make of the rows, computed once for a run: see ``engine.prefix``."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.engine.batch import Batch
from tunesmith.engine.predict import forward_tokens
from tunesmith.engine.prefix import Prefix
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.origin import origin
from tunesmith.models.wrapping import plain_name
from tunesmith.readable import size
from tunesmith.run.canaries import planted_key
from tunesmith.run.computed_columns import Column, ColumnFolder, Kept, load_column
from tunesmith.run.mixture import REPLAY
from tunesmith.run.session import Opened
from tunesmith.run.unlabelled import UNLABELLED
from tunesmith.types import Problem

if TYPE_CHECKING:
    import torch


def wants_states(opened: Opened) -> bool:
    """Say whether there are frozen layers to run once for rows that are seen more than once."""
    training = opened.training
    changes = training.task.corrupts or training.task.draws
    if training.scorer.prefix is None or not opened.config.compute.keep_states or changes:
        return False
    if training.data.shows_images:
        return False  # states are those of tokens
    return training.plan.total_steps > training.plan.steps_per_epoch


def keep_states(opened: Opened) -> Opened:
    """Return the run with the states of all training and validation rows."""
    training, prefix = opened.training, opened.training.scorer.prefix
    assert prefix is not None
    reads_only = prefix.is_all and training.scorer.reads_apart
    splits = {"train": training.data} | ({} if opened.validation is None else {"validation": opened.validation})
    columns = {name: _column(opened, name, data, prefix, reads_only=reads_only) for name, data in splits.items()}
    kept = {name: opened.columns.get(column) for name, column in columns.items()}
    num_bytes = sum(column.num_bytes for column in columns.values())
    message = (
        f"{len(prefix.layers)} of {len(prefix.layers) + len(prefix.later)} layers are frozen: what they make of the "
        f"rows was computed once ({size(num_bytes)}) and is used in every epoch. They run without dropout."
    )
    opened.note(Problem("note", message, "Nothing but the time changes with --compute.keep_states false."))
    return replace(opened, training=replace(training, data=kept["train"]), validation=kept.get("validation"))


def states_of(opened: Opened, data: Encoded) -> Encoded:
    """Return some training rows with the states that the run would have of them; nothing is kept."""
    prefix = opened.training.scorer.prefix
    assert prefix is not None
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
        folder = ColumnFolder(Path(name))
        column = _column(opened, "train", data, prefix, reads_only=prefix.is_all and opened.training.scorer.reads_apart)
        column.compute(folder)
        folder.finish("")
        kept = load_column(Path(name))
        states = {
            name: np.array(values) if isinstance(values, np.ndarray) else _in_memory(values)
            for name, values in kept.values.items()
        }
        return column.join(replace(kept, values=states))


def _in_memory(values: Ragged) -> Ragged:
    return Ragged(np.array(values.values), values.offsets)


def _column(opened: Opened, split: str, data: Encoded, prefix: Prefix, *, reads_only: bool) -> Column[Encoded]:
    """Return the states of a split: of every token or, where ``reads_only``, of what the head reads."""

    def compute(folder: ColumnFolder) -> None:
        opened.observers.working("computing the frozen layers once")
        write = _write_what_is_read if reads_only else _write
        write(opened, data, prefix, folder)

    def join(kept: Kept) -> Encoded:
        states = kept.values["states"]
        return replace(data, read_states=states) if reads_only else replace(data, states=as_ragged(states))

    task, hashes = opened.data.task.model_dump(mode="json"), opened.data.prepared.hashes
    content = [hashes[split], *([hashes[UNLABELLED]] if split == "train" and UNLABELLED in hashes else ())]
    content += [hashes[REPLAY]] if split == "train" and REPLAY in hashes else []
    if split == "train":
        content += planted_key(opened.config)
    if opened.config.method.num_calibration_rows:  # frozen weights may follow from the training rows
        content += [hashes["train"], opened.config.train.seed]
    return Column(
        name=f"states/{split}",
        key=[task, content, opened.model_key, _seed(opened), len(prefix.layers), reads_only],
        compute=compute,
        join=join,
        num_bytes=_num_bytes(opened, data, reads_only=reads_only),
        is_durable=False,
    )


def _seed(opened: Opened) -> int | None:
    """Return the run's seed where a frozen weight was initialised from it."""
    known, names = origin(opened.network.model), opened.training.optimizer.names
    if known is None:
        return opened.config.train.seed
    trained = set(map(plain_name, names))
    frozen = {plain_name(name) for name, _ in opened.network.model.named_parameters()} - trained
    return opened.config.train.seed if frozen & known.new_parameters else None


def _num_bytes(opened: Opened, data: Encoded, *, reads_only: bool) -> int:
    width = Anatomy.of(opened.network.model).hidden_size
    num_read = len(data) if data.reads is None else len(data.reads.values)
    num_states = num_read if reads_only else int(data.lengths.sum())
    return num_states * width * next(opened.network.model.parameters()).element_size()


def _write(opened: Opened, data: Encoded, prefix: Prefix, folder: ColumnFolder) -> None:
    scorer, stream = opened.training.scorer, data.stream("")
    assert stream is not None

    def run(batch: Batch) -> None:
        with scorer.surrounding(batch):
            scorer.base(batch)

    file = folder.file("states", stream.offsets, is_ragged=True)
    prefix.save_states(data, opened.training.collate, run, _budget(opened), file)


def _write_what_is_read(opened: Opened, data: Encoded, prefix: Prefix, folder: ColumnFolder) -> None:
    scorer, reads = opened.training.scorer, data.reads

    def read(batch: Batch) -> torch.Tensor:
        with scorer.surrounding(batch):
            return scorer.read(batch)

    offsets = np.arange(len(data) + 1) if reads is None else reads.offsets
    file = folder.file("states", offsets, is_ragged=reads is not None)
    prefix.save_read_states(data, opened.training.collate, read, _budget(opened), file)


def _budget(opened: Opened) -> int:
    return forward_tokens(opened.config.compute.micro_batch_tokens, opened.network.device)
