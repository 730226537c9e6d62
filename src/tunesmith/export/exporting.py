"""Writing a run in another form, and showing on rows that it does what the run does before the folder is there."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.evaluate import compare_paired
from tunesmith.export.equality import Compared, answers_of, compare_scores, reference_model
from tunesmith.export.gguf_file import GgufFile
from tunesmith.export.greedy_texts import share_of_same_texts
from tunesmith.export.latency import measure_latency
from tunesmith.export.onnx_graph import OnnxGraph
from tunesmith.export.plain_model import plain_model
from tunesmith.export.record import RECORD, Exported, read_record, remember, write_record
from tunesmith.export.target import Form, Target
from tunesmith.export.torchao_folder import TorchaoFolder
from tunesmith.export.transformers_folder import SentenceTransformersFolder, TransformersFolder
from tunesmith.files.atomic import new_folder, remove_folder
from tunesmith.files.manifest import MANIFEST
from tunesmith.files.space import require_writable
from tunesmith.run import Run
from tunesmith.run.reference import refer
from tunesmith.tasks.base import Columns
from tunesmith.types import InputError, MissingExtraError

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (TransformersFolder(), SentenceTransformersFolder(), OnnxGraph(), GgufFile(), TorchaoFolder())
}

NUM_ROWS = 500
"""Rows that are compared, unless somebody says otherwise."""
WORSE = 0.02
"""How much worse forms of few bits may be, by the interval of the main metric: more than that is refused."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An export compared with its run, and what is wrong with it."""

    found: Exported
    refused: str
    """Empty where the form explains how it differs."""


def export(
    run: Run,
    to: str,
    output: Path,
    *,
    form: str | None = None,
    data: str | None = None,
    num_rows: int = NUM_ROWS,
    overwrite: bool = False,
    stays: bool = True,
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
        stays: Whether the folder is to stay, so that the run's report shows it.

    Raises:
        InputError: The run cannot be written like this, or other scores came of it than its form explains.
    """
    target, chosen = require_target(run, to, form)
    _require_free(output, overwrite=overwrite)
    rows = _Rows.of(run, data, num_rows)
    refused = output.with_name(f"{output.name}.refused")
    remove_folder(refused)
    with new_folder(refused) as folder:
        checked = _written(run, target, chosen, rows, folder)
    if checked.refused:
        raise InputError(
            f"The run was not exported: {target.program} gives {checked.refused}.",
            f"What was written is in {refused}; choose another form ({', '.join(target.forms)}), or compare on other "
            "rows (--data FILE).",
        )
    if overwrite:
        remove_folder(output)
    refused.rename(output)
    if stays:
        remember(run.folder, output, checked.found)
    return checked.found


def check(
    run: Run, to: str, forms: Sequence[str], *, data: str | None = None, num_rows: int = NUM_ROWS
) -> list[Checked]:
    """Return what exports in these forms (without any, in the usual one) would be: they are written, compared, removed.

    Raises ``InputError`` where ``export`` does, but for forms that differ too much, which are among the results.
    """
    wanted = [require_target(run, to, form) for form in (forms or (None,))]
    target, chosen = wanted[0][0], [form for _, form in wanted]
    rows = _Rows.of(run, data, num_rows)
    found = []
    for form in chosen:
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
            found.append(_written(run, target, form, rows, Path(name)))
    return found


def check_folder(run: Run, folder: Path, *, data: str | None = None, num_rows: int = NUM_ROWS) -> Checked:
    """Return how the export that is in ``folder`` compares with the run now; ``InputError`` where there is none."""
    began = time.perf_counter()
    record = read_record(folder)
    target, form = _target(record.target), _form(record.target, record.form)
    _refuse(run, target, form)
    return _compared(run, target, form, _Rows.of(run, data, num_rows), folder, notes=record.notes, began=began)


def merge(
    run: Run,
    output: Path,
    *,
    form: str | None = None,
    data: str | None = None,
    overwrite: bool = False,
    stays: bool = True,
) -> Exported:
    """Write an adapter and its base as one model of ``transformers``: ``export`` to ``safetensors``.

    Raises ``InputError`` for runs without an adapter, and where ``export`` does.
    """
    if run.config.method.result == "model":
        raise InputError(
            f"The run in {run.folder} is a whole model already ({run.config.method.name}): there is nothing to merge.",
            f"Use the folder as it is, or copy it in another form: tunesmith export {run.folder} --to safetensors.",
        )
    return export(run, "safetensors", output, form=form, data=data, overwrite=overwrite, stays=stays)


def restore(run: Run, output: Path, *, data: str | None = None) -> Exported:
    """Write a run of a form of its own with layers of their old sizes: ``export`` to ``safetensors``.

    Raises ``InputError`` where the run is a plain model or an adapter, and where ``export`` does.
    """
    result = run.config.method.result
    if result != "own":
        what = "a plain model already" if result == "model" else "an adapter beside its base model"
        fix = "Give its folder as --model" + (", or to transformers." if result == "model" else ": it is merged.")
        raise InputError(f"The run in {run.folder} is {what}: there is nothing to restore.", fix)
    return export(run, "safetensors", output, data=data)


def usual_output(run: Path, to: str, form: str | None) -> Path:
    """Return where an export is written when nobody says: beside the run, named by it, the target and the form."""
    place = run.resolve() if run.name in ("", "..") else run
    return place.with_name(f"{place.name}-{to}-{_form(_target(to).name, form).name}")


def require_target(run: Run, to: str, form: str | None) -> tuple[Target, Form]:
    """Return the target and the form in which a run is to be written.

    Raises ``InputError`` where there are none of these names, or the run cannot be written so, with the targets that it
    can be written for.
    """
    if to not in TARGETS:
        raise InputError(f"There is no form called '{to}'.", f"Choose one of {_listed(possible_targets(run))}.")
    target, chosen = TARGETS[to], _form(to, form)
    try:
        _refuse(run, target, chosen)
    except MissingExtraError:
        raise
    except InputError as error:
        (problem, *_) = error.problems
        others = [name for name in possible_targets(run) if name != to]
        raise InputError(problem.message, f"{problem.fix} This run can be written for {_listed(others)}.") from error
    return target, chosen


def possible_targets(run: Run) -> list[str]:
    """Return the targets that a run can be written for, those included whose library is not installed here."""
    found = []
    for name, target in TARGETS.items():
        try:
            _refuse(run, target, _form(name, None))
        except MissingExtraError:
            pass
        except InputError:
            continue
        found.append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no other program"


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise InputError(f"There is no form called '{name}'.", f"Choose one of {', '.join(TARGETS)}.")
    return TARGETS[name]


def _form(to: str, name: str | None) -> Form:
    forms = TARGETS[to].forms
    if name is None:
        return next(iter(forms.values()))
    if name.lower() not in forms:
        raise InputError(f"{to} has no form '{name}'.", f"Choose one of {', '.join(forms)}.")
    return forms[name.lower()]


def _refuse(run: Run, target: Target, form: Form) -> None:
    if run.task.head().reads_images:
        raise InputError(
            f"The run in {run.folder} looks at images ({run.task.name}); other forms are proven equal on texts alone.",
            "Use its folder as it is: the card in it says how plain transformers loads it.",
        )
    target.refuse(run, form)


def _require_free(output: Path, *, overwrite: bool) -> None:
    if output.exists():
        is_export = (output / RECORD).is_file()
        if not overwrite or not is_export:
            fix = "Give --overwrite to replace it, or choose another folder." if is_export else "Choose another folder."
            raise InputError(f"{output} is there already.", fix)
    require_writable(output.parent)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows to compare on: with what they are judged by."""

    columns: Columns
    encoded: Encoded

    @classmethod
    def of(cls, run: Run, data: str | None, num_rows: int) -> _Rows:
        split = run.evaluation["split"] if (run.folder / "evaluation.json").is_file() else "test"
        try:
            read, _ = run.labelled_columns(data, split)
        except InputError as error:
            if data is not None:
                raise
            raise InputError(
                "The rows that the run was judged on cannot be read any more, and nothing else shows that an export is "
                f"right: {error.problems[0].message}",
                "Give labelled rows as --data FILE.",
            ) from error
        columns = {name: values[:num_rows] for name, values in read.items()}
        weights = run.directory.read_json("environment").get("model", {}).get("weights_sha256")
        return cls(columns, refer(run.network.encode(run.task, columns), run.task, run.config, weights))


def _written(run: Run, target: Target, form: Form, rows: _Rows, folder: Path) -> Checked:
    """Write an export into an empty folder, compare it there, and put the record beside it."""
    began = time.perf_counter()
    notes = target.write(run, plain_model(run), form, folder, tuple(rows.encoded.inputs))
    checked = _compared(run, target, form, rows, folder, notes=notes, began=began)
    write_record(folder, checked.found)
    return checked


def _compared(
    run: Run, target: Target, form: Form, rows: _Rows, folder: Path, *, notes: Sequence[str], began: float
) -> Checked:
    size = sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, RECORD)
    )
    opened = target.open(run, folder, form)
    compared = compare_scores(run.network, run.task, rows.encoded, opened.scores)
    model, pad = reference_model(run.network), run.network.tokenizer.pad_token_id or 0
    texts = None if opened.writes is None else share_of_same_texts(run, model, rows.columns, opened.writes)
    found = replace(
        _figures(run, target, form, compared, rows.columns),
        size=size,
        same_texts=texts,
        latency=measure_latency(model, opened.scores, rows.encoded, pad) if target.is_timed else None,
        notes=tuple(notes),
        seconds=time.perf_counter() - began,
    )
    return Checked(found, _too_different(found, form, run))


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
    before, after = (_value(task, one.outputs, ours.targets, metric) for one in (ours, theirs))
    return Exported(
        target=target.name,
        form=form.name,
        rows=len(next(iter(columns.values()))),
        max_difference=difference.relative,
        same_answers=same,
        metric=metric,
        metric_before=before,
        metric_after=after,
        metric_change={name: float(value) for name, value in change[metric].items() if value is not None},
        size=0,
        size_before=int(run.summary.get("saved_bytes", 0)),
        seconds=0.0,
    )


def _value(task: Any, outputs: Mapping[str, Any], targets: Mapping[str, Any], metric: str) -> float:
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
            f"worse answers than the run on {found.rows} rows: {found.metric} goes from {found.metric_before:.4g} to "
            f"{found.metric_after:.4g}"
        )
    return ""
