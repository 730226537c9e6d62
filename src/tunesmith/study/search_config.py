"""What is asked of a search: a run's configuration, and how much is tried."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from tunesmith.run import RunConfig
from tunesmith.study.executor_config import StudyConfig


class SearchConfig(StudyConfig):
    """A run's configuration, some keys of which are searched."""

    trials: Annotated[int, Field(ge=2, le=10_000)] = 40
    """How many trainings are begun; the same command with more goes on."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that train at the same time and share the cores of the machine, or have their own on a cluster; what is
    tried depends on it, and not on how long each takes."""
    prune: bool = True
    """Give up a training whose best value so far is below the median of the others at the same part of theirs."""
    over: dict[str, Any] = Field(default_factory=dict)
    """What is searched: keys with a list of values, or with {low, high} and log or step. On the command line the file
    of --over holds it."""

    def run_config(self, **sections: Any) -> RunConfig:
        """Return the configuration of a run, with ``sections`` in the place of what they name."""
        own = {name: getattr(self, name) for name in RunConfig.model_fields if name in self.model_fields_set}
        return RunConfig.model_validate(own | sections)
