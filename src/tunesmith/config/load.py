"""YAML in and out, and the merging of what files and flags say.

Files are read by the rules of YAML 1.2: only ``true`` and ``false`` are booleans (``no`` is
a text), ``2e-5`` is a number, ``010`` is ten, and dates stay text. What is written reads
the same under YAML 1.1.

A file is small, shallow and of plain values, or it is refused with the line: what aliases stand for counts
each time it stands there, and no tag builds anything but texts, numbers, truth values, lists and mappings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from tunesmith.config.base import Config, ConfigError
from tunesmith.config.keys import find_section, flat_types
from tunesmith.types import Problem

_CORE_RULES = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
)
_NULLS = frozenset({"null", "Null", "NULL", "~"})
_PLAIN_TAGS = ("str", "seq", "map", "int", "float", "bool", "null")
MAX_CHARACTERS = 200_000
"""Longest configuration; one that gives every key has some thousands of characters."""
MAX_VALUES = 10_000
"""Keys and values of a configuration once its aliases are written out."""
MAX_DEPTH = 50


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    yaml_constructors = {  # noqa: RUF012
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN_TAGS
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._num_nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one node, unless there are too many already: reading takes longer than all else."""
        self._num_nodes += 1
        self._depth += 1
        if self._num_nodes > MAX_VALUES or self._depth > MAX_DEPTH:
            problem = f"there are more than {MAX_VALUES} values"
            if self._depth > MAX_DEPTH:
                problem = f"this is nested more than {MAX_DEPTH} deep"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return self.construct_document(node)


class PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads files of data by the same rules: plain values, of any number."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
    yaml_constructors = _Loader.yaml_constructors


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either version of YAML would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _count_values(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """Return how many values a node stands for; ``counted`` holds those of nodes seen, None of those under way."""
    known = counted.get(id(node), 0)
    if known:
        return known
    if known is None:
        raise _refused("a value holds itself", node)
    counted[id(node)] = None
    total = 1
    if isinstance(node, yaml.CollectionNode):
        for item in node.value:
            for inner in item if isinstance(item, tuple) else (item,):
                total += _count_values(inner, counted)
                if total > MAX_VALUES:
                    problem = f"this stands for more than {MAX_VALUES} values once its aliases (*name) are written out"
                    raise _refused(problem, inner)
    counted[id(node)] = total
    return total


def _refused(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _construct_scalar(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    """Return a number, truth value or null, by the rules above also where a tag says what it is."""
    kind = node.tag.rpartition(":")[2]
    text = str(loader.construct_scalar(node))  # type: ignore[arg-type]
    if not _WHOLE[node.tag].match(text):
        raise _refused(f"{text[:40]!r} is no {kind}", node)
    if len(text) > 1000:
        raise _refused(f"a value of {len(text)} characters is no {kind}", node)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = getattr(key_node, "value", None)
        if isinstance(key, str) and key != "<<":
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds these line ends of Unicode into spaces unless they are escaped.
    style = '"' if set(text) & set("\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_WHOLE: dict[str, re.Pattern[str]] = {}
for _tag, _pattern, _first in _CORE_RULES:
    _WHOLE[_tag] = _whole = re.compile(rf"(?:{_pattern})\Z")  # PyYAML only matches the start
    _Loader.add_implicit_resolver(_tag, _whole, _first)
    _Dumper.add_implicit_resolver(_tag, _whole, _first)
_Dumper.add_representer(str, _represent_text)
for _kind in ("int", "float", "bool", "null"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct_scalar)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises ``ConfigError``, with line and column, for a file that is missing, not UTF-8, not
    YAML, not a mapping, or that gives one key twice.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"The configuration {path} is no file.", "Give a YAML file.")
        with path.open("rb") as file:
            content = file.read(4 * MAX_CHARACTERS + 4)
        text = content[: 4 * MAX_CHARACTERS].decode(
            "utf-8-sig", "strict" if len(content) <= 4 * MAX_CHARACTERS else "replace"
        )
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}.", "Save it as UTF-8."
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Return the mapping in a YAML text, as ``load_yaml`` does; ``source`` names it in messages."""
    value = _parse(text, source)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{source} holds a {type(value).__name__}; expected keys and values.", "Write lines such as 'train:'."
        )
    return value


def _parse(text: str, source: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        message = f"{source} has {len(text):,} characters; a configuration has at most {MAX_CHARACTERS:,}."
        raise ConfigError(message, "Give the file of settings, not of data.")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{place}: {str(error.problem or error.context)[:300]}.") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise ConfigError(f"{source} is nested too deeply.") from error


def parse_overrides(pairs: Iterable[tuple[str, str]], cls: type[Config] | None = None) -> dict[str, Any]:
    """Turn ``[("train.epochs", "5"), ...]`` into ``{"train": {"epochs": 5}}``; later pairs win.

    Values are read as YAML. Given the configuration class, a value for a text key is taken
    as it stands (``--output 2024``) and one for a list key may do without brackets
    (``accuracy,f1``). All values that are not YAML are reported in one ``ConfigError``.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for path, text in pairs:
        parts = path.split(".")
        try:
            value = _parse_value(path, parts, text, cls)
        except ConfigError as error:
            problems += error.problems
            continue
        for part in reversed(parts):
            value = {part: value}
        values = _merge(values, value, cls, drops=False)
    if problems:
        raise ConfigError(problems)
    return values


def _parse_value(path: str, parts: Sequence[str], text: str, cls: type[Config] | None) -> Any:
    types = _find_types(cls, parts) if cls is not None else set()
    if types & {str, Path}:
        if text in _NULLS and type(None) in types:
            return None
        if types <= {str, Path, type(None)}:
            return text
    if types and types <= {list, tuple, set, frozenset, Sequence, type(None)} and text not in _NULLS:
        stripped = text.strip()
        text = stripped if stripped.startswith("[") else f"[{text}]"
    return _parse(text, f"--{path}")


def _find_types(cls: type[Config], parts: Sequence[str]) -> set[Any]:
    """Return the plain types of the key with this path, over all choices of its section."""
    field = cls.model_fields.get(parts[0])
    if field is None:
        return set()
    section = find_section(field)
    if section is None:
        annotation = field.annotation
        for _ in parts[1:]:  # deeper parts are keys of a mapping
            arguments = get_args(annotation)
            if get_origin(annotation) is not dict or len(arguments) != 2:
                return set()
            annotation = arguments[1]
        return flat_types(annotation)
    if len(parts) == 1:
        return ({str, type(None)} if section.optional else {str}) if section.choice else set()
    return {item for inner in section.classes().values() for item in _find_types(inner, parts[1:])}


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any], cls: type[Config] | None = None) -> dict[str, Any]:
    """Return ``base`` with ``overrides`` laid over it, key by key, at every depth.

    Given the configuration class, ``method: lora`` counts as ``method: {name: lora}``, and
    overrides that pick another choice drop the keys in ``base`` that only the former
    choice knows (``--method full`` over a file with ``method: {name: lora, rank: 8}``).
    """
    return _merge(base, overrides, cls, drops=True)


def _merge(
    base: Mapping[str, Any], overrides: Mapping[str, Any], cls: type[Config] | None, *, drops: bool
) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        old, new = merged.get(key), value
        field = cls.model_fields.get(key) if cls is not None else None
        section = find_section(field) if field is not None else None
        inner = section.cls if section is not None else None
        if section is not None and section.choice is not None:
            name_key, registry = section.choice.key, section.choice.registry
            old, new = ({name_key: item} if isinstance(item, str) else item for item in (old, new))
            if registry and isinstance(old, Mapping) and isinstance(new, Mapping):
                name = new.get(name_key, old.get(name_key))
                inner = section.choice.class_of(name) if isinstance(name, str) else None
                if drops and inner is not None and name != old.get(name_key):
                    old = {known: item for known, item in old.items() if known in inner.model_fields}
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            merged[key] = _merge(old, new, inner, drops=drops)
        else:
            merged[key] = value
    return merged


def dump_yaml(config: Config) -> str:
    """Return the complete configuration as YAML, which builds an equal one when read again."""
    return dump_values(config.model_dump(mode="json", serialize_as_any=True))


def dump_values(values: Mapping[str, Any]) -> str:
    """Return plain values as YAML, in the order given, which reads the same by both versions of YAML."""
    return yaml.dump(
        dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=False
    )
