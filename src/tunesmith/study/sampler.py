"""What is tried next: Optuna's sampler and pruner, fed from the study's own journal.

The journal is what survives a crash, line by line; Optuna's study lives in memory and is made of it anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.run import RunConfig
from tunesmith.study.search_space import Setting
from tunesmith.types import MissingExtraError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

STARTUP = 5
"""Trainings that must have come to their end before one is given up."""
FIRST_PART = 2
"""None is given up before this part of ten."""


def require_optuna() -> None:
    """Raise ``MissingExtraError`` where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise MissingExtraError("Searching settings", "optuna", "search") from None


class Sampler:
    """Draws values for trials, learns what came of them, and says which are to be given up."""

    def __init__(self, settings: Sequence[Setting], base: RunConfig, *, higher: bool, prune: bool, seed: int) -> None:
        """Begin with nothing known; the first values are those that ``base`` gives, where they are searched."""
        from optuna import create_study
        from optuna.pruners import MedianPruner, NopPruner
        from optuna.samplers import TPESampler

        self._settings, self._base = settings, base
        with quiet_optuna():
            pruner = MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=FIRST_PART) if prune else NopPruner()
            sampler = TPESampler(seed=seed)
            self._study: Study = create_study(
                direction="maximize" if higher else "minimize", sampler=sampler, pruner=pruner
            )
        self._trials: dict[int, Trial] = {}

    def draw(self, number: int) -> dict[str, Any]:
        """Return the values of a new trial."""
        with quiet_optuna():
            if number == 0:
                self._study.enqueue_trial(self._given())
            trial = self._study.ask()
            self._trials[number] = trial
            return self._suggested(trial)

    def draw_again(self, number: int, values: Mapping[str, Any]) -> None:
        """Go on with a trial that was begun before with these values."""
        with quiet_optuna():
            self._study.enqueue_trial(self._drawn(values))
            self._trials[number] = self._study.ask()
            self._suggested(self._trials[number])

    def knows(self, number: int, part: int, value: float) -> bool:
        """Take in how far a trial is; say whether to give it up."""
        with quiet_optuna():
            self._trials[number].report(value, part)
            return bool(self._trials[number].should_prune())

    def learn(
        self, values: Mapping[str, Any], state: str, value: float | None, points: Sequence[Sequence[float]], number: int
    ) -> None:
        """Take in what came of a trial, of this process or of one before."""
        from optuna.trial import TrialState, create_trial

        states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        with quiet_optuna():
            if (trial := self._trials.pop(number, None)) is not None:
                self._study.tell(trial, value if state == "done" else None, state=states[state])
                return
            drawn = self._drawn(values)
            distributions = {one.path: one.distribution for one in self._settings if one.path in drawn}
            self._study.add_trial(
                create_trial(
                    state=states[state],
                    value=value if state == "done" else None,
                    params=drawn,
                    distributions=distributions,
                    intermediate_values={int(part): float(seen) for part, seen in points},
                )
            )

    def importance(self) -> dict[str, float]:
        """Return each key's share in what makes trials good (PED-ANOVA, Watanabe et al. 2023); empty where unknown."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        values = {trial.value for trial in self._study.get_trials(states=(TrialState.COMPLETE,))}
        if len(values) < 2:
            return {}
        with quiet_optuna():
            try:
                shares = get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())
            except (ValueError, RuntimeError):  # too few trials, or none that differ
                return {}
        return {path: float(share) for path, share in shares.items() if math.isfinite(share)}

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        """Return values for all keys that the choices made on the way leave."""
        values: dict[str, Any] = {}
        for one in self._settings:
            if one.applies(self._base, values):
                values[one.path] = one.value_of(_suggest(trial, one))
        return values

    def _given(self) -> dict[str, Any]:
        """Return what the configuration itself says of the keys that are searched."""
        given = {one: _value_at(self._base, one.path) for one in self._settings}
        return {one.path: one.drawn_of(value) for one, value in given.items() if one.holds(value)}

    def _drawn(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {one.path: one.drawn_of(values[one.path]) for one in self._settings if one.path in values}


def _suggest(trial: Trial, setting: Setting) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    match setting.distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(setting.path, choices)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(setting.path, low, high, log=log, step=step)
        case _:
            assert setting.low is not None
            assert setting.high is not None
            return trial.suggest_float(setting.path, setting.low, setting.high, log=setting.log, step=setting.step)


def _value_at(config: RunConfig, path: str) -> Any:
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna tell nothing of its own, and leave its settings as they were."""
    import warnings

    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            warnings.filterwarnings("ignore", message=".*is experimental.*")
            yield
    finally:
        logging.set_verbosity(before)
