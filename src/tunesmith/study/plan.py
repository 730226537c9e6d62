"""What each method would cost and how well it is likely to do, told before anything is trained; and which to take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.files.fetching import telling
from tunesmith.files.jsons import finite
from tunesmith.methods.choosing import QUALITIES, Likely, Quality, likely_quality, wanted_rank
from tunesmith.methods.situation import Situation
from tunesmith.readable import compact, duration, size
from tunesmith.run import Observer, Workshop
from tunesmith.run.advisor import situation_of
from tunesmith.run.forecast import Forecast, forecast
from tunesmith.run.guest import as_guest
from tunesmith.run.observers import Observers
from tunesmith.run.signals import StopRequests, stop_requests
from tunesmith.study.contest_config import Contestant
from tunesmith.study.fitting import Change, make_fit, what_it_takes_at_least
from tunesmith.study.plan_config import PlanConfig
from tunesmith.types import InputError, Problem

ALL_PROBES, ONE_PROBE = 40.0, 8.0
"""Seconds in which steps are made: of all candidates together, and of one at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A method with what it takes, or why it cannot be taken."""

    contestant: Contestant
    forecast: Forecast | None
    likely: Likely | None
    fits: bool
    reason: str
    change: Change | None = None
    """What would make it fit, where it does not."""

    @property
    def name(self) -> str:
        """How the method is written."""
        return self.contestant.name

    @property
    def quality(self) -> Quality | None:
        """How well it is likely to do if it is made to fit: a class less where it then learns from less."""
        if self.likely is None or not (self.fits or self.change):
            return None
        place = QUALITIES.index(self.likely.quality)
        less = self.change is not None and self.change.trains_less
        return QUALITIES[min(place + less, len(QUALITIES) - 1)]

    @property
    def seconds(self) -> float:
        """Of the whole run, changed so that it fits."""
        assert self.forecast is not None
        return self.change.seconds if self.change else self.forecast.seconds

    @property
    def peak_memory(self) -> int:
        """At the peak of the run, changed so that it fits."""
        assert self.forecast is not None
        return self.change.peak_memory if self.change else self.forecast.peak_memory

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: what the run takes as it is, and what would make it fit."""
        found, likely = self.forecast, self.likely
        values: dict[str, Any] = {"method": self.name, "fits": self.fits, "reason": self.reason}
        values |= {"seconds": None, "peak_memory": None, "disk": None}
        if found is None or likely is None:
            return values
        train = found.config.train
        change = self.change
        return values | {
            "seconds": found.seconds,
            "seconds_of_training": found.seconds_of_training,
            "peak_memory": found.peak_memory,
            "disk": found.disk,
            "disk_while_training": found.disk_while_training,
            "trained_parameters": found.trained.num_weights,
            "learning_rate": train.learning_rate,
            "steps": found.timetable.num_steps,
            "quality": likely.quality,
            "quality_reasons": list(likely.reasons),
            "would_fit": None
            if change is None
            else {
                "changes": dict(change.flags),
                "seconds": change.seconds,
                "peak_memory": change.peak_memory,
                "words": list(change.words),
            },
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates, and the one to take."""

    candidates: tuple[Candidate, ...]
    recommended: Candidate | None
    reasons: tuple[str, ...]
    """Why that one, or what is missing for any."""
    command: str
    """What runs it; empty where none fits."""
    notes: tuple[Problem, ...]
    """What is known of the rows: how many are left out, repeated or contradict others, which labels are rare."""
    seconds: float
    """What the plan itself took."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        chosen: dict[str, Any] = {"method": None, "reasons": list(self.reasons)}
        if self.recommended is not None:
            one = self.recommended
            chosen |= {
                "method": one.name,
                "seconds": one.seconds,
                "peak_memory": one.peak_memory,
                "quality": one.quality,
                "changes": {} if one.change is None else dict(one.change.flags),
                "command": self.command,
            }
        notes = [problem.message for problem in self.notes]
        values = {"candidates": [one.to_dict() for one in self.candidates], "recommended": chosen, "notes": notes}
        found: dict[str, Any] = finite(values)
        return found


def make_plan(config: PlanConfig, *, given: Sequence[str] = (), observers: Sequence[Observer] = ()) -> Plan:
    """Return what the methods in question take, from a few real steps of each, and which to take.

    Nothing is written but the cache.

    Args:
        config: The run that is planned, and what there is for it.
        given: Words of the command line that say what the run is, but for its method; found from the configuration
            when not given.
        observers: Told of what takes a while.

    Raises:
        InputError: The data or the model cannot be used, or no method can be taken.
    """
    contestants = config.contestants()
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        stop = stack.enter_context(stop_requests())
        stop.advice = "Stopped; nothing was written."
        watching = stack.enter_context(closing(Observers(observers)))
        workshop = stack.enter_context(Workshop())
        stack.enter_context(telling(watching.fetching))
        watching.working("reading the data")
        workshop.data(config.run_config())
        probe = _Probe(config, workshop, watching, stop, min(ALL_PROBES / len(contestants), ONE_PROBE))
        candidates = tuple(map(probe.candidate, contestants))
    known = [one.forecast for one in candidates if one.forecast is not None]
    if not known:
        raise InputError([Problem("error", f"{one.name}: {one.reason}") for one in candidates])
    recommended = _choose(candidates, config.quality)
    return Plan(
        candidates=candidates,
        recommended=recommended,
        reasons=_reasons(recommended, candidates, config),
        command="" if recommended is None else _command(recommended, config, given),
        notes=tuple(one for one in known[0].data.problems if one.severity == "warning" or one.count),
        seconds=sum(one.probe_seconds for one in known),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """Makes candidates of methods."""

    config: PlanConfig
    workshop: Workshop
    observers: Observers
    stop: StopRequests
    seconds: float

    def candidate(self, one: Contestant) -> Candidate:
        """Return what a method takes, with the rank that the rows ask for where none was given."""
        self.stop.check()
        self.observers.working(f"making a few steps of {one.name}")
        try:
            found = self._forecast(one, self.seconds)
            situation = _situation(found)
            rank = getattr(one.method, "rank", None)
            if rank is not None and "rank" not in one.method.model_fields_set and one.method.needs_base:
                wanted, _ = wanted_rank(found.trained.num_outside_head // rank, situation)
                if wanted > rank:
                    one = replace(
                        one, name=f"{one.name}(rank={wanted})", method=one.method.model_copy(update={"rank": wanted})
                    )
                    found = self._forecast(one, self.seconds / 2)
        except InputError as error:
            return Candidate(one, None, None, fits=False, reason=error.problems[0].message)
        likely = likely_quality(found.config.method, found.trained, situation)  # as it was settled for these rows
        return self._fitting(Candidate(one, found, likely, fits=True, reason=""))

    def _forecast(self, one: Contestant, seconds: float) -> Forecast:
        config = self.config.run_config(method=one.method)
        return forecast(config, self.workshop, observers=Observers(()), stop=self.stop, seconds=seconds)

    def _fitting(self, one: Candidate) -> Candidate:
        found, lacks = one.forecast, []
        assert found is not None
        limit, memory = self.config.seconds, self.config.memory_bytes
        if limit is not None and found.seconds > limit:
            lacks.append(f"it takes {duration(found.seconds)}, and there are {duration(limit)}")
        if memory is not None and found.peak_memory > memory:
            lacks.append(f"it takes {size(found.peak_memory)} of memory, and there are to be {size(memory)}")
        if memory is None and not found.memory.fits:
            memory = found.memory.in_use_bytes + found.memory.available_bytes
            lacks.append(f"it takes {size(found.peak_memory)} of memory, more than there is")
        if not lacks:
            return replace(one, reason=_what_it_takes(found))
        reason = " and ".join(lacks)
        change = make_fit(found, limit, memory)
        if change is None:
            seconds, num_bytes = what_it_takes_at_least(found)
            least = f"{duration(seconds)} and {size(num_bytes)} of memory at least"
            return replace(one, fits=False, reason=f"{reason}; no change known here is enough ({least})")
        how = f"{', '.join(change.words)} ({duration(change.seconds)}, {size(change.peak_memory)})"
        return replace(one, fits=False, reason=f"{reason}; it fits with {how}", change=change)


def _situation(found: Forecast) -> Situation:
    rows = found.rows
    return situation_of(found.data, len(rows) if rows.reads is None else len(rows.reads.values), found.trained.num_all)


def _what_it_takes(found: Forecast) -> str:
    return f"{found.timetable.num_steps:,} steps; {compact(found.trained.num_weights)} weights trained"


def _choose(candidates: Sequence[Candidate], asked: Quality) -> Candidate | None:
    """Return the candidate to take: the likely best, or the quickest that is likely to be as good as asked.

    Those that fit as they are come first; candidates of one class are decided by their time.
    """
    for taken in ([one for one in candidates if one.fits], [one for one in candidates if one.change]):
        if not taken:
            continue
        enough = [one for one in taken if _place(one) <= QUALITIES.index(asked)]
        return (
            min(enough, key=lambda one: one.seconds)
            if enough
            else min(taken, key=lambda one: (_place(one), one.seconds))
        )
    return None


def _place(one: Candidate) -> int:
    assert one.quality is not None
    return QUALITIES.index(one.quality)


def _reasons(chosen: Candidate | None, candidates: Sequence[Candidate], config: PlanConfig) -> tuple[str, ...]:
    if chosen is None:
        known = [one for one in candidates if one.forecast is not None]
        least = min(known, key=lambda one: one.peak_memory)
        quick = min(known, key=lambda one: one.seconds)
        message = (
            f"None fits. {least.name} takes least memory, {size(least.peak_memory)}, and {quick.name} least time, "
            f"{duration(quick.seconds)}: give more, a smaller model, or fewer rows (--data.limit)"
        )
        return (message,)
    assert chosen.likely is not None
    found = [f"likely quality: {chosen.quality}, since of {reason}" for reason in chosen.likely.reasons]
    rivals = [one for one in candidates if one is not chosen and one.fits and _place(one) == _place(chosen)]
    if chosen.fits and rivals:
        slower = max(rivals, key=lambda one: one.seconds)
        found.append(
            f"{', '.join(one.name for one in rivals)} would likely do as well, and take {duration(slower.seconds)} "
            f"and {size(slower.peak_memory)} instead of {duration(chosen.seconds)} and {size(chosen.peak_memory)}"
        )
    better = [one for one in candidates if one.quality is not None and _place(one) < _place(chosen)]
    if better and config.quality != "best":
        found.append(f"{better[0].name} would likely do better, and take {duration(better[0].seconds)}")
    if chosen.change is not None:
        found.append(f"it fits with {', '.join(chosen.change.words)}")
    return tuple(found)


def _command(chosen: Candidate, config: PlanConfig, given: Sequence[str]) -> str:
    """Return the command that runs a candidate."""
    words = list(given) or ["tunesmith", "train", "--model", config.model.name, "--data", config.data.path]
    method = chosen.contestant.method
    flags: dict[str, Any] = {"method": method.name}
    options = method.model_dump(mode="json", exclude_unset=True, exclude={"name"})
    flags |= {f"method.{name}": value for name, value in options.items()}
    changes: Mapping[str, str] = {} if chosen.change is None else chosen.change.flags
    for name, value in (flags | dict(changes)).items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)
