"""What a search looks through: ranges and lists of values of any keys of the configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.config.base import ConfigError, nearest
from tunesmith.config.build import build
from tunesmith.config.keys import OTHER, Key, knows, list_keys, paths_of
from tunesmith.config.load import merge
from tunesmith.config.migrate import present_name
from tunesmith.run import RunConfig
from tunesmith.types import Problem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

ROUNDING = 1e-9
FIELDS = {"low", "high", "log", "step", "choices"}
NOT_SEARCHED = {
    "output": "every trial has a folder of its own",
    "task": "it would change what the trials are judged by",
    "evaluation": "it would change what the trials are judged by",
    "train.seed": "the best of several seeds is luck, and not a better setting",
    "train.early_stopping.metric": "it would change what the trials are judged by",
    **dict.fromkeys(
        (
            *(
                "data.path",
                "data.validation",
                "data.test",
                "data.columns",
                "data.group",
                "data.limit",
                "data.fold",
                "data.mixture",
            ),
            *("data.split_seed", "data.validation_seed", "data.validation_fraction", "data.test_fraction"),
        ),
        "it would change the rows that the trials are judged by",
    ),
}
"""Keys, and sections, that decide how trials compare."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key with the values that are searched."""

    path: str
    """The key, a choice's own name in full (``method.name``)."""
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    """Whether ratios count, and not distances."""
    step: float | int | None = None
    choices: tuple[Any, ...] = ()
    """The values, where it is a list."""
    only: tuple[str, ...] = ()
    """The names of the section's choice that know the key; empty where all do."""

    @property
    def is_whole(self) -> bool:
        """Whether the range is of whole numbers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @property
    def distribution(self) -> BaseDistribution:
        """The same in Optuna's words."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution([json.dumps(value) for value in self.choices])
        assert self.low is not None
        assert self.high is not None
        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)

    def value_of(self, drawn: Any) -> Any:
        """Return what stands in the configuration for a value that Optuna has drawn."""
        if self.choices:
            return json.loads(drawn)
        if self.is_whole:
            return int(drawn)
        assert self.low is not None
        assert self.high is not None
        return min(max(float(f"{drawn:.3g}"), float(self.low)), float(self.high))

    def drawn_of(self, value: Any) -> Any:
        """Return what Optuna drew where ``value`` came of it."""
        return json.dumps(value) if self.choices else value

    def holds(self, value: Any) -> bool:
        """Say whether a value is among those that are searched."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        assert self.low is not None
        assert self.high is not None
        steps = (value - self.low) / (self.step or (1 if self.is_whole else math.inf))
        return self.low <= value <= self.high and abs(steps - round(steps)) < ROUNDING

    def applies(self, config: RunConfig, values: Mapping[str, Any]) -> bool:
        """Say whether the key exists, for the choices that ``values`` make and else those of ``config``."""
        if not self.only:
            return True
        section = self.path.split(".", 1)[0]
        name = values.get(f"{section}.name", getattr(getattr(config, section), "name", None))
        registry = _registry(section)
        return name in self.only or (OTHER in self.only and name not in registry)


def read_space(over: Mapping[str, Any], config: RunConfig) -> list[Setting]:
    """Return what is searched, choices before the keys that depend on them.

    ``over`` maps keys, dotted or nested, to a list of values or to ``{low, high, log, step}``. Raises ``ConfigError``
    with all that is wrong: unknown keys (the nearest named), ranges upside down, values that the key does not take,
    options of a choice that is not made, keys that decide how trials are judged.
    """
    keys = list(list_keys(RunConfig))
    names = list(dict.fromkeys(path for key in keys for path in paths_of(key)))
    problems: list[Problem] = []
    found: dict[str, Setting] = {}
    for given, content in _leaves("", over):
        path = present_name(given.replace("-", "_"))
        if not knows(keys, path):
            problems.append(_problem(f"There is no key {given}. {nearest(path, names)}".rstrip()))
            continue
        path = _full(path, keys)
        if (reason := _why_not(path)) is not None:
            problems.append(_problem(f"{given} is not searched: {reason}.", "Leave it out of the search."))
            continue
        try:
            setting = _setting(path, content, _only(path, keys))
        except ValueError as error:
            problems.append(_problem(f"{given}: {error}."))
            continue
        if path in found:
            problems.append(_problem(f"{given} is given twice."))
        found[path] = setting
    settings = sorted(found.values(), key=lambda one: (bool(one.only), not one.path.endswith(".name")))
    if not settings and not problems:
        problems.append(_problem("There is nothing to search.", "Give keys with their values in the file of --over."))
    if not problems:
        problems = [*_idle(settings, config), *_refused(settings, config)]
    if problems:
        raise ConfigError(problems)
    return settings


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a run's configuration with some keys set; ``ConfigError`` where it does not take them."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *sections, last = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    own = {name: getattr(config, name) for name in RunConfig.model_fields if name in config.model_fields_set}
    plain = RunConfig.model_construct(set(own), **own).model_dump(
        mode="json", exclude_unset=True, serialize_as_any=True
    )
    return build(RunConfig, merge(plain, nested, RunConfig))


def _leaves(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and not (value and set(value) <= FIELDS):
            if not value or FIELDS & set(value):
                yield path, value
            else:
                yield from _leaves(f"{path}.", value)
        else:
            yield path, value


def _setting(path: str, content: Any, only: tuple[str, ...]) -> Setting:
    """Return what is searched of one key; ``ValueError`` says what is wrong with it."""
    if isinstance(content, list):
        content = {"choices": content}
    if not isinstance(content, Mapping):
        raise ValueError(f"{content!r} is one value; expected a list of values, or low and high")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"{unknown[0]!r} is no part of a range. {nearest(str(unknown[0]), list(FIELDS))}".rstrip(". "))
    if "choices" in content:
        if len(content) > 1:
            raise ValueError("either choices are given, or low and high")
        choices = content["choices"]
        if not isinstance(choices, list) or len(choices) < 2:
            raise ValueError(f"choices: {choices!r} is no list of two values or more")
        return Setting(path, choices=tuple(choices), only=only)
    return _range(path, content, only)


def _range(path: str, content: Mapping[str, Any], only: tuple[str, ...]) -> Setting:
    for name in ("low", "high", "step"):
        value = content.get(name)
        if value is None and name != "step":
            raise ValueError(f"{name} is missing: a range has low and high")
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
        ):
            raise ValueError(f"{name}: {value!r} is no number")
    low, high, step, log = content["low"], content["high"], content.get("step"), content.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log: {log!r} is neither true nor false")
    if low >= high:
        raise ValueError(f"low ({low}) is not below high ({high}): is the range upside down?")
    if log and low <= 0:
        raise ValueError(f"low is {low}, and a range by ratios (log) begins above 0")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"step ({step}) is not above 0 and within the range")
    if log and step is not None:
        raise ValueError("a range by ratios (log) has no step")
    return Setting(path, low, high, log, step, only=only)


def _full(path: str, keys: Sequence[Key]) -> str:
    """Return the key of a choice's own name for that of its section."""
    for key in keys:
        if key.path == path and key.section is not None and key.section.choice is not None:
            return f"{path}.{key.section.choice.key}"
    return path


def _only(path: str, keys: Sequence[Key]) -> tuple[str, ...]:
    known = [key.choices for key in keys if path in paths_of(key)]
    return () if not known or any(not names for names in known) else tuple({name for names in known for name in names})


def _registry(section: str) -> Sequence[str]:
    (key,) = [key for key in list_keys(RunConfig) if key.path == section and key.section is not None]
    assert key.section is not None
    assert key.section.choice is not None
    return list(key.section.choice.registry)


def _why_not(path: str) -> str | None:
    return next((why for key, why in NOT_SEARCHED.items() if path == key or path.startswith(f"{key}.")), None)


def _idle(settings: Sequence[Setting], config: RunConfig) -> Iterator[Problem]:
    """Yield what is wrong with options of choices that are never made."""
    for one in settings:
        section = one.path.split(".", 1)[0]
        names = next((other.choices for other in settings if other.path == f"{section}.name"), None)
        made = names or (getattr(getattr(config, section), "name", None),)
        if not any(one.applies(config, {f"{section}.name": name}) for name in made):
            known = ", ".join(sorted(one.only))
            yield _problem(
                f"{one.path} is an option of {known}, and {section} is {' or '.join(map(str, made))}.",
                f"Set {section} to one of them, or search it, too.",
            )


def _refused(settings: Sequence[Setting], config: RunConfig) -> Iterator[Problem]:
    """Yield what the configuration says to the ends of ranges and to every value of a list."""
    seen = set()
    for one in settings:
        section = one.path.split(".", 1)[0]
        chooser = next((other for other in settings if other.path == f"{section}.name"), None)
        for value in one.choices or (one.low, one.high):
            around = {}
            if chooser is not None and chooser is not one:
                fits = (name for name in chooser.choices if one.applies(config, {chooser.path: name}))
                around = {chooser.path: next(fits)}
            try:
                with_values(config, {**around, one.path: value})
            except ConfigError as error:
                for problem in error.problems:
                    if str(problem) not in seen:
                        seen.add(str(problem))
                        yield problem


def _problem(message: str, fix: str = "") -> Problem:
    return Problem("error", message, fix or "A range is {low: 1e-5, high: 1e-3, log: true}; a list is [8, 16, 32].")
