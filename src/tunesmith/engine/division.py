"""The rows of a step divided over the processes that make it, so that none waits long for the others."""

from __future__ import annotations

import heapq

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import IntArray, LayoutName
from tunesmith.engine.order import split_by_length


def divide(data: Encoded, samples: IntArray, layout: LayoutName, num_parts: int) -> list[IntArray]:
    """Divide ``samples`` of ``data`` into parts of about as many tokens as laid out; a function of its arguments alone.

    Where there are fewer samples than parts, the last parts are empty.
    """
    if num_parts == 1:
        return [samples]
    if not len(samples):
        return [samples] * num_parts
    if layout == "flat" or data.keeps_rows:
        return _by_tokens(samples, _tokens(data, samples), num_parts)
    return _by_longest(samples, data.lengths_of(samples), num_parts)


def _tokens(data: Encoded, samples: IntArray) -> IntArray:
    """Return the tokens of every sample, all of its sequences together."""
    if not data.keeps_rows:
        return data.lengths_of(samples)
    counts = data.samples[samples + 1] - data.samples[samples]
    lengths = data.lengths_of(data.sequences_of(samples))
    totals: IntArray = np.add.reduceat(lengths, np.cumsum(counts) - counts)
    return totals


def _by_tokens(samples: IntArray, tokens: IntArray, num_parts: int) -> list[IntArray]:
    """Give each sample, the longest first, to the part that has the fewest tokens until then."""
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    heap = [(0, part) for part in range(num_parts)]
    for index in np.argsort(-tokens, kind="stable").tolist():
        total, part = heapq.heappop(heap)
        parts[part].append(index)
        heapq.heappush(heap, (total + int(tokens[index]), part))
    return [samples[np.sort(np.array(part, dtype=np.int64))] for part in parts]


def _by_longest(samples: IntArray, lengths: IntArray, num_parts: int) -> list[IntArray]:
    """Cut the samples, sorted by length, where the largest part is smallest, each as long as its longest."""
    low, high = int(lengths.max()), int(lengths.max()) * len(samples)
    while low < high:
        budget = (low + high) // 2
        if sum(1 for _ in split_by_length(samples, lengths, "padded", budget)) <= num_parts:
            high = budget
        else:
            low = budget + 1
    parts = list(split_by_length(samples, lengths, "padded", low))
    return [*parts, *[samples[:0]] * (num_parts - len(parts))]
