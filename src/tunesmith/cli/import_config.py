"""``tunesmith import``: the configuration of another tool as one of ours."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.other_tools import Imported

HEADINGS = {
    "translated": "Translated",
    "needless": "Nothing to say here",
    "left out": "Left out",
}


@click.command("import", short_help="Read another tool's configuration as one of ours.")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--from", "tool", metavar="TOOL", help="llama-factory, axolotl, trl, torchtune or ms-swift [found by the keys]."
)
@click.option("--model", metavar="NAME", default="", help="The model, where the file names none.")
@click.option("--data", metavar="PATH", default="", help="The data, where the file names none.")
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Where to write it [standard output].")
@click.option("--overwrite", is_flag=True, help="Replace the file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Write what became of every key as JSON, with the configuration.")
@click.option("--quiet", is_flag=True, help="Say only what was left out.")
def import_command(
    path: Path,
    *,
    tool: str | None,
    model: str,
    data: str,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the configuration in FILE, of another tool, as one of tunesmith.

    Every key is translated, or it is said why not and what to do instead; the same stands in what is written.

    \b
    tunesmith import llamafactory.yaml --output chat.yaml
    tunesmith import axolotl.yml | less
    tunesmith import training_args.json --from trl --model org/name --data chats.jsonl --output chat.yaml
    """  # noqa: D301
    from dataclasses import asdict

    from tunesmith.cli.terminal import say, say_json, write
    from tunesmith.files.atomic import write_text
    from tunesmith.other_tools import import_config

    if output is not None and output.exists() and not overwrite:
        raise InputError(f"{output} is there already.", "Choose another name, or give --overwrite.")
    found = import_config(path, tool, model=model, data=data)
    if output is not None:
        write_text(output, found.text)
    if as_json:
        lines = [asdict(line) | {"value": line.shown.partition(": ")[2]} for line in found.lines]
        say_json(
            {"tool": found.tool, "keys": lines, "usual": dict(found.usual), "config": dict(found.values)}, indent=1
        )
        return
    if output is None:
        write(found.text)
    show_lines(found, quiet=quiet)
    if output is not None and not quiet:
        say(f"Written to {output}. Train: tunesmith train {quote(str(output))}", err=True)


def show_lines(found: Imported, *, quiet: bool) -> None:
    """Say on standard error what became of every key, what was left out last."""
    from tunesmith.cli.application import show_problems
    from tunesmith.cli.terminal import say

    for kind, heading in HEADINGS.items():
        lines = [line for line in found.lines if line.kind == kind]
        if not lines or (quiet and kind != "left out"):
            continue
        say(f"{heading} ({len(lines)}):", err=True, bold=True)
        for line in lines:
            say(f"  {line.shown}  → {line.said}", err=True)
    if found.usual and not quiet:
        shown = ", ".join(f"{path} {value}" for path, value in found.usual.items())
        say(f"As that tool takes by itself: {shown}", err=True)
    show_problems(_missing(found))


def _missing(found: Imported) -> list[Problem]:
    """Warn of files that are not where they are named."""
    config = found.config.data
    sets = [one.path for one in config.mixture] or [config.path]
    named = [name for name in (*sets, config.validation) if name and not name.startswith(("hub:", "sample:"))]
    return [
        Problem(
            "warning", f"The data {name} are not there, seen from this folder.", "Mend the path in what was written."
        )
        for name in named
        if not Path(name).expanduser().exists()
    ]
