"""What would make a run fit: into memory and into time, by the least that changes it, with the numbers that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product

import numpy as np

from tunesmith.engine.memory_needs import Needs
from tunesmith.engine.memory_plan import choices
from tunesmith.readable import count, percent
from tunesmith.run.forecast import Forecast
from tunesmith.run.offload import can_be_streamed

RECOMPUTING = 4 / 3
"""How much longer steps take whose activations are computed again."""
LENGTHS = (1.0, 0.95, 0.9, 0.75, 0.5)
"""Shares of the rows that are read whole: rows are cut at what so many do not exceed."""
FEWEST_EPOCHS = 0.25
"""Share of the epochs below which rows are cut before still fewer are made."""
FEWEST_STEPS = 10
BYTES_IN_4_BITS = 0.57
"""Of a weight in 4 bits, with the scales of its block."""
READING_BYTES = 1e9
"""Bytes of files that a disk is reckoned to give in a second; what the system still holds of them comes far quicker."""


@dataclass(frozen=True, slots=True)
class _Base:
    """A way to keep the frozen weights."""

    flags: Mapping[str, str]
    words: tuple[str, ...]
    saved: int
    """Bytes."""
    read: int = 0
    """Bytes that a pass over all layers reads from files."""


_AS_THEY_ARE = _Base({}, (), 0)


@dataclass(frozen=True, slots=True)
class Change:
    """A run made otherwise, so that it fits."""

    flags: Mapping[str, str]
    """Keys of the configuration with their values."""
    words: tuple[str, ...]
    seconds: float
    peak_memory: int
    trains_less: bool
    """Whether it learns from less: fewer passes, or rows that are cut."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way to make the run."""

    flags: dict[str, str]
    words: tuple[str, ...]
    seconds_of_training: float
    peak_memory: int
    cuts_rows: bool


def make_fit(forecast: Forecast, seconds: float | None, memory: int | None) -> Change | None:
    """Return the least change that makes a run fit into so many seconds and bytes; None where nothing here does."""
    fitting = [one for one in _variants(forecast) if memory is None or one.peak_memory <= memory]
    if not fitting:
        return None
    if seconds is None:
        return _as_change(fitting[0], forecast, 1.0)
    left = seconds - forecast.seconds_around
    shares = [(one, min(left / one.seconds_of_training, 1.0)) for one in fitting]
    first = next((pair for pair in shares if pair[1] >= 1.0), None)
    first = first or next((pair for pair in shares if pair[1] >= FEWEST_EPOCHS), None)
    one, share = first or max(shares, key=lambda pair: pair[1])
    if share * forecast.timetable.num_steps < min(FEWEST_STEPS, forecast.timetable.num_steps):
        return None
    return _as_change(one, forecast, share)


def what_it_takes_at_least(forecast: Forecast) -> tuple[float, int]:
    """Return the shortest time, with as few steps as are worth making, and the smallest peak that changes reach."""
    every = list(_variants(forecast))
    few = min(FEWEST_STEPS / forecast.timetable.num_steps, 1.0)
    shortest = min(one.seconds_of_training for one in every)
    return forecast.seconds_around + few * shortest, min(one.peak_memory for one in every)


def _as_change(one: _Variant, forecast: Forecast, share: float) -> Change:
    flags, words = dict(one.flags), list(one.words)
    if share < 1:
        epochs = forecast.config.train.epochs or 1.0
        fewer = float(f"{0.98 * share * _epochs_made(forecast):.2g}")
        flags["train.epochs"] = f"{fewer:g}"
        words.append(f"{fewer:g} passes over the rows instead of {min(epochs, _epochs_made(forecast)):.2g}")
    return Change(
        flags=flags,
        words=tuple(words),
        seconds=forecast.seconds_around + share * one.seconds_of_training,
        peak_memory=one.peak_memory,
        trains_less=share < 1 or one.cuts_rows,
    )


def _epochs_made(forecast: Forecast) -> float:
    table = forecast.timetable
    return table.plan.epoch_after(table.num_steps)


def _variants(forecast: Forecast) -> Iterator[_Variant]:
    """Yield ways to make the run, from what changes nothing to what changes most."""
    memory, config = forecast.memory, forecast.config.compute
    planned = memory.peak(memory.micro_batch_tokens, checkpointing=memory.checkpointing)
    lengths = forecast.rows.lengths
    wanted = memory.wanted_tokens
    for quantile, base in product(LENGTHS, _bases(forecast)):
        longest = int(np.quantile(lengths, quantile)) if len(lengths) else 0
        clipped = np.minimum(lengths, longest)
        whole = forecast.work.of_lengths(lengths)
        work = forecast.work.of_lengths(clipped) / whole if whole else 1.0
        needs = _needs_of(memory.needs, clipped.astype(np.float64))
        wish = config.checkpointing if memory.needs.num_layers > 1 else "never"
        for tokens, checkpointing in choices(wanted, longest, wish):
            flags, words = dict(base.flags), list(base.words)
            if tokens < wanted:
                flags["compute.micro_batch_tokens"] = str(tokens)
                words.append(f"micro-batches of {count(tokens)} tokens")
            if checkpointing and config.checkpointing != "always":
                flags["compute.checkpointing"] = "always"
                words.append("activations computed again in the backward pass")
            if quantile < 1:
                flags["model.max_length"] = str(longest)
                words.append(
                    f"rows cut at {count(longest)} tokens ({percent(float((lengths > longest).mean()))} are longer)"
                )
            seconds = forecast.seconds_of_training * work * (RECOMPUTING if checkpointing else 1.0)
            less = planned - memory.peak(tokens, checkpointing=checkpointing, needs=needs)
            seconds += _seconds_of_reading(base, forecast, needs, tokens)
            peak = forecast.peak_memory - less - base.saved
            yield _Variant(flags, tuple(words), seconds, peak, quantile < 1)


def _bases(forecast: Forecast) -> tuple[_Base, ...]:
    """Return ways to keep the frozen weights: as they are, in files, in 4 bits."""
    found = [_AS_THEY_ARE]
    if (saved := forecast.memory.needs.streamable) and can_be_streamed(forecast.config):
        words = ("the base's layers streamed from files",)
        found.append(_Base({"compute.offload": "cpu"}, words, saved, read=saved))
    if (saved := _saved_by_4_bits(forecast)) > 0:
        found.append(_Base({"method.quantize": "nf4"}, ("the base's weights in 4 bits",), saved))
    return tuple(found)


def _seconds_of_reading(base: _Base, forecast: Forecast, needs: Needs, tokens: int) -> float:
    """Return what reading the layers takes: for every micro-batch, once forward and once backward."""
    parts = max(math.ceil(needs.step_tokens / tokens), 1)
    return 2 * parts * forecast.timetable.num_steps * base.read / READING_BYTES


def _saved_by_4_bits(forecast: Forecast) -> int:
    """Return what keeping the frozen weights in 4 bits would save, in bytes; 0 where it cannot be had."""
    method = forecast.config.method
    is_possible = getattr(method, "quantize", "") == "none" and getattr(method, "bias", "none") == "none"
    is_possible = is_possible and forecast.config.compute.offload == "none"
    if not is_possible or find_spec("bitsandbytes") is None:
        return 0
    needs, trained = forecast.memory.needs, forecast.trained
    per_weight = needs.weights / max(trained.num_all, 1)
    linear = int(forecast.work.per_token / 2)
    return int(linear * (per_weight - BYTES_IN_4_BITS))


def _needs_of(needs: Needs, lengths: np.ndarray) -> Needs:
    """Return what steps need whose rows have these lengths."""
    before = float(needs.lengths.mean())
    longest = float(lengths.max(initial=1.0))
    clipped = np.minimum(needs.lengths, longest)
    return replace(needs, lengths=clipped, step_tokens=needs.step_tokens * float(clipped.mean()) / before)
