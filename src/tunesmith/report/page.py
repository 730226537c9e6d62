"""Renders run directories to one self-contained HTML page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.files.outputs import require_output
from tunesmith.files.ownership import is_report
from tunesmith.report.comparison import compare
from tunesmith.report.load import RunRecord, load_runs
from tunesmith.report.view import build_view
from tunesmith.types import InputError
from tunesmith.version import __version__

_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def write_report(run_folders: Sequence[Path], output: Path, *, overwrite: bool = False) -> Path:
    """Write one HTML page about one run, or about several side by side, and return its path.

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
    output = Path(output)
    if output.is_dir():
        output = output / "report.html"
    place = require_output(output, overwrite=overwrite, is_own=is_report)
    write_text(place, render(load_runs(folders)))
    return output


def render(records: Sequence[RunRecord]) -> str:
    """Return the page of one or more runs as HTML text."""
    environment = Environment(
        loader=PackageLoader("tunesmith.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = display_names([record.folder for record in records])
    keys = [f"run-{index}" for index in range(1, len(records) + 1)]
    views = [build_view(record, name, key) for record, name, key in zip(records, names, keys, strict=True)]
    script = _asset("report.js")
    page = environment.get_template("page.html").render(
        views=views,
        comparisons=compare(records, names, keys) if len(records) > 1 else [],
        style=Markup(_asset("report.css")),  # noqa: S704 -- our own file
        script=Markup(script),  # noqa: S704 -- our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )
    return _NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", page)


def display_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the folders apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, 5):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
    return [str(path) for path in paths]


def _asset(name: str) -> str:
    text = resources.files("tunesmith.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n").strip()
