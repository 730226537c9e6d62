"""What frozen layers make of the rows, computed once for a run: see ``engine.prefix``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch
from tunesmith.engine.predict import forward_tokens
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.scorer import Scorer
from tunesmith.files.operations import make_folder
from tunesmith.files.space import require_space
from tunesmith.models.anatomy import Anatomy
from tunesmith.readable import size
from tunesmith.types import Problem

if TYPE_CHECKING:
    import torch

    from tunesmith.run.session import Session


def wants_states(session: Session) -> bool:
    """Say whether there are frozen layers to run once for rows that are seen more than once."""
    training = session.training
    if training.scorer.prefix is None or not session.config.compute.keep_states or training.task.corrupts:
        return False
    return training.plan.total_steps > training.plan.steps_per_epoch


def keep_states(session: Session) -> None:
    """Compute the states of all training and validation rows."""
    training = session.training
    prefix = training.scorer.prefix
    assert prefix is not None
    reads_only = prefix.is_all and training.scorer.reads_apart
    splits = {"train": training.data} | ({} if session.validation is None else {"validation": session.validation})
    num_bytes = sum(_num_bytes(session, data, reads_only=reads_only) for data in splits.values())
    keep = _keep_what_is_read if reads_only else _keep

    def kept_of(name: str, data: Encoded) -> Encoded:
        require_space(session.directory.path, _num_bytes(session, data, reads_only=reads_only))
        session.observers.working("computing the frozen layers once")
        return keep(session, name, data, prefix)

    kept = {
        name: session.workshop.once(_key(session, name), partial(kept_of, name, data)) for name, data in splits.items()
    }
    session.training = replace(training, data=kept["train"])
    session.validation = kept.get("validation")
    message = (
        f"{len(prefix.layers)} of {len(prefix.layers) + len(prefix.later)} layers are frozen: what they make of the "
        f"rows was computed once ({size(num_bytes)}) and is used in every epoch. They run without dropout."
    )
    session.note(Problem("note", message, "Nothing but the time changes with --compute.keep_states false."))


def _num_bytes(session: Session, data: Encoded, *, reads_only: bool) -> int:
    width = Anatomy.of(session.network.model).hidden_size
    num_read = len(data) if data.reads is None else len(data.reads.values)
    num_states = num_read if reads_only else int(data.lengths.sum())
    return num_states * width * next(session.network.model.parameters()).element_size()


def _key(session: Session, split: str) -> list[Any]:
    """Return what the states of a split depend on, among runs on one frozen base."""
    data = session.data
    return ["states", split, data.task.model_dump(mode="json"), data.prepared.hashes[split]]


def _keep(session: Session, name: str, data: Encoded, prefix: Prefix) -> Encoded:
    scorer: Scorer = session.training.scorer

    def run(batch: Batch) -> None:
        with scorer.surrounding(batch):
            scorer.base(batch)

    return prefix.save_states(data, session.training.collate, run, *_budget_and_file(session, name))


def _keep_what_is_read(session: Session, name: str, data: Encoded, prefix: Prefix) -> Encoded:
    scorer: Scorer = session.training.scorer

    def read(batch: Batch) -> torch.Tensor:
        with scorer.surrounding(batch):
            return scorer.read(batch)

    return prefix.save_read_states(data, session.training.collate, read, *_budget_and_file(session, name))


def _budget_and_file(session: Session, name: str) -> tuple[int, Path]:
    folder = session.directory.states
    make_folder(folder)
    return forward_tokens(session.config.compute.micro_batch_tokens, session.network.device), folder / f"{name}.npy"
