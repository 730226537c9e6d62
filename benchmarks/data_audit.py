"""What ``tunesmith data audit`` finds and takes: planted label errors, and time and memory for many rows.

python -m benchmarks.data_audit errors SENTENCES.tsv     # text<tab>label, two labels: 5% get the other one
python -m benchmarks.data_audit speed SENTENCES.tsv 200000
"""

from __future__ import annotations

import csv
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tunesmith.data import DataConfig
from tunesmith.data_audit import AuditOptions, audit_data

SHARE = 0.05


def read(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        pairs = (line.rstrip("\n").split("\t")[:2] for line in lines)
        return [(text, label) for text, label in pairs]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def errors(rows: list[tuple[str, str]], folder: Path) -> None:
    planted = set(random.Random(5).sample(range(len(rows)), round(SHARE * len(rows))))
    first, second = sorted({label for _, label in rows})
    other = {first: second, second: first}
    wrong = [(text, other[label] if row in planted else label) for row, (text, label) in enumerate(rows)]
    audit = audit_data(
        DataConfig(path=str(write(folder / "planted.csv", wrong))), options=AuditOptions(checks=("label_error",))
    )
    for finding in audit.findings:
        found = set(finding.rows.tolist())
        right = len(found & planted)
        estimated = {name: round(finding.details[name], 3) for name in ("precision", "recall", "share_of_wrong_labels")}
        print(f"{len(found)} rows; precision {right / len(found):.3f}, recall {right / len(planted):.3f}", estimated)


def speed(rows: list[tuple[str, str]], folder: Path, number: int) -> None:
    draw = random.Random(0)
    texts = [text.split() for text, _ in rows]
    made = [
        (" ".join(draw.choice(texts)[:6] + draw.choice(texts)[-6:]), draw.choice(["yes", "no"])) for _ in range(number)
    ]
    path = write(folder / "many.csv", made)
    del made
    before, start = _peak(), time.process_time()
    audit = audit_data(DataConfig(path=str(path)))
    seconds = time.process_time() - start
    print(f"{number:,} rows: {seconds:.0f} s of CPU time, {_peak():.0f} MB at most ({before:.0f} before)")
    print(", ".join(f"{finding.kind} {len(finding.rows):,}" for finding in audit.findings))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    what, path, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        if what == "errors":
            errors(read(Path(path)), Path(folder))
        else:
            speed(read(Path(path)), Path(folder), int(rest[0]))


if __name__ == "__main__":
    main()
