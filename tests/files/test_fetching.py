"""How far a download is, looked at on the disk: whatever brings it, it is told how fast it comes and what is left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.files import fetching
from tunesmith.files.fetching import bytes_in, tell, telling, watched

if TYPE_CHECKING:
    import pytest


def test_bytes_rate_and_time_left_are_told_while_files_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.02)
    (tmp_path / "before").write_bytes(b"x" * 5000)
    told: list[tuple[str, bool]] = []
    with telling(lambda text, *, lasting: told.append((text, lasting))):
        tell("4.0 kB to fetch", lasting=True)
        with watched("fetching it", tmp_path, 4000), (tmp_path / "part").open("wb") as file:
            for _ in range(4):
                file.write(b"x" * 1000)
                file.flush()
                time.sleep(0.1)
        num_told = len(told)
        time.sleep(0.1)
    assert len(told) == num_told, "and nothing afterwards"
    assert told[0] == ("4.0 kB to fetch", True)
    progress = [text for text, lasting in told if not lasting]
    assert all(text.startswith("fetching it (") for text in progress)
    assert any(" of 4.0 kB, " in text and "/s, " in text and text.endswith(" left)") for text in progress)
    assert progress[-1].startswith("fetching it (4.0 kB of 4.0 kB")
    assert "5.0 kB" not in str(told), "what was there before was not fetched"


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    told: list[str] = []

    def hear(text: str, *, lasting: bool) -> None:
        assert not lasting
        told.append(text)

    with telling(hear), watched("nothing", tmp_path, 0):
        tell("a")
    tell("b")
    with watched("it", tmp_path, 10):
        pass
    assert told == ["a"]
    assert bytes_in(tmp_path / "nowhere") == 0
