"""What is asked of a cross-validation: a run's configuration, and how its rows are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from tunesmith.run import RunConfig
from tunesmith.study.executor_config import StudyConfig
from tunesmith.types import InputError


class CrossValidationConfig(StudyConfig):
    """A run's configuration, trained once for every fold of the training rows."""

    folds: Annotated[int, Field(ge=2, le=100)] = 5
    """How many parts the rows are cut into: each is judged by a model that was trained on the others."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often all of it is done, each time with another cut and another seed."""
    rates: Annotated[int, Field(ge=1, le=15)] = 1
    """Learning rates that are tried inside every fold, a factor of 3 apart around the given or default one, and chosen
    by its validation rows; the fold's test rows see the best one only. With 1 nothing is chosen."""

    def run_config(self, **sections: Any) -> RunConfig:
        """Return the configuration of a run, with ``sections`` in the place of what they name."""
        own = {name: getattr(self, name) for name in RunConfig.model_fields}
        return RunConfig.model_construct(**(own | sections))


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold of one repeat; both count from 1."""

    repeat: int
    number: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"repeat-{self.repeat}-fold-{self.number}"

    def config(self, asked: CrossValidationConfig, output: str, rate: float | None = None) -> RunConfig:
        """Return the configuration of the fold's run: an ordinary one, which ``tunesmith train`` repeats."""
        data, training = asked.data, asked.train
        index = (self.repeat - 1) * asked.folds + self.number - 1
        data = data.changed(fold=f"{self.number}/{asked.folds}", split_seed=(data.split_seed + self.repeat - 1) % 2**32)
        training = training.changed(seed=(training.seed + index) % 2**32)
        if rate is not None:
            training = training.changed(learning_rate=rate)
        return asked.run_config(data=data, train=training, output=output)


def folds_of(asked: CrossValidationConfig) -> list[Fold]:
    """Return all folds in the order in which they are trained."""
    return [Fold(repeat, number) for repeat in range(1, asked.repeats + 1) for number in range(1, asked.folds + 1)]


def check_asked(asked: CrossValidationConfig) -> None:
    """Refuse what contradicts a cross-validation."""
    if asked.data.fold is not None:
        raise InputError(f"data.fold: {asked.data.fold} is one fold; a cross-validation trains all.", "Leave it out.")
    if asked.evaluation.split == "validation":
        raise InputError(
            "evaluation.split: validation would leave the folds unjudged.", "Leave it out: a fold's test rows judge it."
        )
