"""Renders the folder of a study to one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.files.outputs import require_output
from tunesmith.files.ownership import is_report
from tunesmith.report.rendering import render_page
from tunesmith.report.studies.contest import contest_view
from tunesmith.report.studies.folds import folds_view
from tunesmith.report.studies.load import link_to_run, load_study
from tunesmith.report.studies.records import Contest, CrossValidation, Search, Study
from tunesmith.report.studies.search import search_view
from tunesmith.report.studies.table import Link


def write_study_report(folder: Path, output: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the page of a contest, a search or a cross-validation, finished or not, and return its path.

    Without ``output`` the page is ``report.html`` in the study's folder. It needs nothing but itself; runs that have a
    page of their own are linked to. A file that is there is replaced if it is such a page, and others only with
    ``overwrite``. Raises ``InputError`` for a folder without ``study.json``, for one that cannot be read, and for an
    ``output`` that is not to be replaced; ``RunError`` when the page cannot be written.
    """
    from tunesmith.files.atomic import write_text

    folder = Path(folder)
    study = load_study(folder)
    output = Path(output) if output else folder / "report.html"
    if output.is_dir():
        output = output / "report.html"
    place = require_output(output, overwrite=overwrite, is_own=is_report)
    write_text(place, render_study(study, partial(link_to_run, folder, page_folder=place.parent)))
    return output


def render_study(study: Study, link: Link) -> str:
    """Return the page of a study as HTML text; ``link`` finds the pages of its runs."""
    views: dict[type[Study], tuple[str, Callable[[Any, Link], Any]]] = {
        Contest: ("contest.html", contest_view),
        CrossValidation: ("folds.html", folds_view),
        Search: ("search.html", search_view),
    }
    template, view = views[type(study)]
    return render_page(
        template, styles=["report.css", "study.css"], scripts=["report.js", "study.js"], view=view(study, link)
    )
