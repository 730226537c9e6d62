"""Compiling and loading native code: whatever goes wrong, there is a library or there is none, never an error."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tunesmith.kernels import adamw, attention, building, decoding, library

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")

NAMES = [f"{name}_{suffix}" for name in ("squares", *library._NEED_MEMORY) for suffix in library.DTYPES.values()]

TINY = "".join(f"int {name}(void) {{ return 0; }}\n" for name in NAMES)
TINY += """
#ifdef OPEN
void nobody_has_this(void);
void open(void) { nobody_has_this(); }
#endif
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forget what was built, and let sources be such that compiling takes no time."""
    sources = tmp_path / "native"
    sources.mkdir()
    (sources / "kernels.c").write_text(TINY, encoding="utf-8")
    monkeypatch.setattr(building, "SOURCES", sources)
    monkeypatch.setattr(building, "_build", building._build.__wrapped__)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNESMITH_KERNELS", raising=False)
    monkeypatch.delenv("CC", raising=False)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def broken(folder: Path) -> str:
    """Return a compiler that can only tell its version."""
    return script(folder / "broken", 'echo 1.0; test "$1" = --version')


def library_made() -> object:
    return library.library.__wrapped__()


def test_without_a_compiler_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_KERNELS", "0")
    assert library_made() is None
    monkeypatch.delenv("TUNESMITH_KERNELS")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert library_made() is None


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = broken(tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: compiler)
    assert library_made() is None


@needs_compiler
def test_where_one_compiler_fails_the_next_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", broken(tmp_path))
    assert library_made() is not None


@needs_compiler
def test_where_a_result_cannot_be_loaded_the_next_compiler_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As clang's, whose OpenMP is not that of torch."""
    for flag in ("-DOPEN", "-Dsquares_f32=renamed"):
        compiler = script(tmp_path / "bad", f'echo {flag}; exec {COMPILER} {flag} "$@"')
        monkeypatch.setenv("CC", compiler)
        place = building.build(compiler)
        assert place is not None
        assert library._load(place) is None
        assert library_made() is not None


@needs_compiler
def test_a_damaged_library_in_the_cache_is_made_again() -> None:
    assert COMPILER is not None
    place = building.build(COMPILER)
    assert place is not None
    intact = place.read_bytes()
    place.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    assert building.build(COMPILER) == place
    assert place.read_bytes() == intact


@needs_compiler
def test_without_a_cache_to_write_to_the_library_is_made_for_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert COMPILER is not None
    (tmp_path / "file").touch()
    kept: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", kept.append)
    for place in (tmp_path / "file", Path("/proc/self")):
        monkeypatch.setenv("TUNESMITH_CACHE", str(place))
        built = building.build(COMPILER)
        assert built is not None
        assert built.is_file()
        kept.pop()()
        assert not built.parent.exists()


def test_a_compiler_that_takes_too_long_ends_with_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building, "COMPILE_SECONDS", 1)
    slow = script(
        tmp_path / "slow", f'echo 1.0; test "$1" = --version && exit; sleep 60 & echo $! > {tmp_path}/child; wait'
    )
    assert building.build(slow) is None
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            time.sleep(0.05)


def test_building_ahead_fails_in_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    compiler = broken(tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: compiler)

    def fail(*_: object, **__: object) -> None:
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "")

    for module, name in (
        (building, "_processor"),
        (building, "cached_folder"),
        (subprocess, "run"),
        (subprocess, "Popen"),
    ):
        monkeypatch.setattr(module, name, fail)
        before = set(threading.enumerate())
        building.build_ahead()
        for thread in set(threading.enumerate()) - before:
            thread.join()
    assert not failures


HUGE = 2**50
"""Numbers: more than a process has addresses for, whatever the system promises."""


def without_memory() -> list[Callable[[], object]]:
    """Return calls that need more memory than there is, and would do nothing if they had it."""
    borders, none = torch.tensor([0, 2**31 - 1], dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    pattern = attention.Pattern(borders, 1.0, queries=attention.Queries(none, none[:0]))
    nothing = torch.empty(0, 1, 2**15)
    heads = nothing, nothing, nothing
    kept = decoding.Attention(torch.empty(1, 1, 32), 1, 32)
    kept._native.capacity = HUGE
    no_tokens, width = ctypes.c_int64(0), ctypes.c_int64(HUGE)

    def call(name: str, *arguments: object) -> Callable[[], object]:
        return lambda: library.kernel(name, torch.float32)(no_tokens, width, *arguments)

    return [
        lambda: attention._forward(heads, pattern),
        lambda: attention._backward(heads, nothing.flatten(1), heads, pattern),
        lambda: kept.packed(torch.zeros(1, 96), 1, decoding.Pattern(none[:1], 1.0)),
        call("column_sums", None, None),
        call("activation_backward", None, None, None, 0, None, 1),
        call("rms_norm_backward", *[None] * 6, 1),
        call("layer_norm_backward", *[None] * 6, 0, 0, ctypes.c_float(1), None, None, 1, None, None),
    ]


def test_too_little_memory_is_an_error_that_can_be_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if library.library() is None:
        pytest.skip("no native code")
    for call in without_memory():
        with pytest.raises(MemoryError):
            call()
    assert library.kernel("squares", torch.float32)(ctypes.c_int64(2**62), None) == -1
    monkeypatch.setattr(adamw, "kernel", lambda *_: lambda *_: -1.0)
    with pytest.raises(MemoryError):
        adamw.squares(torch.ones(3))
