"""The files that a browser gets: the studio's own, listed once, and the reports of runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from tunesmith.files.ownership import is_report
from tunesmith.report.rendering import script_hash
from tunesmith.studio.found import Found

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_REPORT_SCRIPTS = (["report.js"], ["report.js", "study.js"])


@cache
def static_files() -> Mapping[str, tuple[bytes, str]]:
    """Return every file by its address below /static/, with its kind: nothing else is ever read for a request."""
    root = resources.files("tunesmith.studio").joinpath("static")
    found: dict[str, tuple[bytes, str]] = {}
    for folder in ("", "pages", "languages"):
        for entry in (root.joinpath(folder) if folder else root).iterdir():
            ending = Path(entry.name).suffix
            if entry.is_file() and ending in KINDS:
                found["/".join(filter(None, (folder, entry.name)))] = (entry.read_bytes(), KINDS[ending])
    # The colours, letters and cards are those of reports: one file, not a copy of it.
    report = resources.files("tunesmith.report").joinpath("templates", "report.css")
    found["report.css"] = (report.read_bytes(), KINDS[".css"])
    return found


def report_of(found: Found, path: str) -> bytes | None:
    """Return a report in the folder of a run or study; None where there is none by that name.

    The reports of a study's runs are found by looking, not by opening what is asked for.
    """
    listed = {place.relative_to(found.folder).as_posix(): place for place in _reports(found)}
    place = listed.get(path)
    return place.read_bytes() if place is not None and is_report(place) else None


def _reports(found: Found) -> list[Path]:
    patterns = ["report.html"]
    if found.kind == "study":
        patterns += ["*/*/report.html", "*/*/*/report.html"]
    return [place for pattern in patterns for place in found.folder.glob(pattern) if not place.is_symlink()]


def report_policy() -> str:
    """Return what a report may do: run the scripts that reports of ours have, and load nothing."""
    hashes = " ".join(f"'sha256-{script_hash(names)}'" for names in _REPORT_SCRIPTS)
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
