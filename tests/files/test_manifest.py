from __future__ import annotations

import random
from pathlib import Path

import pytest

from tunesmith.files import hash_bytes, hash_file, hash_json, new_folder, verify_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = random.Random(0)
    with new_folder(tmp_path / "checkpoint") as temporary:
        for name, size in {"model.safetensors": 70_000, "state.json": 300, "deep/optimizer": 9_000, "empty": 0}.items():
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(generator.randbytes(size))
    return tmp_path / "checkpoint"


NAMES = ["model.safetensors", "state.json", "deep/optimizer", "manifest.json"]


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(folder: Path, name: str) -> None:
    generator = random.Random(name)
    path = folder / name
    good = path.read_bytes()
    assert verify_manifest(folder) == []
    for _ in range(150):
        damaged = bytearray(good)
        damaged[generator.randrange(len(good))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        problems = verify_manifest(folder)
        assert problems, f"a flipped bit in {name} was not found"
        if name != "manifest.json":
            assert [str(path) in problem.message for problem in problems] == [True]
    path.write_bytes(good)
    assert verify_manifest(folder) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_found(folder: Path, name: str) -> None:
    generator = random.Random(name)
    good = (folder / name).read_bytes()
    for length in {0, 1, len(good) - 1, *(generator.randrange(len(good)) for _ in range(50))}:
        (folder / name).write_bytes(good[:length])
        assert verify_manifest(folder)
        assert verify_manifest(folder, hashes=False)


def test_missing_files_are_named_and_extra_ones_ignored(folder: Path) -> None:
    (folder / "extra").write_text("x")
    (folder / ".lock").write_text("x")
    assert verify_manifest(folder) == []
    (folder / "deep" / "optimizer").unlink()
    (folder / "empty").unlink()
    messages = [problem.message for problem in verify_manifest(folder)]
    assert len(messages) == 2
    assert all("is missing" in message for message in messages)
    (folder / "manifest.json").unlink()
    assert "manifest.json is missing" in verify_manifest(folder)[0].message


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"files": 3}', '{"files": {"a": 1}}', "\xff", "[" * 100_000])
def test_any_rubbish_in_place_of_the_manifest_is_a_problem(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    assert "damaged" in verify_manifest(folder)[0].message


def test_a_manifest_cannot_point_outside(folder: Path) -> None:
    text = (folder / "manifest.json").read_text().replace('"empty"', '"../../x"')
    (folder / "manifest.json").write_text(text)
    assert verify_manifest(folder)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert hash_bytes(b"abc") == hash_file(tmp_path / "a") == known
    assert hash_json({"a": 1, "b": [True, "ä"]}) == hash_json({"b": [True, "ä"], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": "1"})
    with pytest.raises(ValueError, match="JSON"):
        hash_json(float("nan"))
