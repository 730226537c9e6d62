"""What is written: Markdown, JSON, the picture, and the table inside a page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plot import svg
from benchmarks.table import END, START, markdown, number, update, write_json


def record(**changes: Any) -> dict[str, Any]:
    found = {
        "case": "minilm-full",
        "title": "MiniLM",
        "peer_name": "Trainer",
        "unit": "tokens/s",
        "note": "",
        "data": "reviews",
        "tunesmith": 4000.0,
        "peer": 2000.0,
        "ratio": 2.0,
        "spread": [1.5, 2.5],
        "repeats": 3,
        "num_rows": 2400,
        "losses": {"tunesmith": 0.5, "peer": 0.9},
        "loss_agrees": True,
        "loss_tolerance": 0.05,
        "mfu": {"tunesmith": 0.3, "peer": None},
        "peak_memory_bytes": {"tunesmith": 1e9, "peer": 2e9},
        "versions": {"torch": "2"},
        "machine": {"processor": "P", "cores": 2},
    }
    return {**found, **changes}


FAILED = record(case="other", ratio=None, tunesmith=None, peer=None, error="no memory", side="peer")


def test_a_row_holds_every_figure() -> None:
    row = next(line for line in markdown([record()]).splitlines() if line.startswith("| `minilm-full`"))
    for part in (
        "4,000 tokens/s",
        "**2.00** [1.50, 2.50] of 3",
        "(reviews, 2,400 rows)",
        "30.0% / –",
        "1.00 GB / 2.00 GB",
        "0.500 / 0.900",
    ):
        assert part in row
    assert row.count("|") == 9


def test_what_speaks_against_a_figure_stands_below() -> None:
    text = markdown([record(loss_agrees=False), FAILED, record(case="x", ratio=None, unavailable="not here")])
    assert "mean losses differ by more than 5%" in text
    assert "`other` failed on the side of peer: no memory" in text
    assert "`x` was not measured: not here." in text
    assert "2 cores of P; torch 2" in text


def test_json_is_a_list_with_the_promised_keys(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write_json([record(), FAILED], path)
    found = json.loads(path.read_text())
    assert all({"case", "tunesmith", "peer", "ratio"} <= entry.keys() for entry in found)
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_gets_the_table_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{START}\nold\n{END}\n\nafter\n")
    update(page, "| new |")
    update(page, "| newer |")
    assert page.read_text() == f"before\n\n{START}\n\n| newer |\n\n{END}\n\nafter\n"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place for the table"):
        update(page, "")


def test_the_docs_have_the_place() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
    assert START in page.read_text(encoding="utf-8").partition(END)[0]


def test_the_picture_is_sound_and_skips_what_failed() -> None:
    curve = record(
        case="linear-cost-tokens",
        title="a < b",
        tunesmith=0.9,
        peer=1.0,
        points=[[1024, 0.2, 1024, 32], [4096, 0.7, 4096, 128], [16384, 2.0, 16384, 512]],
    )
    picture = svg([record(), record(case="slower", ratio=0.5, spread=[0.4, 0.6]), FAILED, curve])
    texts = [element.text for element in ET.fromstring(picture).iter() if element.text and element.text.strip()]
    assert {"minilm-full", "2.00×", "slower", "0.50×", "a < b: 0.90, reference 1.00", "16k"} <= set(texts)
    assert "other" not in texts
    assert ET.fromstring(svg([FAILED])) is not None


@pytest.mark.parametrize(("value", "shown"), [(12345.6, "12,346"), (1.2345, "1.23"), (0.012, "0.012"), (999.4, "999")])
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown
