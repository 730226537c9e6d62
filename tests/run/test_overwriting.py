"""Replacing a run: the old one stays until the new one is complete, and nothing but its own files ever goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.config.build import build
from tunesmith.files import operations
from tunesmith.files.ownership import owned_files
from tunesmith.methods.lora import Lora
from tunesmith.run import Observer, Run, RunConfig, train
from tunesmith.types import InputError, RunError, StepInfo

Configure = Callable[..., RunConfig]
QUICK = {"max_steps": 4, "evaluate_steps": 4}
SAVED = {"checkpoint_steps": 2}
JUDGED = {"num_resamples": 0, "baseline": False}


class Crash(BaseException):
    """Ends a run in process as a kill would."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, reviews: Path, bert_folder: Path) -> Path:
    """Return a finished run that tests copy."""
    place = tmp_path_factory.mktemp("made") / "run"
    values = {"model": str(bert_folder), "data": str(reviews), "output": str(place), "evaluation": JUDGED}
    settings = {"precision": "fp32", "batch_size": 16, "epochs": 2, "early_stopping": {"patience": "never"}, **QUICK}
    method = {"name": "full", "head_factor": 1.0}
    return train(build(RunConfig, {**values, "train": settings, "compute": SAVED, "method": method}))


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def other(configured: Configure, finished: Path) -> RunConfig:
    """Return the configuration of a run that is to replace the finished one."""
    return configured(output=str(finished), train={**QUICK, "seed": 7}, compute=SAVED, evaluation=JUDGED)


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(".lock")}


def test_a_typo_leaves_the_finished_run_as_it_was(other: RunConfig, finished: Path) -> None:
    before = contents(finished)
    for wrong in (
        {"data": other.data.changed(path=f"{other.data.path}x")},
        {"model": other.model.changed(name="no/such/folder")},
        {"compute": other.compute.changed(device="cuda:77")},
        {"data": other.data.changed(columns={"label": "sentimnt"})},
    ):
        with pytest.raises(InputError):
            train(other.model_copy(update=wrong), overwrite=True)
        assert contents(finished) == before


def test_the_old_run_can_be_used_until_the_new_one_is_complete(other: RunConfig, finished: Path) -> None:
    before = contents(finished)
    seen = []

    class Look(Observer):
        def stepped(self, info: StepInfo, total_steps: int) -> None:
            now = contents(finished)
            seen.append({name: now[name] for name in before} == before)
            Run.open(finished)

        def noted(self, problem: object) -> None:
            pass

    train(other, overwrite=True, observers=[Look()])
    assert seen == [True] * 4
    run = Run.open(finished)
    assert run.config.train.seed == 7
    assert not (finished / ".new").exists()
    assert set(contents(finished)) - {name for name in contents(finished) if name.startswith("tensorboard")} == {
        name for name in before if not name.startswith("tensorboard")
    }


def test_what_is_not_the_runs_survives(other: RunConfig, finished: Path, made: Path) -> None:
    kept = {
        "photo.jpg": b"\xff\xd8",
        ".git/HEAD": b"ref: refs/heads/main",
        "data/reviews.csv": b"text,label",
        "checkpoints/notes.txt": b"step 2 looks best",
        "checkpoints/step-2/diary.txt": b"tuesday",
        "tensorboard/other/events.out.tfevents.1": b"of another run",
        "seed-1/config.yaml": (made / "config.yaml").read_bytes(),
        "seed-1/manifest.json": (made / "manifest.json").read_bytes(),
    }
    for name, content in kept.items():
        (finished / name).parent.mkdir(parents=True, exist_ok=True)
        (finished / name).write_bytes(content)
    train(other, overwrite=True)
    now = contents(finished)
    assert {name: now.get(name) for name in kept} == kept
    assert Run.open(finished).config.train.seed == 7
    listed = json.loads((finished / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert not set(listed) & set(kept), "and none of it is the run's from now on"


@pytest.mark.parametrize("name", ["README.md", "report.html", "rejected.jsonl"])
def test_pages_that_were_written_by_hand_are_not_replaced(other: RunConfig, finished: Path, name: str) -> None:
    (finished / name).write_text("what I think of this model", encoding="utf-8")
    with pytest.raises(InputError, match=name):
        train(other, overwrite=True)
    assert (finished / name).read_text(encoding="utf-8") == "what I think of this model"


@pytest.mark.parametrize("also", [{}, {"manifest.json": "{}"}, {"manifest.json": '{"files": {}}', "metrics.jsonl": ""}])
def test_a_folder_that_merely_holds_a_configuration_is_not_ours(
    other: RunConfig, tmp_path: Path, made: Path, also: dict[str, str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(made / "config.yaml", folder / "config.yaml")
    for name, text in {**also, "thesis.tex": "chapter one"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = contents(folder)
    with pytest.raises(InputError, match="not a run of tunesmith"):
        train(other.model_copy(update={"output": str(folder)}), overwrite=True)
    assert contents(folder) == before


def test_a_run_is_not_made_from_what_it_replaces(other: RunConfig, finished: Path) -> None:
    before = contents(finished)
    (finished.parent / "link").symlink_to(finished / "predictions.parquet")
    for inputs in (
        {"data": other.data.changed(path=str(finished / "predictions.parquet"))},
        {"data": other.data.changed(path=str(finished.parent / "link"))},
        {"data": other.data.changed(test=str(finished / ".." / finished.name / "predictions.parquet"))},
        {"model": other.model.changed(name=str(finished))},
    ):
        with pytest.raises(InputError, match="--overwrite would remove"):
            train(other.model_copy(update=inputs), overwrite=True)
        assert contents(finished) == before


def test_an_adapter_keeps_its_base(other: RunConfig, finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    settings = {"method": Lora(rank=2), "output": str(tmp_path / "adapter")}
    adapter = train(other.model_copy(update={"model": other.model.changed(name=str(finished)), **settings}))
    with pytest.raises(InputError, match=r"The base of model\.name is part of the run in .* --overwrite would remove"):
        train(other.model_copy(update={"model": other.model.changed(name=str(adapter))}), overwrite=True)
    assert contents(finished) == before


def test_a_file_in_the_way_of_the_new_run_is_kept(other: RunConfig, finished: Path) -> None:
    class PutThere(Observer):
        def stepped(self, info: StepInfo, total_steps: int) -> None:
            if info.step == 2:
                (finished / "evaluation.json").unlink()
                (finished / "evaluation.json").mkdir()
                (finished / "evaluation.json" / "own.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(RunError, match=r"evaluation\.json is in its way"):
        train(other, overwrite=True, observers=[PutThere()])
    shutil.move(finished / "evaluation.json", finished.parent / "moved")
    train(other, resume=True)
    assert Run.open(finished).config.train.seed == 7
    assert (finished.parent / "moved" / "own.txt").exists()


def crash_during_replacement(config: RunConfig, monkeypatch: pytest.MonkeyPatch, number: int) -> bool:
    """Crash at the ``number``-th operation after the new run was sealed; say whether there was one."""
    folder = Path(config.output or "")
    seen = 0

    def hook(operation: str, path: Path) -> None:
        nonlocal seen
        if (folder / ".new" / "manifest.json").exists() or seen:
            seen += 1
            if seen >= number:
                raise Crash

    monkeypatch.setattr(operations, "on_operation", hook)
    try:
        train(config, overwrite=True)
    except Crash:
        return True
    finally:
        monkeypatch.setattr(operations, "on_operation", None)
    return False


@pytest.mark.parametrize("number", [1, 2, 4, 7, 15, 25, 34, 40])
def test_a_kill_while_a_run_is_replaced_leaves_none_that_is_half_there(
    other: RunConfig, finished: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    old = contents(finished)
    assert crash_during_replacement(other, monkeypatch, number)
    now = contents(finished)
    if (finished / "manifest.json").exists():
        seed = Run.open(finished).config.train.seed
        assert seed == 7 or {name: now.get(name) for name in old} == old, "openable, then whole"
    else:
        with pytest.raises(InputError, match="--resume"):
            Run.open(finished)
    train(other, resume=True)
    run = Run.open(finished)
    assert run.config.train.seed == 7
    assert {name.split("/")[0] for name in contents(finished)} == {name.split("/")[0] for name in old}
    assert set(contents(finished)) == set(owned_files(finished) or ()), "nothing of the old run is left"


def test_an_interrupted_replacement_is_resumed_or_begun_anew(
    other: RunConfig, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(operation: str, path: Path) -> None:
        if path.name == "step-4":
            raise Crash

    monkeypatch.setattr(operations, "on_operation", hook)
    with pytest.raises(Crash):
        train(other, overwrite=True)
    monkeypatch.setattr(operations, "on_operation", None)
    assert Run.open(finished).config.train.seed == 0, "the old run is whole"
    with pytest.raises(InputError, match="to replace another one"):
        train(other)
    with pytest.raises(InputError, match=r"train\.seed"):
        train(other.model_copy(update={"train": other.train.changed(seed=8)}), resume=True)
    with pytest.raises(InputError):
        train(other.model_copy(update={"data": other.data.changed(path="nowhere.csv")}), overwrite=True)
    steps = []

    class Count(Observer):
        def stepped(self, info: StepInfo, total_steps: int) -> None:
            steps.append(info.step)

    train(other, resume=True, observers=[Count()])
    assert steps == [3, 4], "from the checkpoint of the new run"
    assert Run.open(finished).config.train.seed == 7


def test_resuming_a_finished_run_with_other_settings_is_refused(
    configured: Configure, made: Path, finished: Path
) -> None:
    def ask(**sections: object) -> RunConfig:
        settings = {**QUICK, "learning_rate": None, **sections.pop("train", {})}  # type: ignore[dict-item]
        return configured(output=str(finished), train=settings, compute=SAVED, evaluation=JUDGED, **sections)

    assert train(ask(), resume=True) == finished
    assert train(ask(data={"path": str(ask().data.path), "columns": {"label": " sentiment "}}), resume=True) == finished
    for changed, named in (
        (ask(data={"path": str(ask().data.path), "columns": {"label": "review"}}), r"data\.columns\.label"),
        (ask(model={"name": ask().model.name, "revision": "b" * 40}), r"model\.revision"),
        (ask(train={"seed": 3, "max_steps": 9}), r"train\.max_steps, train\.seed"),
        (ask(method="lora"), r"method\.name"),
        (ask(data=str(made / "predictions.parquet")), r"data\.path"),
        (ask(train={"learning_rate": 0.5}), r"train\.learning_rate"),
    ):
        with pytest.raises(InputError, match=f"is finished, and it was made with other values of.*{named}"):
            train(changed, resume=True)


def test_a_finished_run_that_has_lost_a_file_is_not_called_finished(configured: Configure, finished: Path) -> None:
    (finished / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        settings = {**QUICK, "learning_rate": None}
        train(configured(output=str(finished), train=settings, compute=SAVED, evaluation=JUDGED), resume=True)
