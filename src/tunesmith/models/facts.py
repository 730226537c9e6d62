"""What was found out about a model, remembered for as long as the model stays what it was.

Shared by all who ask, held by nobody: when the model goes, so does what is known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from tunesmith.models.origin import Origin, origin
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

Facts = dict[str, Any]
"""By name. Names and numbers only: a module would keep the model alive."""


class Informed(Protocol):
    """Whoever has the facts of a model."""

    @property
    def facts(self) -> Facts:
        """What is known so far."""


class Fact(Generic[T]):
    """A property that is found once for a model."""

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self.__doc__ = find.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, informed: Informed, _owner: type) -> T:
        if self._name not in informed.facts:
            informed.facts[self._name] = self._find(informed)
        found: T = informed.facts[self._name]
        return found


def facts_of(model: nn.Module) -> Facts:
    """Return what is known of ``model``: nothing yet, if it is not any more what it was when last asked about.

    Its modules and parameters must be the same by the same names, and its configuration and origin equal.
    """
    if (held := _held.get(model)) is not None:
        return held
    now = _Make.of(model)
    known = _known.get(model)
    if known is None or not known[0].is_still(now):
        known = _known[model] = (now, {})
    return known[1]


def hold_facts(model: nn.Module) -> None:
    """Take what is known of ``model`` as true, whatever its parameters are, until ``let_facts_go``.

    For models whose weights are now in parts and now put together: parameters that stand for the same are others then.
    """
    _held[model] = facts_of(model)


def let_facts_go(model: nn.Module) -> None:
    """Know of ``model`` what was held, for as long as it stays what it is now."""
    _known[model] = (_Make.of(model), _held.pop(model))


@dataclass(frozen=True, slots=True)
class _Make:
    """All of a model that facts may depend on."""

    names: tuple[str, ...]
    """Of its modules, each followed by those of its own parameters."""
    ids: tuple[int, ...]
    parts: tuple[ref[Any], ...]
    """The same modules and parameters."""
    config: str
    origin: Origin | None

    @classmethod
    def of(cls, model: nn.Module) -> _Make:
        found = list(_parts(model))
        config: Any = getattr(inner(model), "config", None)
        return cls(
            tuple(name for name, _ in found),
            tuple(id(part) for _, part in found),
            tuple(ref(part) for _, part in found),
            repr(config.to_dict()) if hasattr(config, "to_dict") else "",
            origin(model),
        )

    def is_still(self, now: _Make) -> bool:
        """Say whether a model is the same ``now``: an id tells a part from another as long as the part lives."""
        same = (self.ids, self.names, self.config, self.origin) == (now.ids, now.names, now.config, now.origin)
        return same and all(part() is not None for part in self.parts)


_known: WeakKeyDictionary[nn.Module, tuple[_Make, Facts]] = WeakKeyDictionary()
_held: WeakKeyDictionary[nn.Module, Facts] = WeakKeyDictionary()


def _parts(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Give modules by their names, each followed by its own parameters; one that is there twice by one of its names.

    ``named_modules`` hands every module up through all that it lies in, which takes several times as long.
    """
    seen: set[nn.Module] = set()
    waiting = [("", model)]
    while waiting:
        name, module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        yield name, module
        for key, parameter in module._parameters.items():
            if parameter is not None:
                yield key, parameter
        prefix = f"{name}." if name else ""
        waiting += [(prefix + key, child) for key, child in module._modules.items() if child is not None]
