"""What three parts of the server are worth: adapters on one base, beginnings of prompts that are kept, JSON schemas.

    python -m benchmarks.serving_parts [--work FOLDER]

Three LoRA adapters of SmolLM2-135M are trained for two steps each. Their memory is that of a process that has loaded
them to be served; the seconds to the first token are those of one question after the other behind one long system
message; tokens a second with a schema and without take turns. One line of JSON for each figure.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("one", "two", "three")
SYSTEM = "You are a helpful assistant of a shop that sells garden tools, and you answer briefly. " * 40
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "year", "tags"],
}
NUM_TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder of the runs, kept for the next time")
    parser.add_argument("--stage", choices=("shared", "apart", "speed"), help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=len(NAMES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage == "speed":
        speed(arguments.work / NAMES[0])
    elif arguments.stage:
        memory([arguments.work / name for name in NAMES[: arguments.runs]], shared=arguments.stage == "shared")
    else:
        with tempfile.TemporaryDirectory() as scratch:
            work = arguments.work or Path(scratch)
            prepare(work)
            for stage, number in (("shared", 1), ("shared", 3), ("apart", 3), ("speed", 1)):
                command = [sys.executable, "-m", "benchmarks.serving_parts", "--stage", stage, "--runs", str(number)]
                subprocess.run([*command, "--work", str(work)], check=True)


def prepare(work: Path) -> None:
    """Train the adapters that are not there yet."""
    from benchmarks.prepare import chats
    from benchmarks.row_files import write_rows
    from tunesmith.config.build import build
    from tunesmith.run import RunConfig, train

    work.mkdir(parents=True, exist_ok=True)
    write_rows(work / "chats.jsonl", list(itertools.islice(chats()[1], 80)))
    for seed, name in enumerate(NAMES):
        sections: dict[str, Any] = {"data": str(work / "chats.jsonl"), "output": str(work / name)}
        sections |= {"model": "sample:smollm2-135m-instruct", "task": "causal_lm"}
        sections |= {"method": {"name": "lora", "rank": 16}, "train": {"max_steps": 2, "batch_size": 2, "seed": seed}}
        sections |= {"evaluation": {"baseline": False, "num_resamples": 0, "answers": 0}}
        if not (work / name / "manifest.json").exists():
            train(build(RunConfig, sections))


def memory(runs: list[Path], *, shared: bool) -> None:
    """Tell the memory of this process once it has loaded runs, in one house or each in its own."""
    import psutil

    from tunesmith.serve.house import House
    from tunesmith.serve.settings import ServeSettings

    settings = ServeSettings(context=256, num_slots=2)
    houses = [House(runs, settings)] if shared else [House([run], settings) for run in runs]
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed, and the allocator keeps, is not counted
    tell(runs=len(runs), shared=shared, resident_bytes=psutil.Process().memory_info().rss)
    for house in houses:
        house.close()


def speed(folder: Path) -> None:
    """Tell what beginnings spare, and what a schema costs."""
    from tunesmith.serve.house import House
    from tunesmith.serve.settings import ServeSettings
    from tunesmith.serve.writing import WritingRun

    for num_bytes in (0, 256_000_000):
        house = House([folder], ServeSettings(context=1024, num_slots=2, beginning_bytes=num_bytes))
        (run,) = house.hosted.values()
        assert isinstance(run, WritingRun)
        seconds = []
        for number in range(7):
            question = {"role": "user", "content": f"How much is rake number {number}?"}
            prompt = run.prompt([{"role": "system", "content": SYSTEM}, question])
            seconds.append(asyncio.run(written(run, prompt, 1))[0])
        tell(
            kept_bytes=num_bytes,
            prompt_tokens=len(prompt.ids),
            reused=run.reused,
            median=statistics.median(seconds[3:]),
        )
        if num_bytes:
            with_schema(run)
        house.close()


def with_schema(run: Any) -> None:
    run.grammars.of_json(SCHEMA)  # the tokenizer is read once
    began = time.perf_counter()
    guides = run.grammars.of_json(SCHEMA)
    tell(grammar_seconds=time.perf_counter() - began)
    prompt = run.prompt([{"role": "user", "content": "Describe a film."}])
    for guide in (None, guides, None, guides):
        seconds, num_tokens = asyncio.run(written(run, prompt, NUM_TOKENS, guide and guide()))
        tell(schema=guide is not None, tokens_per_second=num_tokens / seconds)


async def written(run: Any, prompt: Any, room: int, guide: Any = None) -> tuple[float, int]:
    """Return the seconds that an answer took, and its tokens."""
    from tunesmith.run import Writing
    from tunesmith.serve.writing import Spelling, pieces

    began = time.perf_counter()
    answer = run.submit(prompt, Writing(temperature=1.0, seed=1), room=room, guide=guide)
    tokens = [token async for token in pieces(answer, Spelling(run.run.network.tokenizer, ()))]
    return time.perf_counter() - began, sum(token.id is not None for token in tokens)


def tell(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
