"""What a run says of itself after its first steps: how long it will take, and how much memory."""

from __future__ import annotations

from tunesmith.engine.work import Work
from tunesmith.run.pace import Pace, Timetable, pace_of, peak_of
from tunesmith.run.session import Ready
from tunesmith.types import StepInfo

FEWEST, MOST = 5, 25
"""Steps after which a run says what it will take: the fewest, or as many as a second holds, up to the most."""
ENOUGH_SECONDS = 1.0
EARLY = 0.1
"""Share of all steps after which it does so in any case: what is nearly over is not predicted."""
WARM_UP = 2
"""Steps that are slower than those that follow: buffers and primitives are made."""


class FirstSteps:
    """Looks at the first steps of a session and, once, writes down what the whole run will take."""

    def __init__(self, session: Ready) -> None:
        self._session = session
        self._work: Work | None = None
        self._works: list[float] = []
        self._seconds: list[float] = []

    def after(self, info: StepInfo) -> None:
        """Take note of a step, whose time the run's progress does not hold yet."""
        session = self._session
        progress, training = session.progress, session.training
        if progress.predicted is not None:
            return
        if self._work is None:
            self._work = Work.of(training.scorer, training.data, training.optimizer.names)
        self._works.append(self._work.of_step(training, info.step - 1))
        self._seconds.append(info.seconds)
        seconds, total = sum(self._seconds), training.plan.total_steps
        if len(self._seconds) < min(MOST, max(EARLY * total, 1)) and not (
            len(self._seconds) >= FEWEST and seconds >= ENOUGH_SECONDS
        ):
            return
        known = slice(WARM_UP if len(self._seconds) > WARM_UP else len(self._seconds) - 1, None)
        per_work = pace_of(self._works[known], self._seconds[known])
        timetable = Timetable.of(training, self._work, Pace(per_work, per_work, per_work), session.validation)
        so_far = progress.seconds + info.seconds
        progress.predicted = {
            "seconds": so_far + timetable.seconds - timetable.seconds_of_steps(info.step),
            "peak_memory": peak_of(session.settings.memory) - session.workshop.bytes_beside(session.network),
            "steps": total,
            "how": f"after step {info.step}, from the time of {len(self._works[known])} steps",
        }
