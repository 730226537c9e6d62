"""Folders of every usual form, and what is refused with a way out."""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tunesmith.data import DataConfig, RawData, read
from tunesmith.types import InputError


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def load(path: Path, **options: object) -> RawData:
    return read(DataConfig(path=str(path), **options))  # type: ignore[arg-type]


def pairs(raw: RawData, split: str = "train") -> list[tuple[str, str]]:
    rows = raw.splits[split]
    return list(zip(rows["text"], rows["label"], strict=True))


CLASS_FILES = {
    "endings": {"rt.pos": "fine\n", "rt.neg": "poor\n"},
    "stems": {"pos.txt": "fine\n", "neg.txt": "poor\n"},
    "splits": {"train.pos": "fine\n", "train.neg": "poor\n", "test.pos": "good\n", "test.neg": "bad\n"},
    "split words": {"train_pos.txt": "fine\n", "train_neg.txt": "poor\n"},
    "folders of one file": {"pos/all.txt": "fine\n", "neg/all.txt": "poor\n"},
}


@pytest.mark.parametrize("files", CLASS_FILES.values(), ids=CLASS_FILES)
def test_a_file_per_class(tmp_path: Path, files: dict[str, str]) -> None:
    raw = load(write(tmp_path / "set", files))
    assert sorted(pairs(raw)) == [("fine", "pos"), ("poor", "neg")]
    assert ("test" in raw.splits) == ("test.pos" in files)


CLASS_FOLDERS = {
    "splits": ("{split}/{label}/{number}.txt", True),
    "labels outside": ("{label}/{split}/{number}.txt", True),
    "no splits": ("{label}/{number}.txt", False),
    "no endings": ("{label}/{number}", False),
    "unknown endings": ("{label}/{number}.story", False),
    "deeper": ("{label}/2024/{number}.txt", False),
    "deeper with splits": ("{split}/{label}/a/b/{number}", True),
    "Markdown": ("{label}/{number}.md", False),
}


@pytest.mark.parametrize(("pattern", "has_splits"), CLASS_FOLDERS.values(), ids=CLASS_FOLDERS)
def test_a_folder_per_class(tmp_path: Path, pattern: str, has_splits: bool) -> None:
    files = {
        pattern.format(split=split, label=label, number=number): f"{label} {split}\nnumber {number}\n"
        for split in (("train", "test") if has_splits else ("train",))
        for label in ("comp.graphics", "sci-space")
        for number in range(3)
    }
    inside = Path(next(iter(files))).parent
    beside = {
        "README.txt": "about",
        "words.vocab": "a\nb\n",
        f"{inside}/README.md": "about",
        f"{inside}/.x/y.txt": "no",
    }
    raw = load(write(tmp_path / "set", {**files, **beside}))
    assert ("comp.graphics train\nnumber 1", "comp.graphics") in pairs(raw)
    assert {split: len(rows) for split, rows in raw.splits.items()} == dict.fromkeys(
        ("train", "test") if has_splits else ("train",), 6
    )
    assert raw.splits["train"]["__row__"][0].endswith(":1")


def test_texts_without_labels_are_passed_over(tmp_path: Path) -> None:
    files = {f"train/{label}/{number}.txt": label for label in ("pos", "neg", "unsup") for number in range(2)}
    raw = load(write(tmp_path / "set", files))
    assert set(raw.splits["train"]["label"]) == {"pos", "neg"}
    assert any("unsup" in problem.message for problem in raw.problems)


PARALLEL = {
    "words": ("{split}_text.txt", "{split}_labels.txt"),
    "endings": ("{split}.text", "{split}.label"),
    "letters": ("X_{split}.txt", "y_{split}.txt"),
    "plain and labels": ("{split}.txt", "{split}.labels"),
    "in folders": ("{split}/seq.in", "{split}/label"),
}


@pytest.mark.parametrize(("texts", "labels"), PARALLEL.values(), ids=PARALLEL)
def test_texts_and_labels_line_by_line(tmp_path: Path, texts: str, labels: str) -> None:
    files = {}
    for split in ("train", "dev"):
        files[texts.format(split=split)] = f"a fine {split}\n\na poor\x85 one\n"
        files[labels.format(split=split)] = "1\n0\n0\n"
    raw = load(write(tmp_path / "set", files))
    assert raw.splits["train"]["text"][:] == ["a fine train", "", "a poor\x85 one"]
    assert raw.splits["validation"]["label"][:] == ["1", "0", "0"]


def test_labels_get_their_names(tmp_path: Path) -> None:
    files = {"train_text.txt": "one\ntwo\n", "train_labels.txt": "0\n2\n", "mapping.txt": "0\tbad\n1\tso so\n2\tgood\n"}
    assert pairs(load(write(tmp_path / "a", files))) == [("one", "bad"), ("two", "good")]
    assert pairs(load(write(tmp_path / "b", {**files, "mapping.txt": "bad\nso so\ngood\n"})))[1] == ("two", "good")
    raw = load(write(tmp_path / "c", {**files, "mapping.txt": "0\tbad\n"}))
    assert pairs(raw) == [("one", "0"), ("two", "2")]  # not every label has a name: none is used


def test_files_of_unequal_length_are_refused(tmp_path: Path) -> None:
    files = {"train_text.txt": "one\ntwo\nthree\n", "train_labels.txt": "0\n1\n"}
    with pytest.raises(InputError, match=r"train_text\.txt 3, train_labels\.txt 2"):
        load(write(tmp_path / "set", files))


def test_two_languages(tmp_path: Path) -> None:
    files = {f"{split}.{end}": f"{end} {split}\n" * 3 for split in ("train", "val", "test") for end in ("en", "zh")}
    raw = load(write(tmp_path / "set", files))
    assert raw.splits["test"]["en"][:] == ["en test"] * 3
    assert raw.splits["train"].column_names == ["en", "zh", "__row__"]


def test_files_that_say_nothing_of_their_texts_are_a_question(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder per class"):
        load(write(tmp_path / "set", {"notes.txt": "one\n", "diary.txt": "two\n"}))


@pytest.mark.parametrize("split", [None, "train"])
def test_what_datasets_saved(tmp_path: Path, split: str | None) -> None:
    import datasets

    rows = datasets.Dataset.from_dict(
        {"text": [f"row {number}" for number in range(9)], "label": [number % 2 for number in range(9)]},
        features=datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"])),
    )
    datasets.disable_progress_bars()
    if split is None:
        rows.save_to_disk(str(tmp_path / "set"), num_shards=3)
    else:
        datasets.DatasetDict({"train": rows, "test": rows.select([2])}).save_to_disk(str(tmp_path / "set"))
    datasets.enable_progress_bars()
    raw = load(tmp_path / "set")
    assert raw.splits["train"]["text"][:] == [f"row {number}" for number in range(9)]
    assert raw.splits["train"]["label"][:2] == ["no", "yes"]
    if split is not None:
        assert raw.splits["test"]["text"][:] == ["row 2"]
    else:
        (tmp_path / "set" / "data-00001-of-00003.arrow").unlink()
        with pytest.raises(InputError, match="lacks data-00001"):
            load(tmp_path / "set")


def test_pieces_without_a_split_are_one(tmp_path: Path) -> None:
    raw = load(write(tmp_path / "set", {f"part-{number}.jsonl": f'{{"text": "{number}"}}\n' for number in (0, 1, 10)}))
    assert raw.splits["train"]["text"][:] == ["0", "1", "10"]


@pytest.mark.parametrize("kind", ["loop", "long", "file", "nul"])
def test_what_the_system_refuses_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "data.csv"
    if kind == "loop":
        path.symlink_to(path)
    if kind == "file":
        path.write_text("a")
    given = {"loop": path, "long": tmp_path / ("x" * 400), "file": path / "x.csv", "nul": f"{tmp_path}/a\0b"}[kind]
    with pytest.raises(InputError):
        read(DataConfig(path=str(given)))


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    for name in (b"x\xff.txt", b"train\xe9.csv"):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123 (a name in bytes)
            file.write(b"text,label\nsome words here,a\nother words there,b\n")
    raw = load(tmp_path)
    assert raw.splits["train"]["__row__"][0] == "train\\xe9.csv:2"
    assert any("x\\xff.txt" in problem.message for problem in raw.problems)


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def table(first: int) -> bytes:
    rows = "".join(f'"some words, number {row}",{"ab"[row % 2]}\n' for row in range(first, first + 30))
    return f"text,label\n{rows}".encode()


@pytest.mark.parametrize("name", ["x.zip", "x.tgz", "x.tar.gz"])
def test_archives_are_read_as_what_they_hold(tmp_path: Path, name: str) -> None:
    alone = load(pack(tmp_path / name, {"export/rows.csv": table(0), "__MACOSX/export/._rows.csv": b"x"}))
    assert alone.splits["train"]["text"][:2] == ["some words, number 0", "some words, number 1"]
    assert alone.splits["train"]["__row__"][0] == "rows.csv:2"
    files = {"set/train.csv": table(0), "set/test.csv": table(50), "set/readme.md": b"# About"}
    several = load(pack(tmp_path / name, files))
    assert {split: len(rows) for split, rows in several.splits.items()} == {"train": 30, "test": 30}


@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_archives_write_nowhere_else_and_do_not_burst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "some" / "cache" / "below"))
    outside = pack(tmp_path / name, {"../../../escaped.csv": table(0)})
    with suppress(InputError):
        load(outside)
    assert all("content" in path.parts for path in tmp_path.rglob("escaped.csv"))
    with pytest.raises(InputError, match="times its size"):
        load(pack(tmp_path / name, {"rows.csv": b"a,b\n" * 5_000_000}))
    with pytest.raises(InputError, match="no files"):
        load(pack(tmp_path / name, {}))


def test_a_damaged_tape_is_told_of(tmp_path: Path) -> None:
    """Its beginning is sound, so that it is known for one, and its end is not."""
    rows = random.Random(0).randbytes(400_000).hex().encode()
    with tarfile.open(tmp_path / "x.tar.xz", "w:xz") as archive:
        for name in ("a.csv", "b.csv"):
            member = tarfile.TarInfo(name)
            member.size = len(rows)
            archive.addfile(member, io.BytesIO(rows))
    content = bytearray((tmp_path / "x.tar.xz").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "x.tar.xz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        load(tmp_path / "x.tar.xz")


def test_a_damaged_archive_is_told_of(tmp_path: Path) -> None:
    content = bytearray(pack(tmp_path / "x.zip", {"rows.csv": table(0)}).read_bytes())
    content[60] ^= 255
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        load(tmp_path / "x.zip")


@pytest.mark.parametrize(("name", "way_out"), [("x.zip", "Unpack"), ("x.numbers", "CSV"), ("x.tar", "Unpack")])
def test_archives_and_sheets_are_refused_with_a_way_out(tmp_path: Path, name: str, way_out: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 something")
    with pytest.raises(InputError) as caught:
        load(tmp_path / name)
    assert way_out in caught.value.problems[0].fix
