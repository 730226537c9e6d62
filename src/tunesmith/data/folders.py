"""Which files of a folder hold which rows: a file a split, pieces, a file or folder per class, files line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tunesmith.data.archives import is_packed, unpacked
from tunesmith.data.encodings import show_name
from tunesmith.data.image_files import has_image_suffix
from tunesmith.data.image_sources import holds_images, image_sources, is_archive, members_of
from tunesmith.data.languages import LANGUAGE_CODES
from tunesmith.data.saved_sets import files_of_saved_set
from tunesmith.data.sources import (
    COLUMNAR,
    CONLL,
    DELIMITED,
    FORMATS,
    JSON,
    LabelledFiles,
    ParallelFiles,
    Source,
    check_file,
    format_suffix,
    may_hold_data,
    missing,
    name_words,
    only_describes,
    split_named,
)
from tunesmith.types import InputError, Problem

_STRUCTURED = DELIMITED | JSON | COLUMNAR | CONLL
_PROSE = frozenset({".md", ".markdown", ".rst"})
"""Endings of texts that are read where folders name their class, and nowhere else."""
_SHARD_NUMBER = re.compile(r"\d+")
_TEXT_WORDS_LIST = """
    text texts sentence sentences tweet tweets review reviews comment comments input inputs x doc docs
    document documents content seq_in
"""
_TEXT_WORDS = frozenset(_TEXT_WORDS_LIST.split())
_LABEL_WORDS_LIST = """
    label labels class classes target targets category categories y gold sentiment tags
"""
_LABEL_WORDS = frozenset(_LABEL_WORDS_LIST.split())
_SIDES_LIST = """
    src tgt source target in out question answer document summary original simple modern normal
"""
_SIDES = LANGUAGE_CODES | frozenset(_SIDES_LIST.split())
"""What files are called whose lines belong together, each of one language or of one side."""
_MAPPINGS = frozenset(["mapping", "map", "label_names", "labels_names", "label_map", "names", "id2label", "classes"])
_CLASS_WORDS_LIST = """
    pos neg positive negative neutral spam ham good bad yes no true false real fake hate nothate offensive
    toxic nontoxic subjective objective plot quote formal informal
"""
_CLASS_WORDS = frozenset(_CLASS_WORDS_LIST.split())
_UNLABELLED = frozenset({"unsup", "unlabeled", "unlabelled"})
_MAX_CLASS_FILES = 200


def find_sources(given: str, split: str = "train") -> tuple[list[Source], list[Problem]]:
    """Return what is behind a path: the file, or what a folder holds; and notes on what was passed over.

    Raises ``InputError`` when there is nothing, or nothing usable, or no way to tell which.
    """
    path = Path(given).expanduser()
    try:
        if path.is_dir():
            return sources_of_folder(path)
        if not path.exists():
            raise missing(path)
        if not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder.", f"Give a file ({FORMATS}).")
        if holds_images(path):
            found, notes = image_sources(path, split)
            return [*found], notes
        if is_packed(path):
            path = unpacked(path)
            if path.is_dir():
                return sources_of_folder(path)
        return [check_file(path, split)], []
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        shown = given.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename not in (None, str(path)) else ""
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"{shown} cannot be read: {reason}{where}.", "Check the path and its permissions.") from error


def sources_of_folder(folder: Path) -> tuple[list[Source], list[Problem]]:
    """Return what is to be read of a folder, and notes on what was passed over.

    Raises ``InputError`` when there is nothing usable, or no way to tell which.
    """
    saved = files_of_saved_set(folder)
    if saved is not None:
        return [*saved[0]], _passed_over(saved[1])
    usable, others = _usable(folder)
    is_certain = any(split_named(_stem(path)) or format_suffix(path) in _STRUCTURED for path in usable)
    if not is_certain:
        by_class = _class_folders(folder)
        if by_class is not None:
            passed_over = [show_name(path) for path in usable] + others
            return by_class[0], [*by_class[1], *_passed_over(passed_over)]
    if not usable:
        # The layout of hub repositories: data/train-00000-of-00002.parquet, or one folder a split.
        for inner in _subfolders(folder):
            more, _ = _usable(inner)
            usable += more
    if all("_".join(_words(path)) in _MAPPINGS for path in usable):
        images, notes = image_sources(folder)
        if images:
            passed_over = [*map(show_name, usable), *(name for name in others if not has_image_suffix(name))]
            return [*images], [*notes, *_passed_over(passed_over)]
    if not usable:
        shown = f" It holds: {', '.join(sorted(others)[:8])}." if others else _inside(folder)
        raise InputError(f"No data file in {folder}.{shown}", f"Expected {FORMATS}.")
    return _sort(folder, usable, others)


def _inside(folder: Path) -> str:
    """Return what a folder holds whose own files, if there are any, are none to be read."""
    names = sorted(show_name(item) for item in folder.iterdir() if not item.name.startswith("."))
    return f" It holds: {', '.join(names[:8])}." if names else " It is empty."


def _subfolders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "_")))


def _usable(folder: Path) -> tuple[list[Path], list[str]]:
    usable, others = [], []
    for item in sorted(folder.iterdir()):
        if item.name.startswith((".", "_")) or not item.is_file():
            continue
        kind = may_hold_data(item)
        if kind:
            usable.append(item)
        elif kind is False and not (is_archive(item) and members_of(item)):
            others.append(show_name(item))
    return usable, others


def _sort(folder: Path, usable: list[Path], others: list[str]) -> tuple[list[Source], list[Problem]]:
    """Return the sources of a folder's files, by the splits that their names speak of."""
    named: dict[str, list[Path]] = {"train": [], "validation": [], "test": []}
    unnamed: list[Path] = []
    for path in usable:
        split = split_named(_stem(path)) or (split_named(path.parent.name) if path.parent != folder else None)
        (named[split] if split else unnamed).append(path)
    mapping = next((path for path in unnamed if "_".join(_words(path)) in _MAPPINGS), None)
    if not any(named.values()):
        return _without_splits(folder, [path for path in unnamed if path != mapping], others, mapping)
    if not named["train"]:
        found = ", ".join(sorted(path.name for paths in named.values() for path in paths))
        raise InputError(
            f"{folder} has files for {' and '.join(split for split in named if named[split])} ({found}), "
            "but none for training.",
            "Name the training file train.* or give it as data.path, the others as data.validation and data.test.",
        )
    sources: list[Source] = []
    notes: list[Problem] = []
    uses_mapping = False
    for split, paths in named.items():
        more, passed_over = _of_split(folder, split, paths, mapping)
        sources += more
        uses_mapping |= any(isinstance(one, ParallelFiles) for one in more)
        notes += _passed_over(passed_over)
    left = [show_name(path) for path in unnamed if not (uses_mapping and path == mapping)]
    return sources, [*notes, *_passed_over(left + others)]


def _of_split(folder: Path, split: str, paths: list[Path], mapping: Path | None) -> tuple[list[Source], list[str]]:
    if len(paths) < 2:
        return [check_file(path, split) for path in paths], []
    parallel = _parallel(folder, split, paths, mapping)
    if parallel is not None:
        return parallel
    labelled = _class_files(folder, split, paths, has_split=True)
    if labelled is not None:
        return [labelled], []
    return [check_file(path, split) for path in _shards(folder, split, paths)], []


def _without_splits(
    folder: Path, paths: list[Path], others: list[str], mapping: Path | None
) -> tuple[list[Source], list[Problem]]:
    if not paths and mapping is not None:
        paths, mapping = [mapping], None
    if len(paths) == 1 and mapping is not None:
        others = [*others, mapping.name]
    if len(paths) == 1:
        return [check_file(paths[0], "train")], _passed_over(others)
    parallel = _parallel(folder, "train", paths, mapping)
    if parallel is not None:
        return parallel[0], _passed_over([*parallel[1], *others])
    labelled = _class_files(folder, "train", paths, has_split=False)
    if labelled is not None:
        return [labelled], _passed_over([*others, *([mapping.name] if mapping else [])])
    if len({_SHARD_NUMBER.sub("#", str(path.relative_to(folder))) for path in paths}) == 1:
        return [check_file(path, "train") for path in _shards(folder, "train", paths)], _passed_over(others)
    names = sorted(show_name(path) for path in paths)
    raise InputError(
        f"{folder} holds {len(names)} data files and none is named train: {', '.join(names[:8])}.",
        f"Give one of them, such as {folder / names[0]}, or name them train, validation and test; texts of one class "
        "each go into a folder per class, or into files train.CLASS.",
    )


# ---- files that belong together ------------------------------------------------------------------


def _are_plain(paths: Iterable[Path]) -> bool:
    return all(format_suffix(path) not in _STRUCTURED for path in paths)


def _words(path: Path) -> list[str]:
    """Return the words of a file's name that tell neither split nor format."""
    return [word for word in name_words(path) if split_named(word) is None and word not in ("txt", "text_", "dat")]


def _parallel(
    folder: Path, split: str, paths: list[Path], mapping: Path | None
) -> tuple[list[Source], list[str]] | None:
    """Return the files of a split that hold one row a line together: texts and labels, or two languages."""
    if not _are_plain(paths):
        return None
    sets: dict[tuple[str, ...], dict[str, Path]] = {}
    for path in paths:
        role, rest = _role(_words(path))
        sets.setdefault(rest, {})[role] = path
    together = {rest: roles for rest, roles in sets.items() if _belong_together(roles)}
    if not together:
        return None
    first = next(iter(together))
    passed_over = [show_name(path) for rest, roles in sets.items() if rest != first for path in roles.values()]
    in_order = _as_named(folder, together[first])
    columns = tuple(sorted(((_column(role), path) for role, path in in_order), key=_order))
    return [ParallelFiles(folder.name, split, columns, mapping)], passed_over


def _role(words: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the word of a file's name that tells what its lines are, and the other words."""
    for size in (2, 1):
        for start in range(len(words) - size, -1, -1):
            role = "_".join(words[start : start + size])
            if role in _TEXT_WORDS | _LABEL_WORDS | _SIDES or role.startswith("seq_"):
                return role, (*words[:start], *words[start + size :])
    return "", tuple(words)


def _belong_together(roles: Mapping[str, Path]) -> bool:
    names = set(roles)
    if len(names) < 2:
        return False
    return bool(names & _LABEL_WORDS and names - _LABEL_WORDS) or names <= _SIDES


def _as_named(folder: Path, roles: Mapping[str, Path]) -> list[tuple[str, Path]]:
    """Return files with their roles, sources first; languages as the folder's name orders them (``wmt_de_en``)."""
    words = name_words(folder)
    first = ("src", "source", "in", "question", "document", "original", *words)
    return sorted(roles.items(), key=lambda pair: first.index(pair[0]) if pair[0] in first else len(first))


def _order(column: tuple[str, Path]) -> tuple[bool, bool]:
    """Put texts first and labels last; others stay in their order."""
    return column[0] != "text", column[0] == "label"


def _column(role: str) -> str:
    if role in _TEXT_WORDS or not role:
        return "text"
    return "label" if role in _LABEL_WORDS else role


def _class_files(folder: Path, split: str, paths: list[Path], *, has_split: bool) -> LabelledFiles | None:
    """Return files of which each holds the texts of one class: ``reviews.pos`` and ``reviews.neg``."""
    if not _are_plain(paths) or not 2 <= len(paths) <= _MAX_CLASS_FILES:
        return None
    words = [name_words(path) for path in paths]
    common = set(words[0]).intersection(*map(set, words))
    own = ["_".join(word for word in one if word not in common and split_named(word) is None) for one in words]
    if len(set(own)) < len(own) or not all(own) or all(label.isdigit() for label in own):
        return None
    stems = {path.name.partition(".")[0] for path in paths}
    ends = {path.suffix.lower() for path in paths}
    is_ending = len(stems) == 1 and len(ends) == len(paths)
    if not (is_ending or has_split or set(own) & _CLASS_WORDS):
        return None
    return LabelledFiles(folder.name, split, tuple(zip(paths, own, strict=True)), "line")


def _class_folders(folder: Path) -> tuple[list[Source], list[Problem]] | None:
    """Return the texts of a folder per class, in folders per split or not; None where there are none."""
    inner = _subfolders(folder)
    by_split = {path: split_named(path.name) for path in inner}
    found: dict[str, list[tuple[Path, str]]] = {}
    if any(by_split.values()):
        for path, split in by_split.items():
            if split is not None:
                found.setdefault(split, []).extend(_texts_by_class(_subfolders(path)))
    else:
        for path in inner:
            for below in _subfolders(path):
                if (split := split_named(below.name)) is not None:
                    found.setdefault(split, []).extend(_texts_by_class([below], path.name))
        if not found:
            found["train"] = _texts_by_class(inner)
    left_out = {label for texts in found.values() for _, label in texts if label.lower() in _UNLABELLED}
    found = {split: [text for text in texts if text[1] not in left_out] for split, texts in found.items()}
    if len({label for _, label in found.get("train", [])}) < 2:
        return None
    notes = (
        [Problem("note", f"Not read: the texts without labels in {', '.join(sorted(left_out))}.")] if left_out else []
    )
    sources: list[Source] = []
    for split, texts in found.items():
        labels = [label for _, label in texts]
        if texts:
            unit: Literal["line", "file"] = "line" if len(set(labels)) == len(labels) else "file"
            sources.append(LabelledFiles(folder.name, split, tuple(texts), unit))
    return sources, notes


def _texts_by_class(folders: Sequence[Path], label: str = "") -> list[tuple[Path, str]]:
    """Return the text files of folders, however deep, each with the folder's name (or with the label given)."""
    texts = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            suffix = format_suffix(path)
            if is_hidden or not path.is_file() or suffix in _STRUCTURED:
                continue
            is_prose = suffix in _PROSE and not only_describes(path) and path.stat().st_size > 0
            if is_prose or (suffix not in _PROSE and may_hold_data(path) is not False):
                texts.append((path, label or folder.name))
    return texts


# ---- pieces --------------------------------------------------------------------------------------


def _stem(path: Path) -> str:
    """Return a file's name without the ending that tells the format."""
    suffix = format_suffix(path)
    name = path.name.lower()
    return name.rpartition(suffix)[0] if suffix in _STRUCTURED | {".txt", ".text", ".lst"} and suffix else name


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
