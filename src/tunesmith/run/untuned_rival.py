"""The model before its first step, judged on the rows that the trained one will be judged on.

Kept in a folder of the run until the run ends, so that a resumed run has it too.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.encoded import Ragged
from tunesmith.evaluate import Baseline
from tunesmith.files.atomic import new_folder
from tunesmith.files.manifest import verify_manifest
from tunesmith.models.origin import origin
from tunesmith.run.judgement import judge
from tunesmith.run.session import Session

NAME = "before fine-tuning"


def judge_untuned(session: Session) -> Baseline | None:
    """Return what the model makes of the judged rows as it is now; None where the task has another rival."""
    data, config = session.data, session.config
    split = data.judged_split
    if data.task.rival != "untuned" or not config.evaluation.baseline or split not in data.prepared.splits:
        return None
    folder = session.directory.untuned
    if folder.is_dir() and not verify_manifest(folder):
        return _load(folder)
    known = origin(session.network.model)
    key = [
        "untuned",
        data.task.model_dump(mode="json"),
        data.prepared.hashes[split],
        config.evaluation.answers,
        config.evaluation.max_new_tokens,
        config.train.seed if known is None or known.new_parameters else None,
    ]
    found = session.workshop.once(key, lambda: _judge(session, split))
    found = replace(found, num_parameters=sum(parameter.numel() for parameter in session.network.model.parameters()))
    _save(found, folder)
    return found


def _judge(session: Session, split: str) -> Baseline:
    session.observers.working(f"evaluating the model {NAME}")
    data, network = session.data, session.network
    began = time.perf_counter()
    judged = judge(
        network,
        data.task,
        session.encoded(split),
        data.columns(split),
        session.config,
        working=session.observers.working,
    )
    return Baseline(NAME, judged.outputs, time.perf_counter() - began, 0, None)


def _save(found: Baseline, folder: Path) -> None:
    described: dict[str, Any] = {"seconds": found.seconds, "num_parameters": found.num_parameters, "outputs": {}}
    with new_folder(folder, replace=True) as temporary:
        for name, values in found.outputs.items():
            described["outputs"][name] = "array"
            if isinstance(values, Ragged):
                described["outputs"][name] = "ragged"
                np.save(temporary / f"{name}.offsets.npy", values.offsets, allow_pickle=False)
                np.save(temporary / f"{name}.npy", values.values, allow_pickle=False)
            elif values.dtype == object:  # texts
                described["outputs"][name] = values.tolist()
            else:
                np.save(temporary / f"{name}.npy", values, allow_pickle=False)
        (temporary / "described.json").write_text(json.dumps(described), encoding="utf-8")


def _load(folder: Path) -> Baseline:
    described = json.loads((folder / "described.json").read_text(encoding="utf-8"))
    outputs: dict[str, Any] = {}
    for name, kind in described["outputs"].items():
        if isinstance(kind, list):
            outputs[name] = np.array(kind, dtype=object)
            continue
        values = np.load(folder / f"{name}.npy", allow_pickle=False)
        offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False) if kind == "ragged" else None
        outputs[name] = values if offsets is None else Ragged(values, offsets)
    return Baseline(NAME, outputs, described["seconds"], described["num_parameters"], None)
