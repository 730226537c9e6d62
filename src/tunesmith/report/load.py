"""Reads a run directory into a frozen record: tolerant of what is missing, strict with what is corrupt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tunesmith.files.ownership import EXPORTS
from tunesmith.report.records import CheckRecord, Environment, Evaluation, ExportRecord, Record, StepRecord, Training
from tunesmith.types import InputError, Problem

RUN_FILES = ("config.yaml", "training.json", "environment.json", "evaluation.json", "metrics.jsonl")

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the files of one run directory say. ``None`` or empty where a file is not there."""

    folder: Path
    config_text: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Training | None = None
    environment: Environment | None = None
    evaluation: Evaluation | None = None
    steps: tuple[StepRecord, ...] = ()
    checks: tuple[CheckRecord, ...] = ()
    exports: tuple[ExportRecord, ...] = ()
    """In the order in which they were made."""

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """Return one value of the configuration; ``name`` also where the section is a bare name."""
        value = self.config.get(section)
        if isinstance(value, Mapping):
            return value.get(key, default)
        return value if key == "name" and isinstance(value, str) else default


def load_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read several run directories; raises one ``InputError`` with the problems of all of them."""
    records: list[RunRecord] = []
    problems: list[Problem] = []
    for folder in folders:
        try:
            records.append(load_run(folder))
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return records


def load_run(folder: Path) -> RunRecord:
    """Read a run directory.

    Files that are not there are left out of the record. Raises ``InputError`` when the
    folder is no run directory, and for every file that cannot be read, naming it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"The run directory {folder} does not exist.", "Give the folder that `tunesmith train` wrote.")
    if not any((folder / name).is_file() for name in RUN_FILES):
        raise InputError(
            f"{folder} is not a run directory: it has none of {', '.join(RUN_FILES)}.",
            "Give the folder that `tunesmith train` wrote.",
        )
    problems: list[Problem] = []
    config_text, config = _read_config(folder / "config.yaml", problems)
    steps, checks = _read_metrics(folder / "metrics.jsonl", problems)
    record = RunRecord(
        folder=folder,
        config_text=config_text,
        config=config,
        training=read_record(folder / "training.json", Training, problems),
        environment=read_record(folder / "environment.json", Environment, problems),
        evaluation=read_record(folder / "evaluation.json", Evaluation, problems),
        steps=steps,
        checks=checks,
        exports=_read_exports(folder / EXPORTS, problems),
    )
    if problems:
        raise InputError(problems)
    return record


def _corrupt(path: Path, what: str) -> Problem:
    return Problem("error", f"{path} cannot be read: {what}.", "Restore the file from a copy, or train the run again.")


def _read_text(path: Path, problems: list[Problem]) -> str | None:
    """Return the text of a file, ``None`` when it is absent or (a problem) unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        problems.append(_corrupt(path, f"byte {error.start} is not valid UTF-8"))
    except OSError as error:
        problems.append(_corrupt(path, str(error.strerror or error)))
    return None


def read_record(path: Path, record: type[R], problems: list[Problem]) -> R | None:
    """Return a JSON file as a record; ``None`` when it is absent or, which is added to ``problems``, unreadable."""
    text = _read_text(path, problems)
    if text is None:
        return None
    try:
        return record.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        problems.append(_corrupt(path, f"line {error.lineno}, column {error.colno}: {error.msg}"))
    except RecursionError:
        problems.append(_corrupt(path, "it is nested too deeply"))
    except ValidationError as error:
        problems.append(_corrupt(path, _explain(error)))
    return None


def _explain(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    place = ".".join(map(str, first["loc"])) or "the whole file"
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}" + (f" (and {len(others)} more)" if others else "")


def _read_config(path: Path, problems: list[Problem]) -> tuple[str, Mapping[str, Any]]:
    import yaml

    text = _read_text(path, problems)
    if text is None:
        return "", {}
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        problems.append(_corrupt(path, f"{place}{getattr(error, 'problem', None) or 'not valid YAML'}"))
        return "", {}
    if config is not None and not isinstance(config, dict):
        problems.append(_corrupt(path, f"expected a mapping of sections, found {type(config).__name__}"))
        return "", {}
    return text, config or {}


def _read_metrics(path: Path, problems: list[Problem]) -> tuple[tuple[StepRecord, ...], tuple[CheckRecord, ...]]:
    """Read ``metrics.jsonl``; of steps done again after a resume, the last record counts."""
    steps: dict[int, StepRecord] = {}
    checks: dict[tuple[int, str], CheckRecord] = {}
    text = _read_text(path, problems)
    for place, row in _json_lines(path, text or "", problems):
        try:
            if row.get("kind") == "step":
                step = StepRecord.model_validate(row)
                steps[step.step] = step
            elif row.get("kind") == "evaluation":
                check = CheckRecord.model_validate(row)
                checks[check.step, check.split] = check
        except ValidationError as error:
            problems.append(_corrupt(path, f"line {place}: {_explain(error)}"))
            break
    return tuple(steps[key] for key in sorted(steps)), tuple(checks[key] for key in sorted(checks))


def _read_exports(path: Path, problems: list[Problem]) -> tuple[ExportRecord, ...]:
    found = []
    for place, row in _json_lines(path, _read_text(path, problems) or "", problems):
        try:
            found.append(ExportRecord.model_validate(row))
        except ValidationError as error:
            problems.append(_corrupt(path, f"line {place}: {_explain(error)}"))
    return tuple(found)


def _json_lines(path: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and object; a last line cut short by a crash is left out, any other is a problem."""
    lines = text.split("\n")
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            if place < len(lines):
                problems.append(_corrupt(path, f"line {place} is not valid JSON"))
                return
            continue
        if not isinstance(row, dict):
            problems.append(_corrupt(path, f"line {place}: expected an object, found {type(row).__name__}"))
            return
        yield place, row
