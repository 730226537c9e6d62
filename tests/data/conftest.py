"""A short way from file content to rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import DataConfig, RawData, read


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[..., RawData]:
    """Write bytes to a file and read them with the given options."""

    def run(name: str, content: bytes, **options: Any) -> RawData:
        path = tmp_path / name
        path.write_bytes(content)
        return read(DataConfig(path=str(path), **options))

    return run


@pytest.fixture
def read_text(read_bytes: Callable[..., RawData]) -> Callable[..., RawData]:
    """Write UTF-8 text to a file and read it with the given options."""

    def run(name: str, content: str, **options: Any) -> RawData:
        return read_bytes(name, content.encode(), **options)

    return run
