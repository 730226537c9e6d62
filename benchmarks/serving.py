"""Requests and tokens a second of a served run beside a pipeline of transformers, and beside ``transformers serve``.

    python -m benchmarks.serving [--seconds 6] [--only classify] [--json serving.json]

Each server is a process of its own on all cores, one after the other, with the same saved model in the same precision;
clients are threads of this process on connections that stay open, each of which asks again as soon as it is answered.
Classification is one review a request. Chats are questions of their own, answered greedily with at most 48 tokens,
which are counted by the model's tokenizer whoever wrote them; a chat figure is of all answers that ended.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENTS = {"classify": (1, 8, 64), "chat": (1, 4, 16)}
PATHS = {"classify": "/v1/classify", "chat": "/v1/chat/completions"}
MAX_TOKENS = 48
NUM_ROWS = {"classify": 200, "chat": 24}
"""Of the training, whose only use is that there is a run."""
CHAT_FACTOR = 3
"""How many times longer chats are measured: they have few answers a second."""


@dataclass(frozen=True)
class Measured:
    """What clients saw of a server in a stretch of time."""

    seconds: float
    latencies: list[float]
    answers: list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement; three times as long for chats")
    parser.add_argument("--only", choices=tuple(CLIENTS))
    parser.add_argument("--clients", help="numbers of clients, with commas")
    parser.add_argument(
        "--peers", choices=("pipeline", "serve", "both"), default="both", help="beside which chats are measured"
    )
    parser.add_argument("--work", type=Path, help="folder of the runs, kept for the next time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        records = list(measured(arguments, work))
    print(markdown(records))
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


def measured(arguments: argparse.Namespace, work: Path) -> Iterator[dict[str, Any]]:
    """Yield a record for every server and number of clients."""
    for kind in [arguments.only] if arguments.only else CLIENTS:
        run, precision, bodies, tokenizer = prepared(kind, work)
        numbers = [int(one) for one in arguments.clients.split(",")] if arguments.clients else CLIENTS[kind]
        seconds = arguments.seconds * (CHAT_FACTOR if kind == "chat" else 1)
        for name, command in servers(kind, run, precision, arguments.peers).items():
            given = bodies if name != "transformers serve" else [{**body, "model": str(run)} for body in bodies]
            try:
                with running(command) as port:
                    ask(port, PATHS[kind], given, 1, min(2.0, seconds))
                    for number in numbers:
                        found = ask(port, PATHS[kind], given, number, seconds)
                        record = {"kind": kind, "server": name, "clients": number, "precision": precision}
                        record |= figures(kind, found, tokenizer)
                        print(record, file=sys.stderr)
                        yield record
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                yield {"kind": kind, "server": name, "clients": None, "failed": str(error)}


def prepared(kind: str, work: Path) -> tuple[Path, str, list[dict[str, Any]], Any]:
    """Return a trained run, its precision, what is asked of it, and its tokenizer. A few steps do: it is its speed."""
    from benchmarks.prepare import chats, reviews
    from benchmarks.row_files import write_rows
    from tunesmith.config.build import build
    from tunesmith.run import Run, RunConfig, train

    rows = list(itertools.islice((chats if kind == "chat" else reviews)()[1], 600))
    run = work / kind
    if not (run / "manifest.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        write_rows(work / f"{kind}.jsonl", rows[: NUM_ROWS[kind]])
        model, task = {
            "classify": ("sample:minilm", "classification"),
            "chat": ("sample:smollm2-135m-instruct", "causal_lm"),
        }[kind]
        sections: dict[str, Any] = {"model": model, "data": str(work / f"{kind}.jsonl"), "output": str(run)}
        steps = {"max_steps": 1, "batch_size": 2}
        evaluation = {"baseline": False, "num_resamples": 0, "answers": 0}
        train(build(RunConfig, {**sections, "task": task, "train": steps, "evaluation": evaluation}))
    opened = Run.open(run)
    bodies: list[dict[str, Any]]
    if kind == "classify":
        bodies = [{"model": kind, "texts": [row["text"]]} for row in rows]
    else:
        asked = [row["messages"][:1] for row in rows]
        bodies = [
            {"model": kind, "messages": one, "max_tokens": MAX_TOKENS, "temperature": 0, "stream": False}
            for one in asked
        ]
    precision = "bfloat16" if opened.config.train.precision == "bf16" else "float32"
    return run, precision, bodies, opened.network.tokenizer


def servers(kind: str, run: Path, precision: str, peers: str) -> dict[str, list[str]]:
    """Return the commands of the servers, each of which is given a port."""
    transformers = str(Path(sys.executable).with_name("transformers"))
    found = {
        "tunesmith": [sys.executable, "-m", "tunesmith", "serve", str(run), "--slots", "16", "--context", "1024"],
        "pipeline": [sys.executable, "-m", "benchmarks.peers.served", kind, str(run), "--dtype", precision],
    }
    if kind == "chat" and peers != "pipeline":
        found["transformers serve"] = [transformers, "serve", str(run), "--device", "cpu", "--dtype", precision]
    if kind == "chat" and peers == "serve":
        del found["pipeline"]
    return found


@contextmanager
def running(command: Sequence[str]) -> Iterator[int]:
    """Yield the port of a server that answers. Raises ``RuntimeError`` where it ends, or does not come up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=said, stderr=said)
        try:
            until = time.monotonic() + 90
            while not answers(port):
                if server.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    raise RuntimeError(f"it did not come up: {said.read().decode(errors='replace')[-300:]}")
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/health")
        connection.getresponse().read()
    except OSError:
        return False
    return True


def ask(port: int, path: str, bodies: Sequence[dict[str, Any]], num_clients: int, seconds: float) -> Measured:
    """Let clients ask for a while. Raises ``RuntimeError`` where one is refused."""
    latencies: list[float] = []
    found: list[dict[str, Any]] = []
    refused: list[str] = []
    began = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for turn in itertools.count(number, num_clients):
            sent = time.perf_counter()
            if sent - began > seconds or refused:
                break
            content = json.dumps(bodies[turn % len(bodies)]).encode()
            connection.request("POST", path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                refused.append(f"{answer.status}: {text[:200].decode(errors='replace')}")
                break
            latencies.append(time.perf_counter() - sent)
            found.append(json.loads(text))
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise RuntimeError(refused[0])
    return Measured(time.perf_counter() - began, latencies, found)


def figures(kind: str, found: Measured, tokenizer: Any) -> dict[str, Any]:
    ordered = sorted(found.latencies)
    record = {
        "requests_per_second": len(ordered) / found.seconds,
        "median_seconds": statistics.median(ordered),
        "p99_seconds": ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "requests": len(ordered),
    }
    if kind == "chat":
        texts = [answer["choices"][0]["message"]["content"] for answer in found.answers]
        num_tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
        record["tokens_per_second"] = num_tokens / found.seconds
    return record


def markdown(records: Sequence[dict[str, Any]]) -> str:
    """Return a table: what ours gives, and how many times that is of each other's."""
    lines = [
        "| What | Server | Clients | Requests/s | p50 | p99 | Tokens/s | tunesmith is |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    ours = {(one["kind"], one["clients"]): one for one in records if one["server"] == "tunesmith"}
    for one in records:
        if one["clients"] is None:
            lines.append(f"| {one['kind']} | {one['server']} | failed | | | | | |")
            continue
        name = "tokens_per_second" if one["kind"] == "chat" else "requests_per_second"
        base = ours.get((one["kind"], one["clients"]))
        times = "" if base is None or base is one else f"{base[name] / one[name]:.1f} x"
        tokens = f"{one['tokens_per_second']:.1f}" if "tokens_per_second" in one else ""
        spent = f"{1000 * one['median_seconds']:.1f} ms | {1000 * one['p99_seconds']:.1f} ms"
        shown = f"{one['requests_per_second']:.1f} | {spent} | {tokens} | {times}"
        lines.append(f"| {one['kind']} | {one['server']} | {one['clients']} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
