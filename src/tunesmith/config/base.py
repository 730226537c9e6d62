"""The base of every part's typed configuration, and its one way of being built.

Each part's config class stands beside the part and *is* the part's configuration;
``tunesmith.run`` alone composes them. ``build`` turns plain nested mappings (from YAML
and command-line flags) into such a tree and reports every problem at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from tunesmith.types import InputError


class Config(BaseModel):
    """A frozen, strict section of the configuration; the docstring under a field is its help."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    def changed(self, **values: Any) -> Self:
        """Return a validated copy with ``values`` replaced; sections stay the objects they are."""
        return type(self).model_validate({**dict(self), **values})


class ConfigError(InputError):
    """A configuration is invalid; ``problems`` holds one entry per wrong key."""


@dataclass(frozen=True)
class Choice:
    """Annotation of a section whose class is picked by its ``name`` from a registry.

    ``method: Annotated[Method, Choice("method", METHODS)]`` accepts ``method: lora`` and
    ``method: {name: lora, rank: 16}``. Names outside the registry go to ``default`` if
    there is one (a model's name may be any hub id or folder).
    """

    what: str
    registry: Mapping[str, type[Config]]
    default: type[Config] | None = None
    key: str = "name"
    """The field that a plain string stands for."""

    def class_of(self, name: str) -> type[Config] | None:
        """Return the class that a name picks: ``peft:NAME`` of the registry stands for every name with that start."""
        family = f"{name.partition(':')[0]}:NAME"
        return self.registry.get(name) or self.registry.get(family if ":" in name else "", self.default)


BY_DATA: dict[str, JsonValue] = {"unset": "by data"}
"""``json_schema_extra`` of a field whose None is decided by model, task, method and data when a run begins."""

BY_ITSELF: dict[str, JsonValue] = {"unset": "by itself"}
"""The same of a field that is written by the program, and neither a flag nor in the help."""

C = TypeVar("C", bound=Config)


def nearest(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """Return ``"Did you mean 'x'?"`` for the known word nearest to ``word``, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{found[0]}'?" if found else ""
