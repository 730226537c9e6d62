# mypy: disable-error-code="no-untyped-call"
"""Silence for third-party loading and saving: the library never prints, so its libraries must not either."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_LOGGERS = ("transformers", "peft", "huggingface_hub", "tokenizers", "bitsandbytes")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back progress bars, log lines below errors and warnings of the libraries that load and save models.

    Everything is as before on exit. What matters in those messages (new or missing weights) is
    reported by ``tunesmith.models`` itself.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    _set_levels(dict.fromkeys(_LOGGERS, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _set_levels(levels)
        if bars:
            transformers_logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()


def _set_levels(levels: Mapping[str, int]) -> None:
    """Set the levels of loggers, by name; those that have theirs already are left alone.

    ``setLevel`` makes every logger of the process forget what it lets pass, which are hundreds once ``transformers`` is
    imported. It is called for the last alone, which is enough for all.
    """
    others = [logger for logger in map(logging.getLogger, levels) if logger.level != levels[logger.name]]
    for logger in others:
        logger.level = levels[logger.name]
    if others:
        others[-1].setLevel(others[-1].level)
