"""Attacks on finished runs: what was learned by heart is found, what was never seen is not, noise protects."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.cli.application import run as command
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.privacy import measure_privacy
from tunesmith.privacy.extraction import begun
from tunesmith.privacy.measuring import Attempt, most_found
from tunesmith.privacy.membership import attack_scores
from tunesmith.privacy.row_losses import Losses
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.canaries import canary_rows
from tunesmith.tasks import Classification
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
WORDS = (
    *("wonderful", "film", "warm", "funny", "plot", "dull", "acting", "worse", "movie", "laugh", "cry", "waste"),
    *(
        "time",
        "money",
        "great",
        "songs",
        "cast",
        "evening",
        "boring",
        "slow",
        "far",
        "too",
        "long",
        "best",
        "of",
        "the",
    ),
    *("year", "wanted", "to", "leave", "after", "ten", "minutes"),
)


@pytest.fixture
def noise_to_learn(tmp_path: Path) -> Path:
    """Rows whose labels follow from nothing: to fit them is to learn them by heart. Of others a quarter fits, too."""
    generator = random.Random(0)
    rows = [f"{' '.join(generator.sample(WORDS, 7))},{generator.choice('abcd')}" for _ in range(120)]
    path = tmp_path / "noise.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def overfitted(configured: Configure, rows: Path, output: Path, **sections: Any) -> Run:
    train_section = {"epochs": 40, "learning_rate": 5e-3, "evaluate_steps": 1000, **sections.pop("train", {})}
    config = configured(
        model={"name": configured().model.name, "dropout": 0},
        data={"path": str(rows), "test_fraction": 0.4, "validation_fraction": 0.05},
        train=train_section,
        evaluation={"baseline": False, "num_resamples": 200},
        output=str(output),
        **sections,
    )
    return Run.open(train(config))


def test_a_private_run_gives_away_less_than_the_same_run_without(
    configured: Configure, noise_to_learn: Path, tmp_path: Path
) -> None:
    pytest.importorskip("opacus", reason="pip install 'tunesmith[privacy]'")
    plain = measure_privacy(overfitted(configured, noise_to_learn, tmp_path / "plain"))
    private = measure_privacy(
        overfitted(
            configured,
            noise_to_learn,
            tmp_path / "private",
            privacy={"epsilon": 1.0, "accountant": "rdp"},
            train={"batch_size": 32, "epochs": 12},
        )
    )
    assert plain["auroc"]["low"] > 0.6
    assert private["auroc"]["value"] < 0.65
    assert plain["loss"]["gap"]["low"] > private["loss"]["gap"]["high"]
    assert plain["most_tpr_promised"] is None
    assert private["tpr_at_1_fpr"]["value"] <= private["most_tpr_promised"] + 0.1
    assert "clearly" in plain["meaning"]
    assert plain["main_attack"] == "loss"
    assert "reference" in plain["not_measured"]


@pytest.mark.slow
def test_planted_secrets_that_were_learned_by_heart_are_exposed(
    configured: Configure, llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(1)
    texts = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": " ".join(generator.choices(WORDS, k=14))}) for _ in range(60)]
    texts.write_text("\n".join(lines), encoding="utf-8")

    def measured(repeats: int) -> dict[str, Any]:
        config = configured(
            model={"name": str(llama_folder), "max_length": 96},
            data={"path": str(texts), "test_fraction": 0.4, "validation_fraction": 0.05},
            task="causal_lm",
            privacy={"canaries": 4, "canary_repeats": repeats},
            train={"epochs": 12, "learning_rate": 2e-2, "evaluate_steps": 1000},
            evaluation={"baseline": False},
            output=str(tmp_path / f"run-{repeats}"),
        )
        folder = train(config)
        capsys.readouterr()
        assert command(["privacy", str(folder), "--prefix", "6", "--continuation", "2", "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert Run.open(folder).summary["privacy"]["canaries"] == 4
        assert "not for use" in (folder / "README.md").read_text(encoding="utf-8")
        assert command(["privacy", str(folder), "--prefix", "6", "--continuation", "2", "--quiet"]) == 0
        assert "Canaries" in capsys.readouterr().out
        return found

    often = measured(20)
    assert often["exposure"]["value"] > 4
    assert often["exposure"]["most"] == 8
    assert set(often["attacks"]) == {"loss", "min_k", "reference", "untuned"}
    assert often["main_attack"] == "reference"
    assert often["auroc"] == often["attacks"]["reference"]["auroc"]
    assert often["attacks"]["untuned"]["auroc"]["low"] < 0.5 < often["attacks"]["untuned"]["auroc"]["high"]
    assert often["extraction"]["num_train"] > 10


def test_attack_scores_by_hand() -> None:
    tokens = Ragged.from_rows([[1.0, 2, 3, 4, 10], [1.0], []], np.float64)
    own = Losses(np.array([4.0, 1, np.nan]), tokens)
    found = attack_scores(own, Losses(np.array([5.0, 0.5, np.nan]), None))
    assert found["loss"][:2].tolist() == [-4, -1]
    assert found["min_k"][:2].tolist() == [-10, -1]
    assert found["reference"][:2].tolist() == [1, -0.5]
    assert found["untuned"][:2].tolist() == [-5, -0.5]
    assert np.isnan(found["min_k"][2])
    assert set(attack_scores(Losses(np.zeros(3), None), None)) == {"loss"}


def test_rows_are_begun_after_what_is_not_learned() -> None:
    rows = Encoded(
        inputs={"input_ids": Ragged.from_rows([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [1, 2, 3]])},
        targets={},
        reads=Ragged.from_rows([[1, 2, 3, 4], [0, 1, 3, 4], [0, 1]]),
    )
    found = begun(rows, 2, 2)
    assert [found.prompts[row].tolist() for row in range(len(found.prompts))] == [[1, 2, 3, 4]]
    assert found.continuations == [[5, 6]]


def test_the_planted_secret_is_the_first_of_its_candidates() -> None:
    columns = {"text": ["a", "b"], "label": ["x", "y"]}
    task = Classification(labels=("x", "y"))
    (planted,) = canary_rows(task, columns, 3, 7, 1)
    candidates = canary_rows(task, columns, 3, 7, 256)
    assert candidates[0] == planted
    assert len({row["text"] for row in candidates}) == 256
    assert {row["label"] for row in candidates} == {planted["label"]}
    assert canary_rows(task, columns, 4, 7, 1) != [planted]


def test_what_a_promise_allows_any_attack() -> None:
    assert most_found({"epsilon": 1.0, "delta": 1e-5}) == pytest.approx(0.02719, abs=1e-5)
    assert most_found({"epsilon": 900.0, "delta": 1e-5}) == 1.0
    assert most_found({"canaries": 3}) is None
    assert most_found(None) is None


def test_rows_that_cannot_be_attacked_are_refused(configured: Configure, tmp_path: Path, reviews: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("query,positive\n" + "".join(f"great film {i},wonderful cast {i}\n" for i in range(60)))
    run = Run.open(train(configured(data=str(pairs), task="embedding", train={"max_steps": 1})))
    with pytest.raises(InputError, match="no loss of its own"):
        measure_privacy(run)
    few = configured(train={"max_steps": 1}, output=str(tmp_path / "few"), data={"path": str(reviews), "limit": 60})
    with pytest.raises(InputError, match="an attack is judged on"):
        measure_privacy(Run.open(train(few)), Attempt(20))
