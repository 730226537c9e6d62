"""``tunesmith doctor``."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.terminal import say_json, visible
from tunesmith.files.cache import cache_root
from tunesmith.files.space import nearest_existing, require_writable
from tunesmith.readable import number, size
from tunesmith.types import InputError

if TYPE_CHECKING:
    import torch

MATRIX_SIZES = {"cpu": 1024}
"""Rows and columns of the products that are timed, by kind of device."""
MATRIX_SIZE_ELSEWHERE = 8192
"""Smaller ones are over before the next is queued."""
MEASURE_SECONDS = 0.3
VIEWER = "pip install tensorboard, then: tensorboard --logdir runs"
_EXTRA = re.compile(r"(?P<name>[\w.-]+).*;.*extra == ['\"](?P<extra>[\w-]+)['\"].*")
NO_KERNELS = "none, so that training takes longer: they need Linux and a C compiler with OpenMP, such as gcc"


@click.command(short_help="Check this machine and installation.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def doctor_command(as_json: bool) -> None:
    """Check this machine and installation: processor, memory, versions, cache, and which precision is fast here."""
    findings = examine()
    if as_json:
        say_json(findings, indent=1)
    else:
        _show(findings)


def examine() -> dict[str, Any]:
    """Return all findings, JSON-ready; ``problems`` lists what needs mending.

    What cannot be examined because an installation is broken is a problem, too.
    """
    parts: dict[str, Callable[[], Any]] = {
        "machine": lambda: import_module("tunesmith.run.environment").machine(),
        "versions": lambda: import_module("tunesmith.run.environment").versions(),
        "extras": _examine_extras,
        "viewer": lambda: {"package": "tensorboard", "installed": _is_installed("tensorboard"), "install": VIEWER},
        "cache": lambda: _examine_cache(cache_root()),
        "precision": measure_precision,
    }
    findings: dict[str, Any] = {"problems": []}
    for name, look in parts.items():
        try:
            findings[name] = look()
        except Exception as error:
            findings["problems"].append(f"{name} could not be examined: {type(error).__name__}: {error}")
    if problem := findings.get("cache", {}).get("problem"):
        findings["problems"].append(problem)
    return findings


def measure_precision() -> dict[str, Any]:
    """Measure matrix products in fp32 and bf16, in TFLOP/s, and say which one ``auto`` takes and why."""
    from tunesmith.engine.precision import choose_device, choose_precision, multiplies_bf16

    device = choose_device("auto")
    return {
        "device": str(device),
        "native_bf16": multiplies_bf16(device),
        "fp32_tflops": _measure("float32", device),
        "bf16_tflops": _measure("bfloat16", device),
        "auto": choose_precision("auto", device, from_scratch=False),
    }


def _measure(dtype: str, device: torch.device) -> float:
    """Return the rate of square matrix products in TFLOP/s: 2 n³ operations each."""
    import torch

    size = MATRIX_SIZES.get(device.type, MATRIX_SIZE_ELSEWHERE)
    matrix = torch.randn(size, size, device=device).to(getattr(torch, dtype))

    def multiply() -> float:
        started = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for an accelerator
        return time.perf_counter() - started

    best = multiply()
    deadline = time.perf_counter() + MEASURE_SECONDS
    while time.perf_counter() < deadline:
        best = min(best, multiply())
    return 2 * size**3 / best / 1e12


def _examine_cache(root: Path) -> dict[str, Any]:
    problem = ""
    try:
        require_writable(root)
    except InputError as error:
        problem = f"{error.problems[0].message} Set TUNESMITH_CACHE to a folder that can be written."
    return {
        "folder": str(root),
        "bytes": sum(map(_size_of, root.rglob("*"))) if root.is_dir() else 0,
        "free_bytes": shutil.disk_usage(nearest_existing(root)).free,
        "writable": not problem,
        "problem": problem,
    }


def _size_of(path: Path) -> int:
    """Return a file's bytes; 0 for what is none, or is gone by now: other processes use the cache, too."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _examine_extras() -> list[dict[str, Any]]:
    """Return every optional dependency of this package, with the command that installs it.

    A package is listed under the smallest extra that has it: others are sums of extras.
    """
    found = [match for one in metadata.requires("tunesmith") or [] if (match := _EXTRA.fullmatch(one))]
    sizes = Counter(match["extra"] for match in found)
    extras: dict[str, str] = {}
    for match in sorted(found, key=lambda match: sizes[match["extra"]]):
        extras.setdefault(match["name"], match["extra"])
    return [
        {
            "extra": extra,
            "package": name,
            "installed": _is_installed(name),
            "install": f"pip install 'tunesmith[{extra}]'",
        }
        for name, extra in sorted(extras.items(), key=lambda item: item[::-1])
    ]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return find_spec(package.replace("-", "_")) is not None
    return True


def _show(findings: dict[str, Any]) -> None:
    from rich.text import Text

    from tunesmith.cli.tables import new_table, print_table, stdout_console

    console = stdout_console()
    for title, rows in _rows(findings).items():
        table = new_table(title)
        table.show_header = False
        for name, value in rows:
            table.add_row(name, value)
        print_table(console, table)
    console.print()
    for problem in findings["problems"]:
        console.print(Text.assemble(("Problem: ", "bold red"), visible(problem)))
    if not findings["problems"]:
        console.print("Everything is in order.", style="green")


def _rows(findings: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return the lines of every table whose part could be examined."""
    rows: dict[str, list[tuple[str, str]]] = {}
    if host := findings.get("machine"):
        rows["Machine"] = [
            ("system", host["system"]),
            ("processor", f"{host['processor']}, {host['num_cores']} cores"),
            ("instructions", ", ".join(host["instructions"]) or "unknown"),
            ("memory", size(host["memory_bytes"])),
            ("accelerator", host["accelerator"] or "none"),
            ("native kernels", "compiled" if host["native_kernels"] else NO_KERNELS),
        ]
    if precision := findings.get("precision"):
        reason = "multiplied natively" if precision["native_bf16"] else "no native instructions"
        rows["Precision"] = [
            ("fp32", f"{number(precision['fp32_tflops'])} TFLOP/s"),
            ("bf16", f"{number(precision['bf16_tflops'])} TFLOP/s ({reason})"),
            ("auto takes", precision["auto"]),
        ]
    rows["Versions"] = list(findings.get("versions", {}).items())
    rows["Extras"] = [
        (one["package"], f"installed ({one['extra']})" if one["installed"] else f"missing: {one['install']}")
        for one in findings.get("extras", ())
    ]
    if "viewer" in findings:
        viewer = findings["viewer"]
        shown = (
            "installed" if viewer["installed"] else f"missing; to look at the event files of runs: {viewer['install']}"
        )
        rows.setdefault("Extras", []).append((viewer["package"], shown))
    if cache := findings.get("cache"):
        rows["Cache"] = [
            ("folder", cache["folder"]),
            ("size", size(cache["bytes"])),
            ("free disk", size(cache["free_bytes"])),
            ("writable", "yes" if cache["writable"] else "no"),
        ]
    return {title: lines for title, lines in rows.items() if lines}
