"""``tunesmith search``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from tunesmith.cli.flags import FlagTree
from tunesmith.cli.training_command import TrainingCommand, Values, configured
from tunesmith.config.base import ConfigError
from tunesmith.config.load import load_yaml
from tunesmith.readable import duration, metric_title, number
from tunesmith.types import Problem


class SearchCommand(TrainingCommand):
    """Takes every key of ``SearchConfig`` as a flag, but for what is searched, which has a file of its own."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.study.search_config import SearchConfig

        names = tuple(name for name in SearchConfig.model_fields if name not in ("version", "over"))
        return FlagTree(SearchConfig, names)


@click.command(cls=SearchCommand, short_help="Search the best values of any settings on the validation rows.")
@click.argument("path", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--over", metavar="SEARCH.yaml", type=click.Path(path_type=Path), help="What is searched: keys with their values."
)
@click.option("--overwrite", is_flag=True, help="Replace the study that is in the output folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and the result only.")
@click.pass_context
def search_command(
    context: click.Context, *, path: Path | None, over: Path | None, overwrite: bool, quiet: bool
) -> None:
    """Try values of any keys of the configuration, and keep what is best on the validation rows.

    The test rows stay closed: train once more with the best values, as best.yaml has them, and
    judge that. Stopped or killed, the same command goes on; with more trials it goes further.

    \b
    SEARCH.yaml:
      train.learning_rate: {low: 1e-5, high: 1e-2, log: true}
      train.batch_size: [8, 16, 32]
      method: [full, lora]
      method.rank: {low: 4, high: 64, log: true}     # only tried where the method is lora

    \b
    tunesmith search config.yaml --over search.yaml --trials 40
    tunesmith search --model sample:minilm --data reviews.csv --over search.yaml --workers 2
    """  # noqa: D301
    from tunesmith.study.folder import StudyFolder
    from tunesmith.study.search import run_search
    from tunesmith.study.search_config import SearchConfig

    def with_over(values: Values) -> tuple[Values, Sequence[Problem]]:
        if over is not None:
            try:
                return {**values, "over": load_yaml(over)}, ()
            except ConfigError as error:
                return values, error.problems
        fix = "Give a file of keys and values as --over SEARCH.yaml; 'tunesmith search --help' shows one."
        return values, () if values.get("over") else [Problem("error", "There is nothing to search.", fix)]

    config = configured(context, path, SearchConfig, quiet=quiet, complete=with_over)
    folder = run_search(config, overwrite=overwrite, watching=_silent if quiet else _tell)
    _show(StudyFolder(folder).read_result(), folder)


def _silent(trial: Mapping[str, Any], best: Mapping[str, Any] | None, wanted: int) -> None:
    del trial, best, wanted


def _tell(trial: Mapping[str, Any], best: Mapping[str, Any] | None, wanted: int) -> None:
    """Write a line about a trial that has ended."""
    from tunesmith.cli.terminal import say

    values = ", ".join(f"{path} {_shown(value)}" for path, value in trial["values"].items())
    what = {"done": number(trial["value"]), "pruned": "given up", "failed": f"failed: {trial['reason']}"}
    known = "" if best is None else f"; best {number(best['value'])} (trial {best['number']})"
    place = f"trial {trial['number']} of {wanted}"
    say(f"{place}: {what[trial['state']]} after {duration(trial['seconds'])}{known}  [{values}]", err=True)


def _show(record: Mapping[str, Any], folder: Path) -> None:
    """Print the best trials, what matters, and what to do next."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.report import write_study_report

    sign = -1 if record["higher_is_better"] else 1
    done = sorted(
        (trial for trial in record["trials"] if trial["state"] == "done"), key=lambda trial: sign * trial["value"]
    )
    keys = [one["key"] for one in record["over"]]
    table = new_table(headers=["trial", metric_title(record["metric"]), *keys])
    for trial in done[:5]:
        values = [_shown(trial["values"][key]) if key in trial["values"] else "" for key in keys]
        table.add_row(str(trial["number"]), number(trial["value"]), *values)
    print_table(stdout_console(), table)
    say()
    if record["importance"]:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in record["importance"].items())
        say(f"What matters: {shares}")
    say(record["verdict"])
    say(f"Report: {write_study_report(folder)}")
    say(f"Train with it: tunesmith train {quote(str(folder / record['best_config']))}")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
