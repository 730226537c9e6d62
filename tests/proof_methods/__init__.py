"""Methods written for the tests alone: what a method takes that picks weights of the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proof_methods.bitfit import BitFit
from tunesmith.methods import METHODS

PROOF_METHODS = {"bitfit": BitFit}


@contextmanager
def registered() -> Iterator[None]:
    """Let the configuration know these methods inside of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in PROOF_METHODS.items():
            patch.setitem(METHODS, name, method)
        yield
