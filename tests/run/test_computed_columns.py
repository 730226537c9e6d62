"""Columns of what a model makes of rows: computed once, taken up if they are sound, joined, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.files.ownership import owned_files, write_mark
from tunesmith.run import computed_columns as module
from tunesmith.run.computed_columns import Column, ColumnFolder, ComputedColumns, Kept
from tunesmith.run.workshop import Workshop
from tunesmith.types import InputError

ROWS = Encoded({"input_ids": Ragged.from_rows([[1, 2, 3], [4], [5, 6]])}, {})
LIKELY = {0: [-0.5, -1.5, -2.5], 1: [-4.0], 2: [-5.0, -6.0]}
"""What a reference gives every token of a row, as its logarithm."""


class Reference:
    """A model that says how likely it finds tokens, and counts how often it is asked."""

    def __init__(self, name: str = "untuned") -> None:
        self.name = name
        self.num_calls = 0

    def column(self, **settings: Any) -> Column[Encoded]:
        def compute(folder: ColumnFolder) -> None:
            self.num_calls += 1
            offsets = np.array([0, 3, 4, 6])
            file = folder.file("log_probabilities", offsets, is_ragged=True)
            for rows in ([2, 0], [1]):  # in the order of micro-batches
                values = torch.tensor([value for row in rows for value in LIKELY[row]])
                file.write(values, np.array(rows))
            folder.put("negatives", np.array([[1, 2], [0, 2], [0, 1]]))
            folder.put("texts", np.array(["a", None, "\ud800"], dtype=object))
            folder.facts["model"] = "base"

        def join(kept: Kept) -> Encoded:
            assert kept.facts == {"model": "base"}
            assert list(kept.values["texts"]) == ["a", None, "\ud800"]
            return replace(ROWS, extras={name: kept.values[name] for name in ("log_probabilities", "negatives")})

        return Column(**{"name": self.name, "key": ["rows", 1], "compute": compute, "join": join, **settings})


def columns(folder: Path, workshop: Workshop, common: Path | None = None) -> ComputedColumns:
    folder.mkdir(exist_ok=True)
    return ComputedColumns(folder, common, ["cpu"], workshop.once)


def check(found: Encoded) -> None:
    likely = found.extras["log_probabilities"]
    assert isinstance(likely, Ragged)
    assert {row: likely[row].tolist() for row in range(3)} == LIKELY
    assert np.array_equal(found.extras["negatives"], [[1, 2], [0, 2], [0, 1]])


@pytest.mark.parametrize("is_durable", [False, True])
@pytest.mark.parametrize("large", [0, 1 << 20])
def test_a_column_is_computed_once_and_goes_when_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_durable: bool, large: int
) -> None:
    monkeypatch.setattr(module, "LARGE", large)
    reference = Reference("untuned" if is_durable else "states/train")
    column = reference.column(is_durable=is_durable)
    for _ in range(2):  # before and after an interruption
        found = columns(tmp_path / "run", Workshop()).get(column)
        check(found)
    assert reference.num_calls == 1
    write_mark(tmp_path / "run", ())
    files = owned_files(tmp_path / "run") or []
    assert {Path(name).name for name in files} >= {"described.json", "log_probabilities.npy", "negatives.npy"}
    assert sum(path.is_file() for path in (tmp_path / "run").rglob("*")) == len(files)  # so that they can be replaced
    columns(tmp_path / "run", Workshop()).delete()
    assert not any(path.suffix == ".npy" for path in (tmp_path / "run").rglob("*"))
    check(found)  # what is in use stays readable


def test_runs_of_a_workshop_share_a_column_and_each_keeps_it_safe(tmp_path: Path) -> None:
    reference, workshop = Reference(), Workshop()
    for name in ("one", "other"):
        check(columns(tmp_path / name, workshop).get(reference.column()))
        columns(tmp_path / "one", workshop).delete()
    assert reference.num_calls == 1
    check(columns(tmp_path / "other", Workshop()).get(reference.column()))
    assert reference.num_calls == 1


def test_what_is_not_durable_is_kept_once(tmp_path: Path) -> None:
    reference, workshop = Reference("states/train"), Workshop()
    for name in ("one", "other"):
        check(columns(tmp_path / name, workshop).get(reference.column(is_durable=False)))
    assert reference.num_calls == 1
    assert not (tmp_path / "other" / "states").exists()


@pytest.mark.parametrize("change", [{"key": ["rows", 2]}, {"name": "states"}])
def test_another_key_or_name_is_another_column(tmp_path: Path, change: dict[str, Any]) -> None:
    reference, workshop = Reference(), Workshop()
    for settings in ({}, change, change):
        columns(tmp_path / "run", workshop).get(reference.column(**settings))
    assert reference.num_calls == 2


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": lambda folder: damage(folder / "negatives.npy"),
    "a file that is gone": lambda folder: (folder / "negatives.npy").unlink(),
    "no description": lambda folder: (folder / "described.json").unlink(),
    "half a description": lambda folder: (folder / "described.json").write_text('{"key'),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_column_is_computed_again(tmp_path: Path, name: str) -> None:
    reference = Reference()
    columns(tmp_path / "run", Workshop()).get(reference.column())
    DAMAGES[name](tmp_path / "run" / "untuned")
    check(columns(tmp_path / "run", Workshop()).get(reference.column()))
    assert reference.num_calls == 2


@pytest.mark.parametrize("what", ["size", "start", "unknown start"])
def test_what_is_not_durable_is_taken_up_only_where_nothing_can_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    reference = Reference("states/train")
    columns(tmp_path / "run", Workshop()).get(reference.column(is_durable=False))
    folder = tmp_path / "run" / "states" / "train"
    if what == "size":
        (folder / "negatives.npy").write_bytes(b"")
    else:
        monkeypatch.setattr(module, "machine_start", lambda: None if what == "unknown start" else "later")
    check(columns(tmp_path / "run", Workshop()).get(reference.column(is_durable=False)))
    assert reference.num_calls == 2


def test_a_computation_that_is_cut_short_leaves_nothing_that_counts(tmp_path: Path) -> None:
    reference = Reference("states/train")
    column = reference.column(is_durable=False)

    def cut_short(folder: ColumnFolder) -> None:
        folder.put("negatives", np.zeros(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        columns(tmp_path / "run", Workshop()).get(replace(column, compute=cut_short))
    left = tmp_path / "run" / "states" / ".train.tmp-00000000"
    left.mkdir()  # by a kill
    check(columns(tmp_path / "run", Workshop()).get(column))
    assert not left.exists()


def test_a_full_disk_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    reference = Reference()
    with pytest.raises(InputError, match="this run needs about"):
        columns(tmp_path / "run", Workshop()).get(reference.column(num_bytes=1 << 60))
    assert not reference.num_calls


def test_a_workshop_with_a_folder_keeps_columns_by_what_they_are(tmp_path: Path) -> None:
    reference, common = Reference(), tmp_path / "common"
    for name in ("one", "other"):
        run = columns(tmp_path / name, Workshop(common), common)
        check(run.get(reference.column()))
        run.delete()
        assert not list((tmp_path / name).iterdir())
    assert reference.num_calls == 1
    columns(tmp_path / "one", Workshop(common), common).get(reference.column(key=["others"]))
    described = [json.loads(path.read_text()) for path in common.glob("untuned/*/described.json")]
    assert [one["model"] for one in described] == ["base", "base"]
    Workshop(common).close(delete=False)
    assert len(list(common.glob("untuned/*"))) == 2
    Workshop(common).close()
    assert not list(common.iterdir())
