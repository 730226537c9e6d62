"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Tiny models gain nothing from threads, and threads that wait for a busy core cost a lot.
# Set before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The first example of a test pays for imports, and machines differ: a deadline finds neither.
settings.register_profile("tunesmith", deadline=None)
settings.load_profile("tunesmith")
