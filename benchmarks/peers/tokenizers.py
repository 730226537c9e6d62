"""The tokenizer by itself: what turning the same texts into ids costs whoever does it."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported

CHUNK = 10_000


def encode(spec: dict[str, Any]) -> dict[str, Any]:
    """Encode all texts in chunks and forget the result; the file is read outside the measured time."""
    from tokenizers import Tokenizer

    imported()
    tokenizer = Tokenizer.from_file(str(Path(spec["facts"]["model"]) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()  # which only costs time: no row is so long
    seconds, num_tokens = 0.0, 0
    with (Path(spec["work"]) / "train.jsonl").open(encoding="utf-8") as file:
        while texts := [json.loads(line)["text"] for line in itertools.islice(file, CHUNK)]:
            started = time.perf_counter()
            found = tokenizer.encode_batch_fast(texts)
            seconds += time.perf_counter() - started
            num_tokens += sum(len(encoding) for encoding in found)
    return {"seconds": seconds, "num_tokens": num_tokens}


if __name__ == "__main__":
    answer({"encode": encode})
