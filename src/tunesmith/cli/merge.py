"""``tunesmith merge``: an adapter and its base as one plain model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("merge", short_help="Write an adapter and its base as one plain model.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option("--form", metavar="FORM", help="How numbers are kept: fp32 (usual), bf16, fp16.")
@click.option(
    "--data", metavar="FILE", help="Labelled rows to compare on, instead of those that the run was judged on."
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is in the folder.")
def merge_command(run: Path, *, output: Path, form: str | None, data: str | None, overwrite: bool) -> None:
    """Add the adapter of RUN to the weights of its base, and write the model that plain transformers loads.

    It is added in 32 bits and rounded last; the scores of what was written are compared with those of the run.
    """
    from tunesmith.cli.export_run import show_export
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.export import merge

    show_export(merge(OpenedRun.open(run), output, form=form, data=data, overwrite=overwrite), run, output)
