"""Python's garbage collection while a command starts.

Importing torch and transformers makes more than a million objects, all of which stay. A full collection
looks at every one of them, and as the heap grows by imports there is one after the other: about a
quarter of the time to the first step. So collections are rare until then; afterwards they are as usual, but leave
alone what is there already.
"""

from __future__ import annotations

import gc

_USUAL = gc.get_threshold()
_RARE = (50_000, 50, 1000)


def start() -> None:
    """Collect rarely from here on."""
    gc.set_threshold(*_RARE)


def settle() -> None:
    """Collect as usual again, what has been made from now on; nothing happens unless collections are rare."""
    if gc.get_threshold() != _RARE:
        return
    gc.freeze()
    gc.set_threshold(*_USUAL)
