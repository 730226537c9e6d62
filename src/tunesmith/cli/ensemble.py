"""``tunesmith ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tunesmith.types import InputError


@click.command(short_help="Combine finished runs into one.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option(
    "--how",
    type=click.Choice(["average", "stack", "soup", "linear", "ties", "dare"]),
    default="average",
    show_default=True,
    help="What they answer: averaged, or weighed by a small model. Or one model of their weights: the mean (soup), or "
    "the mean of what they changed (linear), where they agree (ties), or a random part of it (dare).",
)
@click.option(
    "--weights", metavar="equal|tuned|A,B,...", default="equal", show_default=True, help="How much each run counts."
)
@click.option(
    "--selection",
    type=click.Choice(["greedy", "uniform"]),
    default="greedy",
    show_default=True,
    help="Of a soup: only runs that make it better on the validation rows, or all.",
)
@click.option("--density", type=float, help="Share of each change that is kept [ties: 0.2, dare: 0.5].")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what dare keeps.")
@click.option("--copy", "copies", is_flag=True, help="Keep copies of the runs in the folder.")
@click.option(
    "--out-of-fold", metavar="STUDY", multiple=True, help="For stack: a cross-validation of each run's settings."
)
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
def ensemble_command(
    runs: tuple[Path, ...],
    *,
    output: Path,
    weights: str,
    out_of_fold: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Combine the runs in the folders RUN into one, and judge it beside them.

    The result is used like a run: evaluate, predict, report, distill. Runs fit each other that were trained on the
    same task and labels, and judged on the same rows.

    \b
    tunesmith ensemble runs/a runs/b runs/c --output runs/all
    tunesmith ensemble runs/a runs/b --how soup --output runs/soup
    """  # noqa: D301
    from tunesmith.cli.application import show_problems
    from tunesmith.cli.tables import evaluation_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.config.build import build
    from tunesmith.report import write_report
    from tunesmith.run.directory import RunDirectory
    from tunesmith.study.ensemble import make_ensemble
    from tunesmith.study.ensemble_config import EnsembleConfig
    from tunesmith.types import Problem

    values = {name: value for name, value in options.items() if value is not None}
    config = build(EnsembleConfig, {**values, "weights": _weights(weights), "out_of_fold": list(out_of_fold)})

    def working(what: str) -> None:
        if not quiet:
            say(what, err=True)

    folder = make_ensemble(runs, output, config, overwrite=overwrite, working=working)
    page = write_report([folder], folder / "report.html")
    directory = RunDirectory(folder)
    show_problems([Problem(**one) for one in directory.read_json("training")["problems"]])
    if quiet:
        return
    console = stdout_console()
    print_table(console, evaluation_table(directory.read_json("evaluation"), console.width))
    console.print(f"run      {folder}", f"report   {page}", sep="\n", markup=False, soft_wrap=True)


def _weights(text: str) -> Any:
    if text in ("equal", "tuned"):
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--weights is {text!r}; expected equal, tuned, or numbers with commas between.", "--weights 0.5,0.3,0.2"
        ) from None
