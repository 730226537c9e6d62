"""What an audit mends: a new file of the rows that stay, and a log of what was done to which row, and why."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tunesmith.data.personal.detecting import Detector
from tunesmith.data.personal.stand_ins import StandIns
from tunesmith.data.records import ROW
from tunesmith.data.rows import batches, nested_columns
from tunesmith.data.text_damage import mended
from tunesmith.data.written_rows import RowFile, require_row_format
from tunesmith.data_audit.auditing import DataAudit
from tunesmith.data_audit.findings import Finding
from tunesmith.files.atomic import new_file
from tunesmith.files.outputs import require_output
from tunesmith.types import InputError

if TYPE_CHECKING:
    import pyarrow as pa

Personal = Literal["report", "mask", "replace"]
_TAGGED = ("tags", "entities", "answers")


@dataclass(frozen=True, slots=True)
class FixOptions:
    """What is done about findings, beyond leaving out what repeats or contradicts, and decoding again."""

    personal_data: Personal = "report"
    drops_label_errors: bool = False
    drops_toxic: bool = False
    overwrite: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fixed:
    """What was written."""

    files: tuple[Path, ...]
    log: Path
    num_rows: int
    num_left_out: int
    num_changed: int


def fix_rows(audit: DataAudit, output: Path, options: FixOptions, detector: Detector) -> Fixed:
    """Write what stays of the rows to ``output``, and what was done to ``OUTPUT.log.jsonl``.

    Training rows alone are left out; those of other splits are written to ``NAME-validation`` and ``NAME-test`` beside
    it. Raises ``InputError`` where a file is there already, or nothing would be left.
    """
    rows = audit.rows
    given = rows.found.data
    inputs = [one for one in (given.path, given.validation, given.test) if one]
    targets = {
        split: output if split == "train" else output.with_name(f"{output.stem}-{split}{output.suffix}")
        for split in rows.splits
    }
    log = output.with_name(f"{output.stem}.log.jsonl")
    for split, target in targets.items():
        require_row_format(target, rows.splits[split].schema, "--fix")
        require_output(target, inputs=inputs, overwrite=options.overwrite)
    require_output(log, inputs=inputs, overwrite=options.overwrite)
    if options.personal_data != "report" and set(rows.form.columns) & set(_TAGGED):
        raise InputError(
            "--personal-data mask and replace change texts, and the labels of these rows are places in them.",
            "Leave it at report, and mask the texts before they are annotated.",
        )
    reasons = _left_out(audit, options)
    if len(reasons) >= rows.num_train:
        raise InputError("Every training row would be left out.", "Look at the findings, and choose --checks.")
    return _write(audit, targets, log, reasons, _Changes(audit, options, detector))


def _left_out(audit: DataAudit, options: FixOptions) -> dict[int, tuple[str, str]]:
    """Return, by the number of a training row, the kind of finding it is left out for, and why."""
    reasons: dict[int, tuple[str, str]] = {}
    for finding in audit.findings:
        if finding.kind == "contradiction":
            _leave_out_contradictions(audit, finding, reasons)
        elif finding.kind == "label_error" and options.drops_label_errors:
            for row, label in zip(finding.rows.tolist(), finding.details["suggested"], strict=True):
                reasons.setdefault(row, (finding.kind, f"its label is probably wrong; '{label}' is likelier"))
        elif finding.kind == "toxic" and options.drops_toxic:
            for row in finding.rows.tolist():
                reasons.setdefault(row, (finding.kind, "it has a word of the list"))
    for finding in audit.findings:
        if finding.kind in ("duplicate", "near_duplicate"):
            _leave_out_repeated(audit, finding, reasons)
    return {row: reason for row, reason in reasons.items() if row < audit.rows.num_train}


def _leave_out_repeated(audit: DataAudit, finding: Finding, reasons: dict[int, tuple[str, str]]) -> None:
    """Leave out the later row of each pair whose earlier one stays; of a pair across splits, the training row."""
    assert finding.partners is not None
    first, second = finding.details["splits"]
    pairs = sorted(zip(finding.rows.tolist(), finding.partners.tolist(), strict=True))
    words = "repeats" if finding.kind == "duplicate" else "is nearly the same as"
    others = audit.rows.places(np.array([partner for _, partner in pairs], dtype=np.int64))
    own = audit.rows.places(np.array([row for row, _ in pairs], dtype=np.int64))
    for (row, partner), place, other in zip(pairs, own, others, strict=True):
        if first == second == "train" and partner not in reasons:
            reasons.setdefault(row, (finding.kind, f"it {words} {other}"))
        elif first == "train" != second:
            reasons.setdefault(partner, (finding.kind, f"it {words} {place}, which is judged on"))


def _leave_out_contradictions(audit: DataAudit, finding: Finding, reasons: dict[int, tuple[str, str]]) -> None:
    """Of every text with several labels, keep the training rows of the label that most of them have, if one is."""
    rows = np.sort(finding.rows[finding.rows < audit.rows.num_train])
    taken = audit.rows.take(rows)
    label, texts = str(audit.rows.form.label), audit.rows.form.texts
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position in range(len(rows)):
        groups.setdefault(tuple(taken[role][position] for role in texts), []).append(position)
    for group in groups.values():
        votes: dict[str, int] = {}
        for position in group:
            votes[str(taken[label][position])] = votes.get(str(taken[label][position]), 0) + 1
        most = max(votes.values())
        winners = [name for name, number in votes.items() if number == most]
        for position in group:
            own = str(taken[label][position])
            if len(winners) > 1 or own != winners[0]:
                why = f"its text has other labels, too ({', '.join(sorted(votes))})"
                reasons.setdefault(int(rows[position]), (finding.kind, why))


class _Changes:
    """What is changed in the texts of a row: decoded again, personal data masked or replaced."""

    def __init__(self, audit: DataAudit, options: FixOptions, detector: Detector) -> None:
        form = audit.rows.form
        self._columns = [
            name for role, names in form.columns.items() if role not in ("label", *_TAGGED) for name in names
        ]
        has_places = bool(set(form.columns) & set(_TAGGED))
        self._mends = not has_places and any(one.kind == "encoding_damage" for one in audit.findings)
        self._stand_ins = None if options.personal_data == "report" else StandIns(options.personal_data, options.seed)
        self._detect = detector

    def of(self, row: dict[str, Any], nested: frozenset[str]) -> list[tuple[str, str]]:
        """Change a row in place; return what was done, each with its kind."""
        done: dict[tuple[str, str], None] = {}
        for name in self._columns:
            cell = row.get(name)
            if isinstance(cell, str) and name in nested:
                value = json.loads(cell)
                changed = self._value(value, name, done)
                if changed != value:
                    row[name] = json.dumps(changed, ensure_ascii=False)
            elif cell is not None:
                row[name] = self._value(cell, name, done)
        return list(done)

    def _value(self, value: Any, column: str, done: dict[tuple[str, str], None]) -> Any:
        if isinstance(value, list):
            return [self._value(one, column, done) for one in value]
        if isinstance(value, dict):
            # Who speaks, and what a field is called, is no text.
            return {
                name: one if name in ("role", "from") else self._value(one, column, done) for name, one in value.items()
            }
        return self._text(value, column, done) if isinstance(value, str) else value

    def _text(self, text: str, column: str, done: dict[tuple[str, str], None]) -> str:
        if self._mends and (repaired := mended(text)) is not None:
            text = repaired
            done["encoding_damage", f"{column} was decoded again"] = None
        if self._stand_ins is not None and (found := self._detect(text)):
            text = self._stand_ins.apply(text, found)
            kinds = ", ".join(sorted({one.kind for one in found}))
            done["personal_data", f"{column}: {kinds}"] = None
        return text


def _write(
    audit: DataAudit, targets: dict[str, Path], log: Path, reasons: dict[int, tuple[str, str]], changes: _Changes
) -> Fixed:
    numbers = itertools.count()
    num_written = num_changed = 0
    with new_file(log) as lines:
        for split, dataset in audit.rows.splits.items():
            nested = nested_columns(dataset.schema)
            with RowFile(targets[split], dataset.schema) as file:
                for batch in batches(dataset):
                    kept = []
                    for row in _rows_of(batch):
                        left_out = reasons.get(next(numbers))
                        done = [left_out] if left_out else list(changes.of(row, nested))
                        for kind, why in done:
                            did = "left out" if left_out else "changed"
                            said = {"row": row[ROW], "kind": kind, "did": did, "why": why}
                            lines.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")
                        if not left_out:
                            kept.append(row)
                            num_changed += bool(done)
                    file.write(kept)
                    num_written += len(kept)
    return Fixed(tuple(targets.values()), log, num_written, len(reasons), num_changed)


def _rows_of(batch: pa.RecordBatch) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows
