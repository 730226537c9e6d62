"""What stands for this room's code in the keys of the cache."""

from __future__ import annotations

from tunesmith.files.source_hash import source_hash


def reading_version(form_module: str = "") -> str:
    """Return what changes whenever reading or preparing may give other rows, or say other things of them.

    ``form_module`` is where the form of the rows is written, which may be elsewhere.
    """
    names = ["tunesmith.data", "tunesmith.bounded", "tunesmith.config.load", "tunesmith.types"]
    if form_module and not form_module.startswith("tunesmith.data."):
        names.append(form_module)
    return source_hash(*names, libraries=("charset-normalizer", "pyarrow", "pyyaml"))
