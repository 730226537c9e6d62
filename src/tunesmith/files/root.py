"""Where what a user's runs share is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return ``$TUNESMITH_CACHE``, else ``$XDG_CACHE_HOME/tunesmith``, else ``~/.cache/tunesmith``."""
    own = os.environ.get("TUNESMITH_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    root = Path(shared).expanduser() if shared else Path.home() / ".cache"
    return root.absolute() / "tunesmith"
