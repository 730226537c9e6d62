# mypy: disable-error-code="no-untyped-call"
"""Silence for third-party loading and saving: the library never prints, so its libraries must not either."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
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
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()
