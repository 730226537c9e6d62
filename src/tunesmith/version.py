"""The version of this package, and of those that it stands on."""

from __future__ import annotations

from functools import cache

__version__ = "0.1.0"


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package, looked up once per process: what is imported stays what it was.

    Raises ``importlib.metadata.PackageNotFoundError`` where there is none; the next call looks again.
    """
    from importlib.metadata import version  # takes as long as all of ``tunesmith --help`` needs besides

    return version(package)
