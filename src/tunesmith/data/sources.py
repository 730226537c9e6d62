"""Which files hold which rows: single files, folders of split files, and what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.config.base import nearest
from tunesmith.data.encodings import COMPRESSIONS, compression_of, open_bytes
from tunesmith.types import InputError, Problem

DELIMITED = frozenset({".csv", ".tsv", ".tab"})
JSON = frozenset({".json", ".jsonl", ".ndjson"})
COLUMNAR = frozenset({".parquet", ".pq", ".arrow", ".feather"})
PLAIN = frozenset({".txt", ".text", ".data", ".dat", ".lst", ""})
CONLL = frozenset({".conll", ".conll2003", ".bio", ".iob", ".iob2", ".bioes"})
BY_CONTENT = frozenset({".annotated", ".train", ".dev", ".valid", ".test"})
"""Endings of files whose content tells the format; all but the first name the split."""
READABLE = DELIMITED | JSON | COLUMNAR | PLAIN | CONLL | BY_CONTENT
FORMATS = "CSV, TSV, JSON, JSONL, Parquet, Arrow, Feather, CoNLL or text, plain or as .gz, .bz2, .xz"

_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt", ".dill", ".npy", ".npz"})
_OTHERS = {
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".ods": "Save the sheet as CSV.",
    ".zip": "Unpack it first and give the folder.",
    ".tar": "Unpack it first and give the folder.",
    ".tgz": "Unpack it first and give the folder.",
    ".7z": "Unpack it first and give the folder.",
    ".rar": "Unpack it first and give the folder.",
    ".zst": "Unpack it first: zstd -d FILE.",
    ".pdf": "Extract its text first.",
    ".docx": "Save it as plain text first.",
    ".db": "Export the table as CSV.",
    ".sqlite": "Export the table as CSV.",
}
_MAGIC_OTHERS = ((b"PK\x03\x04", ".zip"), (b"%PDF", ".pdf"), (b"SQLite format 3", ".db"), (b"\x28\xb5\x2f\xfd", ".zst"))
_MAGIC_COLUMNAR = (b"PAR1", b"ARROW1", b"FEA1")

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "dev": "validation",
    "development": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_NO_DATA = re.compile(
    r"(readme|licen[cs]e|copying|notice|provenance|changelog|citation|authors|contributing|manifest|makefile|dockerfile"
    r"|dataset_infos?|dataset_dict|requirements)\b.*",
    re.IGNORECASE,
)
_SHARD_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read."""

    path: Path
    suffix: str
    """Of the format, lower case, without the compression: ``.csv`` for ``train.csv.gz``."""
    split: str

    @property
    def name(self) -> str:
        """The file's name as it can be written and shown; bytes that are no UTF-8 are escaped."""
        return os.fsencode(self.path.name).decode("utf-8", "backslashreplace")


def format_suffix(path: Path) -> str:
    """Return the suffix that names the format, in lower case; empty when there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and re.fullmatch(r"\.[a-z0-9]{1,8}", suffixes[-1]) else ""


def find_files(given: str, split: str = "train") -> tuple[list[DataFile], list[Problem]]:
    """Return the files behind a path: the file, or a folder's split files; and notes on what was passed over.

    Raises ``InputError`` when there is nothing, or nothing usable, or no way to tell which.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        return _files_of_folder(path)
    if not path.exists():
        raise _missing(path)
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder.", f"Give a file ({FORMATS}).")
    return [check_file(path, split)], []


def check_file(path: Path, split: str) -> DataFile:
    """Return the file with its format, refusing what must not or cannot be read."""
    suffix = format_suffix(path)
    if suffix in _PICKLES:
        raise _pickle(path)
    if suffix in _OTHERS:
        raise InputError(f"{path.name}: {suffix} files cannot be read.", _OTHERS[suffix])
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty.", "Give a file with at least a few rows.")
    with open_bytes(path) as file:
        start = file.read(16)
    if not start:
        raise InputError(f"{path.name} holds nothing once decompressed.", "Give a file with at least a few rows.")
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise _pickle(path)
    for magic, kind in _MAGIC_OTHERS:
        if start.startswith(magic):
            raise InputError(f"{path.name} is a {kind[1:]} file, which cannot be read.", _OTHERS[kind])
    if start.startswith(_MAGIC_COLUMNAR):
        suffix = ".parquet"
    elif suffix not in READABLE:
        # An unknown suffix is no reason to refuse a text file.
        suffix = ""
    return DataFile(path, suffix, split)


def split_named(text: str) -> str | None:
    """Return the split that a file or folder name speaks of, by whole words."""
    words = re.split(r"[^a-z]+", text.lower())
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def _missing(path: Path) -> InputError:
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"{path} does not exist, nor does the folder {folder}.", "Check data.path.")
    names = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    hint = nearest(path.name, names) or (f"The folder holds: {', '.join(names[:8])}." if names else "It is empty.")
    return InputError(f"{path.name} does not exist in {folder.resolve()}.", hint)


def _pickle(path: Path) -> InputError:
    return InputError(
        f"{path.name} is a pickle or weights file: reading one can run any program, so it is never opened.",
        f"Export the rows as {FORMATS}.",
    )


def _files_of_folder(folder: Path) -> tuple[list[DataFile], list[Problem]]:
    usable, others = _usable(folder)
    if not usable:
        # The layout of hub repositories: data/train-00000-of-00002.parquet, or one folder a split.
        for inner in sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith(".")):
            more, _ = _usable(inner)
            usable += more
    if not usable:
        shown = f" It holds: {', '.join(sorted(others)[:8])}." if others else " It is empty."
        raise InputError(f"No data file in {folder}.{shown}", f"Expected {FORMATS}.")
    named: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    unnamed: list[Path] = []
    for path in usable:
        split = split_named(_stem(path)) or (split_named(path.parent.name) if path.parent != folder else None)
        (named[split] if split else unnamed).append(path)
    if not any(named.values()):
        return _only_file(folder, unnamed, others)
    if not named["train"]:
        found = ", ".join(sorted(path.name for paths in named.values() for path in paths))
        raise InputError(
            f"{folder} has files for {' and '.join(split for split in named if named[split])} ({found}), "
            "but none for training.",
            "Name the training file train.* or give it as data.path, the others as data.validation and data.test.",
        )
    files = [check_file(path, split) for split, paths in named.items() for path in _shards(folder, split, paths)]
    return files, _passed_over([path.name for path in unnamed] + others)


def _usable(folder: Path) -> tuple[list[Path], list[str]]:
    usable, others = [], []
    for item in sorted(folder.iterdir()):
        if item.name.startswith((".", "_")) or not item.is_file():
            continue
        suffix = format_suffix(item)
        if _NO_DATA.fullmatch(item.name):
            continue
        is_usable = suffix in READABLE and item.stat().st_size > 0 and not (suffix == "" and _is_binary(item))
        if is_usable:
            usable.append(item)
        else:
            others.append(item.name)
    return usable, others


def _is_binary(path: Path) -> bool:
    if compression_of(path):
        return False
    with path.open("rb") as file:
        start = file.read(1024)
    return b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff"))


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (*COMPRESSIONS, *(READABLE - BY_CONTENT)):
        if suffix and name.lower().endswith(suffix):
            return _stem(path.with_name(name[: -len(suffix)])) if len(name) > len(suffix) else name
    return name


def _only_file(folder: Path, unnamed: list[Path], others: list[str]) -> tuple[list[DataFile], list[Problem]]:
    if len(unnamed) > 1:
        names = sorted(path.name for path in unnamed)
        raise InputError(
            f"{folder} holds {len(names)} data files and none is named train: {', '.join(names[:8])}.",
            f"Give one of them, such as {folder / names[0]}, or name them train, validation and test.",
        )
    return [check_file(unnamed[0], "train")], _passed_over(others)


def _shards(folder: Path, split: str, paths: list[Path]) -> list[Path]:
    """Return the files of one split: a single one, or pieces that differ by their numbers only."""
    patterns = {_SHARD_NUMBER.sub("#", str(path.relative_to(folder))) for path in paths}
    if len(patterns) > 1:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in paths))
        raise InputError(
            f"{folder} has several files for {split}: {names}.",
            "Give the files themselves: data.path, data.validation and data.test.",
        )
    return sorted(paths, key=lambda path: [int(number) for number in _SHARD_NUMBER.findall(path.name)])


def _passed_over(names: Iterable[str]) -> list[Problem]:
    listed = sorted(names)
    if not listed:
        return []
    return [Problem("note", f"Not read: {', '.join(listed[:8])}{', …' if len(listed) > 8 else ''}.", count=len(listed))]
