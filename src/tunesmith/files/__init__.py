"""Files that survive crashes: atomic writes, manifests, locks, hashes, the cache."""

from tunesmith.files.append import GrowingFile
from tunesmith.files.atomic import (
    new_folder,
    remove_empty_folders,
    remove_file,
    remove_folder,
    sweep,
    update_manifest,
    write_bytes,
    write_text,
)
from tunesmith.files.cache import cache_root, cached_folder
from tunesmith.files.hashing import hash_bytes, hash_file, hash_json
from tunesmith.files.lock import locked
from tunesmith.files.manifest import names_in_manifest, verify_manifest, write_manifest
from tunesmith.files.packages import Package, fetch
from tunesmith.files.space import require_space, require_writable

__all__ = [
    "GrowingFile",
    "Package",
    "cache_root",
    "cached_folder",
    "fetch",
    "hash_bytes",
    "hash_file",
    "hash_json",
    "locked",
    "names_in_manifest",
    "new_folder",
    "remove_empty_folders",
    "remove_file",
    "remove_folder",
    "require_space",
    "require_writable",
    "sweep",
    "update_manifest",
    "verify_manifest",
    "write_bytes",
    "write_manifest",
    "write_text",
]
