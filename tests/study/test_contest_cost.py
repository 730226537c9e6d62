"""What a contest does beside its steps: counted, since seconds vary, and shown to change no result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tunesmith.engine import checkpoint, kept_memory, layout, memory_needs
from tunesmith.engine.snapshot import Snapshot
from tunesmith.files import operations
from tunesmith.files.hashing import hash_bytes
from tunesmith.models import OTHER_MODELS
from tunesmith.run import Run, RunConfig, Workshop, composition, kept_states, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.kept_states import KeptStates
from tunesmith.study import CompareConfig, Study, run_contest, training_process, workplace

Ask = Callable[..., CompareConfig]


class Crash(BaseException):
    """Ends a contest in process as a kill would: nothing that catches errors sees it."""


def curves(folder: Path) -> dict[str, Any]:
    """Return the losses and validation figures of every trial."""
    found = {}
    for path in sorted(folder.glob("tuning/*/*/metrics.jsonl")):
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found[f"{path.parts[-3]}/{path.parts[-2]}"] = [
            {key: value for key, value in line.items() if key != "seconds"} for line in lines
        ]
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a contest found: trials, weights, figures, verdict."""
    record = Study(folder).record
    tensors = {
        str(path.relative_to(folder)): hash_bytes(path.read_bytes())
        for path in sorted(folder.glob("runs/*/*/*.safetensors"))
    }
    values = {one["name"]: [run["value"] for run in one["runs"]] for one in record["methods"]}
    return {"curves": curves(folder), "tensors": tensors, "values": values, "comparisons": record["comparisons"]}


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is made from now on."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def called(*arguments: Any, **settings: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, called)

    count(OTHER_MODELS, "load")
    count(composition, "make_network")
    count(layout, "_layout_difference")
    count(kept_memory, "measure_kept")
    count(memory_needs, "state_bytes")
    count(Snapshot, "write")
    return counts


def test_a_contest_makes_once_what_its_trainings_share(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted(monkeypatch)
    folder = run_contest(asked(rates=3, seeds=2))
    assert Study(folder).record["status"] == "finished"
    # Two methods: 8 trials in 12 trainings, since 4 of them are gone on with, and 4 runs that count.
    assert counts["load"] == 1
    assert counts["make_network"] == 2 + 4  # the trials of a method have one; a seed begins with weights of its own
    assert counts["_layout_difference"] == 2
    assert counts["measure_kept"] <= 2 * 2 * 2  # two lengths, at most once a method and a cut of the rows
    assert counts["state_bytes"] == 2
    assert counts["write"] == 0
    tuning = sum(path.stat().st_size for path in (folder / "tuning").rglob("*") if path.is_file())
    assert tuning < 8 * 30_000  # configuration, surroundings and curves


@pytest.mark.parametrize(
    ("precision", "methods"),
    [
        ("bf16", "lora(rank=2,dropout=0.1),full"),
        *(pytest.param(one, "freeze,bitfit,ia3,dora,full,lora", marks=pytest.mark.slow) for one in ("fp32", "bf16")),
    ],
)
def test_trials_are_what_they_are_alone(asked: Ask, tmp_path: Path, precision: str, methods: str) -> None:
    folder = run_contest(asked(methods=methods, rates=2, seeds=1, train={"precision": precision}))
    for name, curve in curves(folder).items():
        place = tmp_path / "alone" / name
        config = RunDirectory(folder / "tuning" / name).read_config().changed(output=str(place))
        steps = max(line["step"] for line in curve)
        train(config, until=steps)
        lines = map(json.loads, (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        alone = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
        paused = {line["step"] for line in curve if line["kind"] == "evaluation"}
        alone_at = {line["step"] for line in alone if line["kind"] == "evaluation"}
        extra = paused - alone_at  # one that was looked at after a third
        assert len(extra) <= 1
        assert [one for one in curve if one["kind"] == "step" or one["step"] not in extra] == alone, name


def test_runs_that_count_are_what_they_are_alone(asked: Ask, tmp_path: Path) -> None:
    folder = run_contest(asked(rates=2, seeds=2))
    for place in sorted(folder.glob("runs/*/*")):
        config = Run.open(place).config.changed(output=str(tmp_path / "alone" / place.parent.name / place.name))
        alone = train(config)
        for path in place.glob("*.safetensors"):
            assert path.read_bytes() == (alone / path.name).read_bytes()
        ours, theirs = (json.loads((one / "evaluation.json").read_text(encoding="utf-8")) for one in (place, alone))
        assert ours["metrics"] == theirs["metrics"]


@pytest.mark.slow
def test_a_contest_that_was_killed_goes_on_to_the_same_result(
    asked: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between trials, in them, and in a run that counts: what was in memory alone is trained again."""
    whole = run_contest(asked(rates=2, output=str(tmp_path / "whole")))
    config = asked(rates=2, output=str(tmp_path / "killed"))
    for when in ("third of lora", "whole of full", "seed 2"):
        with monkeypatch.context() as patch:
            patch.setattr(operations, "on_operation", killing(tmp_path / "killed", when))
            with pytest.raises(Crash):
                run_contest(config)
    assert outcome(run_contest(config)) == outcome(whole)


def killing(folder: Path, when: str) -> Callable[[str, Path], None]:
    """Return what ends all work at a file operation of a certain part of a contest, and at every one after it."""
    begun = {
        "third of lora": lambda event: "lora" in event.get("method", "") and event.get("stage") == "third",
        "whole of full": lambda event: event.get("method") == "full" and event.get("stage") == "whole",
        "seed 2": lambda event: event.get("seed") == 2,
    }[when]
    left = 9

    def hook(_operation: str, _path: Path) -> None:
        nonlocal left
        journal = folder / "journal.jsonl"
        lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
        if any(event["kind"] == "begun" and begun(event) for event in map(json.loads, filter(None, lines))):
            left -= 1
            if left <= 0:
                raise Crash

    return hook


@pytest.mark.slow
def test_a_checkpoint_is_written_once_more_would_be_lost(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """With next to nothing that may be lost, states go to disk as those of runs alone do, and to the same result."""
    kept = outcome(run_contest(asked(rates=2, seeds=1)))
    monkeypatch.setattr(workplace, "MOST_LOST", 1e-9)
    counts = counted(monkeypatch)
    written = outcome(run_contest(asked(rates=2, seeds=1), overwrite=True))
    assert counts["write"] > 8
    assert written == kept


def test_what_one_process_paused_another_goes_on_with(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    """A worker's trainings are gone on with by whoever is free: what they need of it is on disk."""
    weights = {}
    for name, workshops in (("one", 1), ("two", 2)):
        config = configured(output=str(tmp_path / name), evaluation={"baseline": False})
        with ExitStack() as stack:
            first, *others = [
                stack.enter_context(Workshop(keeps_networks=True, most_lost=1e9)) for _ in range(workshops)
            ]
            training_process._train(config, first, 3, None)
            assert not first.states.num_bytes
            assert list(checkpoint.list_steps(tmp_path / name / "checkpoints")) == [3]
            assert not training_process._train(config, (others or [first])[0], None, 3).reason
        weights[name] = [path.read_bytes() for path in sorted((tmp_path / name).glob("*.safetensors"))]
    assert weights["one"] == weights["two"]


def test_processes_share_the_memory_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_states, "memory_of", lambda _: (0, 1000))
    monkeypatch.setattr(kept_states, "ROOM", 0.1)
    assert KeptStates(60.0).has_room(100)
    assert not KeptStates(60.0, share=0.25).has_room(100)
    assert KeptStates(60.0, share=0.25).has_room(25)
