"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds that latencies are counted up to."""


class Figures:
    """Counts of requests, latencies and tokens. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()

    def add_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered or refused."""
        with self._lock:
            self._requests[route, status] += 1
            counts = self._latencies.setdefault(route, [0] * (len(BOUNDS) + 1))
            counts[next((place for place, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
            self._seconds[route] += seconds  # type: ignore[assignment]  # seconds are no whole numbers

    def add_tokens(self, model: str, prompt: int, written: int) -> None:
        """Count the tokens of an answer and of what it answers."""
        with self._lock:
            self._tokens[model, "prompt"] += prompt
            self._tokens[model, "written"] += written

    def text(self, waiting: Mapping[str, int], reused: Mapping[str, tuple[int, int]]) -> str:
        """Return all of it, with how many requests wait or are at work for each model.

        ``reused`` are the prompts of which each model knew the beginning, and the tokens that spared.
        """
        with self._lock:
            return "\n".join((*self._lines(waiting), *_reuse(reused), ""))

    def _lines(self, waiting: Mapping[str, int]) -> Iterator[str]:
        yield "# HELP tunesmith_requests_total Requests by route and status.\n# TYPE tunesmith_requests_total counter"
        for (route, status), number in sorted(self._requests.items()):
            yield f'tunesmith_requests_total{{route="{route}",status="{status}"}} {number}'
        yield "# HELP tunesmith_request_seconds Time to the end of an answer."
        yield "# TYPE tunesmith_request_seconds histogram"
        for route, counts in sorted(self._latencies.items()):
            total = 0
            for bound, number in zip((*BOUNDS, float("inf")), counts, strict=True):
                total += number
                name = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f'tunesmith_request_seconds_bucket{{route="{route}",le="{name}"}} {total}'
            yield f'tunesmith_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'tunesmith_request_seconds_count{{route="{route}"}} {total}'
        yield "# HELP tunesmith_tokens_total Tokens read and written.\n# TYPE tunesmith_tokens_total counter"
        for (model, kind), number in sorted(self._tokens.items()):
            yield f'tunesmith_tokens_total{{model="{_escaped(model)}",kind="{kind}"}} {number}'
        yield "# HELP tunesmith_waiting Requests that wait or are at work.\n# TYPE tunesmith_waiting gauge"
        for model, number in sorted(waiting.items()):
            yield f'tunesmith_waiting{{model="{_escaped(model)}"}} {number}'


def _reuse(reused: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    names = (
        ("prefix_hits", "Prompts whose beginning was known."),
        ("prefix_tokens", "Tokens of prompts not computed again."),
    )
    for place, (name, words) in enumerate(names):
        yield f"# HELP tunesmith_{name}_total {words}\n# TYPE tunesmith_{name}_total counter"
        for model, numbers in sorted(reused.items()):
            yield f'tunesmith_{name}_total{{model="{_escaped(model)}"}} {numbers[place]}'


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
