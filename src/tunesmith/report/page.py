"""Renders run directories to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.files.outputs import require_output
from tunesmith.files.ownership import is_report
from tunesmith.report.comparison import compare
from tunesmith.report.load import RunRecord, load_runs
from tunesmith.report.rendering import render_page
from tunesmith.report.studies.load import is_study
from tunesmith.report.studies.page import write_study_report
from tunesmith.report.view import build_view
from tunesmith.types import InputError


def write_report(run_folders: Sequence[Path], output: Path, *, overwrite: bool = False) -> Path:
    """Write one HTML page about one run, about several side by side, or about a study, and return its path.

    The page needs nothing but itself: no network, no other file. Parts that a run does
    not have yet are named as missing. An ``output`` that is a folder receives
    ``report.html``. A file that is there is replaced if it is such a page, and others only with
    ``overwrite``. Raises ``InputError`` for folders that are no run directories, for corrupt
    files, naming each, and for an ``output`` that is not to be replaced; ``RunError`` when the
    page cannot be written.
    """
    from tunesmith.files.atomic import write_text

    folders = [Path(folder) for folder in run_folders]
    if not folders:
        raise InputError("No run directory was given.", "Give at least one folder that `tunesmith train` wrote.")
    if len(folders) == 1 and is_study(folders[0]):
        return write_study_report(folders[0], output, overwrite=overwrite)
    _refuse_studies(folders)
    output = Path(output)
    if output.is_dir():
        output = output / "report.html"
    place = require_output(output, overwrite=overwrite, is_own=is_report)
    write_text(place, render(load_runs(folders)))
    return output


def _refuse_studies(folders: Sequence[Path]) -> None:
    studies = [str(folder) for folder in folders if is_study(folder)]
    if studies:
        raise InputError(
            f"{', '.join(studies)}: the folder of a study cannot stand beside other folders on one page.",
            "Give it alone, or give the folders of its runs, which are below runs/.",
        )


def render(records: Sequence[RunRecord]) -> str:
    """Return the page of one or more runs as HTML text."""
    names = display_names([record.folder for record in records])
    keys = [f"run-{index}" for index in range(1, len(records) + 1)]
    views = [build_view(record, name, key) for record, name, key in zip(records, names, keys, strict=True)]
    return render_page(
        "page.html",
        styles=["report.css"],
        scripts=["report.js"],
        views=views,
        comparisons=compare(records, names, keys) if len(records) > 1 else [],
    )


def display_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the folders apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, 5):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(path) for path in paths]
