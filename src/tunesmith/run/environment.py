"""What a run was made with: versions, machine, git state. Nothing of the user's environment variables."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import psutil
import torch

from tunesmith.kernels.library import library
from tunesmith.readable import size
from tunesmith.version import version_of

PACKAGES = (
    "tunesmith",
    "torch",
    "transformers",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "numpy",
)

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")

_COMMIT, _NO_COMMIT = "# branch.oid ", "(initial)"
"""What git's second format of ``status`` says of the commit, and what stands there before the first one."""


def versions() -> dict[str, str]:
    """Return the version of Python and of every package that takes part in the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version_of(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return processor, cores, memory and accelerator, and whether kernels run as native code."""
    accelerator = None
    if torch.cuda.is_available():
        accelerator = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "num_threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": accelerator,
        "instructions": list(instructions()),
        "native_kernels": library() is not None,
    }


def machine_in_words(found: Mapping[str, Any]) -> str:
    """Return a machine as ``machine`` describes it in a line: ``AMD EPYC, 2 cores, 24 GB``."""
    cores = f"{found['num_cores']} core{'s' * (found['num_cores'] != 1)}"
    parts = (found["accelerator"], found["processor"], cores, size(found["memory_bytes"]))
    return ", ".join(filter(None, parts))


@cache
def processor_name() -> str:
    """Return the processor's model name where the system tells it."""
    for line in _cpuinfo():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def instructions() -> tuple[str, ...]:
    """Return which of the instruction sets that matter for matrix products the processor has (Linux on x86)."""
    for line in _cpuinfo():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            return tuple(name for name in INSTRUCTIONS if name in flags)
    return ()


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether files are changed, if ``folder`` is in a git checkout."""
    command = ["git", "-C", str(folder), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    commit = next((line.removeprefix(_COMMIT) for line in lines if line.startswith(_COMMIT)), _NO_COMMIT)
    if commit == _NO_COMMIT:
        return None
    return {"commit": commit, "dirty": not all(line.startswith("#") for line in lines)}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
