"""The runner with children that cost nothing: turns, failures, what is saved on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import runner
from benchmarks.__main__ import main
from benchmarks.cases import Case, Child, Group
from benchmarks.workloads import Workload

SOURCE = """
import sys
from benchmarks.child import answer

def train(spec):
    print("libraries may print")
    if spec["speed"] is None:
        raise OSError("the disk is full")
    with open(spec["work"] + "/order", "a") as file:
        file.write(spec["name"])
    speed = spec["speed"] * (1 + spec["seed"])
    return {"tokens_per_second": speed, "mean_loss": 1.0, "rows": spec["workload"]["rows"]}

def prepare(spec):
    if spec["workload"]["rows"] == 13:
        raise LookupError("no such rows")
    return {"source": "made up"}

answer({"train": train, "prepare": prepare})
"""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Case]]:
    """Three cases over children of a module of their own."""
    (tmp_path / "trivial_child.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def child(name: str, speed: float | None) -> Child:
        return Child("trivial_child", "train", {"name": name, "speed": speed})

    group = Group(
        "trivial",
        {"ours": child("a", 6.0), "peer": child("b", 2.0), "broken": child("c", None)},
        Workload(rows=10),
        Workload(rows=100),
        needs_gemm=False,
    )
    cases = {name: Case(name, "trivial", "", name, name) for name in ("peer", "broken")}
    monkeypatch.setattr(runner, "GROUPS", {"trivial": group})
    monkeypatch.setattr(runner, "CASES", cases)
    original = runner.run_child

    def run_child(child: Child, spec: Any) -> dict[str, Any]:
        if child.module == "benchmarks.prepare":
            child = Child("trivial_child", "prepare")
        return original(child, spec)

    monkeypatch.setattr(runner, "run_child", run_child)
    yield cases
    sys.modules.pop("trivial_child", None)


def test_children_run_in_turn_and_a_failure_loses_nothing(children: dict[str, Case], tmp_path: Path) -> None:
    saved: list[list[dict[str, Any]]] = []
    settings = runner.Settings(repeats=2, keep=tmp_path)
    records = runner.measure(list(children.values()), settings, lambda _: None, lambda found: saved.append(list(found)))
    by_name = {record["case"]: record for record in records}
    assert by_name["peer"]["ratio"] == 3
    assert by_name["peer"]["tunesmith"] == 9
    assert by_name["broken"]["ratio"] is None
    assert "the disk is full" in by_name["broken"]["error"]
    assert (tmp_path / "trivial" / "order").read_text() == "abab"
    assert [entry[0]["repeats"] for entry in saved] == [1, 2]


def test_what_cannot_be_prepared_is_told(children: dict[str, Case]) -> None:
    settings = runner.Settings(rows=13, repeats=1)
    (record,) = runner.measure([children["peer"]], settings, lambda _: None, lambda _: None)
    assert "no such rows" in record["error"]


def test_the_command_writes_everything_and_ends_with_one_on_failure(
    children: dict[str, Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"found.{name}" for name in ("json", "markdown", "plot")}
    arguments = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    page = tmp_path / "page.md"
    page.write_text("<!-- table --><!-- /table -->")
    assert main(["--only", "peer", "--repeats", "1", *arguments, "--update", str(page)]) == 0
    (record,) = json.loads(files["json"].read_text())
    assert (record["case"], record["ratio"], record["data"]) == ("peer", 3, "made up")
    assert "--only peer" in record["command"]
    assert "`peer`" in capsys.readouterr().out
    assert "`peer`" in page.read_text()
    assert files["plot"].read_text().startswith("<svg")
    merged = ["--merge", "--json", str(files["json"])]
    assert main(["--only", "*", "--repeats", "1", "--rows", "7", *merged]) == 1
    assert "--only broken --rows 7 --repeats 1" in files["json"].read_text()
    files["json"].write_text(json.dumps([{**record, "case": "earlier"}]))
    assert main(["--only", "peer", "--repeats", "1", *merged]) == 0
    assert {one["case"] for one in json.loads(files["json"].read_text())} == {"peer", "earlier"}
    assert "broken failed" in capsys.readouterr().err
    assert set(children) == {"peer", "broken"}


@pytest.mark.parametrize(
    ("flag", "value"), [("--json", "nowhere/found.json"), ("--update", "nowhere.md"), ("--repeats", "0")]
)
def test_what_could_not_be_written_is_refused_before_measuring(
    flag: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--only", "cli-help", flag, value]) == 2
    assert f"{flag} {value}" in capsys.readouterr().err


def test_unknown_cases_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nothing-like-it"]) == 2
    assert "No case is called nothing-like-it" in capsys.readouterr().err


def test_cases_are_listed_and_chosen_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "frozen-*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["frozen-probe", "frozen-top2", "frozen-lora-top2"]
