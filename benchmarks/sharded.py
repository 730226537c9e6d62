"""What two processes take with the weights in parts beside whole ones: ``python -m benchmarks.sharded``.

Every case is trained with ``compute.parallel`` ``data`` and ``fsdp`` in turn, on rows that are made up. Of memory the
figure is the largest resident set of each process between the first step and the last; of time the median step
without the first ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.ranks import WARM_UP, write_rows
from tunesmith.models.location import locate
from tunesmith.models.materialise import materialise

PAUSE = 0.02
CASES = {"full": ["--method", "full"], "lora": ["--method", "lora", "--compute.keep_states", "false"]}
MIB = 2**20


def write_model(place: Path, layers: int) -> None:
    """Write a BERT of random weights, as wide as BERT-base, with the tokenizer of MiniLM."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(str(materialise(locate("sample:minilm")).folder))
    tokenizer.save_pretrained(place)
    config = BertConfig(vocab_size=len(tokenizer), num_hidden_layers=layers)
    BertForSequenceClassification(config).save_pretrained(place)


def train(model: str, data: Path, parallel: str, options: list[str], steps: int) -> tuple[list[int], float]:
    """Train by two processes; return the bytes of each at most while steps were made, and the seconds of a step."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        command = [sys.executable, "-m", "tunesmith", "train", "--quiet", "--model", model, "--data", str(data)]
        command += ["--output", str(run), "--ranks", "2", "--compute.parallel", parallel, *options]
        command += ["--train.max_steps", str(steps), "--train.batch_size", "16", "--train.evaluate_steps", "1000"]
        command += ["--train.early_stopping.patience", "never", "--evaluation.baseline", "false"]
        command += ["--evaluation.num_resamples", "0"]
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        most: dict[int, int] = {}
        while process.poll() is None:
            if 1 <= _num_steps(run) < steps:
                for child in psutil.Process(process.pid).children():
                    most[child.pid] = max(most.get(child.pid, 0), child.memory_info().rss)
            time.sleep(PAUSE)
        assert process.returncode == 0, "the training is finished"
        seconds = [line["seconds"] for line in _lines(run) if line["kind"] == "step"][WARM_UP:]
        return [most[pid] for pid in sorted(most)], statistics.median(seconds)


def _num_steps(run: Path) -> int:
    return sum(line["kind"] == "step" for line in _lines(run))


def _lines(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    written = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in written if line.endswith("\n")]


def main() -> None:
    """Print a table of memory and time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--layers", type=int, help="of a BERT of random weights; MiniLM when not given")
    parser.add_argument("--case", choices=CASES, action="append", help="only these cases")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data, model = Path(place) / "rows.csv", "sample:minilm"
        write_rows(data, 1000)
        if wanted.layers:
            model = f"{place}/model"
            write_model(Path(model), wanted.layers)
        for case in wanted.case or CASES:
            for parallel in ("data", "fsdp"):
                peaks, seconds = train(model, data, parallel, CASES[case], wanted.steps)
                sizes = ", ".join(f"{peak / MIB:,.0f} MiB" for peak in peaks)
                sys.stdout.write(f"{case:6} {parallel:6} {sizes}  {seconds:.3f} s a step\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
