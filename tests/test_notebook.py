"""What a notebook shows: of runs and studies, and the example, executed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from small_runs import bert_folder, configured, reviews
from tunesmith import cross_validate
from tunesmith.publish.in_notebooks import block
from tunesmith.run import Run, RunConfig, train

__all__ = ["bert_folder", "configured", "reviews"]

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


class Tags(HTMLParser):
    """Notes tags, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(html: str) -> None:
    tags = Tags(html)
    assert not tags.open
    assert not {"script", "style", "link", "img"} & set(tags.seen), "nothing but text and a table"
    assert not re.search(r"(?:src|href)=.(?!file:)", html), "nothing from elsewhere"
    assert not re.search(r"(?:color|background):\s*(?:#|rgb|white|black)", html), "colours are those of the page"


def test_a_run_shows_its_figures_and_leads_to_its_report(configured: Callable[..., RunConfig]) -> None:
    run = Run.open(train(configured(train={"max_steps": 2, "evaluate_steps": 2})))
    html = run._repr_html_()
    check(html)
    accuracy = run.evaluation["metrics"]["accuracy"]
    assert f"{accuracy['value']:.3f}" in html
    assert f"[{accuracy['low']:.3f}, {accuracy['high']:.3f}]" in html
    assert str(run.folder) in html
    assert "report</a>" not in html
    (run.folder / "report.html").write_text("x")
    assert run.directory.report.as_uri() in run._repr_html_()


def test_texts_of_others_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'"
    html = block(evil, said=evil, facts={evil: evil}, rows=[{evil: evil}], folder=tmp_path / evil.replace("/", ""))
    check(html)
    assert "<script" not in html


def test_a_study_shows_its_verdict_and_table(bert_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a {('dull', 'warm')[n % 2]} film {n}", "label": ("bad", "good")[n % 2]} for n in range(24)]
    study = cross_validate(
        rows,
        model=str(bert_folder),
        folds=2,
        train={"epochs": 1, "precision": "fp32", "early_stopping": {"metric": "loss"}},
        evaluation={"num_resamples": 10, "baseline": False},
        output=tmp_path / "folds",
    )
    html = study._repr_html_()
    check(html)
    assert "mean over the folds" in html
    assert (tmp_path / "folds" / "report.html").as_uri() in html


def test_the_example_holds_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel")
    import nbformat

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [output["data"]["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("mean over the folds" in page for page in pages)
    assert any(str(Path("runs/notebook")) in page for page in pages)
    told = json.dumps(shown)
    assert "step" in told
    assert "parameters trained" in told, "progress is shown as the training goes on"
