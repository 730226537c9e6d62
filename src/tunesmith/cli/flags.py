"""Configuration keys as dotted flags, read from the model classes at run time.

``--train.epochs 5`` and ``--train.epochs=5`` set the key ``train.epochs``. A flag for a
true-or-false key may stand alone: ``--compute.deterministic`` means true, and
``--data.clean.duplicates false`` switches off. Dashes in names count as underscores.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import click
from pydantic_core import PydanticUndefined

from tunesmith.config.base import Config, ConfigError
from tunesmith.config.build import build
from tunesmith.config.keys import OTHER, Key, default_of, describe, flat_types, knows, list_keys, paths_of, unset_of
from tunesmith.config.load import merge, parse_overrides
from tunesmith.config.migrate import former_names, given_twice, note_moved, present_name
from tunesmith.config.synonyms import meaning_of, plain
from tunesmith.types import Problem

C = TypeVar("C", bound=Config)

RULE = (
    "Every key of the configuration is a flag: --train.epochs 5 or --train.epochs=5. A flag for a true-or-false key "
    "may stand alone and means true; give 'false' to switch off: --data.clean.duplicates false."
)
MOST_NAMES = 5
"""Choices that a heading of the help names."""
_BOOLEANS = {"true", "false", "null"}
HELP = {"-h", "--help"}
OWN_OPTIONS = {
    **dict.fromkeys(("resume_from_checkpoint", "resume_from", "continue", "auto_resume", "restart"), "--resume"),
    **dict.fromkeys(("overwrite_output_dir", "force", "replace", "exist_ok"), "--overwrite"),
    **dict.fromkeys(("silent", "disable_tqdm", "no_progress"), "--quiet"),
    **dict.fromkeys(("grid", "hyperparameter_search", "search", "seeds"), "--sweep KEY=A,B,..."),
}
"""What other tools call the options of ``tunesmith train`` that are no keys of the configuration."""
SHORT = {"few_shot": "data.few_shot"}
"""Flags by a shorter name than that of their key."""


@dataclass(frozen=True, slots=True)
class FlagTree:
    """The flags of a configuration class, whole or only some of its sections."""

    cls: type[Config]
    sections: tuple[str, ...] = ()
    """Top-level keys that are flags; all when empty."""
    keys: tuple[Key, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = (key for key in list_keys(self.cls) if not self.sections or key.path.split(".")[0] in self.sections)
        object.__setattr__(self, "keys", tuple(keys))

    def names(self) -> list[str]:
        """Return every path that may be given, without dashes in front."""
        return list(dict.fromkeys(path for key in self.keys for path in paths_of(key)))

    def accepts(self, path: str) -> bool:
        """Say whether ``path`` is a key, or an entry of a key that holds a mapping."""
        return knows(self.keys, path)

    def spell(self, name: str) -> str:
        """Return the key as the configuration has it now: ``batch-size`` is ``batch_size``; see ``config.migrate``."""
        spelled = present_name(name.replace("-", "_"))
        spelled = SHORT.get(spelled, spelled)
        return spelled if self.accepts(spelled) else name

    def unknown(self, name: str, path: str, own_options: Iterable[str] = ()) -> Problem:
        """Return the problem of ``name``, which stands for no key; the nearest one is named."""
        return Problem("error", f"There is no option {name}.", self._meant(path, list(own_options)))

    def _meant(self, path: str, own_options: Sequence[str]) -> str:
        """Return a hint at what was meant: the command's own option, another tool's word, the same or a near name."""
        former = [path for path in former_names() if self.accepts(present_name(path))]
        known = [*own_options, *(f"--{path}" for path in (*self.names(), *former))]
        last = plain(path.rsplit(".", 1)[-1])
        own = OWN_OPTIONS.get(last, "")
        if own and own.split()[0] in own_options:
            return f"Did you mean {own}?"
        if meant := meaning_of(last, self.accepts):
            return " ".join(filter(None, [f"Did you mean {meant.as_flags()}?" if meant.settings else "", meant.note]))
        same = [option for option in known if option.rsplit(".", 1)[-1].removeprefix("--") == last]
        near = same or difflib.get_close_matches(f"--{path}", known, n=1, cutoff=0.6)
        return f"Did you mean {present_name(near[0])}?" if near else "See --help for all options."

    def is_boolean(self, path: str) -> bool:
        """Say whether the key takes nothing but true, false and null."""
        types = [flat_types(key.field.annotation) for key in self.keys if key.path == path]
        return bool(types) and all(bool in kinds and kinds <= {bool, type(None)} for kinds in types)


@dataclass(frozen=True, slots=True)
class ParsedFlags:
    """Arguments sorted into configuration flags and everything else."""

    pairs: tuple[tuple[str, str], ...]
    """Key and text of each configuration flag, in order."""
    rest: tuple[str, ...]
    """What is left for the command itself."""
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()
    """What is said of flags that are understood: former names."""


def split_flags(arguments: Sequence[str], tree: FlagTree, own_options: Mapping[str, bool]) -> ParsedFlags:
    """Take the configuration flags out of a command's arguments.

    ``own_options`` are the command's own options (``--resume``) and whether they take a value.
    Unknown options become problems that name the nearest one.
    """
    pairs: list[tuple[str, str]] = []
    rest: list[str] = []
    problems: list[Problem] = []
    names: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *waiting]
            break
        if not argument.startswith("--") or name in own_options:
            rest.append(argument)
            if own_options.get(name) and not equals and waiting:
                rest.append(waiting.pop(0))
            continue
        path = tree.spell(name.removeprefix("--"))
        if not equals:
            value = _take_value(path, tree, waiting)
        if tree.accepts(path):
            pairs.append((path, value))
            names.append(f"--{name.removeprefix('--').replace('-', '_')}")
        else:
            problems.append(tree.unknown(name, path, own_options))
    former = [name for name in names if name != present_name(name)]
    problems += given_twice(name for name in former if present_name(name) in names)
    return ParsedFlags(tuple(pairs), tuple(rest), tuple(problems), tuple(note_moved(former)))


def build_config(cls: type[C], parsed: ParsedFlags, base: Mapping[str, object], problems: Sequence[Problem] = ()) -> C:
    """Return the configuration of a file's values with the flags laid over them.

    Raises ``ConfigError`` with all problems of flags, file and values together.
    """
    found = [*problems, *parsed.problems]
    readable = []
    for pair in parsed.pairs:
        try:
            parse_overrides([pair], cls)
            readable.append(pair)
        except ConfigError as error:
            found += error.problems
    try:
        config = build(cls, merge(base, parse_overrides(readable, cls), cls))
    except ConfigError as error:
        found += error.problems
    if found:
        raise ConfigError(found)
    return config


def write_help(formatter: click.HelpFormatter, tree: FlagTree) -> None:
    """Write all flags, grouped by section and, inside a section, by the choice that knows them."""
    for heading, keys in _group(tree.keys).items():
        with formatter.section(heading):
            formatter.write_dl([(f"--{key.path}", _describe_key(key)) for key in keys], col_max=28)


def _group(keys: Sequence[Key]) -> dict[str, list[Key]]:
    groups: dict[str, list[Key]] = {}
    for key in keys:
        section = key.path.split(".")[0]
        if key.choices:
            names = [f"other {section}s" if name == OTHER else name for name in key.choices]
            if len(names) > MOST_NAMES:
                names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more"]
            section = f"{section}, only for {' and '.join(names)}"
        groups.setdefault(section, []).append(key)
    return groups


def _describe_key(key: Key) -> str:
    text = " ".join((key.field.description or "").split())
    default = default_of(key.field)
    if key.section is not None and key.section.choice is not None:
        text, values, default = _describe_choice(key, text, default)
    else:
        values = describe(key.field)
    if default is None:
        values = values.removesuffix(" or null")
    shown = "required" if default is PydanticUndefined else unset_of(key.field) or _show_default(default)
    text = text.replace("``", "'").replace("`", "'")
    return f"{text} [{values}; {shown}]".strip()


def _describe_choice(key: Key, text: str, default: object) -> tuple[str, str, object]:
    section = key.section
    assert section is not None
    choice = section.choice
    assert choice is not None
    own = next(reversed(section.classes().values())).model_fields[choice.key]
    text = text or " ".join((own.description or "").split())
    names = list(choice.registry)
    if choice.default is not None:
        names.append(f"any other {choice.what}" if choice.registry else describe(own))
    if isinstance(default, Config):
        default = getattr(default, choice.key)
    return text, " | ".join(names), default


def _show_default(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return f"default: {str(value).lower()}"
    if isinstance(value, (list, tuple, dict, set, frozenset)) and not value:
        return "default: empty"
    if isinstance(value, (list, tuple)):
        return f"default: {', '.join(map(str, value))}"
    return f"default: {value}"


def _take_value(path: str, tree: FlagTree, waiting: list[str]) -> str:
    following = waiting[0] if waiting else None
    alone = following is None or following.startswith("--")
    if tree.is_boolean(path):
        alone = alone or following not in _BOOLEANS
    return "true" if alone else waiting.pop(0)


class ConfigCommand(click.Command):
    """A command whose options are its own and, besides, the keys of a configuration class.

    Subclasses say which; the parsed flags are in ``context.meta["tunesmith.flags"]``.
    """

    def flag_tree(self) -> FlagTree:
        """Return the tree of flags; heavy imports belong here."""
        raise NotImplementedError

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {
            name: isinstance(parameter, click.Option) and not parameter.is_flag
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option)
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        if _asks_for_help(args):
            args = ["--help"]  # whatever else was typed so far
        else:
            parsed = split_flags(args, self.flag_tree(), own)
            ctx.meta["tunesmith.flags"] = parsed
            args = list(parsed.rest)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(RULE)
        write_help(formatter, self.flag_tree())


def _asks_for_help(arguments: Sequence[str]) -> bool:
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return not HELP.isdisjoint(before)


def flags_of(context: click.Context) -> ParsedFlags:
    """Return the configuration flags that a ``ConfigCommand`` was given."""
    parsed = context.meta["tunesmith.flags"]
    assert isinstance(parsed, ParsedFlags)
    return parsed
