"""Settings for all tests."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

# Tiny models gain nothing from threads, and threads that wait for a busy core cost a lot.
# Set before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# cuBLAS reads this once, when a GPU is first used: too early for the tests that need repeatable sums to set it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# The first example of a test pays for imports, and machines differ: a deadline finds neither.
# Examples are the same in every run; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("tunesmith", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tunesmith"))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Whole trainings come first: of several processes none is then left with them at the end."""
    items.sort(key=lambda item: "tests/run/" not in item.nodeid)
