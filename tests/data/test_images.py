"""Images in every place and form that users have them in, and what cannot be shown to a model."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("PIL")

from PIL import Image

from images import KINDS, class_folders, draw, picture
from tunesmith.data import image_files, prepare, read, read_for_prediction
from tunesmith.data.config import DataConfig
from tunesmith.data.image_files import ImageBytes, ImageError, decode
from tunesmith.data.image_rows import ClassifiedImages, QuestionedImages
from tunesmith.data.pixels import Pixels
from tunesmith.types import ColumnChoice, InputError


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rows_of(path: Path, split: str = "train") -> list[dict[str, Any]]:
    return list(read(DataConfig(path=str(path))).splits[split])


def choices(*roles: str, **others: str) -> list[ColumnChoice]:
    return [ColumnChoice(role, others.get(role, role), "test") for role in roles]


def prepared(path: Path, **settings: Any) -> dict[str, list[Any]]:
    config = DataConfig(path=str(path), **{"validation_fraction": 0.0, "test_fraction": 0.0, **settings})
    found = prepare(read(config), config, choices("image", "label"), ClassifiedImages)
    return {name: list(values) for name, values in found.splits["train"].columns().items()}


# ---- places ----------------------------------------------------------------------------------------


def test_a_folder_per_class_names_the_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "pictures", 6)
    rows = rows_of(tmp_path / "pictures")
    assert {(row["label"], row["__row__"]) for row in rows} == {
        (KINDS[number % 3], f"{KINDS[number % 3]}/{number}.png") for number in range(6)
    }
    assert all(Path(row["image"]).is_file() for row in rows)


@pytest.mark.parametrize("order", ["split first", "class first"])
def test_folders_of_splits_are_understood(tmp_path: Path, order: str) -> None:
    for number in range(12):
        split, kind = ("train", "train", "test", "val")[number % 4], KINDS[number % 3]
        inside = f"{split}/images/{kind}" if order == "split first" else f"{kind}/{split}"
        draw(tmp_path / inside / f"{number}.jpg", number)
    splits = read(DataConfig(path=str(tmp_path))).splits
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 6, "validation": 3, "test": 3}
    assert set(splits["test"]["label"]) == set(KINDS)


def test_test_images_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    class_folders(tmp_path / "test", 4)
    class_folders(tmp_path / "val", 4)
    with pytest.raises(InputError, match="none for training"):
        read(DataConfig(path=str(tmp_path)))


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archives_are_read_as_folders_are(tmp_path: Path) -> None:
    members = {f"{KINDS[number % 3]}/{number}.png": encoded(picture(number)) for number in range(6)}
    path = zipped(tmp_path / "pictures.zip", {**members, "__MACOSX/high/._0.png": b"", "readme.txt": b"hello"})
    rows = rows_of(path)
    assert sorted(row["label"] for row in rows) == sorted(KINDS * 2)
    with ImageBytes() as source:
        contents = {source.read(row["image"]) for row in rows}
    assert contents == set(members.values())
    by_split = tmp_path / "splits"
    by_split.mkdir()
    for split in ("train", "test"):
        zipped(by_split / f"{split}_images.zip", members)
    assert {name: len(found) for name, found in read(DataConfig(path=str(by_split))).splits.items()} == {
        "train": 6,
        "test": 6,
    }


@pytest.mark.parametrize("cell", ["{n}.png", "pictures/{n}.png", "pictures\\{n}.png", "images/{n}.png"])
def test_paths_in_a_table_begin_beside_it(tmp_path: Path, cell: str) -> None:
    place = tmp_path / ("images" if cell == "{n}.png" else cell.replace("\\", "/").partition("/")[0])
    for number in range(3):
        draw(place / f"{number}.png", number)
    table = tmp_path / "rows.csv"
    lines = [f"{cell.format(n=number)},{KINDS[number]}" for number in range(3)]
    table.write_text("\n".join(["file_name,label", *lines]), encoding="utf-8")
    assert [row["file_name"] for row in rows_of(table)] == [str(place / f"{number}.png") for number in range(3)]


def test_numbers_name_the_images_of_an_archive(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 6)):
        members = {f"{number}.png": encoded(picture(first + number)) for number in range(6)}
        zipped(tmp_path / f"{split}_images.zip", members)
        rows = [["where is it bright?", KINDS[number % 3], number] for number in range(6)]
        (tmp_path / f"{split}_questions.json").write_text(json.dumps(rows), encoding="utf-8")
    raw = read(DataConfig(path=str(tmp_path)))
    assert raw.splits["test"].column_names == ["question", "answer", "image", "__row__"]
    assert raw.splits["test"]["image"][4] == f"{tmp_path}/test_images.zip!4.png"
    assert not [problem for problem in raw.problems if "Not read" in problem.message]


@pytest.mark.parametrize("form", ["bytes", "datasets"])
def test_images_in_parquet_are_the_same_bytes(tmp_path: Path, form: str) -> None:
    contents = [encoded(picture(number)) for number in range(5)]
    cells: list[Any] = [{"bytes": one, "path": None} for one in contents] if form == "datasets" else contents
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": cells, "label": list("aabba")}), path)
    for _ in range(2):  # the second time from the cache
        rows = rows_of(path)
        with ImageBytes() as source:
            assert [source.read(row["image"]) for row in rows] == contents


def test_a_changed_image_is_read_anew(tmp_path: Path) -> None:
    class_folders(tmp_path, 6)
    before = prepared(tmp_path)["content"]
    picture(77).save(tmp_path / "high" / "0.png")
    after = prepared(tmp_path)["content"]
    assert len(set(before) - set(after)) == 1


def test_equal_images_are_one_whatever_their_names(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 6)
    (tmp_path / "train" / "high" / "copy.png").write_bytes((tmp_path / "train" / "high" / "0.png").read_bytes())
    class_folders(tmp_path / "test", 3)  # the same pictures: they would tell the answers
    config = DataConfig(path=str(tmp_path), validation_fraction=0.0, clean={"leaks": True})
    found = prepare(read(config), config, choices("image", "label"), ClassifiedImages)
    assert len(found.splits["train"]) == 3
    assert found.left_out == {"duplicate": 1, "leak": 3}


def test_of_several_questions_the_answers_of_one_kind_are_the_classes(tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        draw(tmp_path / "images" / f"{number}.png", number)
        colour = ("red", "blue", "green", "grey")[number % 4]
        rows += [
            {"image": f"{number}.png", "question": "where is it bright?", "answer": KINDS[number % 3]},
            {"image": f"{number}.png", "question": "of what colour is it?", "answer": colour},
            {"image": f"{number}.png", "question": "is it bright?", "answer": ("yes", "no")[number % 2]},
        ]
    table = tmp_path / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = DataConfig(path=str(table), validation_fraction=0.0, test_fraction=0.0)
    chosen = choices("image", "question", "label", label="answer")
    found = prepare(read(config), config, chosen, ClassifiedImages)
    assert sorted(found.splits["train"]["label"]) == sorted(KINDS * 2)
    (guess,) = found.guesses
    assert (guess.chosen, guess.explained) == ("high, low, wide", 6)
    assert found.left_out == {"question of another kind": 12}
    assert guess.alternatives == (("blue, green, grey, red", 6),)
    every = prepare(read(config), config, chosen, QuestionedImages)
    assert len(every.splits["train"]) == 18


# ---- what cannot be shown --------------------------------------------------------------------------


def bomb() -> bytes:
    """Return a PNG of some hundred bytes that says it has 40,000 x 40,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


BAD = {
    "missing": None,
    "unreadable": b"this is no image at all",
    "damaged": encoded(picture(3, 64), "JPEG")[:700],
    "too large": bomb(),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_images_are_counted_named_and_set_aside(tmp_path: Path, fault: str) -> None:
    lines = ["image,label"]
    for number in range(30):
        draw(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,{KINDS[number % 3]}")
    bad = BAD[fault]
    if bad is None:
        (tmp_path / "7.png").unlink()
    else:
        (tmp_path / "7.png").write_bytes(bad)
    table = tmp_path / "rows.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(path=str(table), validation_fraction=0.0, test_fraction=0.0, bad_rows="quarantine")
    found = prepare(read(config), config, choices("image", "label"), ClassifiedImages)
    assert len(found.splits["train"]) == 29
    assert found.left_out == {f"image {fault}": 1}
    (warning,) = [problem for problem in found.problems if "rows.csv:9" in problem.rows]
    assert "7.png" in warning.message
    with pytest.raises(InputError, match=r"rows\.csv:9"):
        prepared(table, bad_rows="refuse")
    with pytest.raises(InputError, match=r"rows\.csv:9"):
        read_for_prediction(str(table), choices("image"), config, ClassifiedImages)


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("../{n}.png", "image outside"),
        ("{root}/../{n}.png", "image outside"),
        ("https://images.example/{n}.png", "image address"),
        ("", "image no image"),
    ],
)
def test_paths_that_are_not_followed_say_why(tmp_path: Path, cell: str, fault: str) -> None:
    folder = tmp_path / "data"
    lines = ["image,label"]
    for number in range(40):
        draw(folder / f"{number}.png", number)
        draw(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,{KINDS[number % 3]}")
    lines[-1] = f"{cell.format(n=39, root=folder)},{KINDS[0]}"
    (folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(
        path=str(folder / "rows.csv"), validation_fraction=0.0, test_fraction=0.0, bad_rows="quarantine"
    )
    found = prepare(read(config), config, choices("image", "label"), ClassifiedImages)
    assert found.left_out == {fault: 1}


def test_a_damaged_archive_and_a_member_that_is_gone_are_errors_of_ours(tmp_path: Path) -> None:
    path = zipped(tmp_path / "some.zip", {"0.png": encoded(picture(0))})
    with ImageBytes() as source, pytest.raises(ImageError, match=r"1\.png is not there"):
        source.read(f"{path}!1.png")
    path.write_bytes(path.read_bytes()[:40])
    with ImageBytes() as source, pytest.raises(ImageError) as raised:
        source.read(f"{path}!0.png")
    assert raised.value.fault == "unreadable"


def test_large_images_are_refused_before_their_pixels_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="24 x 24"):
        decode(encoded(picture(0)))


# ---- pixels ----------------------------------------------------------------------------------------


def test_images_are_read_as_people_see_them() -> None:
    plain = np.asarray(picture(1))
    np.testing.assert_array_equal(decode(encoded(picture(1))), plain)
    grey = Image.fromarray(plain[:, :, 0])
    np.testing.assert_array_equal(decode(encoded(grey)), np.repeat(plain[:, :, :1], 3, axis=2))
    deep = Image.fromarray(plain[:, :, 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode(encoded(deep)), np.repeat(plain[:, :, :1], 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: what was left is above
    turned = decode(encoded(picture(1), exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(plain, k=3))


def test_transparent_parts_are_white() -> None:
    image = picture(1).convert("RGBA")
    alpha = np.full((24, 24), 255, np.uint8)
    alpha[:8] = 0
    image.putalpha(Image.fromarray(alpha))
    found = decode(encoded(image))
    assert (found[:8] == 255).all()
    np.testing.assert_array_equal(found[8:], np.asarray(picture(1))[8:])
    palette = picture(1).quantize(16)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert (decode(encoded(palette, transparency=palette.info["transparency"]))[0, 0] == 255).all()


def test_inks_and_frames_become_one_picture() -> None:
    inks = picture(2).convert("CMYK")
    np.testing.assert_allclose(decode(encoded(inks, "TIFF")), np.asarray(picture(2)), atol=2)
    moving = encoded(picture(0), "GIF", save_all=True, append_images=[picture(1), picture(2)])
    first = decode(encoded(picture(0), "GIF"))
    np.testing.assert_array_equal(decode(moving), first)


def some_pixels() -> Pixels:
    generator = np.random.default_rng(0)
    values = np.linspace(-1, 1, 256, dtype=np.float32) * np.array([[1], [2], [3]], dtype=np.float32)
    images = generator.integers(0, 256, (4, 3, 6, 8), dtype=np.uint8)
    return Pixels(images, np.array([3, 0, 0, 2]), values, 5)


def test_pixels_are_numbers_only_where_they_are_asked_for(tmp_path: Path) -> None:
    pixels = some_pixels()
    found = pixels[np.array([0, 2])]
    assert found.dtype == np.float32
    for place, image in enumerate((3, 0)):
        for colour in range(3):
            np.testing.assert_array_equal(found[place, colour], pixels.values[colour][pixels.images[image, colour]])
    chosen = pixels.select(np.array([2, 0]))
    np.testing.assert_array_equal(chosen[np.array([1, 0])], found)
    pixels.save(tmp_path, "pixel_values")
    again = Pixels.load(tmp_path, "pixel_values")
    assert isinstance(again.images, np.memmap)
    np.testing.assert_array_equal(again[np.arange(4)], pixels[np.arange(4)])
    (tmp_path / "copy").mkdir()
    again.save(tmp_path / "copy", "pixel_values")  # written once, linked
    names = [folder / "pixel_values.images.npy" for folder in (tmp_path, tmp_path / "copy")]
    assert names[0].stat().st_ino == names[1].stat().st_ino


def test_mirrors_and_parts() -> None:
    pixels = some_pixels()
    every = np.arange(4)
    mirrored = pixels.changed(None, np.array([True, False, True, False]))[every]
    plain = pixels[every]
    np.testing.assert_array_equal(mirrored[[0, 2]], plain[[0, 2], :, :, ::-1])
    np.testing.assert_array_equal(mirrored[[1, 3]], plain[[1, 3]])
    whole = pixels.changed(np.tile([0, 0, 8, 6], (4, 1)), None)[every]
    np.testing.assert_array_equal(whole, plain)
    part = pixels.changed(np.tile([2, 1, 3, 2], (4, 1)), None)[every]
    np.testing.assert_allclose(part, np.broadcast_to(plain[:, :, 1:2, 2:3], plain.shape))
