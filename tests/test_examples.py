"""The examples and the pages: configurations that build, links that lead somewhere, commands that parse."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tunesmith.cli.application import tunesmith
from tunesmith.cli.flags import ConfigCommand, build_config, flags_of
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml, merge, parse_yaml
from tunesmith.run import RunConfig

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
PAGES = sorted(
    [
        *ROOT.glob("README*.md"),
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)

REQUIRED: dict[str, Any] = {"model": "lstm", "data": "reviews.csv"}
"""What a page need not repeat in every snippet."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE_NAME = re.compile(r"`((?:src|tests|examples|benchmarks|docs)/[\w./-]+\.\w+)`")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, content in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield content


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every ``tunesmith ...`` in the page's shell snippets, pipes and comments aside."""
    for content in blocks(page, "bash", "sh", "console"):
        for line in content.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "tunesmith" in words:
                arguments = words[words.index("tunesmith") + 1 :]
                ends = [index for index, word in enumerate(arguments) if word in ("|", ">", "&&", ";")]
                yield arguments[: ends[0]] if ends else arguments


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_every_example_is_a_valid_configuration(path: Path) -> None:
    config = build(RunConfig, load_yaml(path), str(path))
    assert config.output
    commented = [line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8").splitlines()]
    assert any(f"tunesmith train {name_of(path)}" in line for line in commented), "say how to run it"


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_the_commands_in_examples_parse(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#   tunesmith "):
            parse(shlex.split(line)[2:])


def parse(arguments: list[str]) -> None:
    """Parse a command as the program would, without running it; problems are raised."""
    command: click.Command = tunesmith
    context = click.Context(command, info_name="tunesmith")
    waiting = list(arguments)
    while isinstance(command, click.Group) and waiting and not waiting[0].startswith("-"):
        found = command.get_command(context, waiting[0])
        assert found is not None, f"there is no command {waiting[0]}"
        command = found
        context = click.Context(command, info_name=waiting.pop(0), parent=context)
    if {"-h", "--help", "--version"}.intersection(waiting):
        return
    command.parse_args(context, waiting)
    if isinstance(command, ConfigCommand):
        flags = flags_of(context)
        found = context.params.get("configs") or [context.params.get("config") or context.params.get("path")]
        given = [path for path in found if path is not None and "=" not in str(path)]
        base: dict[str, Any] = {}
        if given and (ROOT / given[0]).exists():
            base = load_yaml(ROOT / given[0])
        elif given or context.params.get("resume"):
            base = dict(REQUIRED)
        elif context.params.get("file"):
            base = {"data": context.params["file"]}
        build_config(command.flag_tree().cls, flags, base)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_pages_parse(page: Path) -> None:
    for arguments in commands(page):
        try:
            parse(arguments)
        except Exception as error:
            raise AssertionError(f"tunesmith {shlex.join(arguments)}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_configuration_on_pages_is_valid(page: Path) -> None:
    for content in blocks(page, "yaml"):
        build(RunConfig, merge(REQUIRED, parse_yaml(content, page.name), RunConfig), page.name)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_pages_is_python_and_imports_what_exists(page: Path) -> None:
    for content in blocks(page, "python"):
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tunesmith":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(path), f"{name_of(page)} links to {target}"
    for name in FILE_NAME.findall(text):
        assert (ROOT / name).exists(), f"{name_of(page)} names {name}"


def test_pages_show_commands_of_every_kind() -> None:
    """The check above finds the commands that it is there for."""
    seen = {arguments[0] for page in PAGES for arguments in commands(page)}
    assert seen >= {"train", "evaluate", "predict", "data", "report", "doctor"}
