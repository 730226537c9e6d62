"""A run begins on disk: from here on it can be resumed, and one that is resumed goes back to where it stood."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.engine import ranks
from tunesmith.engine.config import ComputeConfig
from tunesmith.models import record
from tunesmith.run.calibration import calibrated
from tunesmith.run.defaults import Decision, as_record, decisions_of
from tunesmith.run.environment import git_state, machine, versions
from tunesmith.run.general_text import judge_general_text
from tunesmith.run.going_back import go_back
from tunesmith.run.guards import (
    check_same_config,
    check_same_data,
    check_same_model,
    other_compute,
    other_surroundings,
)
from tunesmith.run.living_reference import with_living_reference
from tunesmith.run.mined_sequences import with_mined_sequences
from tunesmith.run.parts_from_files import wants_parts
from tunesmith.run.rank_agreement import launch
from tunesmith.run.reference_column import with_reference
from tunesmith.run.session import Composed, Opened, next_stage
from tunesmith.run.teacher import check_same_teacher
from tunesmith.run.untuned_rival import judge_untuned


def open_run(composed: Composed, *, resume: bool) -> Opened:
    """Write what is known before the first step, and judge the model as it is; go back if the run is resumed.

    Raises ``InputError`` where a run would be resumed as another one.
    """
    directory, resolved, started = composed.directory, composed.resolved, datetime.now(UTC)
    before = directory.read_config().compute if resume else resolved.compute
    decisions = composed.decisions
    if resume:
        check_same_config(directory, resolved)
        check_same_data(composed)
        check_same_model(composed)
        check_same_teacher(directory, composed.teacher)
        decisions = {**decisions_of(directory), **decisions}
    composed.stop.advice = f"Stopped before the first step. Begin again with: {composed.how_to_resume}"
    if ranks.is_first():
        _begin(composed, decisions, started, before, resume=resume)
    composed = with_reference(composed)
    rival, general = judge_untuned(composed), judge_general_text(composed)  # before anything is restored
    composed = with_living_reference(with_mined_sequences(calibrated(composed)))
    if not resume:
        composed.workshop.states.forget(directory.final or directory.path)  # of a run that this one replaces
    elif not wants_parts(composed.config):
        go_back(composed, before)
    return next_stage(Opened, composed, decisions=decisions, rival=rival, general=general)


def _begin(
    composed: Composed, decisions: Mapping[str, Decision], started: datetime, before: ComputeConfig, *, resume: bool
) -> None:
    """Write what is known before the first step; ``before`` are the machine's settings that a resumed run had."""
    directory, resolved = composed.directory, composed.resolved
    directory.begin(anew=not resume)
    directory.write_config(resolved)  # before everything else: it is what can be resumed
    environment = _environment(composed, decisions, started)
    if resume and (directory.path / "environment.json").exists():
        recorded = directory.read_json("environment")
        for problem in (*other_surroundings(recorded, environment), *other_compute(before, resolved.compute)):
            composed.note(problem)
        environment["card_sha256"] = recorded.get("card_sha256")
    directory.write_json("environment", environment)
    directory.write_rejected(composed.data.rejected)


def _environment(composed: Composed, decisions: Mapping[str, Decision], started: datetime) -> dict[str, Any]:
    once, network = composed.workshop.once, composed.network
    return {
        "versions": once(["versions"], versions),
        "machine": {**once(["machine"], machine), "ranks": ranks.size()},
        **({} if ranks.size() == 1 else {"launch": launch()}),
        "seed": composed.config.train.seed,
        "data": {"source": composed.config.data.path, "hashes": dict(composed.data.prepared.hashes)},
        "model": {"source": network.source, "hub_id": network.hub_id, **record(network.model)},
        "tokenizer": {"sha256": composed.workshop.tokenizer_sha256(network)},
        **({} if composed.teacher is None else {"teacher": composed.teacher.record()}),
        "defaults": as_record(decisions),
        "git": once(["git"], lambda: git_state(Path.cwd())),
        "started": started.isoformat(timespec="seconds"),
    }
