"""What stands for code in the cache's keys: what was made by other code than today's is made again.

Nobody has to remember to raise a number when a reader gives other rows than before.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tunesmith.files.hashing import hash_file, hash_json
from tunesmith.version import version_of


@cache
def source_hash(*names: str, libraries: tuple[str, ...] = ()) -> str:
    """Return one SHA-256 of the source of modules and of packages with all below them, and of libraries' versions.

    The same in every process and place that has the same files: names and contents count. Read once per process. Of a
    module without a file (one typed into a prompt) only the name counts.
    """
    sources = {name: _files_of(name) for name in names}
    return hash_json([sources, {library: version_of(library) for library in libraries}])


def _files_of(name: str) -> dict[str, str]:
    """Return the SHA-256 of each of a module's or package's files of code, by its path."""
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        spec = find_spec(name)
        origin = None if spec is None else spec.origin
    if origin is None:
        return {}
    path = Path(origin)
    if path.stem != "__init__":
        return {"": hash_file(path)}
    folder = path.parent
    files = sorted(folder.rglob("*.py")) or sorted(folder.rglob("*.pyc"))  # some are installed without their source
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
