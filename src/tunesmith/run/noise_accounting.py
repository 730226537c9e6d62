"""How much noise a promise takes, and what a noise promises: counted by opacus (Yousefpour et al. 2021), not here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from tunesmith.types import InputError

Accountant = Literal["prv", "rdp"]

TOLERANCE = 0.01
"""How far below the epsilon asked for the one reached may lie, as a share of it."""


def require_accounting() -> None:
    """Raise ``InputError`` where opacus is not installed."""
    if find_spec("opacus") is None:
        raise InputError(
            "privacy.epsilon: training with differential privacy needs opacus, which is not installed here.",
            "pip install 'tunesmith[privacy]'",
        )


def epsilon_of(multiplier: float, sample_rate: float, steps: int, delta: float, accountant: Accountant) -> float:
    """Return the epsilon, at ``delta``, of so many steps of the Poisson-sampled Gaussian mechanism.

    Args:
        multiplier: Standard deviation of the noise, in bounds on what a row adds to a step.
        sample_rate: The probability with which a row takes part in a step.
        steps: How many there are.
        delta: The probability with which the promise may fail.
        accountant: Which bound on epsilon is computed.
    """
    from opacus.accountants import create_accountant

    counted = create_accountant(mechanism=accountant)
    counted.history = [(multiplier, sample_rate, steps)]
    with _silence():
        return float(counted.get_epsilon(delta=delta))


def multiplier_for(
    epsilon: float, sample_rate: float, steps: int, delta: float, accountant: Accountant
) -> float | None:
    """Return the least noise that promises ``epsilon``, to a hundredth of that; None where none is found."""
    from opacus.accountants.utils import get_noise_multiplier

    with _silence():
        try:
            enough = float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=sample_rate,
                    steps=steps,
                    accountant="rdp",
                    epsilon_tolerance=TOLERANCE * epsilon,
                )
            )
        except ValueError:  # beyond the largest noise that it tries
            return None
    if accountant == "rdp":
        return enough
    return _least(lambda multiplier: epsilon_of(multiplier, sample_rate, steps, delta, accountant), epsilon, enough)


def _least(promise: Callable[[float], float], epsilon: float, enough: float) -> float:
    """Return the least noise below one that is ``enough`` by a looser count, found by halving what is between.

    The tighter count is slow, and takes a few times that way. Where its numbers do not reach so far, ``enough`` it is.
    """
    low = enough / 2
    try:
        reached = promise(enough)
        while reached < (1 - TOLERANCE) * epsilon and enough > low * (1 + TOLERANCE / 10):
            middle = (low + enough) / 2
            found = promise(middle)
            if found <= epsilon:
                enough, reached = middle, found
            else:
                low = middle
    except (ValueError, RuntimeError):
        return enough
    return enough


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back remarks of the library on how fine its tables are: they make a bound looser, never wrong."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
