"""Virtual environments of peers whose requirements do not go together with tunesmith's.

Each lies in ``.bench/NAME`` and has torch by links into the running interpreter's packages: the peer
computes with the very same torch, and nothing of its size is downloaded twice.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"

REQUIREMENTS: dict[str, tuple[str, ...]] = {"litgpt": ("litgpt>=0.5", "requests")}
SHARED = ("torch", "torch-*.dist-info", "torchgen", "functorch", "triton*", "nvidia*")


class UnavailableError(Exception):
    """A peer cannot be had here; the message says why in one sentence."""


def interpreter(name: str) -> Path:
    """Return the Python of the environment ``name``, made on the first call.

    Raises:
        UnavailableError: pip could not install the peer; the reason is pip's own last error. It is
            remembered, so that later calls fail at once; delete ``.bench/NAME`` to try again.
    """
    folder = FOLDER / name
    python = folder / "bin" / "python"
    done, failed = folder / "installed", folder / "failed"
    if done.exists():
        return python
    if failed.exists():
        raise UnavailableError(failed.read_text(encoding="utf-8"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _install(name, folder, python)
    except (subprocess.SubprocessError, OSError) as error:
        folder.mkdir(exist_ok=True)
        reason = f"{name} cannot be installed beside torch {_torch_version()}: {_last_error(error)}"
        failed.write_text(reason, encoding="utf-8")
        raise UnavailableError(reason) from error
    done.touch()
    return python


def _install(name: str, folder: Path, python: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, text=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = folder / "lib" / version / "site-packages"
    for pattern in SHARED:
        for found in Path(sysconfig.get_path("purelib")).glob(pattern):
            (own / found.name).symlink_to(found)
    command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name], f"torch=={_torch_version()}"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800, cwd=folder)
    subprocess.run([str(python), "-c", f"import {name}"], check=True, capture_output=True, text=True, cwd=folder)


def _torch_version() -> str:
    from importlib.metadata import version

    return version("torch")


def _last_error(error: Exception) -> str:
    output = str(getattr(error, "stderr", "") or error).strip().splitlines()
    errors = [line for line in output if "ERROR" in line or "Error" in line]
    return (errors or output or ["no reason given"])[-1][:300]
