"""``tunesmith privacy``: what a run gives away of its training rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES = {
    "loss": "by the loss",
    "min_k": "by the unlikeliest tokens (min-k%)",
    "reference": "by the loss beside the untuned model's",
    "untuned": "by the untuned model's loss (no attack: chance, if rows are alike)",
}


@click.command("privacy", short_help="Measure what a run gives away of its training rows.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--rows",
    "num_rows",
    type=click.IntRange(min=20),
    default=1000,
    show_default=True,
    help="Training rows, and as many others, that attacks are tried on.",
)
@click.option(
    "--prefix",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Tokens of a row that a language model is given.",
)
@click.option(
    "--continuation",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Tokens of the row that it is to write then.",
)
@click.option("--json", "as_json", is_flag=True, help="Write what was found as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def privacy_command(run: Path, *, num_rows: int, prefix: int, continuation: int, as_json: bool, quiet: bool) -> None:
    """Attack the run in folder RUN: tell its training rows from others, rank planted secrets, draw texts out of it.

    Held against its training rows are rows of the same data that it never learned from.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.terminal import say_json
    from tunesmith.privacy.measuring import Attempt, measure_privacy

    with progress(quiet=quiet or as_json) as shown:
        attempt = Attempt(num_rows, prefix, continuation)
        found = measure_privacy(OpenedRun.open(run), attempt, working=shown.show)
    if as_json:
        say_json(found, indent=1)
    else:
        show_privacy(found)


def show_privacy(found: Mapping[str, Any]) -> None:
    """Say what attacks found out."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import count

    rows = f"{count(found['num_members'])} training rows among {count(found['num_others'])} {found['held_out']} rows"
    table = new_table(f"Told apart: {rows}", ["attack", "AUROC", "found at 1% false alarms"])
    for name, judged in found["attacks"].items():
        table.add_row(TITLES[name], _shown(judged["auroc"]), _shown(judged["tpr_at_1_fpr"]))
    print_table(stdout_console(), table)
    loss = found["loss"]
    say(
        f"Loss: {_shown(loss['train'])} on training rows, {_shown(loss['held_out'])} on others; "
        f"gap {_shown(loss['gap'])}."
    )
    if (exposure := found["exposure"]) is not None:
        say(
            f"Canaries: {_shown(exposure)} bits of exposure, of {exposure['most']:g} at most and "
            f"{exposure['by_chance']:.1f} by chance; {exposure['first_of_all']} of {exposure['canaries']} secrets are "
            "guessed at once."
        )
    if (extraction := found["extraction"]) is not None:
        say(
            f"Texts drawn out: {_shown(extraction['train'])} of training rows go on to the letter for "
            f"{extraction['continuation']} tokens after {extraction['prefix']}, "
            f"{_shown(extraction['held_out'])} of others."
        )
    for name, reason in found["not_measured"].items():
        say(f"Not measured: {name} ({reason}).")
    if (most := found["most_tpr_promised"]) is not None:
        promised = found["promised"]
        say(
            f"Promised: epsilon {promised['epsilon']:.3g} at delta {promised['delta']:.2g}, which allows any attack "
            f"to find {most:.1%} at 1% false alarms."
        )
    say(found["meaning"])


def _shown(estimate: Mapping[str, Any]) -> str:
    from tunesmith.readable import bounds, number
    from tunesmith.types import Interval

    ends = [float("nan") if estimate[name] is None else float(estimate[name]) for name in ("value", "low", "high")]
    value = Interval(*ends)
    return f"{number(value.value, decimals=3)} {bounds(value)}"
