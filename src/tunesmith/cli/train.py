"""``tunesmith train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.flags import ConfigCommand, FlagTree, build_config, flags_of
from tunesmith.config.base import ConfigError
from tunesmith.config.load import load_yaml

if TYPE_CHECKING:
    from tunesmith.run import RunConfig


class TrainCommand(ConfigCommand):
    """Takes every key of ``RunConfig`` as a flag."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.run import RunConfig

        return FlagTree(RunConfig)


@click.command(cls=TrainCommand, short_help="Fine-tune a model on your data.")
@click.argument("config", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Continue an interrupted run in the folder given as --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the output folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
@click.pass_context
def train_command(context: click.Context, config: Path | None, resume: bool, overwrite: bool, quiet: bool) -> None:
    """Fine-tune a model on your data, as CONFIG.yaml and the flags say; flags go first.

    \b
    tunesmith train --model sample:minilm --data reviews.csv
    tunesmith train --model lstm --data reviews.csv --output runs/lstm
    tunesmith train config.yaml --method lora --method.rank 16
    """  # noqa: D301
    settings = _configure(context, config, resume=resume)
    from tunesmith.cli.console import ConsoleObserver
    from tunesmith.run import train

    folder = train(settings, resume=resume, overwrite=overwrite, observers=[ConsoleObserver(quiet=quiet)])
    page = _write_report(folder)
    if not quiet:
        _show_result(folder, page)


def _configure(context: click.Context, path: Path | None, *, resume: bool) -> RunConfig:
    """Lay the flags over the file and report all problems of both together."""
    from tunesmith.run import RunConfig

    flags = flags_of(context)
    if path is None and resume:
        path = _saved_config(flags.pairs)
    base: dict[str, Any] = {}
    if path is not None:
        try:
            base = load_yaml(path)
        except ConfigError as error:
            raise ConfigError([*error.problems, *flags.problems]) from error
    return build_config(RunConfig, flags, base)


def _saved_config(pairs: tuple[tuple[str, str], ...]) -> Path | None:
    """Return the configuration that the run to be resumed has saved, if ``--output`` names one."""
    output = dict(pairs).get("output")
    saved = Path(output) / "config.yaml" if output else None
    return saved if saved is not None and saved.is_file() else None


def _write_report(folder: Path) -> Path:
    from tunesmith.report import write_report

    return write_report([folder], folder / "report.html")


def _show_result(folder: Path, page: Path) -> None:
    from tunesmith.cli.tables import evaluation_table, print_table, stdout_console
    from tunesmith.run.directory import RunDirectory

    console = stdout_console()
    directory = RunDirectory(folder)
    if (folder / "evaluation.json").exists():
        print_table(console, evaluation_table(directory.read_json("evaluation"), console.width))
    console.print()
    console.print(f"run      {folder}", f"report   {page}", sep="\n", markup=False, soft_wrap=True)
    pair = " --text-pair '...'" if "text_pair" in directory.read_config().data.columns else ""
    console.print(f"predict  tunesmith predict {folder} --text '...'{pair}", markup=False, soft_wrap=True)
