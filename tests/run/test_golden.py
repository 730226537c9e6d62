"""Loss curves through the real command line, against curves recorded before.

A change here is a change of the mathematics, the order of rows, or the random numbers; if it is
meant, record anew with ``python tests/run/test_golden.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden_curves.json")

CASES: dict[str, list[str]] = {
    "full": ["--method", "full", "--train.schedule", "cosine", "--train.learning_rate", "0.02"],
    "lora": [
        "--method",
        "lora",
        "--method.rank",
        "4",
        "--train.micro_batch_rows",
        "5",
        "--train.learning_rate",
        "0.03",
    ],
    "lstm": ["--model", "lstm", "--model.dropout", "0.1", "--train.learning_rate", "0.01"],
}


def curve(case: str, folder: Path) -> list[float]:
    """Train on the command line and return the loss of every step."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    from conftest import write_reviews
    from tiny import tiny_folder

    data, model = write_reviews(folder / "reviews.csv", 120), tiny_folder(folder)
    command = [sys.executable, "-m", "tunesmith", "train", "--model", str(model), "--data", str(data), "--quiet"]
    command += ["--output", str(folder / "run"), "--train.precision", "fp32"]
    command += ["--train.epochs", "5", "--train.batch_size", "16", "--evaluation.num_resamples", "0", *CASES[case]]
    environment = {**os.environ, "TUNESMITH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]


@pytest.mark.parametrize("case", CASES)
def test_loss_curves_are_those_recorded(case: str, tmp_path: Path) -> None:
    # Processors add numbers in different orders; another seed or order of rows differs in the second digit.
    assert curve(case, tmp_path) == pytest.approx(json.loads(GOLDEN.read_text())[case], rel=1e-2, abs=1e-3)


if __name__ == "__main__":
    curves = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            curves[name] = [round(loss, 6) for loss in curve(name, Path(temporary))]
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
