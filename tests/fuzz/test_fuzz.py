"""Damaged files, a hundred thousand of them: a message or success, never anything else, and never for long.

``TUNESMITH_FUZZ_CASES`` says how many in all, ``TUNESMITH_FUZZ_SEED`` which ones, ``TUNESMITH_FUZZ_KEEP`` where
those that fail are kept. ``python -m pytest -m slow tests/fuzz -s`` shows the figures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.harness import MAX_SECONDS, Outcome, fuzz
from fuzz.targets import targets
from tunesmith.cli import application
from tunesmith.kernels.library import library

CASES = int(os.environ.get("TUNESMITH_FUZZ_CASES", "100000"))
SEED = int(os.environ.get("TUNESMITH_FUZZ_SEED", "0"))
MAX_MEGABYTES = 2500
"""Of one process, with torch, a tiny model and the damaged file in it."""
BATCH = 100
NAMES = (
    "text files", "tables", "images", "templates", "configurations", "arguments", "models bert", "models lstm",
    "models llama", "adapters",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))

    def raise_again(error: Exception, arguments: object) -> int:
        del arguments
        raise error

    monkeypatch.setattr(application, "_report_crash", raise_again)
    library()  # compiled now, it counts for no case
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_input_gives_a_message(name: str, folder: Path) -> None:
    target, share = targets()[name]
    kept = os.environ.get("TUNESMITH_FUZZ_KEEP")
    total = Outcome()
    for start in range(0, max(1, round(share * CASES)), BATCH):
        one = fuzz(
            target,
            min(BATCH, round(share * CASES) - start),
            SEED * 10_000 + start // BATCH,
            folder,
            kept and Path(kept),
        )
        total.cases += one.cases
        total.refused += one.refused
        total.seconds += one.seconds
        if one.slowest > total.slowest:
            total.slowest, total.slowest_case = one.slowest, one.slowest_case
        total.failures = one.failures | total.failures
        shutil.rmtree(folder / "cache", ignore_errors=True)
    print(  # noqa: T201  (the figures of the page)
        f"\n{name}: {total.cases} cases in {total.seconds:.0f} s, {total.refused} refused, slowest "
        f"{total.slowest:.2f} s ({total.slowest_case}), {total.peak_megabytes} MB, {len(total.failures)} failures"
    )
    assert not total.failures, "\n\n".join(f"== {key}\n{text}" for key, text in total.failures.items())
    assert total.slowest <= MAX_SECONDS
    assert total.peak_megabytes < MAX_MEGABYTES
