"""``tunesmith cross-validate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.flags import FlagTree
from tunesmith.cli.training_command import TrainingCommand, configured
from tunesmith.readable import MISSING, interval, metric_title, number
from tunesmith.types import Interval


class CrossValidateCommand(TrainingCommand):
    """Takes every key of ``CrossValidationConfig`` as a flag."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.study.cross_validation_config import CrossValidationConfig

        return FlagTree(CrossValidationConfig)


@click.command(cls=CrossValidateCommand, short_help="Judge a training on every row of your data, fold by fold.")
@click.argument("path", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the study that is in the output folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and the result only.")
@click.pass_context
def cross_validate_command(context: click.Context, *, path: Path | None, overwrite: bool, quiet: bool) -> None:
    """Cut the training rows into folds, and judge each by a model that was trained on the others.

    What comes of it: metrics with an interval that knows that folds share rows, and for every row
    a prediction by a model that has not seen it. Stopped or killed, the same command goes on.

    \b
    tunesmith cross-validate config.yaml --folds 5 --repeats 2
    tunesmith cross-validate --model sample:minilm --data reviews.csv --method lora --folds 5
    tunesmith cross-validate config.yaml --folds 5 --rates 3 --data.group author
    """  # noqa: D301
    from tunesmith.cli.console import ConsoleObserver
    from tunesmith.study.cross_validation import run_cross_validation
    from tunesmith.study.cross_validation_config import CrossValidationConfig
    from tunesmith.study.folder import StudyFolder

    config = configured(context, path, CrossValidationConfig, quiet=quiet)

    def watching(words: str) -> Sequence[ConsoleObserver]:
        return [ConsoleObserver(quiet=quiet, heading=words)]

    folder = run_cross_validation(config, overwrite=overwrite, watching=watching)
    _show(StudyFolder(folder).read_result(), folder)


def _show(record: dict[str, Any], folder: Path) -> None:
    """Print the metrics with their intervals, and the verdict."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.report import write_study_report

    done = [one for one in record["folds"] if one["state"] == "done"]
    table = new_table(headers=["metric", "mean", "lowest fold", "highest fold"])
    for name, one in record["metrics"].items():
        values = [fold["metrics"][name] for fold in done if fold["metrics"][name] is not None]
        ends = (number(min(values)), number(max(values))) if values else (MISSING, MISSING)
        table.add_row(metric_title(name), interval(_estimate(one)), *ends)
    print_table(stdout_console(), table)
    say()
    for one in record["folds"]:
        if one["state"] == "failed":
            say(f"Fold {one['fold']} of repeat {one['repeat']} failed: {one['reason']}.", err=True)
    say(record["verdict"])
    say(f"Report: {write_study_report(folder)}")
    say(f"Predictions of every row: {folder / record['predictions']}")


def _estimate(values: dict[str, float | None]) -> Interval:
    value, low, high = (
        float("nan") if values[end] is None else float(values[end] or 0) for end in ("value", "low", "high")
    )
    return Interval(value, low, high)
