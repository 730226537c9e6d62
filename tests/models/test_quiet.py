"""Libraries that load and save models say nothing meanwhile, and everything is as it was afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tunesmith.models.quiet import _LOGGERS, quiet


@pytest.fixture
def loggers() -> Iterator[list[logging.Logger]]:
    """Return the loggers, whose levels the test may change."""
    with quiet():
        pass  # what it imports sets levels
    found = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in found]
    yield found
    for logger, level in zip(found, before, strict=True):
        logger.setLevel(level)


def test_libraries_are_silent_inside_and_as_they_were_afterwards(loggers: list[logging.Logger]) -> None:
    levels = [logging.WARNING, logging.INFO, logging.DEBUG, logging.CRITICAL, logging.ERROR]
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    below = logging.getLogger(f"{_LOGGERS[1]}.below")
    assert below.isEnabledFor(logging.WARNING)  # which it remembers
    with quiet():
        assert {logger.level for logger in loggers} == {logging.ERROR}
        assert not below.isEnabledFor(logging.WARNING)
        with quiet():
            assert not below.isEnabledFor(logging.WARNING)
        assert not below.isEnabledFor(logging.WARNING)
    assert [logger.level for logger in loggers] == levels
    assert below.isEnabledFor(logging.WARNING)


def test_what_loggers_remember_is_forgotten_once_on_either_side(
    loggers: list[logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    cleared: list[int] = []
    monkeypatch.setattr(logging.Logger.manager, "_clear_cache", lambda: cleared.append(1))
    with quiet(), quiet():
        pass
    assert len(cleared) == 2
