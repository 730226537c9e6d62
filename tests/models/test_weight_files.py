"""Weights that are mapped from safetensors files, and the copies that are made of these."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.models.weight_files import ALIGNMENT, open_weights, weight_names, weights_in
from tunesmith.types import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def some_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "odd": torch.randn(3),
        "matrix": torch.randn(64, 48),
        "half": torch.randn(16, 16).half(),
        "brain": torch.randn(16, 32).bfloat16(),
        "number": torch.tensor(7),
        "scalar": torch.randn(()),
        "empty": torch.empty(0, 4),
    }


def folder_of(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_mapped_tensors_are_those_of_the_library(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", some_weights())
    found = {name: stored.tensor() for name, stored in open_weights([folder / "model.safetensors"]).items()}
    expected = load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_has_the_weights_as_loading_would_give_them_and_lies_well(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = some_weights()
    folder = folder_of(tmp_path / "model", weights)
    stored, place = weights_in(folder, "f" * 64, dtype, aligned=True)
    assert place != folder
    reread = load_file(place / "model.safetensors")  # the library accepts the file
    for name, tensor in weights.items():
        expected = tensor.float().to(dtype) if tensor.is_floating_point() else tensor
        for found in (stored[name].tensor(), reread[name]):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for name in ("matrix", "half", "brain"):
        assert stored[name].tensor().data_ptr() % ALIGNMENT == 0


def test_files_that_suit_are_used_where_they_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", {"matrix": torch.randn(64, 48)})
    stored, place = weights_in(folder, "f" * 64, torch.float32, aligned=False)
    assert place == folder
    assert stored["matrix"].file.path.parent == folder
    _, made = weights_in(folder, "f" * 64, torch.bfloat16, aligned=False)
    assert weights_in(made, "e" * 64, torch.bfloat16, aligned=True)[1] == made


def test_shards_are_copied_one_by_one(tmp_path: Path) -> None:
    folder, weights = tmp_path / "model", some_weights()
    folder.mkdir()
    parts = {"model-1.safetensors": ["odd", "matrix"], "model-2.safetensors": ["half", "brain", "number"]}
    for name, names in parts.items():
        save_file({key: weights[key] for key in names}, folder / name)
    index = {"weight_map": {key: name for name, names in parts.items() for key in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert weight_names(folder) == list(parts)
    stored, place = weights_in(folder, "f" * 64, torch.bfloat16, aligned=True)
    assert sorted(path.name for path in place.glob("*.safetensors")) == list(parts)
    assert stored.keys() == {"odd", "matrix", "half", "brain", "number"}


def test_numbers_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(InputError, match="weight w is of the kind F8_E4M3"):
        open_weights([path])


def test_mapped_weights_can_be_given_back_and_come_again(tmp_path: Path) -> None:
    weights = {"matrix": torch.randn(1024, 1024)}
    folder = folder_of(tmp_path / "model", weights)
    (stored,) = open_weights([folder / "model.safetensors"]).values()
    mapped = stored.tensor()
    for _ in range(2):
        stored.file.is_needed(stored.start, stored.end)
        assert torch.equal(mapped, weights["matrix"])
        stored.file.is_done(stored.start, stored.end)
