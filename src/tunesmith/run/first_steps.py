"""What a run says of itself after its first steps: how long it will take, and how much memory."""

from __future__ import annotations

from tunesmith.engine.work import Work
from tunesmith.run.memory import peak_bytes
from tunesmith.run.overfitting import scored_rows
from tunesmith.run.pace import Pace, StepsSeen, Timetable, scored_tokens_of
from tunesmith.run.session import Ready
from tunesmith.types import StepInfo

WARM_UP = 2
"""Steps that are slower than those that follow: buffers and primitives are made."""
FEWEST, MOST = 5, 25
"""Steps after which a run says what it will take: the fewest, or as many as a second holds, up to the most."""
FEWEST_OF_ALL = WARM_UP + 1
"""Steps that are looked at however few there are: after the first one the optimizer's state takes memory, too."""
SCORING, SCORING_WHOLE = 0.65, 0.85
"""What a unit of work takes in scoring, in that of steps: where little is trained, and where every weight is (measured
on three models; steps have an update besides, and the small products of adapters take longer than they count)."""
ENOUGH_SECONDS = 1.0
EARLY = 0.1
"""Share of all steps after which it does so in any case: what is nearly over is not predicted."""


class FirstSteps:
    """Looks at the first steps of a session and, once, writes down what the whole run will take."""

    def __init__(self, session: Ready) -> None:
        self._session = session
        self._seen: StepsSeen | None = None

    def after(self, info: StepInfo) -> None:
        """Take note of a step, whose time the run's progress does not hold yet."""
        session, progress, training = self._session, self._session.progress, self._session.training
        if progress.predicted is not None:
            return
        if self._seen is None:
            self._seen = StepsSeen(training, Work.of(training.scorer, training.data, training.optimizer.names))
        seen = self._seen
        seen.add(info.step - 1, info.seconds)
        num_seen, total = len(seen.seconds), training.plan.total_steps
        is_late = num_seen >= min(MOST, max(EARLY * total, FEWEST_OF_ALL), total)
        if not is_late and not (num_seen >= FEWEST and sum(seen.seconds) >= ENOUGH_SECONDS):
            return
        per_work = seen.seconds_of_work(WARM_UP)
        scoring = per_work * (SCORING + (SCORING_WHOLE - SCORING) * min(max(seen.work.backward - 1, 0.0), 1.0))
        timetable = Timetable.of(training, seen.work, Pace(per_work, scoring, scoring), scored_rows(session))
        measured = peak_bytes(session.network.device) - session.workshop.bytes_beside(session.network)
        scored = scored_tokens_of(training, session.validation)
        so_far = progress.seconds + info.seconds
        progress.predicted = {
            "seconds": so_far + timetable.seconds - timetable.seconds_of_steps(info.step),
            "peak_memory": seen.peak_of_all(session.settings.memory, measured, scored),
            "steps": total,
            "how": f"after step {info.step}, from what the steps up to there took",
        }
