"""Seconds of the processor to classify few texts, beside a pipeline of transformers: what a server spends on a request.

    OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false python -m benchmarks.classifying [--work FOLDER] [--rounds 15]

In one process, in turns, with one saved MiniLM in float32: reviews as they are and texts of 128 tokens, one, 8 and 64
at once. Medians of the time that the process itself was computing. ``products`` is what the packed matrix products of
all layers take alone, nothing else of the model: with these products nothing can be quicker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

NUMBERS = (1, 8, 64)
LONG = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder of the run, kept for the next time")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() if arguments.work is None else nullcontext(str(arguments.work)) as folder:
        compare(Path(folder), arguments.rounds)


def compare(work: Path, rounds: int) -> None:
    import torch
    from transformers import pipeline

    from benchmarks.serving import prepared
    from tunesmith.run import Run
    from tunesmith.run.predictor import TrainedModel

    folder, precision, bodies, tokenizer = prepared("classify", work)
    run, plain = Run.open(folder), Run.open(folder)
    assert isinstance(plain.predictor, TrainedModel)
    network = plain.network
    plain.predictor.network = replace(network, scorer=replace(network.scorer, packs=False))
    pipe = pipeline("text-classification", model=str(folder), dtype=getattr(torch, precision), device="cpu")
    reviews = [body["texts"][0] for body in bodies]
    for name, texts in (("reviews", reviews), (f"{LONG} tokens", of_length(reviews, tokenizer, LONG))):
        for number in NUMBERS:
            some = [texts[start : start + number] for start in range(0, 64, max(number, 4))]
            tokens = statistics.mean(sum(map(len, tokenizer(one)["input_ids"])) for one in some)
            ways: dict[str, Callable[[list[str]], Any]] = {
                "packed": run.predict,
                "not packed": plain.predict,
                "pipeline": lambda given: pipe(given, batch_size=len(given), truncation=True, max_length=256),
                "products": products(run.network.model, round(tokens)),
            }
            for way in ways.values():
                way(some[0])
            found = in_turns(ways, some, rounds)
            print(json.dumps({"texts": name, "at_once": number, "tokens": tokens, **figures(found)}), flush=True)


def of_length(texts: list[str], tokenizer: Any, length: int) -> list[str]:
    """Return texts of about so many tokens each."""
    ids = tokenizer(" ".join(texts), add_special_tokens=False)["input_ids"]
    size = length - 2
    return [tokenizer.decode(ids[start : start + size]) for start in range(0, len(ids) - size, size)]


def products(model: Any, num_tokens: int) -> Callable[[Any], None]:
    """Return what multiplies so many tokens by all linear layers of a model's layers, and does nothing else."""
    import torch
    from torch import nn

    from tunesmith.kernels import linear

    found = [one for name, one in model.named_modules() if type(one) is nn.Linear and ".layer." in name]
    packed = [linear.Linear(linear.packed(one.weight.detach()), len(one.weight)) for one in found]
    inputs = {one.num_inputs: torch.randn(num_tokens, one.num_inputs) for one in packed}

    def multiply(_given: Any) -> None:
        for one in packed:
            one(inputs[one.num_inputs])

    return multiply


def in_turns(ways: dict[str, Callable[[list[str]], Any]], some: list[list[str]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of the processor that every way took in each round for all of the requests."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            for texts in some:
                way(texts)
            found[name].append((time.process_time() - began) / len(some))
    return found


def figures(found: dict[str, list[float]]) -> dict[str, float]:
    """Return milliseconds a request, and how many times those of the pipeline ours are quicker, in the same rounds."""
    shown = {f"{name}_ms": round(1000 * statistics.median(seconds), 2) for name, seconds in found.items()}
    for name in ("packed", "not packed", "products"):
        ratios = [theirs / mine for theirs, mine in zip(found["pipeline"], found[name], strict=True)]
        shown[f"{name}_times"] = round(statistics.median(ratios), 2)
    return shown


if __name__ == "__main__":
    main()
