"""The common ground of commands that train: a configuration from a file and flags, kernels that are built meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tunesmith.cli.flags import HELP, ConfigCommand, build_config, flags_of
from tunesmith.config.base import Config
from tunesmith.config.load import load_yaml
from tunesmith.config.migrate import migrate
from tunesmith.kernels.building import build_ahead
from tunesmith.types import Problem

if TYPE_CHECKING:
    import click

C = TypeVar("C", bound=Config)

Values = Mapping[str, object]
"""What a file holds, key by key."""


class TrainingCommand(ConfigCommand):
    """Takes the keys of a configuration as flags; native kernels are built while it reads and loads."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not HELP.intersection(args):
            build_ahead()
        return super().parse_args(ctx, args)


def configured(
    context: click.Context,
    path: Path | None,
    cls: type[C],
    *,
    quiet: bool,
    complete: Callable[[Values], tuple[Values, Sequence[Problem]]] = lambda values: (values, ()),
) -> C:
    """Return the configuration in the file ``path``, if one is given, with the flags laid over it.

    What is to be noted of keys that have moved is shown, unless ``quiet``. ``complete`` adds to the file's values, and
    says what is wrong with them. Raises ``ConfigError`` with all that is wrong.
    """
    from tunesmith.cli.application import show_problems

    flags = flags_of(context)
    base, moved = migrate(load_yaml(path), str(path)) if path is not None else ({}, [])
    values, problems = complete(base)
    config = build_config(cls, flags, values, problems)
    if not quiet:
        show_problems([*flags.notes, *moved])
    return config
