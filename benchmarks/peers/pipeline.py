"""The pipelines of transformers on the very model that tunesmith's run saved, at the best of several settings."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported

NUM_TRIED = 512
"""Texts on which the settings are compared."""


def classify(spec: dict[str, Any]) -> dict[str, Any]:
    """From texts to labels with scores, by the best batch size and precision."""
    import torch
    from transformers import pipeline

    imported()
    work = Path(spec["work"])
    texts = json.loads((work / "texts.json").read_text(encoding="utf-8"))
    speeds: dict[tuple[str, int], float] = {}
    pipes = {
        dtype: pipeline("text-classification", model=str(work / "run"), dtype=getattr(torch, dtype), device="cpu")
        for dtype in ("float32", "bfloat16")
    }
    options = {"truncation": True, "max_length": spec["workload"]["max_length"]}
    for dtype, size in itertools.product(pipes, spec["batch_sizes"]):
        pipes[dtype](texts[:64], batch_size=size, **options)
        started = time.perf_counter()
        pipes[dtype](texts[:NUM_TRIED], batch_size=size, **options)
        speeds[dtype, size] = time.perf_counter() - started
    dtype, size = min(speeds, key=speeds.__getitem__)
    started = time.perf_counter()
    found = pipes[dtype](texts, batch_size=size, **options)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "rows_per_second": len(texts) / seconds,
        "answers": [prediction["label"] for prediction in found],
        "setting": f"{dtype}, batches of {size}",
        "tried": {f"{dtype}, {size}": seconds for (dtype, size), seconds in speeds.items()},
    }


def generate(spec: dict[str, Any]) -> dict[str, Any]:
    """From questions to greedy answers, by the best batch size and precision."""
    import torch
    from transformers import AutoTokenizer, pipeline

    imported()
    work, length = Path(spec["work"]), spec["max_new_tokens"]
    texts = json.loads((work / "texts.json").read_text(encoding="utf-8"))
    chats = [[{"role": "user", "content": text}] for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(work / "run", padding_side="left")
    options = {"do_sample": False, "return_full_text": False, "max_length": None}
    best: dict[str, Any] = {}
    for dtype in ("float32", "bfloat16"):
        pipe = pipeline(
            "text-generation", model=str(work / "run"), tokenizer=tokenizer, dtype=getattr(torch, dtype), device="cpu"
        )
        pipe(chats[:2], batch_size=2, max_new_tokens=4, **options)
        for size in spec["batch_sizes"]:
            started = time.perf_counter()
            found = pipe(chats, batch_size=size, max_new_tokens=length, **options)
            seconds = time.perf_counter() - started
            answers = [str(prediction[0]["generated_text"]).strip() for prediction in found]
            num_tokens = sum(len(ids) for ids in tokenizer(answers, add_special_tokens=False)["input_ids"])
            if num_tokens / seconds > best.get("tokens_per_second", 0.0):
                setting = f"{dtype}, batches of {size}"
                best = {"seconds": seconds, "tokens_per_second": num_tokens / seconds, "answers": answers}
                best["setting"] = setting
    return best


if __name__ == "__main__":
    answer({"classify": classify, "generate": generate})
