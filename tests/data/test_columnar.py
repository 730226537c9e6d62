from __future__ import annotations

import datetime
import gzip
import resource

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from child_memory import peak_of
from tunesmith.data import DataConfig, columnar, read
from tunesmith.types import InputError

TABLE = pa.table(
    {
        "text": pa.array(["some words", None, "more words"], pa.large_string()),
        "label": pa.array(["a", "b", "a"]).dictionary_encode(),
        "number": pa.array([1, 2, 3], pa.int8()),
        "tags": pa.array([["x"], [], ["y", "z"]]),
        "when": pa.array([datetime.date(2024, 1, 2)] * 3),
        "blob": pa.array([b"\x00", b"\x01", b"\x02"]),
    }
)
WANTED = {
    "text": "some words",
    "label": "a",
    "number": 1,
    "tags": ["x"],
    "when": "2024-01-02",
}


def write_stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_file(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.parquet", pa.parquet.write_table),
        ("x.csv", pa.parquet.write_table),  # the content decides
        ("x.feather", pa.feather.write_feather),
        ("x.arrow", write_file),
        ("y.arrow", write_stream),
    ],
)
def test_every_form_gives_the_same_rows(tmp_path, name, write):
    write(TABLE, tmp_path / name)
    raw = read(DataConfig(path=str(tmp_path / name)))
    assert raw.splits["train"][0] == {**WANTED, "__row__": f"{name}:1"}
    assert raw.splits["train"][1]["text"] is None
    assert any("binary columns were not read: blob" in problem.message for problem in raw.problems)


def test_class_labels_become_their_names(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)
    pa.parquet.write_table(rows.data.table, tmp_path / "x.parquet")
    raw = read(DataConfig(path=str(tmp_path / "x.parquet")))
    assert raw.splits["train"]["label"][:] == ["yes", "no", None]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    (pa.parquet.write_table if name == "x.parquet" else write_file)(TABLE, path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:12], content[:-20] + b"\xff" * 20):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as Parquet or Arrow"):
            read(DataConfig(path=str(path)))


def test_a_compressed_parquet_file(tmp_path):
    pa.parquet.write_table(TABLE, tmp_path / "x.parquet")
    packed = tmp_path / "x.parquet.gz"
    packed.write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    assert len(read(DataConfig(path=str(packed))).splits["train"]) == 3


def test_hub_reads_a_local_folder_of_parquet_files(tmp_path, monkeypatch):
    folder = tmp_path / "owner" / "reviews" / "data"
    folder.mkdir(parents=True)
    text_only = TABLE.select(["text", "number"])
    pa.parquet.write_table(text_only, folder / "train-00000-of-00001.parquet")
    pa.parquet.write_table(text_only.slice(0, 2), folder / "test-00000-of-00001.parquet")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    raw = read(DataConfig(path=f"hub:{tmp_path}/owner/reviews"))
    assert {name: len(rows) for name, rows in raw.splits.items()} == {"train": 3, "test": 2}
    assert raw.splits["test"]["__row__"][1].endswith("reviews/test:2")


def test_an_unknown_hub_name_is_explained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hub:owner/nothing-there could not be loaded"):
        read(DataConfig(path="hub:owner/nothing-there"))


def _dictionary_of_one(size: int, num_rows: int) -> pa.Table:
    return pa.table(
        {"text": pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int8()), pa.array(["x" * size]))}
    )


def _runs(num_rows: int) -> pa.Table:
    return pa.table(
        {"text": pa.RunEndEncodedArray.from_arrays(pa.array([num_rows], pa.int32()), pa.array(["some text"]))}
    )


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("values.parquet", _dictionary_of_one(3_000_000, 20_000)),
        ("rows.parquet", _dictionary_of_one(2_000, 400_000)),
        ("values.arrow", _dictionary_of_one(3_000_000, 20_000)),
        ("runs.arrow", _runs(2**31 - 1)),
    ],
)
def test_small_files_that_stand_for_much_are_not_read_on(tmp_path, name, table):
    if name.endswith(".parquet"):
        pa.parquet.write_table(table, tmp_path / name, compression="zstd")
    else:
        write_file(table, tmp_path / name)
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    message = rf"^{name}(, a file of .*, was not read on: it (takes|asks)| grows to more)"
    with peak_of(columnar._worker) as peak, pytest.raises(InputError, match=message):
        read(DataConfig(path=str(tmp_path / name)))
    columnar._worker.close()
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert end.ru_utime - start.ru_utime < 8
    assert peak.num_bytes < 2_000_000_000
    pa.parquet.write_table(TABLE, tmp_path / "good.parquet")
    assert len(read(DataConfig(path=str(tmp_path / "good.parquet"))).splits["train"]) == 3
