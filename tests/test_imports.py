"""Who may know whom: no circles of imports, and no part known by name where parts are put together.

The layers themselves are import-linter's (``make check``).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import grimp
import pytest

import tunesmith
from tunesmith.methods import METHODS
from tunesmith.models import MODELS, OTHER_MODELS
from tunesmith.tasks import TASKS

SOURCE = Path(tunesmith.__file__).parent
NAMES = {*METHODS, *TASKS, *MODELS} - {"auto"}
"""Of parts; ``auto`` is a value of many settings, too."""
PARTS = [*METHODS.values(), *TASKS.values(), *MODELS.values(), OTHER_MODELS]
ROOMS = ["run", "publish", "engine"]
"""Where parts are put together and used, whichever they are."""


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """Return which modules each module imports, those imported in functions and for types alone too."""
    graph = grimp.build_graph("tunesmith", "benchmarks", exclude_type_checking_imports=False, cache_dir=None)
    return {module: frozenset(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def reached(start: str) -> set[str]:
    """Return all modules that ``start`` imports, or that those import."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports()[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert len(imports()) > 200
    beyond = {module: reached(module) for module in imports()}
    circles: list[set[str]] = []
    for module in sorted(imports()):
        circle = {other for other in beyond[module] if module in beyond[other]}
        if circle and circle not in circles:
            circles.append(circle)
    assert not circles


def modules_of(room: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((SOURCE / room).rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_parts_are_not_known_by_name(room: str) -> None:
    found = [
        f"{name}:{node.lineno} {node.value!r}"
        for name, tree in modules_of(room)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in NAMES
    ]
    assert not found, "make it a property of the part"


@pytest.mark.parametrize("room", ROOMS)
def test_no_part_is_imported(room: str) -> None:
    classes, homes = {part.__name__ for part in PARTS}, {part.__module__ for part in PARTS}
    found = []
    for name, tree in modules_of(room):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                taken = {f"{node.module}.{one.name}" for one in node.names}
                concrete = node.module in homes or homes & taken or classes & {one.name for one in node.names}
            else:
                concrete = isinstance(node, ast.Import) and homes & {one.name for one in node.names}
            if concrete:
                found.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert not found, "take it from METHODS, TASKS or MODELS, or from what the contract says"
