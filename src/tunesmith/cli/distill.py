"""``tunesmith distill``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.flags import flags_of
from tunesmith.cli.train import TrainCommand, train_as_told
from tunesmith.types import InputError


@click.command(cls=TrainCommand, short_help="Train a model that learns from a run or an ensemble.")
@click.argument("configs", metavar="[CONFIG.yaml]", required=False, nargs=-1, type=click.Path(path_type=Path))
@click.option("--teacher", metavar="FOLDER", help="The run or ensemble that teaches (--teacher.run).")
@click.option("--mix", metavar="SHARE", help="The teacher's share of the loss (--teacher.mix) [default: 0.5].")
@click.option("--temperature", metavar="T", help="Softens what is compared (--teacher.temperature) [default: 2].")
@click.option("--unlabelled", metavar="FILE", help="Further rows, on which only the teacher speaks.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in the folder given as --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the output folder.")
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
@click.pass_context
def distill_command(
    context: click.Context,
    *,
    configs: tuple[Path, ...],
    teacher: str | None,
    mix: str | None,
    temperature: str | None,
    unlabelled: str | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train a model on labels and on what a finished run, or an ensemble, answers for the same rows.

    The same as 'tunesmith train' with the section teacher in its configuration. Without --data the teacher's
    rows are taken.

    \b
    tunesmith distill --teacher runs/minilm --model lstm
    tunesmith distill --teacher runs/all --model sample:minilm --data reviews.csv --unlabelled more.txt
    """  # noqa: D301
    given = {"run": teacher, "mix": mix, "temperature": temperature, "unlabelled": unlabelled}
    pairs = tuple((f"teacher.{name}", value) for name, value in given.items() if value is not None)
    flags = flags_of(context)
    context.meta["tunesmith.flags"] = replace(flags, pairs=(*pairs, *flags.pairs))
    named = dict((*pairs, *flags.pairs))
    folder = named.get("teacher.run")
    if folder is None and not configs and not resume:
        raise InputError(
            "There is no teacher to learn from.", "Give the folder of a finished run or ensemble: --teacher FOLDER."
        )
    base = {} if folder is None or configs or resume else _rows_of(Path(folder), named)
    train_as_told(context, configs, (), resume=resume, overwrite=overwrite, quiet=quiet, base=base)


def _rows_of(folder: Path, flags: dict[str, str]) -> dict[str, Any]:
    """Return the teacher's section ``data``, with the cut of its rows, unless other data are named."""
    from tunesmith.run.directory import open_directory

    data = open_directory(folder).read_config().data
    path = flags.get("data", flags.get("data.path"))
    if path is not None and path != data.path and Path(path).absolute() != Path(data.path).absolute():
        return {}
    return {"data": data.model_dump(mode="json")}
