"""Short ways from rows of any chat form to canonical conversations."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data import DataConfig, PreparedData, assign_roles, conversation_roles, prepare, profile, read
from tunesmith.data.chat_rows import Conversations
from tunesmith.types import ColumnChoice

ALL = {"validation_fraction": 0.0, "test_fraction": 0.0}

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".csv.gz")


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows in the format that the path's name asks for; cells of CSV that are no text are JSON."""
    import gzip

    names = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if names == [".parquet"]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    open_file: Any = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "wt", encoding="utf-8", newline="") as file:
        if names == [".csv"]:
            writer = csv.writer(file)
            columns = list(dict.fromkeys(name for row in rows for name in row))
            writer.writerow(columns)
            for row in rows:
                cells = [row.get(column) for column in columns]
                writer.writerow(
                    "" if cell is None else cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
                    for cell in cells
                )
        elif names == [".json"]:
            json.dump(rows, file, ensure_ascii=False, indent=1)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def choose(path: Path, **overrides: str) -> tuple[ColumnChoice, ...]:
    """Return the columns of a file that make conversations."""
    profiles = profile(read(DataConfig(path=str(path))).splits["train"])
    roles = conversation_roles(profiles, overrides)
    assert roles is not None
    choices, problems = assign_roles(profiles, roles, overrides)
    assert not problems
    return choices


def load(path: Path, choices: Sequence[ColumnChoice] | None = None, **settings: Any) -> PreparedData:
    """Return the file's conversations, prepared."""
    config = DataConfig.model_validate({"path": str(path), **ALL, **settings})
    return prepare(read(config), config, choose(path) if choices is None else choices, Conversations)


def messages_of(data: PreparedData, split: str = "train") -> list[list[dict[str, Any]]]:
    return [json.loads(cell) for cell in data.splits[split]["messages"]]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
