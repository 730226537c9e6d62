# mypy: disable-error-code="no-untyped-call"
"""A run as a guest in the caller's process: what it sets for all of it is as before when it ends."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tunesmith.engine.precision import set_deterministic

_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG",)


@contextmanager
def as_guest() -> Iterator[None]:
    """Put random numbers, determinism and the environment back at the end, however that comes."""
    numbers, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed = torch.initial_seed()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    variables = {name: os.environ.get(name) for name in _VARIABLES}
    try:
        yield
    finally:
        random.setstate(numbers)
        np.random.set_state(arrays)  # noqa: NPY002
        torch.set_rng_state(tensors)
        if on_devices is not None:
            torch.cuda.set_rng_state_all(on_devices)
        elif torch.cuda.is_initialized():  # by the run: from here on as if it had been by the caller
            torch.cuda.manual_seed_all(seed)
        set_deterministic(wanted=is_deterministic, only_warns=only_warns)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
