"""Long results: gone on with after whole parts, whatever was cut; never two writers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.files.partial import partial_of
from tunesmith.types import InputError

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def rows(first: int, number: int) -> list[dict[str, object]]:
    return [{"row": place, "text": f"文 {place}"} for place in range(first, first + number)]


def begun(final: Path, key: str = KEY) -> Path:
    return final.with_name(f".{final.name}.partial-{key}")


def test_whole_parts_stay_and_the_rest_goes(tmp_path: Path) -> None:
    final = tmp_path / "found.jsonl"
    with pytest.raises(RuntimeError), partial_of(final, KEY, 4) as partial:
        partial.add(rows(0, 4))
        partial.add(rows(4, 3))
        raise RuntimeError
    assert not final.exists()
    with begun(final).open("ab") as file:
        file.write(b'{"row": 7, "te')
    with partial_of(final, KEY, 4) as partial:
        assert partial.num_rows == 4
        assert list(partial.rows()) == rows(0, 4)
        partial.add(rows(4, 2))
        assert list(partial.rows()) == rows(0, 6)
        partial.become(final)
    assert final.read_text(encoding="utf-8").count("\n") == 6
    assert [path.name for path in tmp_path.iterdir()] == ["found.jsonl"]


def test_another_key_begins_anew_and_puts_the_old_one_away(tmp_path: Path) -> None:
    final = tmp_path / "found.jsonl"
    with partial_of(final, KEY, 1) as partial:
        partial.add(rows(0, 2))
    with partial_of(final, OTHER, 1) as partial:
        assert partial.num_rows == 0
        partial.remove()
    assert not begun(final).exists()


def test_nothing_at_all_becomes_an_empty_file(tmp_path: Path) -> None:
    with partial_of(tmp_path / "found.jsonl", KEY, 4) as partial:
        partial.become(tmp_path / "found.jsonl")
    assert (tmp_path / "found.jsonl").read_bytes() == b""


def test_two_processes_do_not_write_the_same(tmp_path: Path) -> None:
    from filelock import FileLock

    final = tmp_path / "found.jsonl"
    with (
        FileLock(begun(final).with_name(f"{begun(final).name}.lock"), is_singleton=False),
        pytest.raises(InputError, match="another process"),
        partial_of(final, KEY, 4),
    ):
        pass
