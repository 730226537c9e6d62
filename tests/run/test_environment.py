"""What a run says of the git checkout that it was started in, against git's own words."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tunesmith.run.environment import git_state

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_and_whether_files_are_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) is None  # before the first commit
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "b.txt").write_text("of nobody yet")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "a.txt").write_text("changed")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}
    git(tmp_path, "add", "a.txt")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}
    git(tmp_path, "checkout", "--quiet", "--force", "--detach", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    assert git_state(tmp_path / "missing") is None
