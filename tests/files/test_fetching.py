"""How far a download is, looked at on the disk: whatever brings it, it is told how fast it comes and what is left."""

from __future__ import annotations

import re
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

    def hear(text: str, *, lasting: bool) -> None:
        told.append((text, lasting))

    with telling(hear):
        tell("4.0 kB to fetch", lasting=True)
        with watched("fetching it", tmp_path, 4000), (tmp_path / "part").open("wb") as file:
            for number in range(1, 5):
                wait_for(told, f"fetching it ({number - 1}")
                file.write(b"x" * 1000)
                file.flush()
            wait_for(told, "fetching it (4.0 kB of 4.0 kB")
        num_told = len(told)
        time.sleep(0.1)
    assert len(told) == num_told, "and nothing afterwards"
    assert told[0] == ("4.0 kB to fetch", True)
    progress = [text for text, lasting in told if not lasting]
    assert progress[0] == "fetching it (0 B of 4.0 kB)"
    (middle, *_) = (text for text in progress if text.startswith("fetching it (2.0 kB"))
    assert re.fullmatch(r"fetching it \(2\.0 kB of 4\.0 kB, [\d.,]+ k?B/s, [\d.]+ \w+ left\)", middle), middle
    assert "5.0 kB" not in str(told), "what was there before was not fetched"


def wait_for(told: list[tuple[str, bool]], start: str) -> None:
    for _ in range(6000):
        if any(text.startswith(start) for text, _ in told):
            return
        time.sleep(0.01)
    raise AssertionError(f"{start} is not in {told}")


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
