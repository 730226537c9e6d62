"""What all trackers have in common: they are told from a thread of their own, and can hold up or end no training.

Their libraries wait for servers, locks and disks. What a run has to say is put into a queue, and a thread hands it on;
the run waits for that thread when it begins and when it ends alone, and not for ever. Whatever goes wrong there is told
once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tunesmith.files.atomic import write_text
from tunesmith.run.observers import Observer, RunPlan
from tunesmith.run.tensorboard import evaluation_values, step_values
from tunesmith.types import StepInfo

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig, TrackerConfig
    from tunesmith.run.directory import RunDirectory

RECORD = "tracker.json"
"""What of a run's folder says which run it is at its trackers."""
WAIT_SECONDS = 60.0
"""How long a run waits, at its beginning and at its end, for what a tracker's library waits for."""
MOST_AT_ONCE = 200
"""Steps that are handed on together, at most."""

Figures = tuple[int, Mapping[str, float]]
"""A step, and figures by name."""


class Tracker(Observer):
    """Tells a tracker of a run: configuration, steps, evaluations, final figures, and where its folder is.

    Subclasses say how: all of ``begin``, ``send`` and ``end`` are called in the thread, in this order.
    """

    def __init__(self, name: str, asked: TrackerConfig, config: RunConfig, directory: RunDirectory) -> None:
        self.name = name
        self.asked = asked
        self.config = config
        self.place = directory.place.absolute()
        self._record = directory.path / RECORD
        self._waiting: SimpleQueue[Figures | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"tunesmith-{name}", daemon=True)
        self._has_begun = threading.Event()
        self._failure: Exception | None = None
        self._summary: Mapping[str, Any] | None = None
        self._plan: RunPlan | None = None

    @abstractmethod
    def begin(self, known: Mapping[str, str]) -> Mapping[str, str]:
        """Begin the run at the tracker, or go on with the one that is ``known``; return how it is known from now on."""

    @abstractmethod
    def send(self, figures: Sequence[Figures]) -> None:
        """Hand on figures."""

    @abstractmethod
    def end(self, figures: Mapping[str, float], *, is_finished: bool) -> None:
        """Hand on the final figures and close the run there; one that is not finished may be gone on with."""

    # ---- what the run calls ----------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What the run is called there."""
        return self.asked.name or self.place.name

    def facts(self) -> dict[str, Any]:
        """Return what is shown of the run beside its figures: the configuration, and where its folder is."""
        shown = self.config.model_dump(mode="json", serialize_as_any=True, exclude={"tracker"})
        plan = self._plan
        assert plan is not None
        return {
            **shown,
            "folder": str(self.place),
            "parameters": plan.num_parameters,
            "trained_parameters": plan.num_trained_parameters,
            "rows": dict(plan.num_rows),
            "total_steps": plan.total_steps,
        }

    def started(self, plan: RunPlan) -> None:
        self._plan = plan
        self._thread.start()
        if not self._has_begun.wait(WAIT_SECONDS):
            raise TimeoutError(f"{self.name} did not begin within {WAIT_SECONDS:g} seconds")
        self._raise_failure()

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        self._raise_failure()
        self._waiting.put((info.step, _finite(step_values(info))))

    def evaluated(self, record: dict[str, Any]) -> None:
        self._raise_failure()
        self._waiting.put((record["step"], _finite(evaluation_values(record))))

    def finished(self, summary: dict[str, Any]) -> None:
        self._summary = summary
        self._stop()
        self._raise_failure()

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(WAIT_SECONDS)
            if self._thread.is_alive():
                self._failure = self._failure or TimeoutError(f"{self.name} did not end in {WAIT_SECONDS:g} seconds")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ---- what the thread does --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            recorded = self._recorded()
            recorded[self.name] = dict(self.begin(recorded.get(self.name, {})))
            write_text(self._record, json.dumps(recorded, indent=1) + "\n")
            self._has_begun.set()
            while figures := self._taken():
                self.send(figures)
            self.end(_final_figures(self._summary or {}), is_finished=self._summary is not None)
        except Exception as error:  # whatever a library raises
            self._failure = error
        finally:
            self._has_begun.set()

    def _taken(self) -> list[Figures]:
        """Return what has come meanwhile, once something has; nothing when the run is over."""
        found: list[Figures] = []
        while len(found) < MOST_AT_ONCE:
            one = self._waiting.get()
            if one is None:
                if found:
                    self._waiting.put(None)  # after these
                break
            found.append(one)
            if self._waiting.empty():
                break
        return found

    def _recorded(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            content = json.loads(self._record.read_text(encoding="utf-8"))
            return content if isinstance(content, dict) else {}
        return {}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _final_figures(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a finished run: every metric with the ends of its interval, and what it cost."""
    cost = ("steps", "best_step", "seconds", "tokens_per_second", "peak_memory_bytes", "saved_bytes")
    found = {f"run/{name}": summary.get(name) for name in cost}
    evaluation = summary.get("evaluation") or {}
    for name, estimate in evaluation.get("metrics", {}).items():
        for key, ending in (("value", ""), ("low", "_low"), ("high", "_high")):
            found[f"{evaluation['split']}/{name}{ending}"] = estimate.get(key)
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by dotted keys."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


@contextmanager
def silenced(**variables: str) -> Iterator[None]:
    """Set variables of the environment, and hold back log lines below errors, until the block ends."""
    before = {name: os.environ.get(name) for name in variables}
    disabled = logging.root.manager.disable
    os.environ.update(variables)
    logging.disable(max(disabled, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(disabled)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
