"""Memory stays flat: a large file is read in batches."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
import datasets
from tunesmith.data import DataConfig, profile, read

def private_megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

read(DataConfig(path=sys.argv[1]))  # imports
before = private_megabytes()
rows = read(DataConfig(path=sys.argv[2])).splits["train"]
profile(rows)
print(len(rows), private_megabytes() - before)
"""


def write(path, num_rows):
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("text,label\n")
        for row in range(num_rows):
            text = f"some words that make a row of about a hundred characters, number {row}, and so on and on, well"
            if path.suffix == ".csv":
                file.write(f'"{text}",{"ab"[row % 2]}\n')
            else:
                file.write(json.dumps({"text": text, "label": "ab"[row % 2]}) + "\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_million_rows_take_little_memory(tmp_path, suffix):
    small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
    write(small, 100)
    write(large, 1_000_000)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small), str(large)], capture_output=True, text=True, check=True
    )
    num_rows, megabytes = map(int, done.stdout.split())
    assert num_rows == 1_000_000
    assert megabytes < 60
