"""Where the studio keeps things: the folder of the runs, and one of its own in it.

runs/                      the root: runs and studies, as the command line writes them
runs/exports/              what was exported
runs/.studio/key           what a browser must show, for its user alone to read
runs/.studio/uploads/      files that were uploaded, by names of their own
runs/.studio/jobs/ID/      what was started: job.json, and what it wrote to stdout and stderr
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from tunesmith.files.atomic import write_text
from tunesmith.files.operations import make_folder
from tunesmith.files.space import require_writable

OWN = ".studio"
KEY_DAYS = 30
"""How long a browser stays known."""
LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folders of one studio."""

    root: Path
    """As the user named it: commands are shown with it."""

    @property
    def own(self) -> Path:
        return self.root / OWN

    @property
    def uploads(self) -> Path:
        return self.own / "uploads"

    @property
    def jobs(self) -> Path:
        return self.own / "jobs"

    @property
    def exports(self) -> Path:
        return self.root / "exports"

    def prepare(self) -> None:
        """Make the folders. Raises ``InputError`` where nothing can be written."""
        require_writable(self.root)
        for folder in (self.uploads, self.jobs):
            make_folder(folder)
        self.own.chmod(0o700)

    def key(self) -> str:
        """Return what a browser has to show; made anew when it is older than ``KEY_DAYS``."""
        path = self.own / "key"
        try:
            if time.time() - path.stat().st_mtime < KEY_DAYS * 86400 and (found := path.read_text().strip()):
                return found
        except OSError:
            pass
        key = secrets.token_urlsafe(24)
        write_text(path, key + "\n")
        os.chmod(path, 0o600)  # noqa: PTH101
        return key

    def free_name(self, wanted: str, folder: Path) -> Path:
        """Return a path in ``folder`` that nothing has yet, named after what a person wrote."""
        name = plain_name(wanted)
        number = 1
        while os.path.lexists(path := folder / (name if number == 1 else f"{name}-{number}")):
            number += 1
        return path


def plain_name(text: str, otherwise: str = "run") -> str:
    """Return a name that is no path, hidden or reserved, whatever was written: small letters, digits, dashes."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words)[:LONGEST_NAME].strip("-") or otherwise
