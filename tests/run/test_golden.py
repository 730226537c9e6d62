"""Loss curves through the real command line, against curves recorded before.

A change here is a change of the mathematics, the order of rows, or the random numbers; if it is
meant, record anew with ``python tests/run/test_golden.py``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tunesmith.cli.application import run

GOLDEN = Path(__file__).with_name("golden_curves.json")


@dataclass(frozen=True)
class Case:
    """A command line: its flags, and what the rows and the model are."""

    flags: str
    rows: str = "reviews"
    model: str = "bert"


CASES = {
    "full": Case("--method full --method.head_factor 1 --train.schedule cosine --train.learning_rate 0.02"),
    "lora": Case(
        "--method lora --method.rank 4 --method.head_factor 1 --compute.micro_batch_rows 5 --train.learning_rate 0.03"
    ),
    "lstm": Case("--model.dropout 0.1 --train.learning_rate 0.01", model="lstm"),
    "top layer": Case(
        "--method freeze --method.layers 1 --method.embeddings true --method.head_factor 1 --train.learning_rate 0.02"
    ),
    "chat": Case("--method lora --method.rank 4 --train.learning_rate 0.01", "chats", "llama"),
    "plain text": Case("--task causal_lm --model.max_length 64 --train.learning_rate 0.01", "texts", "llama"),
    "masked": Case("--task masked_lm --method.head_factor 1 --train.learning_rate 0.01", "texts"),
    "chain of tags": Case(
        "--task token_classification --task.crf true --model.dropout 0.1 --train.learning_rate 0.01", "tags", "lstm"
    ),
}


def write(rows: str, folder: Path) -> Path:
    """Write the rows of a case."""
    from small_runs import write_reviews

    random = Random(0)
    words = ("great", "dull", "film", "plot", "and", "the")
    if rows == "reviews":
        return write_reviews(folder / "reviews.csv", 120)
    if rows == "tags":
        path = folder / "tags.conll"
        sentences = [[random.choice(words) for _ in range(random.randint(2, 9))] for _ in range(120)]
        tagged = ([f"{word} {'B-X' if word == 'film' else 'O'}" for word in sentence] for sentence in sentences)
        path.write_text("".join("\n".join(lines) + "\n\n" for lines in tagged), encoding="utf-8")
        return path
    texts = [" ".join(random.choices(words, k=random.randint(3, 20))) for _ in range(120)]
    made = [{"text": text} if rows == "texts" else {"prompt": f"say {text}", "completion": text} for text in texts]
    path = folder / f"{rows}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def curve(name: str, folder: Path) -> list[float]:
    """Train on the command line and return the loss of every step."""
    from tiny import tiny_folder

    case = CASES[name]
    model = {
        "lstm": lambda: "lstm",
        "bert": lambda: str(tiny_folder(folder)),
        "llama": lambda: str(tiny_folder(folder, "llama", head="causal")),
    }[case.model]()
    command = ["train", "--model", model, "--data", str(write(case.rows, folder))]
    command += ["--quiet", "--output", str(folder / "run"), "--train.precision", "fp32", "--train.epochs", "5"]
    command += ["--train.batch_size", "16", "--evaluation.num_resamples", "0", "--evaluation.baseline", "false"]
    assert run([*command, *case.flags.split()]) == 0
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]


@pytest.mark.parametrize("case", CASES)
def test_loss_curves_are_those_recorded(case: str, tmp_path: Path) -> None:
    # Processors add numbers in different orders; another seed or order of rows differs in the second digit.
    assert curve(case, tmp_path) == pytest.approx(json.loads(GOLDEN.read_text())[case], rel=1e-2, abs=1e-3)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    curves = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            curves[name] = [round(loss, 6) for loss in curve(name, Path(temporary))]
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
