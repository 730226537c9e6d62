"""What frozen layers make of the rows, computed once for a run: see ``engine.prefix``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Batch
from tunesmith.engine.prefix import Prefix
from tunesmith.engine.scorer import Scorer
from tunesmith.files.operations import make_folder
from tunesmith.files.space import require_space
from tunesmith.models.structure import inner
from tunesmith.readable import size
from tunesmith.types import Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Session


def keep_states(session: Session) -> None:
    """Compute the states of all training and validation rows, where the rows are seen more than once."""
    training = session.training
    prefix, plan = training.scorer.prefix, training.plan
    if prefix is None or not session.config.train.keep_states or training.task.corrupts:
        return
    if plan.total_steps <= plan.steps_per_epoch:
        return  # every row is seen once
    splits = {"train": training.data} | ({} if session.validation is None else {"validation": session.validation})
    num_bytes = sum(_num_bytes(session, data) for data in splits.values())
    require_space(session.directory.path, num_bytes)
    session.observers.working("computing the frozen layers once")
    kept = {name: _keep(session, name, data, prefix) for name, data in splits.items()}
    session.training = replace(training, data=kept["train"])
    session.validation = kept.get("validation")
    message = (
        f"{len(prefix.layers)} of {len(prefix.layers) + len(prefix.later)} layers are frozen: what they make of the "
        f"rows was computed once ({size(num_bytes)}) and is used in every epoch. They run without dropout."
    )
    session.note(Problem("note", message, "Nothing but the time changes with --train.keep_states false."))


def _num_bytes(session: Session, data: Encoded) -> int:
    width = int(inner(session.network.model).config.hidden_size)
    return int(data.lengths.sum()) * width * next(session.network.model.parameters()).element_size()


def _keep(session: Session, name: str, data: Encoded, prefix: Prefix) -> Encoded:
    scorer: Scorer = session.training.scorer
    folder = session.directory.states
    make_folder(folder)

    def run(batch: Batch) -> None:
        with scorer.surrounding(batch):
            scorer.base(batch)

    budget = session.config.train.micro_batch_tokens
    return prefix.save_states(data, session.training.collate, run, budget, folder / f"{name}.npy")
