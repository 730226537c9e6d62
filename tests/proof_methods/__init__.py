"""Methods written for the tests alone: what a method takes that wraps the model or moves its ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proof_methods.adalora import AdaLora
from proof_methods.prompt_tuning import PromptTuning
from tunesmith.methods import METHODS

PROOF_METHODS = {"adalora": AdaLora, "prompt_tuning": PromptTuning}


@contextmanager
def registered() -> Iterator[None]:
    """Let the configuration know these methods inside of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, method in PROOF_METHODS.items():
            patch.setitem(METHODS, name, method)
        yield
