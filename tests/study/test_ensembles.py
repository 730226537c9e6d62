"""Several tiny runs made one: what is averaged, merged and refused."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tunesmith
from tiny import tiny_folder
from tunesmith.cli.application import run as command
from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.data.encoded import as_ragged
from tunesmith.models.quiet import quiet
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.predictor import TrainedModel
from tunesmith.study import ensemble as module
from tunesmith.study.ensemble import make_ensemble
from tunesmith.study.ensemble_config import EnsembleConfig
from tunesmith.types import InputError

WORDS = ("great", "warm", "dull", "slow")
TEXTS = ["this great film 3", "a dull plot", "warm and slow"]
Make = Callable[[int], dict[str, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ensembles")


def write_rows(path: Path, make: Make, number: int = 120) -> Path:
    draw = random.Random(0)
    rows = [{"text": f"this {WORDS[i % 4]} {draw.choice(WORDS)} {i}", **make(i)} for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trained(place: Path, name: str, **sections: Any) -> Path:
    folder = place / name
    settings = {"max_steps": 8, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    own = {**settings, "early_stopping": {"patience": "never"}, **sections.pop("train", {})}
    values = {"evaluation": {"num_resamples": 20, "baseline": False}, **sections, "output": str(folder)}
    return train(build(RunConfig, {**values, "train": own}))


@pytest.fixture(scope="module")
def rows(place: Path) -> Path:
    return write_rows(place / "rows.jsonl", lambda i: {"label": "good" if i % 4 < 2 else "bad"})


@pytest.fixture(scope="module")
def bert(place: Path) -> Path:
    return tiny_folder(place / "models")


@pytest.fixture(scope="module")
def runs(place: Path, rows: Path, bert: Path) -> dict[str, Path]:
    """Return runs on the same rows: two of one base, three adapters, another tokenizer, labels in another order."""
    shared: dict[str, Any] = {"data": str(rows), "model": str(bert)}
    lora = {"name": "lora", "rank": 2}
    return {
        "first": trained(place, "first", **shared),
        "second": trained(place, "second", **shared, train={"seed": 1}),
        "lora": trained(place, "lora", **shared, method=lora),
        "rslora": trained(place, "rslora", **shared, method={**lora, "rank": 4, "rslora": True}, train={"seed": 1}),
        "dora": trained(place, "dora", **shared, method={**lora, "dora": True, "bias": "all"}, train={"seed": 2}),
        "cnn": trained(place, "cnn", data=str(rows), model="cnn"),
        "turned": trained(place, "turned", **shared, task={"name": "classification", "labels": ["good", "bad"]}),
    }


def probabilities(folder: Path) -> list[float]:
    return [one["probabilities"]["good"] for one in Run.open(folder).predict(TEXTS)]


def combine(runs: dict[str, Path], names: list[str], output: Path, **options: Any) -> Path:
    return make_ensemble([runs[name] for name in names], output, build(EnsembleConfig, options))


def test_an_average_is_the_mean_of_what_members_answer(runs: dict[str, Path], tmp_path: Path) -> None:
    names, weights = ["first", "cnn", "turned", "lora"], [4.0, 3.0, 2.0, 1.0]
    folder = combine(runs, names, tmp_path / "all", weights=weights)
    expected = np.average([probabilities(runs[name]) for name in names], axis=0, weights=weights)
    assert probabilities(folder) == pytest.approx(expected.tolist(), abs=1e-6)
    run = Run.open(folder)
    again = run.evaluate()
    for metric, interval in run.evaluation["metrics"].items():
        assert again["metrics"][metric]["value"] == pytest.approx(interval["value"], abs=1e-6), metric
    beside = {one["name"].split(",")[0]: one for one in run.evaluation["beside"]}
    assert set(beside) == set(names)
    assert run.evaluation["beside"][0]["name"].endswith("the best on the validation rows")
    for name, one in beside.items():
        own = Run.open(runs[name]).evaluation["metrics"]["accuracy"]["value"]
        assert one["metrics"]["accuracy"]["value"] == pytest.approx(own)
        gap = run.evaluation["metrics"]["accuracy"]["value"] - own
        assert one["difference"]["accuracy"]["value"] == pytest.approx(gap)
    with pytest.raises(InputError, match="has no model of its own"):
        _ = run.network
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "An ensemble of 4 runs" in card
    assert "| turned | 0.200 |" in card


def test_members_are_what_they_were(runs: dict[str, Path], tmp_path: Path) -> None:
    own = {name: Path(shutil.copytree(runs[name], tmp_path / name)) for name in ("first", "cnn")}
    named = combine(own, ["first", "cnn"], tmp_path / "named")
    copied = combine(own, ["first", "cnn"], tmp_path / "copied", copies=True)
    expected = probabilities(named)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("first", "cnn", "named"):
        shutil.move(tmp_path / name, moved / name)
    assert probabilities(moved / "named") == expected
    metrics = moved / "cnn" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        probabilities(moved / "named")
    shutil.rmtree(moved / "cnn")
    with pytest.raises(InputError, match="is gone"):
        probabilities(moved / "named")
    shutil.copytree(runs["second"], moved / "cnn")
    with pytest.raises(InputError, match="is another run now"):
        probabilities(moved / "named")
    assert probabilities(copied) == pytest.approx(expected, abs=1e-7)


def test_stacking_learns_from_validation_rows_or_from_folds(runs: dict[str, Path], tmp_path: Path) -> None:
    folder = combine(runs, ["first", "cnn"], tmp_path / "stack", how="stack")
    run = Run.open(folder)
    assert any("12 validation rows" in problem["message"] for problem in run.summary["problems"])
    again = run.evaluate()["metrics"]["log_loss"]["value"]
    assert again == pytest.approx(run.evaluation["metrics"]["log_loss"]["value"], abs=1e-6)
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".joblib", ".bin")]
    for name in ("first", "cnn"):  # what a cross-validation leaves: of every fold the rows that it held out
        study = tmp_path / f"study-{name}"
        study.mkdir()
        shutil.copy(runs[name] / "predictions.parquet", study)
        content = {"kind": "cross-validation", "predictions": "predictions.parquet"}
        (study / "study.json").write_text(json.dumps(content))
    studies = [str(tmp_path / f"study-{name}") for name in ("first", "cnn")]
    found = combine(runs, ["first", "cnn"], tmp_path / "folds", how="stack", out_of_fold=studies)
    record = json.loads((found / "ensemble.json").read_text())
    assert record["weighted_by"] == "12 rows that folds held out"
    assert np.shape(record["stacker"]["weights"]) == (2, 2)
    with pytest.raises(InputError, match="2 runs and 1 cross-validations"):
        combine(runs, ["first", "cnn"], tmp_path / "few", how="stack", out_of_fold=studies[:1])
    with pytest.raises(InputError, match="no study"):
        combine(runs, ["first", "cnn"], tmp_path / "none", how="stack", out_of_fold=[str(tmp_path)] * 2)


def plain(folder: Path) -> list[float]:
    """Return what plain ``transformers`` says of the texts."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet(), torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        scores = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    good = model.config.label2id["good"]
    return [float(one.double().softmax(-1)[good]) for one in scores]


def test_a_soup_is_a_run_of_mean_weights(runs: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = combine(runs, ["first", "second"], tmp_path / "soup", how="soup", selection="uniform")
    parts = [load_file(runs[name] / "model.safetensors") for name in ("first", "second")]
    for name, value in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)
    assert plain(folder) == pytest.approx(probabilities(folder), abs=1e-5)
    run = Run.open(folder)
    assert run.config.method.name == "full"
    assert run.evaluate()["metrics"] == run.evaluation["metrics"]
    assert "the mean of their weights" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_greedy_soup_leaves_out_what_makes_it_worse(place: Path, rows: Path, bert: Path, tmp_path: Path) -> None:
    shared: dict[str, Any] = {"data": str(rows), "model": str(bert)}
    good = trained(place, "good", **shared, train={"max_steps": 60})
    spoilt = trained(place, "spoilt", **shared, train={"learning_rate": 1.0})
    made = Run.open(make_ensemble([spoilt, good], tmp_path / "greedy", EnsembleConfig(how="soup"))).summary
    assert made["made_of"]["weights"] == [0.0, 1.0]
    assert any("it is that run" in problem["message"] for problem in made["problems"])


ADAPTERS = ["lora", "rslora", "dora"]


def weights_of(runs: dict[str, Path], name: str) -> dict[str, torch.Tensor]:
    """Return all weights of a run with its adapter merged by PEFT alone."""
    network = TrainedModel(Run.open(runs[name]).directory, Run.open(runs[name]).config).network
    model: Any = network.model
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return {name: value.clone() for name, value in merged.state_dict().items()}


@pytest.mark.parametrize("how", ["linear", "ties", "dare"])
def test_merged_adapters_are_what_they_are_together(runs: dict[str, Path], tmp_path: Path, how: str) -> None:
    from safetensors.torch import load_file

    options = {} if how == "linear" else {"density": 1.0}
    weights = [2.0, 1.0, 1.0]
    folder = combine(runs, ADAPTERS, tmp_path / how, how=how, weights=weights, **options)
    assert plain(folder) == pytest.approx(probabilities(folder), abs=1e-5)
    assert Run.open(folder).evaluate()["metrics"] == Run.open(folder).evaluation["metrics"]
    found, parts = load_file(folder / "model.safetensors"), [weights_of(runs, name) for name in ADAPTERS]
    for name, value in found.items():
        mean = sum(weight / 4 * part[name] for weight, part in zip(weights, parts, strict=True))
        if how in ("linear", "dare") or "classifier" in name:  # DARE that drops nothing is linear
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-5)


def test_nothing_is_written_that_is_not_what_the_runs_are(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = module.averaged_weights

    def wrong(*given: Any) -> Any:
        merged = merge(*given)
        name = next(name for name in merged.state if "query.weight" in name)
        merged.state[name].mul_(1.5)
        return merged

    monkeypatch.setattr(module, "averaged_weights", wrong)
    with pytest.raises(InputError, match="The runs were not merged"):
        combine(runs, ["lora", "rslora"], tmp_path / "wrong", how="linear")
    assert not (tmp_path / "wrong").exists()


TASKS: dict[str, tuple[str, Make]] = {
    "multi-label": ("classification", lambda i: {"label": list(WORDS[: i % 3 + 1])}),
    "regression": ("regression", lambda i: {"label": i % 9 / 2}),
    "entities": (
        "token_classification",
        lambda i: {"tokens": ["this", WORDS[i % 4], f"film{i}"], "tags": ["O", "B-X" if i % 2 else "O", "O"]},
    ),
    "texts": ("causal_lm", lambda i: {}),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_averaged_by_its_answers(place: Path, bert: Path, tmp_path: Path, task: str) -> None:
    name, make = TASKS[task]
    data = str(write_rows(tmp_path / "rows.jsonl", make))
    model = tiny_folder(tmp_path, "llama", head="causal") if name == "causal_lm" else bert
    settings = [{}, {"crf": True}] if task == "entities" else [{}, {}]
    members = [
        trained(
            tmp_path,
            f"member-{n}",
            data=data,
            model=str(model),
            task={"name": name, **own},
            train={"seed": n, "max_steps": 4},
        )
        for n, own in enumerate(settings)
    ]
    folder = make_ensemble(members, tmp_path / "all", EnsembleConfig(weights="tuned"))
    whole = Run.open(folder)
    weights = whole.summary["made_of"]["weights"]
    assert sum(weights) == pytest.approx(1.0)
    again = whole.evaluate()
    for metric, interval in whole.evaluation["metrics"].items():
        assert again["metrics"][metric]["value"] == pytest.approx(interval["value"], abs=1e-5, nan_ok=True), metric
    models = [Run.open(member).predictor for member in members]
    if name == "causal_lm":
        encoded = Run.open(members[0]).network.encode(whole.task, {"text": TEXTS})
        losses = [as_ragged(one.tokens(whole.task, encoded).outputs["loss"]).values for one in models]
        likely = sum(weight * np.exp(-loss) for weight, loss in zip(weights, losses, strict=True))
        found = as_ragged(whole.predictor.tokens(whole.task, encoded).outputs["loss"]).values
        assert found == pytest.approx(-np.log(likely), abs=1e-5)
        with pytest.raises(InputError, match="writes no answers"):
            whole.predict(["this"])
        return
    columns = whole.task.complete({"text": TEXTS})
    answers = [one.answers(columns) for one in (*models, whole.predictor)]
    first, second, mean = (np.asarray(getattr(one, "values", one)) for one in answers)
    assert mean == pytest.approx(weights[0] * first + weights[1] * second, abs=1e-6)
    json.dumps(whole.predict(TEXTS))


def test_what_does_not_fit_is_refused(runs: dict[str, Path], place: Path, bert: Path, tmp_path: Path) -> None:
    def refuse(message: str, names: list[str], **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            combine(runs | others, names, tmp_path / "refused", **options)
        assert not (tmp_path / "refused").exists()

    numbers = str(write_rows(tmp_path / "numbers.jsonl", lambda i: {"label": i % 9 / 2}))
    three = str(write_rows(tmp_path / "three.jsonl", lambda i: {"label": ("good", "bad", "fine")[i % 3]}))
    short = {"train": {"max_steps": 1}, "model": str(bert)}
    others = {
        "number": trained(tmp_path, "number", data=numbers, **short),
        "three": trained(tmp_path, "three", data=three, **short),
    }
    others["whole"] = combine(runs, ["first", "cnn"], tmp_path / "whole")
    refuse("two runs or more", ["first"])
    refuse("named twice", ["first", "first"])
    refuse("is an ensemble itself", ["first", "whole"])
    refuse("not of one task", ["first", "number"])
    refuse("other labels: none in the first alone, fine in the second alone", ["first", "three"])
    refuse("trained from scratch", ["first", "cnn"], how="soup")
    refuse("labels of turned are in another order", ["first", "turned"], how="soup")
    refuse("2 runs and 3 weights", ["first", "cnn"], weights=[1, 1, 1])
    for wrong in ({"copies": True, "how": "soup"}, {"density": 0.5}, {"how": "stack", "weights": "tuned"}):
        with pytest.raises(ConfigError):
            build(EnsembleConfig, wrong)


def test_commands_and_a_teacher_of_several(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "all")
    assert command(["ensemble", str(runs["first"]), str(runs["cnn"]), "--output", folder, "--weights", "tuned"]) == 0
    assert "Accuracy" in capsys.readouterr().out
    assert command(["predict", folder, "--text", TEXTS[0]]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in ("good", "bad")
    assert command(["evaluate", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] >= 0
    page = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert "Average of 2 runs" in page
    assert "On the same rows" in page
    student, short = str(tmp_path / "student"), ["--train.max_steps", "3", "--quiet"]
    told = ["distill", "--teacher", folder, "--model", "lstm", "--mix", "0.7", "--output", student, *short]
    assert command(told) == 0
    run = Run.open(student)
    assert run.config.teacher is not None
    assert (run.config.teacher.mix, run.config.teacher.run) == (0.7, folder)
    assert run.evaluation["beside"][0]["name"] == "the teacher (average of 2 runs)"
    assert not any("not those of the teacher" in problem["message"] for problem in run.summary["problems"])
    assert "learned from a teacher" in (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert command(["distill", "--model", "lstm"]) == 2
    assert "no teacher to learn from" in capsys.readouterr().err
    assert command(["ensemble", folder, str(runs["cnn"]), "--output", str(tmp_path / "x"), "--weights", "a,b"]) == 2
    assert "expected equal, tuned, or numbers" in capsys.readouterr().err


def test_in_python(runs: dict[str, Path], tmp_path: Path) -> None:
    whole = tunesmith.ensemble([runs["first"], Run.open(runs["cnn"])], output=tmp_path / "all")
    train_settings = {"max_steps": 2, "precision": "fp32"}
    student = tunesmith.distill(
        whole, model="cnn", unlabelled=["a text", "another text"], output=tmp_path / "student", train=train_settings
    )
    assert student.summary["rows"]["unlabelled"] == 2
    assert (student.folder / "report.html").exists()
