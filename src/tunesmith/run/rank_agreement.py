"""Whether processes that are to train one model have the same configuration, rows, model and versions."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from tunesmith.engine import ranks
from tunesmith.engine.rank_group import num_restarts
from tunesmith.engine.step import Training
from tunesmith.files.lock import LOCK
from tunesmith.models.origin import origin
from tunesmith.models.streaming import stream_of
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import versions
from tunesmith.types import InputError, Problem, RunError

if TYPE_CHECKING:
    from tunesmith.run.session import Composed

MOST_DIFFERENCES = 5
"""Values that a message names."""


def check_ranks(composed: Composed) -> None:
    """Refuse, where several processes train, what they cannot: other parts, too few rows, drawn answers, noise.

    The first rank compares what all have; it is the one that says what is wrong.
    """
    if ranks.size() == 1:
        return
    plan, task = composed.training.plan, composed.data.task
    rows = min(plan.batch_size, plan.num_samples)
    problems = _differences(composed)
    if rows < ranks.size():
        problems.append(
            Problem(
                "error",
                f"A step has {rows} rows, and {ranks.size()} ranks were asked for: some would never have any.",
                f"Ask for at most {rows} ranks, or raise --train.batch_size.",
            )
        )
    if task.draws:
        problems.append(
            Problem(
                "error",
                f"The task {task.name} cannot be trained by several ranks: in every step the model writes answers to "
                "be learned from, and each rank would write all of them.",
                "Leave out --ranks.",
            )
        )
    if composed.config.privacy is not None:
        problems.append(
            Problem(
                "error",
                "privacy: a training with noise that hides its rows is made by one process: each of several would draw "
                "rows, and add noise, of its own.",
                "Leave out --ranks.",
            )
        )
    if problems and ranks.is_first():
        raise InputError(problems)


def _differences(composed: Composed) -> list[Problem]:
    """Return, on the first rank, what others have that it has not; all give theirs."""
    own = _facts(composed)
    ranks.say(f"facts/{ranks.number()}", own)
    if not ranks.is_first():
        return []
    problems = []
    for other in range(1, ranks.size()):
        theirs: dict[str, Any] = ranks.heard(f"facts/{other}")
        named = [
            f"{key} is {_short(theirs.get(key))} there and {_short(own.get(key))} on rank 0"
            for key in sorted({*own, *theirs} - {"host"})
            if own.get(key) != theirs.get(key)
        ]
        if named:
            more = f", and {len(named) - MOST_DIFFERENCES} more" if len(named) > MOST_DIFFERENCES else ""
            problems.append(
                Problem(
                    "error",
                    f"Rank {other} (on {theirs['host']}) does not train the same: "
                    f"{', '.join(named[:MOST_DIFFERENCES])}{more}.",
                    "Start every rank with the same command, on the same files, with the same packages.",
                )
            )
    return problems


def _facts(composed: Composed) -> dict[str, Any]:
    """Return all that has to be the same on every rank, by name, as JSON values."""
    known = origin(composed.network.model)
    configuration = composed.resolved.model_dump(mode="json", exclude={"output"})
    return {
        **_flat(configuration),
        **{f"the hash of the {split} rows": value for split, value in composed.data.prepared.hashes.items()},
        "the hash of the model's weights": None if known is None else known.weights_sha256,
        "the hash of the tokenizer": composed.workshop.tokenizer_sha256(composed.network),
        **{f"the version of {package}": version for package, version in versions().items()},
        "the device": composed.network.device.type,
        "the precision": composed.network.precision,
        "the layout": composed.network.scorer.layout,
        "the number of steps": composed.training.plan.total_steps,
        "host": socket.gethostname(),
    }


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def require_same_weights(training: Training) -> None:
    """Raise ``RunError`` where what is trained is no longer the same on all ranks, which it is by construction."""
    if ranks.size() == 1:
        return
    found = ranks.of_each(float(_checksum(training)))
    if odd := [number for number, value in enumerate(found) if value != found[0]]:
        raise RunError(
            f"After step {training.step}, rank {odd[0]} no longer has the weights of rank 0, although all made the "
            "same updates: the arithmetic or the memory of a machine is not sound, or their processors differ.\n  → Go "
            "on from the last checkpoint with --resume, on machines of one kind."
        )


def _checksum(training: Training) -> int:
    """Return a checksum of the trained weights, but of those in files, which the hash of the model tells."""
    found, optimizer = training.step, training.optimizer
    stream = stream_of(training.scorer.model)
    for parameter, master in zip(optimizer.parameters, optimizer.masters, strict=True):
        if stream is not None and stream.is_in_file(parameter):
            continue
        found = zlib.crc32(master.detach().cpu().contiguous().view(torch.uint8).numpy().data, found)
    return found


def launch() -> dict[str, Any]:
    """Return what tells one start of several processes from others: who started them, and when."""
    starter = os.getppid()
    return {"process": starter, "started": psutil.Process(starter).create_time(), "host": socket.gethostname()}


def was_begun(directory: RunDirectory) -> bool:
    """Say whether torchrun has begun the processes anew that had begun the run in this folder: it goes on then."""
    if not num_restarts():
        return False
    for one in (directory.staged, directory):
        if one.config.exists() and (one.path / "environment.json").exists():
            return bool(one.read_json("environment").get("launch") == launch())
    return False


def require_same_folder(place: Path) -> None:
    """Refuse a rank whose machine does not see the run's folder: it reads there what the first one has computed."""
    if not ranks.is_first() and not (place / LOCK).exists():
        raise InputError(
            f"Rank {ranks.number()} on {socket.gethostname()} does not find the run's folder {place}, which rank 0 "
            "holds.",
            "Give --output a folder that all machines share.",
        )
