"""What is asked of a contest: which methods, on what, how often, and what counts as a difference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from tunesmith.config.base import Choice, Config, ConfigError
from tunesmith.config.build import build
from tunesmith.config.lists import split_values
from tunesmith.config.quantities import parse_duration
from tunesmith.data.augmentation import AugmentConfig
from tunesmith.data.config import DataConfig
from tunesmith.methods import METHODS
from tunesmith.methods.base import Method
from tunesmith.run import RunConfig
from tunesmith.study.executor_config import StudyConfig
from tunesmith.types import InputError, Problem

DEFAULT_METHODS = ("freeze", "lora", "full")
FEW_SHOT_METHODS = ("freeze", "contrastive", "lora")
"""Those that are tried where few rows are drawn, and nobody names others."""
FEW_SHOT_SEEDS = 5
"""Draws, where nobody says how many."""
RIVALS = ("tfidf", "untuned", "rule")
"""Entrants that nothing is trained for here: they stand beside the methods wherever the task has them."""
ALL = "all"
"""Stands for every method there is; those that the model or the task cannot take are left out with a note."""
_ENTRY = re.compile(r"\s*(?P<name>[^()\s]+)\s*(?:\((?P<options>.*)\))?\s*")
AUGMENT = "augment"
_AUGMENTED = re.compile(rf"(?P<method>.+?)\s*\+\s*{AUGMENT}\s*(?:\((?P<options>[^()]*)\))?\s*")


class CompareConfig(StudyConfig):
    """A contest: everything of a run but its method, and what several methods are compared by."""

    methods: tuple[str | dict[str, Any], ...] = DEFAULT_METHODS
    """Who takes part: names with commas between, options in brackets: `full,lora,lora(rank=64,rslora=true)`; `all` for
    every method that fits. `lora+augment` trains on made rows, too, as `data.augment` says or as stands in brackets
    (`lora,lora+augment(by=synonyms,factor=3)`); the others then train without. What a trained model has to beat
    (TF-IDF, a simple rule, or the model before fine-tuning) stands beside them. With `data.few_shot` they are freeze,
    contrastive and lora when not given."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    """How often each method is trained and judged: everything random changes with the seed, and the validation rows
    where they are cut here. With `data.few_shot` every seed draws other rows: 5 when not given."""
    rates: Annotated[int, Field(ge=1, le=15)] = 5
    """Learning rates that are tried for every method before it is judged, a factor of 3 apart around its default; with
    1 the default is taken as it is."""
    metric: str | None = None
    """What the test rows are judged by; the task's own metric when not given."""
    reference: str = ""
    """The method that all others are compared with: `full` where it takes part, or else the first one."""
    margin: Annotated[float, Field(gt=0)] | None = None
    """A difference up to this counts as none: 0.01 (a point) for metrics that are shares; for others a hundredth of the
    reference's value, when not given."""
    budget: str | None = None
    """Time for the whole contest, such as 30m: rates tried are cut before seeds, and seeds before methods."""

    @field_validator("methods", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(filter(None, split_values(value))) if isinstance(value, str) else value

    @field_validator("budget")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_duration(value, "budget")
            except InputError as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="before")
    @classmethod
    def _suited_to_few_rows(cls, values: Any) -> Any:
        """Set what nobody gave for rows that are drawn: no rate is tried, since there is nothing to choose it by."""
        data = values.get("data") if isinstance(values, Mapping) else None
        if not isinstance(data, DataConfig) or data.few_shot is None:
            return values
        found = {"methods": FEW_SHOT_METHODS, "seeds": FEW_SHOT_SEEDS, "rates": 1, **values}
        if found["rates"] != 1:
            raise ValueError(
                f"rates is {found['rates']}, but with data.few_shot there are no validation rows to choose rates by; "
                "leave it out, and give one as train.learning_rate if you know a better one"
            )
        draws = found["seeds"]
        return {**found, "data": data.changed(draw=f"1/{draws}") if isinstance(draws, int) and draws > 0 else data}

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else parse_duration(self.budget, "budget")

    def run_config(self, **sections: Any) -> RunConfig:
        """Return the configuration of a run of the contest, with ``sections`` in the place of what they name."""
        own = {name: getattr(self, name) for name in RunConfig.model_fields}
        return RunConfig.model_construct(**(own | sections))

    def run_of(self, contestant: Contestant, **sections: Any) -> RunConfig:
        """Return the same for one who takes part; its own keys of ``data`` and ``train`` hold."""
        data, train = sections.pop("data", self.data), sections.pop("train", self.train)
        return self.run_config(
            method=contestant.method,
            data=data.changed(**contestant.of_data) if contestant.of_data else data,
            train=train.changed(**contestant.of_training) if contestant.of_training else train,
            **sections,
        )


@dataclass(frozen=True, slots=True)
class Contestant:
    """A method that takes part."""

    name: str
    """As it is written: ``lora``, ``lora(rank=64)``, ``lora+augment``."""
    method: Method
    of_data: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``data`` that are its own."""
    of_training: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``train`` that are its own."""
    without: str = ""
    """The name of the same method without made rows, of one that has some."""

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return re.sub(r"[^\w.]+", "-", self.name).strip("-.") or "method"

    @property
    def is_augmented(self) -> bool:
        """Whether it trains on made rows while others do not."""
        return bool(self.without)


class _Entry(Config):
    method: Annotated[SerializeAsAny[Method], Choice("method", METHODS)]


class _Augmented(Config):
    augment: Annotated[AugmentConfig, Choice(AUGMENT, {}, default=AugmentConfig, key="by")]


def read_contestants(config: CompareConfig) -> tuple[list[Contestant], bool]:
    """Return who takes part, in order, and whether those that do not fit are left out: nobody has named them.

    Raises ``ConfigError`` with everything that is wrong with it: unknown names and options (with the nearest one
    named), the same method twice, a reference that does not take part.
    """
    problems: list[Problem] = []
    is_all = [str(entry).strip().lower() for entry in config.methods] == [ALL]
    entries: Sequence[str | dict[str, Any]] = tuple(METHODS) if is_all else config.methods
    if "method" in config.model_fields_set:
        problems.append(Problem("error", "A contest has several methods, and method names one.", "Use methods."))
    found: list[Contestant] = []
    for entry in entries:
        if isinstance(entry, str) and entry.strip().lower() in RIVALS:
            continue  # they stand beside all others anyway
        try:
            found.append(read_contestant(entry, config.data.augment))
        except ConfigError as error:
            problems += error.problems
    if any(one.is_augmented for one in found):
        found = [one if one.is_augmented else replace(one, of_data={AUGMENT: None}) for one in found]
    names = [entrant.name for entrant in found]
    problems += [
        Problem("error", f"methods: {name} is named {names.count(name)} times.", "Name it once, or with other options.")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if config.reference and not problems and config.reference not in names:
        fix = f"Choose one of {', '.join(names)}, or add it to methods."
        problems.append(Problem("error", f"reference: {config.reference!r} does not take part.", fix))
    if not found and not problems:
        problems.append(Problem("error", "methods names no method to be trained.", "Name some, such as full,lora."))
    if problems:
        raise ConfigError(problems)
    is_default = "methods" not in config.model_fields_set or config.methods == FEW_SHOT_METHODS
    return found, is_all or is_default


def reference_of(config: CompareConfig, contestants: Sequence[Contestant]) -> str:
    """Return the name of the method that all others are compared with."""
    names = [entrant.name for entrant in contestants]
    return config.reference or ("full" if "full" in names else names[0])


def read_contestant(entry: str | Mapping[str, Any], augment: AugmentConfig | None = None) -> Contestant:
    """Return one entrant of its text, or of a section as in a run's configuration.

    Args:
        entry: Such as ``lora``, ``lora(rank=64)``, ``lora+augment(by=synonyms)``.
        augment: How rows are made for who has some, but for what the entry says itself.
    """
    if isinstance(entry, str) and (parts := _AUGMENTED.fullmatch(entry)) is not None:
        options = _options(entry, parts["options"] or "")
        return _augmented(read_contestant(parts["method"]), options, augment)
    if isinstance(entry, Mapping) and AUGMENT in entry:
        own = entry[AUGMENT]
        plain = read_contestant({name: value for name, value in entry.items() if name != AUGMENT})
        options = {} if own is True else {"by": own} if isinstance(own, str) else dict(own or {})
        return plain if own is False else _augmented(plain, options, augment)
    if isinstance(entry, str):
        parts = _ENTRY.fullmatch(entry)
        if parts is None:
            message = f"methods: {entry!r} is not a method's name with options in brackets."
            raise ConfigError([Problem("error", message, "Write it as lora, or as lora(rank=64,rslora=true).")])
        values = {"name": parts["name"], **_options(entry, parts["options"] or "")}
    else:
        values = dict(entry)
    built = build(_Entry, {"method": values}, "methods")
    options = {name: value for name, value in values.items() if name != "name"}
    return Contestant(f"{values.get('name')}{_in_brackets(options)}", built.method)


def _augmented(plain: Contestant, options: Mapping[str, Any], augment: AugmentConfig | None) -> Contestant:
    """Return an entrant that trains on made rows, too."""
    usual = {} if augment is None else augment.model_dump(exclude_unset=True)
    made = build(_Augmented, {AUGMENT: {**usual, **options}}, "methods").augment
    if made.factor == 1:
        message = f"methods: {plain.name}+{AUGMENT} has factor 1, by which no rows are made."
        raise ConfigError([Problem("error", message, "Give a factor above 1, such as 2.")])
    name = f"{plain.name}+{AUGMENT}{_in_brackets(options)}"
    return replace(plain, name=name, of_data={AUGMENT: made}, without=plain.name)


def _in_brackets(options: Mapping[str, Any]) -> str:
    shown = ",".join(f"{name}={_shown(value)}" for name, value in options.items())
    return f"({shown})" if shown else ""


def _options(entry: str, text: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, split_values(text)):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            message = f"methods: {part!r} in {entry!r} is no option."
            raise ConfigError([Problem("error", message, "Write options as name=value: lora(rank=64).")])
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            options[name.strip()] = value.strip()
    return options


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
