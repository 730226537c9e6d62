"""``tunesmith push``: a run's model on the Hugging Face hub, or in a folder."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunesmith.hub import Pushed


@click.command("push", short_help="Put a run on the Hugging Face hub, or into a folder.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Only its owner may see the repository.")
@click.option("--merge", "merged", is_flag=True, help="Add an adapter to its base first: one plain model.")
@click.option("--revision", metavar="BRANCH", help="The branch that it goes to; made if there is none [main].")
@click.option("--with-predictions", is_flag=True, help="Let files go that hold texts of your rows.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and how large it is; nothing is sent.")
@click.option("--json", "as_json", is_flag=True, help="Write what went as JSON.")
def push_command(
    run: Path,
    target: str,
    *,
    private: bool,
    merged: bool,
    revision: str | None,
    with_predictions: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put the model of RUN, with its card and the code to use it, onto the hub, or into a folder (file:PATH).

    Rows that it was trained or judged on do not go, and neither does the course of the training.

    \b
    tunesmith push runs/chat org/chat --private --dry-run
    tunesmith push runs/chat org/chat --private
    tunesmith push runs/chat file:models/chat --merge
    """  # noqa: D301
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.terminal import say, say_json
    from tunesmith.hub import push

    pushing = partial(
        push,
        OpenedRun.open(run),
        target,
        private=private,
        merged=merged,
        revision=revision,
        with_predictions=with_predictions,
    )
    is_told_before = not merged and not as_json  # merging twice would take twice as long
    if is_told_before and not dry_run:
        show_contents(pushing(dry_run=True))
    found = pushing(dry_run=dry_run)
    if as_json:
        say_json(asdict(found), indent=1)
        return
    if dry_run or not is_told_before:
        show_contents(found)
    say("Nothing was sent." if dry_run else f"{run} is at {found.url}.")


def show_contents(found: Pushed) -> None:
    """Say what goes, with sizes, and what stays, with the reason."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import size

    table = new_table(f"To {found.target}", ["file", "size"])
    for name, num_bytes in found.files.items():
        table.add_row(name, size(num_bytes))
    table.add_row("together", size(sum(found.files.values())))
    print_table(stdout_console(), table)
    for one in found.left:
        more = "; --with-predictions takes it along" if one.holds_texts else ""
        say(f"not {one.name}: {one.why}{more}")
