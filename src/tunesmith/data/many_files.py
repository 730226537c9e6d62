"""Rows from many files: texts whose file or folder names their class, and files that belong together line by line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encoding_guess import check_is_text, detect_encoding
from tunesmith.data.encodings import MAX_LINE, Lines, describe_mark, has_marks, open_text, show_name
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.sources import LabelledFiles, ParallelFiles
from tunesmith.data.tables import Rejections, TableWriter
from tunesmith.types import Guess, InputError, Problem

_SHOWN = 5


def read_labelled_files(
    files: LabelledFiles, encoding: str | None, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write ``label``, ``text`` and ``__row__`` of all files to ``target``; what cannot be decoded is rejected."""
    schema = pa.schema([("label", pa.string()), ("text", pa.string()), (ROW, pa.string())])
    root = Path(files.common)
    encodings: set[str] = set()
    with TableWriter(target, schema) as writer:
        for path, label in files.files:
            name = _below(path, root)
            for line, text, used in _texts(path, encoding, files.unit):
                encodings.add(used)
                if has_marks(text):
                    rejected.add(f"{name}:{line}", describe_mark(text, used), text)
                elif text.strip() or files.unit == "file":
                    writer.add([label, text, f"{name}:{line}"], len(text))
    labels = sorted({label for _, label in files.files})
    shown = ", ".join(labels[:_SHOWN]) + (", …" if len(labels) > _SHOWN else "")
    what = "file is a text" if files.unit == "file" else "line of a file is a text"
    where = "folder" if files.unit == "file" else "file"
    note = Problem("note", f"{files.name}: each {what}, and the {where}'s name its label: {shown}.")
    guess = Guess("folder", f"a {where} per class", writer.num_rows)
    details = {"format": "texts by class", "encoding": ", ".join(sorted(encodings)), "guesses": [guess_to_dict(guess)]}
    return details, [note] if files.split == "train" else []


def _below(path: Path, root: Path) -> str:
    inside = path.relative_to(root)
    return "/".join(show_name(Path(part)) for part in inside.parts)


def _texts(path: Path, encoding: str | None, unit: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number of its first line, the text and the encoding of every text of a file."""
    if encoding is None:
        check_is_text(path)
    used = encoding or detect_encoding(path)[0]
    with open_text(path, used) as text:
        if unit == "file":
            content = text.read(MAX_LINE).removeprefix("\ufeff")
            yield 1, content.replace("\r\n", "\n").strip(), used
            return
        lines = Lines(text)
        for line in lines:
            yield lines.number, line.removeprefix("\ufeff").rstrip("\r\n"), used


def read_parallel_files(
    files: ParallelFiles, encoding: str | None, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write a column for each file, a row for each line, to ``target``. Raises ``InputError`` for unequal lengths."""
    encodings = [encoding or detect_encoding(path)[0] for _, path in files.columns]
    names = [column for column, _ in files.columns]
    schema = pa.schema([*((name, pa.string()) for name in names), (ROW, pa.string())])
    first = show_name(files.columns[0][1])
    mapping = _read_mapping(files, encodings)
    counts = [0] * len(names)
    with ExitStack() as stack, TableWriter(target, schema) as writer:
        texts = [
            stack.enter_context(open_text(path, used, newline="\n"))
            for (_, path), used in zip(files.columns, encodings, strict=True)
        ]
        for number, lines in enumerate(zip_longest(*texts), start=1):
            for place, line in enumerate(lines):
                counts[place] += line is not None
            if None in lines:
                continue
            bad = next((place for place, line in enumerate(lines) if has_marks(line)), None)
            if bad is not None:
                reason = describe_mark(lines[bad], encodings[bad])
                rejected.add(f"{show_name(files.columns[bad][1])}:{number}", reason, lines[bad])
                continue
            cells = [line.removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n") for line in lines]
            for place, name in enumerate(names):
                if name == "label":
                    cells[place] = mapping.get(cells[place].strip(), cells[place])
            writer.add([*cells, f"{first}:{number}"], sum(map(len, cells)))
    if len(set(counts)) > 1:
        listed = ", ".join(f"{show_name(path)} {count}" for (_, path), count in zip(files.columns, counts, strict=True))
        raise InputError(
            f"{files.name}: files that belong together line by line have different numbers of lines: {listed}.",
            "Give every text its label on the same line, or one file that holds both.",
        )
    guess = Guess("folder", f"line by line: {', '.join(names)}", counts[0])
    details = {"format": "parallel text", "encoding": ", ".join(sorted(set(encodings)))}
    notes = []
    if files.split == "train":
        listed = ", ".join(f"{show_name(path)} as {column}" for column, path in files.columns)
        named = f"; labels are named by {show_name(files.mapping)}" if mapping and files.mapping else ""
        notes.append(Problem("note", f"{files.name}: files were read line by line: {listed}{named}."))
    return {**details, "guesses": [guess_to_dict(guess)]}, notes


def _read_mapping(files: ParallelFiles, encodings: list[str]) -> dict[str, str]:
    """Return the names of labels that are numbers, where a file gives them all; else nothing."""
    labels = next((place for place, (column, _) in enumerate(files.columns) if column == "label"), None)
    if files.mapping is None or labels is None:
        return {}
    with open_text(files.mapping, detect_encoding(files.mapping)[0]) as text:
        lines = [line.removeprefix("\ufeff").strip() for line in Lines(text)]
    lines = [line for line in lines if line]
    pairs = [line.split(maxsplit=1) for line in lines]
    if all(len(pair) == 2 and pair[0].lstrip("-").isdigit() for pair in pairs):
        names = dict(pairs)
    else:
        names = {str(number): line for number, line in enumerate(lines)}
    with open_text(files.columns[labels][1], encodings[labels], newline="\n") as text:
        used = {line.strip() for line in text}
    return names if used <= names.keys() and len(set(names.values())) == len(names) else {}


def content_of(files: LabelledFiles | ParallelFiles) -> list[tuple[str, Path]]:
    """Return every file with what it stands for, to make a key of."""
    if isinstance(files, LabelledFiles):
        return [(label, path) for path, label in files.files]
    mapping = [("mapping", files.mapping)] if files.mapping is not None else []
    return [*files.columns, *mapping]
