"""Files that hold rows: what kind each is, what is refused, and which split a name speaks of."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tunesmith.config.base import nearest
from tunesmith.data.encodings import COMPRESSIONS, compression_of, open_bytes, show_name
from tunesmith.data.foreign_tables import DATABASES, FOREIGN, SHEETS, YAML, kind_of
from tunesmith.types import InputError

DELIMITED = frozenset({".csv", ".tsv", ".tab"})
JSON = frozenset({".json", ".jsonl", ".ndjson"})
COLUMNAR = frozenset({".parquet", ".pq", ".arrow", ".feather", ".orc", ".dta"})
PLAIN = frozenset({".txt", ".text", ".data", ".dat", ".lst", ""})
CONLL = frozenset({".conll", ".conll2003", ".conllu", ".conllx", ".bio", ".iob", ".iob2", ".bioes"})
BY_CONTENT = frozenset({".annotated", ".train", ".dev", ".valid", ".test"})
"""Endings of files whose content tells the format; all but the first name the split."""
READABLE = DELIMITED | JSON | COLUMNAR | PLAIN | CONLL | BY_CONTENT | SHEETS | DATABASES
FORMATS = "CSV, TSV, JSON, JSONL, Parquet, Excel, SQLite, CoNLL or text, plain or as .gz, .bz2, .xz, .zst"

_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".ckpt", ".dill", ".npy", ".npz"})
_OTHERS = {
    ".numbers": "Save the sheet as CSV.",
    ".gsheet": "It only names a sheet on the web: open that and download it as CSV.",
    ".zip": "Unpack it first and give the folder (archives of images need not be).",
    ".tar": "Unpack it first and give the folder.",
    ".tgz": "Unpack it first and give the folder.",
    ".7z": "Unpack it first and give the folder.",
    ".rar": "Unpack it first and give the folder.",
    ".pdf": "Extract its text first.",
    ".docx": "Save it as plain text first.",
    ".mdb": "Export the table as CSV.",
    ".accdb": "Export the table as CSV.",
    ".duckdb": "Export the table: COPY reviews TO 'train.parquet'.",
    ".h5": "Write it as Parquet: pandas.read_hdf(...).to_parquet('train.parquet').",
    ".hdf5": "Write it as Parquet: pandas.read_hdf(...).to_parquet('train.parquet').",
    ".spacy": "Write the documents of spaCy's DocBin a line each: json.dumps(doc.to_json()), as .jsonl.",
    ".tfrecord": "Write it with TensorFlow Datasets: tfds.as_dataframe(...).to_parquet('train.parquet').",
    ".avro": "Write it as Parquet or CSV.",
    ".sav": "Write it as CSV: pandas.read_spss(...).to_csv('train.csv', index=False).",
    ".rds": "Write it as CSV in R: write.csv(readRDS(...), 'train.csv', row.names = FALSE).",
    ".rdata": "Write the table as CSV in R: load(...), then write.csv(NAME, 'train.csv', row.names = FALSE).",
    ".rda": "Write the table as CSV in R: load(...), then write.csv(NAME, 'train.csv', row.names = FALSE).",
    ".doc": "Save it as plain text first.",
}
_TEXTS_OF_SHEETS = frozenset({".xls"})
_NO_TEXTS_LIST = """
    .py .sh .ipynb .md .rst .html .htm .xml .css .js .yaml .yml .toml .ini .png .jpg .jpeg .gif .bmp .webp .svg .tif
    .tiff .ppm .pgm .mp3
    .wav .flac .mp4 .avi .lock .log .sha256 .md5 .ann .a1 .a2 .safetensors .onnx .pyc .so
"""
_NO_TEXTS = frozenset(_NO_TEXTS_LIST.split())
"""Endings of files in a folder of data that are hardly ever its texts."""
_MAGIC_OTHERS = ((b"PK\x03\x04", ".zip"), (b"%PDF", ".pdf"))
_MAGIC_COLUMNAR = (b"PAR1", b"ARROW1", b"FEA1", b"ORC", b"<stata_dta>")
_MAGIC_DATABASE = b"SQLite format 3\0"
_PARTS_OF_SHEETS = frozenset({"xl/workbook.xml", "xl/workbook.bin"})

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
    r"(?:.*[._-])?readme\b.*|(licen[cs]e|copying|notice|provenance|changelog|citation|authors|contributing|manifest"
    r"|makefile|dockerfile|dataset_infos?|dataset_dict|requirements)\b.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to read."""

    path: Path
    suffix: str
    """Of the format, lower case, without the compression: ``.csv`` for ``train.csv.gz``."""
    split: str
    part: str = ""
    """Key of the rows to read, where the file is an object of splits; table or sheet, where it has several."""


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Plain texts whose label is the name of their file or folder."""

    name: str
    """Of the folder that holds all of them."""
    split: str
    files: tuple[tuple[Path, str], ...]
    """Each with its label."""
    unit: Literal["line", "file"]
    """Whether a line is a text, or the whole file."""

    @property
    def common(self) -> str:
        """The folder that all files are below."""
        return os.path.commonpath([path.parent for path, _ in self.files])


@dataclass(frozen=True, slots=True)
class ParallelFiles:
    """Plain files whose lines belong together, one column each."""

    name: str
    split: str
    columns: tuple[tuple[str, Path], ...]
    mapping: Path | None = None
    """Names of the labels."""


class ImageFile(NamedTuple):
    """One image of a folder or an archive."""

    reference: str
    """Where its bytes are (``image_files.py``)."""
    label: str | None
    place: str
    """Where it lies below what the user named."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images, each a row, whose label is the name of their folder."""

    name: str
    split: str
    files: tuple[ImageFile, ...]


Source = DataFile | LabelledFiles | ParallelFiles | ImageFiles


def format_suffix(path: Path) -> str:
    """Return the suffix that names the format, in lower case; empty when there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and re.fullmatch(r"\.[a-z0-9]{1,8}", suffixes[-1]) else ""


def name_words(path: Path) -> list[str]:
    """Return the words of a file's name in lower case, its compression left out."""
    name = path.name.lower()
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return [word for word in re.split(r"[._\s-]+", name) if word]


def only_describes(path: Path) -> bool:
    """Say whether a file is about the folder that it lies in, by its name: a readme, a licence."""
    return _NO_DATA.fullmatch(path.name) is not None


def may_hold_data(path: Path) -> bool | None:
    """Say whether a file of a folder can hold rows; None for one that only describes the folder."""
    if only_describes(path):
        return None
    suffix = format_suffix(path)
    if suffix in READABLE:
        return path.stat().st_size > 0 and not (suffix == "" and is_binary(path))
    is_other = suffix in _PICKLES or suffix in _OTHERS or suffix in _NO_TEXTS
    return not is_other and path.stat().st_size > 0 and not is_binary(path)


def check_file(path: Path, split: str) -> DataFile:
    """Return the file with its format, refusing what must not or cannot be read."""
    suffix = format_suffix(path)
    if suffix in _PICKLES:
        raise _pickle(path)
    if suffix in _TEXTS_OF_SHEETS and path.stat().st_size and not is_binary(path):
        suffix = ""  # many programs call tables of text so, for a spreadsheet to open them
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
    return DataFile(path, _suffix_by_content(path, suffix, start), split)


def _suffix_by_content(path: Path, suffix: str, start: bytes) -> str:
    """Return the suffix that a file should have, by its first bytes; nothing for text of an unknown kind."""
    if start.startswith(_MAGIC_DATABASE):
        suffix = ".db"
    elif start.startswith(b"PK") and suffix not in FOREIGN and _is_workbook(path):
        suffix = ".xlsx"
    if suffix in FOREIGN:
        if compression_of(path) and suffix not in YAML:
            raise InputError(f"{path.name} is a {kind_of(suffix)}, compressed.", "Decompress it first.")
        return suffix
    for magic, kind in _MAGIC_OTHERS:
        if start.startswith(magic):
            raise InputError(f"{path.name} is a {kind[1:]} file, which cannot be read.", _OTHERS[kind])
    if start.startswith(_MAGIC_COLUMNAR):
        return ".parquet"
    # An unknown suffix is no reason to refuse a text file.
    return suffix if suffix in READABLE else ""


def _is_workbook(path: Path) -> bool:
    """Say whether a zip file of any name is a workbook."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return not _PARTS_OF_SHEETS.isdisjoint(archive.namelist())


def split_named(text: str) -> str | None:
    """Return the split that a file or folder name speaks of, by whole words."""
    words = re.split(r"[^a-z]+", text.lower())
    found = {_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def splits_of(names: Iterable[str], alone: str = "train") -> dict[str, str]:
    """Return which of the named parts of a data set is which split: of several, the one with the shortest name.

    A single part that speaks of none is ``alone``.
    """
    listed = sorted(names, key=len)
    if len(listed) == 1:
        return {split_named(listed[0]) or alone: listed[0]}
    found: dict[str, str] = {}
    for name in listed:
        split = split_named(name)
        if split is not None:
            found.setdefault(split, name)
    return found


def missing(path: Path) -> InputError:
    """Return the error for a path that is not there."""
    folder = path.parent
    if not folder.is_dir():
        return InputError(f"{path} does not exist, nor does the folder {folder}.", "Check data.path.")
    names = sorted(show_name(item) for item in folder.iterdir() if not item.name.startswith("."))
    hint = nearest(path.name, names) or (f"The folder holds: {', '.join(names[:8])}." if names else "It is empty.")
    return InputError(f"{show_name(path)} does not exist in {folder.resolve()}.", hint)


def is_binary(path: Path) -> bool:
    """Say whether a file's beginning is no text."""
    if compression_of(path):
        return False
    with path.open("rb") as file:
        start = file.read(1024)
    return b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff"))


def _pickle(path: Path) -> InputError:
    return InputError(
        f"{path.name} is a pickle or weights file: reading one can run any program, so it is never opened.",
        f"Export the rows as {FORMATS}.",
    )
