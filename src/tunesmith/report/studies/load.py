"""Reads a study's folder: tolerant of what is missing, strict with what is corrupt."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from tunesmith.report.load import read_record
from tunesmith.report.studies.records import KINDS, Study
from tunesmith.types import InputError, Problem

STUDY_FILE = "study.json"


def is_study(folder: Path) -> bool:
    """Say whether a folder is that of a study."""
    return (folder / STUDY_FILE).is_file()


def load_study(folder: Path) -> Study:
    """Read ``study.json`` of a folder as the record of its kind.

    Raises ``InputError`` where there is none, where it cannot be read, or where it is of a kind that is not known.
    """
    if not is_study(folder):
        raise InputError(
            f"{folder} is not the folder of a study: it has no {STUDY_FILE}.",
            "Give the folder that `tunesmith compare`, `search` or `cross-validate` wrote.",
        )
    path, problems = folder / STUDY_FILE, list[Problem]()
    study = read_record(path, Study, problems)
    if study is not None and study.kind not in KINDS:
        raise InputError(
            f"{path}: kind is “{study.kind}”; expected one of {', '.join(KINDS)}.",
            "Restore the file, or report on it with the version of tunesmith that wrote it.",
        )
    read = read_record(path, KINDS[study.kind], problems) if study is not None else None
    if problems or read is None:
        raise InputError(problems)
    return read


def link_to_run(study_folder: Path, run: str, page_folder: Path) -> str:
    """Return the address of a run's own page, seen from the folder of the study's page; empty where there is none.

    What lies outside of the study's folder is no run of it, whatever ``study.json`` says, and gets no link.
    """
    home = study_folder.resolve()
    try:
        page = (home / run / "report.html").resolve()
        if not run or not page.is_relative_to(home) or not page.is_file():
            return ""
        return quote(Path(os.path.relpath(page, page_folder.resolve())).as_posix())
    except (OSError, ValueError):  # a name that no file can have
        return ""
