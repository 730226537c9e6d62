"""Contests from end to end, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.evaluate import difference, score
from tunesmith.files.hashing import hash_bytes
from tunesmith.run import Run, RunConfig, Stopped
from tunesmith.run import finish as finish_module
from tunesmith.run.scores_file import read_scores
from tunesmith.study import Board, CompareConfig, Study, Watcher, run_contest
from tunesmith.study import contest_course as course_module
from tunesmith.study.time_budget import Cost
from tunesmith.types import InputError, Problem, RunError

Configure = Callable[..., RunConfig]


class Witness(Watcher):
    """Keeps what is said, and asks the process to stop when a training is under way."""

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at
        self.work: list[str] = []
        self.left: list[float | None] = []
        """What each piece of work began with: the seconds of everything to come."""
        self.problems: list[Problem] = []

    def changed(self, board: Board) -> None:
        if board.working not in self.work[-1:]:
            self.work.append(board.working)
            self.left.append(board.left)
        if self.stop_at and board.working == self.stop_at and board.progress and board.progress[0] == 3:
            self.stop_at = ""
            os.kill(os.getpid(), signal.SIGINT)

    def noted(self, problem: Problem) -> None:
        self.problems.append(problem)


def weights(folder: Path) -> dict[str, str]:
    """Return the hashes of all weights that a study's runs have saved."""
    found = sorted((folder / "runs").rglob("*.safetensors"))
    return {
        str(path.relative_to(folder)): hash_bytes(path.read_bytes()) for path in found if "checkpoints" not in str(path)
    }


def told(folder: Path) -> dict[str, Any]:
    """Return all of ``study.json`` that does not tell when, where and how fast."""
    record = Study(folder).record
    kept = {name: record[name] for name in ("comparisons", "expected_maximum", "test_openings", "margin")}
    values = {one["name"]: [(run["seed"], run["metrics"]) for run in one["runs"]] for one in record["methods"]}
    rates = {one["name"]: one["learning_rate"] for one in record["methods"]}
    tried = [(one["method"], one["learning_rate"], one["value"], one["stage"]) for one in record["tuning"]]
    return {**kept, "values": values, "rates": rates, "tried": sorted(tried)}


@pytest.mark.slow
def test_what_made_rows_are_worth_is_told_with_an_interval(asked: Callable[..., CompareConfig], reviews: Path) -> None:
    methods = "lora(rank=2),full,full+augment,lora(rank=2)+augment(factor=3)"
    folder = run_contest(asked(methods=methods, reference="lora(rank=2)", data={"path": str(reviews)}))
    study = Study(folder)
    runs = {
        one["name"]: [Run.open(folder / run["folder"]) for run in one["runs"]] for one in study.record["methods"][:4]
    }
    for name, own in runs.items():
        augment = own[0].config.data.augment
        assert (augment is not None) == ("+augment" in name)
        assert {run.summary["steps"] for run in own} == {8}, name  # as many as without
    environments = {name: own[0].directory.read_json("environment")["data"] for name, own in runs.items()}
    assert len({one["hashes"]["test"] for one in environments.values()}) == 1
    assert len({one["hashes"]["validation"] for one in environments.values()}) == 1
    assert len({one["hashes"]["train"] for one in environments.values()}) == 3
    means = {one["name"]: one["mean"] for one in study.methods}
    assert [(one["method"], one["reference"]) for one in study.augmentation] == [
        ("full+augment", "full"),
        ("lora(rank=2)+augment(factor=3)", "lora(rank=2)"),
    ]
    for one in study.augmentation:
        assert one["difference"] == pytest.approx(means[one["method"]] - means[one["reference"]])
        assert one["low"] <= one["difference"] <= one["high"]
        assert one["p"] >= one["p_alone"]
    assert "full+augment less full: accuracy" in study.worth_of_augmentation[0]
    page = study.write_reports().read_text(encoding="utf-8")
    assert "the same method without made rows" in page


def test_a_contest_tunes_judges_and_compares(asked: Callable[..., CompareConfig], tmp_path: Path) -> None:
    witness = Witness()
    folder = run_contest(asked(rates=3, budget="1h"), watchers=[witness])  # with a budget, costs are looked at first
    study = Study(folder)
    record = study.record
    assert record["status"] == "finished"
    assert [one["name"] for one in record["methods"]] == ["full", "lora(rank=2)", "tfidf"]
    for method in record["methods"][:2]:
        assert method["state"] == "done"
        assert method["seeds"] == 2
        assert method["low"] <= method["mean"] <= method["high"]
        for cost in ("seconds", "peak_memory", "trained_parameters", "size", "latency", "throughput"):
            assert method[cost] > 0, cost
        for run in method["runs"]:
            opened = Run.open(folder / run["folder"])
            assert opened.evaluation["metrics"]["accuracy"]["value"] == run["value"]
            assert opened.evaluation["split"] == "test"
            assert opened.config.train.learning_rate == method["learning_rate"]
            assert opened.config.train.seed == run["seed"]
        assert method["mean"] == pytest.approx(sum(run["value"] for run in method["runs"]) / 2)
    # Four rates each: three around the default and one more.
    for name in ("full", "lora(rank=2)"):
        tried = [one for one in record["tuning"] if one["method"] == name]
        assert len(tried) == 4
        assert sorted(one["stage"] for one in tried) == ["third", "whole", "whole", "whole"]
        assert record["expected_maximum"][name] == sorted(record["expected_maximum"][name])
        assert len(record["expected_maximum"][name]) == 4
        best = max(one["value"] for one in tried if one["stage"] == "whole")
        chosen = next(one for one in record["methods"] if one["name"] == name)["learning_rate"]
        assert next(one["value"] for one in tried if one["learning_rate"] == chosen) == best
    assert {one["method"] for one in record["comparisons"]} == {"lora(rank=2)", "tfidf"}
    assert record["test_openings"] == 4
    assert record["sharing"]["saved_seconds"] > 0
    settled = [json.loads(line) for line in (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    costs = [Cost(one["training"], one["finishing"]) for one in settled if one["kind"] == "settled"]
    tuning_begins = next(number for number, work in enumerate(witness.work) if "learning rate" in work)
    assert witness.left[tuning_begins] == pytest.approx(sum(cost.needed(rates=3, seeds=2) for cost in costs))
    assert study.verdict.endswith("on 16 test rows, 2 seeds).")
    assert study.best.predict(["a great film"])[0]["label"] in ("good", "bad")
    assert len(study.table) == 3
    assert not list((folder / "tuning").rglob("checkpoints"))
    json.dumps(record, allow_nan=False)


def test_the_test_rows_stay_sealed_while_rates_are_tuned(
    asked: Callable[..., CompareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuning ends before any run is finished; no trace of the test rows is in what it wrote."""
    opened: list[str] = []
    original = finish_module._judge
    witness = Witness()

    def judged(session: Any) -> Any:
        opened.append(session.judged_split)
        assert any("seed 1" in work for work in witness.work), "the test rows were opened while rates were tuned"
        return original(session)

    monkeypatch.setattr(finish_module, "_judge", judged)
    folder = run_contest(asked(rates=3, seeds=1), watchers=[witness])
    assert opened == ["test", "test"]
    tuned = list((folder / "tuning").glob("*/*"))
    assert len(tuned) == 8
    for place in tuned:
        assert not (place / "evaluation.json").exists()
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {line["split"] for line in lines if line["kind"] == "evaluation"} == {"validation"}


def test_a_contest_that_was_stopped_goes_on_to_the_same_result(
    asked: Callable[..., CompareConfig], tmp_path: Path
) -> None:
    seen = Witness()
    whole = run_contest(asked(rates=2, output=str(tmp_path / "whole")), watchers=[seen])
    tuning = next(work for work in seen.work if work.startswith("lora(rank=2), learning rate"))
    config = asked(rates=2, output=str(tmp_path / "stopped"))
    for stop_at in (tuning, "full, seed 2"):
        witness = Witness(stop_at)
        with pytest.raises(Stopped, match="the same command"):
            run_contest(config, watchers=[witness])
        assert witness.work[-1] == stop_at
    stopped = run_contest(config)
    assert told(stopped) == told(whole)
    assert weights(stopped) == weights(whole)


def test_a_finished_contest_is_not_made_again(asked: Callable[..., CompareConfig]) -> None:
    config = asked(seeds=1)
    folder = run_contest(config)
    before, record = weights(folder), told(folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.safetensors")}
    run_contest(config)
    assert told(folder) == record
    assert weights(folder) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_another_question_is_refused_in_the_same_folder(asked: Callable[..., CompareConfig], tmp_path: Path) -> None:
    folder = run_contest(asked(seeds=1))
    with pytest.raises(InputError, match="other values of seeds"):
        run_contest(asked(seeds=2))
    run_contest(asked(seeds=1, budget="10h"))  # how long it may take is no part of the question
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not a study"):
        run_contest(asked(output=str(tmp_path / "other")))
    assert (tmp_path / "other" / "notes.txt").exists()
    run_contest(asked(seeds=2), overwrite=True)
    assert Study(folder).record["seeds"] == [1, 2]


def test_differences_are_those_of_the_kept_scores(asked: Callable[..., CompareConfig]) -> None:
    """With one seed, the difference is the paired one of two models; the words say so."""
    folder = run_contest(asked(seeds=1, train={"learning_rate": 1e-2}))
    record = Study(folder).record
    kept = [read_scores(folder / "runs" / name / "seed-1" / "scores.npz") for name in ("lora-rank-2", "full")]
    task = Run.open(folder / "runs" / "full" / "seed-1").task
    scores = [score(task, one.outputs, one.targets, seed=0, num_resamples=100) for one in kept]
    expected = difference(scores[0], scores[1], 0.95)["accuracy"]["value"]
    found = next(one for one in record["comparisons"] if one["method"] == "lora(rank=2)")
    assert found["difference"] == pytest.approx(expected)
    assert found["scope"] == "models"
    assert "this model of" in record["verdict"]
    assert any("these models" in note for note in record["notes"])


def test_a_method_that_fails_is_recorded_and_the_others_go_on(
    asked: Callable[..., CompareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.study import contest_runs

    original = contest_runs.train

    def train(config: RunConfig, **options: Any) -> Path:
        if config.method.name == "lora" and config.train.seed == 2:
            raise RunError("Training has diverged: after step 3 weights are not finite numbers.\n  → Lower the rate.")
        return original(config, **options)

    monkeypatch.setattr(contest_runs, "train", train)
    witness = Witness()
    folder = run_contest(asked(), watchers=[witness])
    method = next(one for one in Study(folder).record["methods"] if one["name"] == "lora(rank=2)")
    assert method["state"] == "failed"
    assert "diverged" in method["reason"]
    assert [run["state"] for run in method["runs"]] == ["done", "failed"]
    assert [one["method"] for one in Study(folder).record["comparisons"]] == ["tfidf"]
    assert any(problem.severity == "warning" and "diverged" in str(problem) for problem in witness.problems)


def test_what_does_not_fit_is_refused_before_anything_is_trained(
    asked: Callable[..., CompareConfig], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"freeze\(layers=9\).*9, but the model has 2 layers") as refusal:
        run_contest(asked(methods="full,freeze(layers=9),lora(target_modules=[nowhere])"))
    assert "nowhere" in str(refusal.value)
    assert not (tmp_path / "study").exists()


def test_rows_that_choose_cannot_judge(asked: Callable[..., CompareConfig], reviews: Path) -> None:
    with pytest.raises(InputError, match="no test rows"):
        run_contest(asked(data={"path": str(reviews), "validation": str(reviews)}))
    with pytest.raises(InputError, match="no validation rows"):
        run_contest(asked(rates=3, data={"path": str(reviews), "validation_fraction": 0.0}))
    with pytest.raises(InputError, match="no metric 'acuracy'"):
        run_contest(asked(metric="acuracy"))


def test_test_rows_that_were_opened_before_are_told_of(asked: Callable[..., CompareConfig], tmp_path: Path) -> None:
    data = {"path": str(tmp_path / "rows.csv")}
    rows = [f'"{"great" if i % 2 else "dull"} film {i}",{"good" if i % 2 else "bad"}' for i in range(120)]
    (tmp_path / "rows.csv").write_text("review,sentiment\n" + "\n".join(rows) + "\n", encoding="utf-8")
    first, second = Witness(), Witness()
    run_contest(asked(seeds=1, data=data, output=str(tmp_path / "a")), watchers=[first])
    run_contest(asked(seeds=1, data=data, output=str(tmp_path / "b")), watchers=[second])
    assert not any("opened before" in str(problem) for problem in first.problems)
    assert any("opened before" in str(problem) for problem in second.problems)


@pytest.mark.slow
def test_a_budget_cuts_rates_and_seeds_and_says_so(asked: Callable[..., CompareConfig]) -> None:
    folder = run_contest(asked(rates=5, seeds=99, budget="20s"))
    record = Study(folder).record
    assert record["budget"]["cuts"]
    assert any("learning rate" in cut for cut in record["budget"]["cuts"])
    done = [sum(run["state"] == "done" for run in one["runs"]) for one in record["methods"] if one["runs"]]
    assert len(set(done)) == 1  # as many seeds for each
    assert 1 <= done[0] < 99


def test_more_time_is_for_the_seeds_that_were_left_out(
    asked: Callable[..., CompareConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rates that were tried stay those that were tried, since runs were judged with the best of them."""
    with monkeypatch.context() as patch:
        patch.setattr(course_module, "OVERRUN", 0.0)  # nothing that can be left out is worth the time
        folder = run_contest(asked(rates=3, seeds=2, budget="1h"))
    before = Study(folder).record
    assert [one["seeds"] for one in before["methods"][:2]] == [1, 1]
    assert any("1 seed of each method instead of 2" in cut for cut in before["budget"]["cuts"])
    again = Study(run_contest(asked(rates=3, seeds=2, budget="1h"))).record
    assert again["test_openings"] == before["test_openings"] == 2
    after = Study(run_contest(asked(rates=3, seeds=2, budget="2h"))).record
    assert [one["seeds"] for one in after["methods"][:2]] == [2, 2]
    assert after["test_openings"] == 4
    assert after["tuning"] == before["tuning"]
    first = [[run["metrics"] for run in one["runs"][:1]] for one in before["methods"][:2]]
    assert first == [[run["metrics"] for run in one["runs"][:1]] for one in after["methods"][:2]]


def test_a_budget_too_short_is_refused(asked: Callable[..., CompareConfig]) -> None:
    with pytest.raises(InputError, match="too short for a comparison"):
        run_contest(asked(budget="1s"))


def test_language_models_are_compared_with_themselves_and_by_what_they_forget(
    asked: Callable[..., CompareConfig], llama_folder: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"what film {i}?", "completion": ("great", "dull")[i % 2]} for i in range(100)]
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = run_contest(asked(seeds=1, model=str(llama_folder), data=str(data), train={"epochs": 1}))
    record = Study(folder).record
    assert record["metric"] == "perplexity"
    assert not record["higher_is_better"]
    assert record["methods"][-1]["name"] == "untuned"
    for method in record["methods"][:2]:
        change = method["forgetting"]
        assert change["difference"] == pytest.approx(change["after"] - change["before"])
        assert change["low"] <= change["difference"] <= change["high"]
        assert record["methods"][0]["forgetting"]["before"] == change["before"]
