"""Writing a run in another form, and showing on rows that it does what the run does before the folder is there."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.data.encoded import Encoded
from tunesmith.evaluate import compare_paired
from tunesmith.export.equality import Compared, answers_of, compare_scores
from tunesmith.export.gguf_file import GgufFile
from tunesmith.export.onnx_graph import OnnxGraph
from tunesmith.export.plain_model import plain_model
from tunesmith.export.target import Form, Target
from tunesmith.export.transformers_folder import SentenceTransformersFolder, TransformersFolder
from tunesmith.files.atomic import new_folder, remove_folder
from tunesmith.files.manifest import MANIFEST
from tunesmith.files.space import require_writable
from tunesmith.run import Run
from tunesmith.run.reference import refer
from tunesmith.tasks.base import Columns
from tunesmith.types import InputError

TARGETS: Mapping[str, Target] = {
    target.name: target for target in (TransformersFolder(), SentenceTransformersFolder(), OnnxGraph(), GgufFile())
}

RECORD = "export.json"
NUM_ROWS = 500
"""Rows that are compared, unless somebody says otherwise."""
WORSE = 0.02
"""How much worse forms of few bits may be, by the interval of the main metric: more than that is refused."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export, as in ``export.json``."""

    target: str
    form: str
    rows: int
    """That were compared."""
    max_difference: float
    """Between scores, relative to the largest."""
    same_answers: float
    """Share of rows with the same answer; of runs that write, of tokens whose likeliest one is the same."""
    metric: str
    metric_before: float
    metric_after: float
    metric_change: Mapping[str, float]
    """After minus before, on the same rows: ``value``, ``low``, ``high``."""
    size: int
    """Bytes of all files."""
    size_before: int
    seconds: float


def export(
    run: Run,
    to: str,
    output: Path,
    *,
    form: str | None = None,
    data: str | None = None,
    num_rows: int = NUM_ROWS,
    overwrite: bool = False,
) -> Exported:
    """Write ``run`` into the new folder ``output`` in the form of another program, and compare it there.

    Args:
        run: A finished run; the model that it has loaded is in float32 afterwards.
        to: One of ``TARGETS``.
        output: Where it is written. Nothing is there if the comparison fails; what was written is then kept in a
            folder beside it, whose name ends in ``.refused``.
        form: How numbers are kept (``fp32``, ``bf16``, ``int8``, ...): the target's usual form when not given.
        data: Labelled rows to compare on, instead of those that the run was judged on.
        num_rows: How many of them, at most.
        overwrite: Replace an export that is there.

    Raises:
        InputError: The run cannot be written like this, or other scores came of it than its form explains.
    """
    target, chosen = _target(to), _form(to, form)
    _require_free(output, overwrite=overwrite)
    if run.task.head().reads_images:
        raise InputError(
            f"The run in {run.folder} looks at images ({run.task.name}); other forms are proven equal on texts alone.",
            "Use its folder as it is: the card in it says how plain transformers loads it.",
        )
    target.refuse(run)
    began = time.perf_counter()
    columns = _rows(run, data, num_rows)
    encoded = _encoded(run, columns)
    refused = output.with_name(f"{output.name}.refused")
    remove_folder(refused)
    reason = ""
    with new_folder(refused) as folder:
        target.write(run, plain_model(run), chosen, folder, tuple(encoded.inputs))
        size = _size(folder)
        compared = compare_scores(run.network, run.task, encoded, target.open(run, folder, chosen))
        found = _figures(run, target, chosen, compared, columns)
        found = replace(found, size=size, seconds=time.perf_counter() - began)
        (folder / RECORD).write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
        reason = _too_different(found, chosen, run)
    if reason:
        raise InputError(
            f"The run was not exported: {target.program} gives {reason}.",
            f"What was written is in {refused}; choose another form ({', '.join(target.forms)}), or compare on other "
            "rows (--data FILE).",
        )
    if overwrite:
        remove_folder(output)
    refused.rename(output)
    return found


def merge(run: Run, output: Path, *, form: str | None = None, data: str | None = None, overwrite: bool = False) -> Any:
    """Write an adapter and its base as one model of ``transformers``: ``export`` to ``safetensors``.

    Raises ``InputError`` for runs without an adapter, and where ``export`` does.
    """
    if run.config.method.result == "model":
        raise InputError(
            f"The run in {run.folder} is a whole model already ({run.config.method.name}): there is nothing to merge.",
            f"Use the folder as it is, or copy it in another form: tunesmith export {run.folder} --to safetensors.",
        )
    return export(run, "safetensors", output, form=form, data=data, overwrite=overwrite)


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise InputError(f"There is no form called '{name}'.", f"Choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]


def _form(to: str, name: str | None) -> Form:
    forms = TARGETS[to].forms
    if name is None:
        return next(iter(forms.values()))
    if name not in forms:
        raise InputError(f"{to} has no form '{name}'.", f"Choose one of {', '.join(forms)}.")
    return forms[name]


def _require_free(output: Path, *, overwrite: bool) -> None:
    if output.exists():
        is_export = (output / RECORD).is_file()
        if not overwrite or not is_export:
            fix = "Give --overwrite to replace it, or choose another folder." if is_export else "Choose another folder."
            raise InputError(f"{output} is there already.", fix)
    require_writable(output.parent)


def _rows(run: Run, data: str | None, num_rows: int) -> Columns:
    """Return the rows to compare on: with what they are judged by."""
    split = run.evaluation["split"] if (run.folder / "evaluation.json").is_file() else "test"
    try:
        read, _ = run.labelled_columns(data, split)
    except InputError as error:
        if data is not None:
            raise
        raise InputError(
            f"The rows that the run was judged on cannot be read any more, and nothing else shows that an export is "
            f"right: {error.problems[0].message}",
            "Give labelled rows as --data FILE.",
        ) from error
    return {name: values[:num_rows] for name, values in read.items()}


def _encoded(run: Run, columns: Columns) -> Encoded:
    weights = run.directory.read_json("environment").get("model", {}).get("weights_sha256")
    return refer(run.network.encode(run.task, columns), run.task, run.config, weights)


def _figures(run: Run, target: Target, form: Form, compared: Compared, columns: Columns) -> Exported:
    task, ours, theirs = run.task, compared.ours, compared.theirs
    difference = compared.difference
    answers = [answers_of(task, one.outputs, columns) for one in (ours, theirs)]
    if answers[0] is None or answers[1] is None:
        same = difference.num_same / max(difference.num_units, 1)
    else:
        same = sum(one == other for one, other in zip(*answers, strict=True)) / max(len(answers[0]), 1)
    change = compare_paired(task, theirs.outputs, ours.outputs, ours.targets, seed=run.config.train.seed)
    defined = {name for name, one in change.items() if None not in one.values()}
    if not defined:
        raise InputError(
            f"No metric has a value on these {len(next(iter(columns.values())))} rows.", "Give other rows."
        )
    metric = task.headline(defined)
    if metric not in defined:  # of answers that nobody wrote here
        metric = next(name for name in change if name in defined)
    values = [_value(task, one.outputs, ours.targets, metric) for one in (ours, theirs)]
    return Exported(
        target.name,
        form.name,
        len(next(iter(columns.values()))),
        difference.relative,
        same,
        metric,
        values[0],
        values[1],
        {name: float(value) for name, value in change[metric].items() if value is not None},
        size=0,
        size_before=int(run.summary.get("saved_bytes", 0)),
        seconds=0.0,
    )


def _value(task: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any], metric: str) -> float:
    import numpy as np

    num_rows = len(next(iter(outputs.values())))
    return float(task.measure(outputs, targets, np.ones((1, num_rows)))[metric][0])


def _too_different(found: Exported, form: Form, run: Run) -> str:
    """Return what is wrong with an export; empty where its form explains how it differs."""
    if found.max_difference == math.inf:
        return "scores that are no numbers"
    if form.tolerance is not None:
        if found.max_difference <= form.tolerance:
            return ""
        return (
            f"other scores than the run on {found.rows} rows: they differ by {found.max_difference:.2g} of the "
            f"largest, and {form.name} explains {form.tolerance:g}"
        )
    sign = 1 if run.task.higher_is_better.get(found.metric, True) else -1
    allowed = WORSE * max(abs(found.metric_before), 1e-9)
    best = max(sign * found.metric_change["low"], sign * found.metric_change["high"])
    if best < -allowed:
        return (
            f"worse answers than the run on {found.rows} rows: {found.metric} falls from {found.metric_before:.4g} to "
            f"{found.metric_after:.4g}"
        )
    return ""


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
