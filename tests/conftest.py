"""Settings for all tests: one thread, a cache of their own, and nothing made twice that may be made once."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tunesmith.cli import collecting
from tunesmith.files import cache_root
from tunesmith.kernels.building import build_ahead

# Tiny models gain nothing from threads, and threads that wait for a busy core cost a lot.
# Set before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# cuBLAS reads this once, when a GPU is first used: too early for the tests that need repeatable sums to set it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Tests start many processes; each would compile all of the package, and each of pytest's all of the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Importing torch and all tests makes more than a million objects, all of which stay; see ``pytest_collection_finish``.
collecting.start()

# The first example of a test pays for imports, and machines differ: a deadline finds neither.
# Examples are the same in every run; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("tunesmith", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tunesmith"))


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's cache out of the tests, all but the native code, which takes ten seconds to compile."""
    if hasattr(config, "workerinput"):  # one of several processes, which take the cache of the first
        return
    folder = tempfile.TemporaryDirectory(prefix="tunesmith-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(folder.cleanup)
    kernels = cache_root() / "kernels"
    try:
        kernels.mkdir(parents=True, exist_ok=True)
        (Path(folder.name) / "kernels").symlink_to(kernels)
    except OSError:
        pass  # then they are compiled anew
    os.environ["TUNESMITH_CACHE"] = folder.name
    build_ahead()


@pytest.fixture(scope="session", autouse=True)
def wait_for_no_disk() -> Any:
    """Do not wait until the disk has what was written: no machine crashes here. Processes that tests start do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Whole trainings come first: of several processes none is then left with them at the end."""
    items.sort(key=lambda item: not any(room in item.nodeid for room in ("tests/run/", "tests/study/")))


def pytest_collection_finish() -> None:
    """Collect garbage as usual from here on, of what tests make alone."""
    collecting.settle()
