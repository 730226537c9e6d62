"""Pages in Chinese say the same commands, under the same headings, as the pages that they were translated from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRANSLATED = sorted((ROOT / "docs" / "zh-CN").glob("*.md"))
PAIRS = [(page, ROOT / "docs" / page.name) for page in TRANSLATED] + [(ROOT / "README.zh-CN.md", ROOT / "README.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_OTHER_ROWS = {"README.zh-CN.md"}
"""Pages whose examples are about data in their own language."""

pairs = pytest.mark.parametrize(("page", "original"), PAIRS, ids=lambda path: path.relative_to(ROOT).as_posix())


def levels(page: Path) -> list[int]:
    """Return the levels of a page's headings, in their order."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]


def code(page: Path) -> list[str]:
    """Return what a page's blocks tell one to do, comments aside, which are translated."""
    found = []
    for language, content in FENCE.findall(page.read_text(encoding="utf-8")):
        lines = (re.sub(r"(^|\s+)# .*$", "", line).rstrip() for line in content.splitlines())
        found += [f"{language}: {line}" for line in lines if line.strip()]
    return found


def names(page: Path) -> set[str]:
    """Return what stands in code spans outside of blocks."""
    return set(re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))))


@pairs
def test_headings_are_of_the_same_levels(page: Path, original: Path) -> None:
    assert levels(page) == levels(original)


@pairs
def test_commands_and_code_are_the_same(page: Path, original: Path) -> None:
    if page.name in OF_OTHER_ROWS:
        # Texts to predict on, and the files that hold them, differ; what is done does not.
        verbs = [
            {verb for line in code(one) for verb in re.findall(r"^bash: tunesmith ([\w-]+)", line)}
            for one in (page, original)
        ]
        assert verbs[0] == verbs[1]
    else:
        assert code(page) == code(original)


@pairs
def test_the_same_keys_files_and_commands_are_named(page: Path, original: Path) -> None:
    if page.name not in OF_OTHER_ROWS:
        assert names(page) == names(original)


def test_pages_of_the_main_path_are_translated() -> None:
    assert {page.stem for page in TRANSLATED} >= {"index", "data", "planning", "comparing", "studio", "serving"}
