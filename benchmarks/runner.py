"""Measuring: every child in a fresh process, children of a group in turn, round after round."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, GROUPS, LENGTH_SIZES, TOKEN_SIZES, Case, Child, Group
from benchmarks.environments import ROOT, UnavailableError, interpreter
from benchmarks.figures import FAILURES, Round, case_record
from benchmarks.workloads import Workload

TIMEOUT = 3600
Tell = Callable[[str], None]
GEMM = Child("benchmarks.gemm", "measure")


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured."""

    is_full: bool = False
    repeats: int = 2
    rows: int | None = None
    """Overrides every group's rows, for a trial of the suite itself."""
    steps: int | None = None
    """Overrides the steps of every training."""
    keep: Path | None = None
    """Folder for the prepared files; a temporary one when not given."""


def measure(cases: Sequence[Case], settings: Settings, tell: Tell, save: Callable[[Sequence[Any]], None]) -> list[Any]:
    """Measure the cases group by group; ``save`` is given all records so far after every round."""
    records: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(case.group for case in cases):
        wanted = [case for case in cases if case.group == name]
        with _work_folder(settings, name) as work:
            for found in _measure_group(GROUPS[name], wanted, settings, work, tell):
                records |= {record["case"]: record for record in found}
                save(list(records.values()))
    return list(records.values())


def _work_folder(settings: Settings, name: str) -> contextlib.AbstractContextManager[str]:
    if settings.keep is None:
        return tempfile.TemporaryDirectory(prefix=f"bench-{name}-")
    folder = settings.keep.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    return contextlib.nullcontext(str(folder))


def _measure_group(group: Group, cases: Sequence[Case], settings: Settings, work: str, tell: Tell) -> Any:
    """Yield the records of the group's cases after every round."""
    spec = group_spec(group, settings, work)
    tell(f"{group.name}: preparing")
    facts = run_child(Child("benchmarks.prepare", group.prepare), spec)
    if "error" in facts:
        facts = {"error": f"preparing failed: {facts['error']}"}
        yield [_command(case_record(case, [{case.ours: facts}], {}), settings) for case in cases]
        return
    facts["method"] = spec["workload"]["method"]["name"]
    keys = [key for key in group.children if any(key in (case.ours, case.peer) for case in cases)]
    if group.name == "data" and "cached" in keys and "ours" not in keys:
        keys.insert(0, "ours")  # fills the cache
    rounds: list[Round] = []
    for number in range(settings.repeats):
        found: Round = {"gemm": run_child(GEMM, {})} if group.needs_gemm else {}
        for key in keys:
            if not _is_needed(key, cases, found):
                continue
            found[key] = _one(group, key, rounds, {**spec, "facts": facts, "seed": number})
            tell(f"{group.name}: round {number + 1} of {settings.repeats}, {key}: {_brief(found[key])}")
        rounds.append(found)
        yield [_command(case_record(case, rounds, facts), settings) for case in cases]


def _is_needed(key: str, cases: Sequence[Case], found: Round) -> bool:
    """Say whether a case still wants the child: not when the other side of all of them came to nothing."""
    others = [case.peer if key == case.ours else case.ours for case in cases if key in (case.ours, case.peer)]
    return not others or any(not FAILURES & found.get(other, {}).keys() for other in others)


def _one(group: Group, key: str, rounds: Sequence[Round], spec: dict[str, Any]) -> dict[str, Any]:
    """Run a child unless it failed before."""
    if rounds and (FAILURES & rounds[0].get(key, {}).keys()):
        return rounds[0][key]
    return run_child(group.children[key], spec)


def group_spec(group: Group, settings: Settings, work: str) -> dict[str, Any]:
    """Return the job description that all children of a group share."""
    workload: Workload = group.full if settings.is_full else group.quick
    if settings.rows is not None:
        workload = replace(workload, rows=settings.rows)
    if settings.steps is not None:
        workload = replace(workload, max_steps=settings.steps)
    options = dict(group.full_options if settings.is_full else group.quick_options)
    return {"workload": asdict(workload), "work": work, **options}


def run_child(child: Child, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run a child and return its answer; ``error`` or ``unavailable`` says what went wrong."""
    spec = {**spec, **child.options}
    if child.job in ("linear_tokens", "linear_length"):
        spec["sizes"] = (TOKEN_SIZES if child.job == "linear_tokens" else LENGTH_SIZES)[spec["by"]]
    try:
        python = str(interpreter(child.environment)) if child.environment else sys.executable
    except UnavailableError as error:
        return {"unavailable": str(error)}
    environment = {**os.environ, "PYTHONPATH": _python_path(child), "TOKENIZERS_PARALLELISM": "true"}
    started = time.perf_counter()
    try:
        with _busy(child.num_busy):
            done = subprocess.run(
                [python, "-m", child.module, child.job, json.dumps(spec)],
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                cwd=ROOT,
                env=environment,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return {"error": f"{child.module} took longer than {TIMEOUT} s"}
    if done.returncode:
        return {"error": f"{child.module} {child.job} ended with {done.returncode}: {_last_words(done.stderr)}"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"{child.module} {child.job} gave no answer: {_last_words(done.stderr)}"}
    return {**answer, "process_seconds": time.perf_counter() - started}


@contextlib.contextmanager
def _busy(num_processes: int) -> Iterator[None]:
    """Keep cores busy meanwhile; each process is in a session of its own, as another program of the user's would be."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(command, start_new_session=True) for _ in range(num_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _python_path(child: Child) -> str:
    """Return where a child finds this package, and tunesmith where it is not another environment."""
    own = [str(ROOT)] if child.environment else [str(ROOT), str(ROOT / "src")]
    given = [] if child.environment else [os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, own + given))


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.strip().splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it said nothing"


def _brief(result: Mapping[str, Any]) -> str:
    for key in ("error", "unavailable"):
        if key in result:
            return f"{key}: {result[key]}"
    shown = {
        "tokens_per_second": "tokens/s",
        "rows_per_second": "rows/s",
        "seconds": "s",
        "accuracy": "accuracy",
        "mean_loss": "loss",
    }
    return ", ".join(f"{result[key]:,.4g} {unit}" for key, unit in shown.items() if key in result) or "done"


def _command(record: dict[str, Any], settings: Settings) -> dict[str, Any]:
    flags = "".join(
        f" --{name} {value}"
        for name, value in (("rows", settings.rows), ("steps", settings.steps), ("repeats", settings.repeats))
        if value is not None
    )
    full = " --full" if settings.is_full else ""
    return {**record, "command": f"python -m benchmarks{full} --only {record['case']}{flags}"}


def chosen(patterns: Sequence[str] | None, *, is_full: bool) -> list[Case]:
    """Return the cases to measure: those that fit a pattern, else all, or the quick ones.

    Raises ``ValueError`` naming patterns that fit none.
    """
    from fnmatch import fnmatchcase

    if not patterns:
        return [case for case in CASES.values() if is_full or case.is_quick]
    if unknown := [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in CASES)]:
        raise ValueError(f"No case is called {', '.join(unknown)}. Cases: {', '.join(CASES)}.")
    return [case for case in CASES.values() if any(fnmatchcase(case.name, pattern) for pattern in patterns)]
