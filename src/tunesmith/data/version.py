"""What stands for this room's code in the keys of the cache."""

from __future__ import annotations

from tunesmith.files.source_hash import source_hash


def reading_version() -> str:
    """Return what changes whenever reading or preparing may give other rows, or say other things of them."""
    return source_hash(
        "tunesmith.data", "tunesmith.bounded", "tunesmith.types", libraries=("charset-normalizer", "pyarrow")
    )
