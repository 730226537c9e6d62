"""``tunesmith compare``."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.flags import FlagTree
from tunesmith.cli.training_command import TrainingCommand, configured


class CompareCommand(TrainingCommand):
    """Takes every key of ``CompareConfig`` as a flag."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.study import CompareConfig

        return FlagTree(CompareConfig)


@click.command(cls=CompareCommand, short_help="Compare methods on your data, fairly and with error bars.")
@click.argument("path", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace the study that is in the output folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and the result only.")
@click.pass_context
def compare_command(context: click.Context, *, path: Path | None, overwrite: bool, quiet: bool) -> None:
    """Compare methods of fine-tuning on your data: quality, with error bars over rows and seeds, against cost.

    Every method is tuned alike on the validation rows, then trained anew with each seed and judged
    on test rows that nothing else has seen. Stopped or killed, the same command goes on.

    \b
    tunesmith compare --model sample:minilm --data reviews.csv
    tunesmith compare --model M --data reviews.csv --methods full,lora,ia3 --seeds 3 --budget 30m
    tunesmith compare --model M --data D --methods "lora(rank=4),lora(rank=64)" --reference "lora(rank=4)"
    tunesmith compare --model M --data D --methods "lora,lora+augment(by=[noise,synonyms])"
    """  # noqa: D301
    from tunesmith.cli.contest_table import ContestLog, LiveTable
    from tunesmith.study import CompareConfig, run_contest
    from tunesmith.study.contest import default_output

    config = configured(context, path, CompareConfig, quiet=quiet)
    place = Path(config.output or default_output(config))
    watchers = [LiveTable(quiet=quiet), ContestLog(place / "contest.log")]
    folder = run_contest(config, overwrite=overwrite, watchers=watchers)
    _show(folder)


def _show(folder: Path) -> None:
    """Write the page, and print the table and the verdict."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.study import Study

    study = Study(folder)
    page = study.write_reports()
    rows = study.table
    table = new_table(headers=list(rows[0]))
    for row in rows:
        table.add_row(*row.values())
    print_table(stdout_console(), table)
    say()
    say(study.verdict)
    if study.recommended:
        say(study.recommended["reason"])
    for line in study.worth_of_augmentation:
        say(line)
    say(f"Report: {page}")
