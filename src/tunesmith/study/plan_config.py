"""What is asked of a plan: which methods come into question, and how much time, memory and quality there is to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field, field_validator

from tunesmith.config.base import ConfigError
from tunesmith.config.lists import split_values
from tunesmith.config.quantities import parse_duration, parse_size
from tunesmith.methods.choosing import Quality
from tunesmith.run import RunConfig
from tunesmith.study.contest_config import DEFAULT_METHODS, Contestant, read_contestant
from tunesmith.types import InputError, Problem


class PlanConfig(RunConfig):
    """A run that is planned: all of it may be given, and what is not is decided as for a training."""

    methods: tuple[str | dict[str, Any], ...] = ()
    """Which methods come into question: names with commas between, options in brackets, such as
    `full,lora(rank=64),freeze`. Head, LoRA and full fine-tuning, and `method` where it is given, when not given."""
    within: str | None = None
    """How long the whole run may take, such as 10m or 1h30m."""
    memory: str | None = None
    """How much memory it may take at its peak, such as 8GB: of the device, or of the whole process on a CPU. What is
    free now when not given."""
    quality: Quality = "best"
    """What is asked for: `best`, or the quickest that is likely to be `good` or `fair`."""
    machine: str | None = None
    """Devices of a machine that is not at hand, such as `8x H100`: nothing is loaded or tried, and time, memory and
    price follow from published figures. `here` is this machine, measured; a .yaml file holds one's own device."""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """How many such machines train together."""
    network: str | None = None
    """What a machine sends to others, such as 3200Gb/s; what is usual for the device when not given."""
    price_per_hour: Annotated[float, Field(gt=0)] | None = None
    """What one machine costs in an hour, in any currency: the plan then says what the run costs."""

    @field_validator("methods", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, split_values(value))) if isinstance(value, str) else value

    @field_validator("within")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        return _checked(value, lambda text: parse_duration(text, "--within"))

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        return _checked(value, lambda text: parse_size(text, "--memory"))

    @property
    def seconds(self) -> float | None:
        """The time that there is, in seconds."""
        return None if self.within is None else parse_duration(self.within, "--within")

    @property
    def memory_bytes(self) -> int | None:
        """The memory that there is to be, in bytes."""
        return None if self.memory is None else parse_size(self.memory, "--memory")

    def run_config(self, **sections: Any) -> RunConfig:
        """Return the configuration of a run, with ``sections`` in the place of what they name."""
        own = {name: getattr(self, name) for name in RunConfig.model_fields}
        return RunConfig.model_construct(**(own | sections))

    def contestants(self) -> list[Contestant]:
        """Return the methods that come into question, in order.

        Raises ``ConfigError`` with everything that is wrong with their names and options.
        """
        found = {one.name: one for one in self._given()}
        problems: list[Problem] = []
        for entry in self.methods or (() if found and self.methods else DEFAULT_METHODS[::-1]):
            try:
                one = read_contestant(entry)
                if one.is_augmented:
                    fix = f"Name {one.without}, and give --data.augment besides."
                    raise ConfigError([Problem("error", f"methods: {one.name}: a plan is of methods alone.", fix)])
            except ConfigError as error:
                problems += error.problems
            else:
                found.setdefault(one.name, one)
        if problems:
            raise ConfigError(problems)
        return list(found.values())

    def _given(self) -> Iterator[Contestant]:
        if "method" in self.model_fields_set and not self.methods:
            options = self.method.model_dump(exclude_unset=True, exclude={"name"})
            shown = ",".join(f"{name}={value}" for name, value in options.items())
            yield Contestant(f"{self.method.name}({shown})" if shown else self.method.name, self.method)


def _checked(value: str | None, parse: Callable[[str], float]) -> str | None:
    if value is not None:
        try:
            parse(value)
        except InputError as error:
            raise ValueError("; ".join(str(problem) for problem in error.problems)) from error
    return value
