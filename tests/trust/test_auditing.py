"""Groups, swapped words, slices, disturbed texts and sureness: against other libraries, and by what was planted."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run.test_contract import TASK_ROWS, write_rows
from tunesmith.cli.application import run as command
from tunesmith.data.row_groups import Grouping, groupings
from tunesmith.run import Run, RunConfig, train
from tunesmith.tasks.classification import Classification
from tunesmith.trust.audit import audit
from tunesmith.trust.counterfactuals import counterfactual_report
from tunesmith.trust.disturbed_texts import DISTURBANCES, negated, typos, without_punctuation
from tunesmith.trust.group_gaps import correct, group_report, p_of_range
from tunesmith.trust.group_thresholds import equal_threshold, threshold_report
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.trust.learning_curve import next_gain
from tunesmith.trust.outside_rows import auroc
from tunesmith.trust.sureness import conformal_threshold, sureness_report, temperature
from tunesmith.trust.swapped_words import Swapper, read_pairs
from tunesmith.trust.worst_slices import slice_report
from tunesmith.types import InputError

TASK = Classification(labels=("no", "yes"), multi_label=False)


def judged(truth: Any, scores: Any, texts: Any = None, num_resamples: int = 200) -> JudgedRows:
    """Return rows with answers that nobody needs a model for."""
    truth, scores = np.asarray(truth), np.asarray(scores, dtype=np.float64)
    columns = {"text": texts or ["a text"] * len(truth), "row": [f"x:{row}" for row in range(len(truth))]}
    return JudgedRows(TASK, columns, "test", {"scores": scores}, {"label": truth}, 0, num_resamples, 0.95)


def with_answers(truth: Any, answers: Any, **settings: Any) -> JudgedRows:
    return judged(truth, np.eye(2)[np.asarray(answers)] * 4, **settings)


# ---- groups --------------------------------------------------------------------------------------


def test_groups_are_found_by_where_rows_stand(run: Run, grouped: Path) -> None:
    rows = JudgedRows.of(run)
    (found,) = groupings(run.config.data, None, list(rows.columns["row"]), ["gender"])
    with grouped.open(encoding="utf-8") as file:
        by_text = {row["review"]: row["gender"] for row in csv.DictReader(file)}
    names = [found.names[place] for place in found.of_row]
    assert names == [by_text[text] for text in rows.columns["text"]]


def test_columns_are_crossed_and_numbers_cut_at_their_quartiles(run: Run) -> None:
    places = list(JudgedRows.of(run).columns["row"])
    crossed, ages = groupings(run.config.data, None, places, ["gender+region", "age"])
    assert "f · north" in crossed.names
    assert len(ages.names) == 4
    assert ages.sizes().min() > 0.15 * len(places)
    with pytest.raises(InputError, match="no column 'gendre'"):
        groupings(run.config.data, None, places, ["gendre"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_differences_are_those_of_fairlearn() -> None:
    metrics = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed: pip install fairlearn")
    generator = np.random.default_rng(0)
    truth, answers = generator.integers(0, 2, 400), generator.integers(0, 2, 400)
    groups = generator.integers(0, 3, 400)
    report = group_report(with_answers(truth, answers), Grouping("g", ("a", "b", "c"), groups))
    rates = {rate["criterion"]: rate for rate in report["rates"]}
    given = {"sensitive_features": groups}
    expected = metrics.demographic_parity_difference(truth, answers, **given)
    assert rates["demographic_parity"]["difference"] == pytest.approx(expected)
    expected = metrics.equal_opportunity_difference(truth, answers, **given)
    assert rates["equal_opportunity"]["difference"] == pytest.approx(expected)
    expected = metrics.equalized_odds_difference(truth, answers, **given)
    assert report["equalized_odds"][0]["difference"] == pytest.approx(expected)


def test_rates_and_gaps_are_those_of_a_count_by_hand() -> None:
    truth = np.array([1] * 40 + [0] * 40)
    answers = np.array([1] * 38 + [0] * 2 + [0] * 40)
    groups = np.array([0, 1] * 40)
    answers[[0, 2, 4, 6, 8]] = 0  # five of the twenty of the first group that have the label
    report = group_report(with_answers(truth, answers), Grouping("g", ("a", "b"), groups))
    rate = next(rate for rate in report["rates"] if rate["criterion"] == "equal_opportunity")
    right = [(answers == truth)[groups == group] for group in (0, 1)]
    assert report["groups"][0]["gap"]["value"] == pytest.approx(right[0].mean() - right[1].mean())
    values = [answers[(truth == 1) & (groups == group)].mean() for group in (0, 1)]
    assert rate["difference"] == pytest.approx(abs(values[0] - values[1]))
    assert rate["highest"] == "b"
    assert report["groups"][0]["gap"]["low"] < report["groups"][0]["gap"]["value"] < report["groups"][0]["gap"]["high"]


def test_by_chance_alone_gaps_are_as_rare_as_promised() -> None:
    generator = np.random.default_rng(3)
    low = 0
    for seed in range(200):
        hits = generator.random(120) < 0.85
        groups = generator.permutation(np.repeat([0, 1, 2], 40))
        low += p_of_range(hits, [groups == group for group in range(3)], seed, number=199) <= 0.05
    assert low <= 20  # 10 are expected, of a binomial that passes 20 once in a thousand times


def test_a_planted_gap_is_found_and_corrected_for_all_columns() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 600)
    bad, other = generator.integers(0, 2, 600), generator.integers(0, 4, 600)
    wrong = generator.random(600) < np.where(bad == 1, 0.3, 0.05)
    rows = with_answers(truth, np.where(wrong, 1 - truth, truth))
    reports = [
        group_report(rows, Grouping("planted", ("a", "b"), bad)),
        group_report(rows, Grouping("none", tuple("abcd"), other)),
    ]
    correct(reports)
    assert all(group["p_holm"] < 0.02 for group in reports[0]["groups"])
    assert all(group["p_holm"] > 0.05 for group in reports[1]["groups"])
    assert all(group["p_holm"] >= group["p"] for report in reports for group in report["groups"])


def test_groups_with_few_rows_are_named_and_get_no_gap(run: Run) -> None:
    found = audit(run, groups=["region"], parts=[])
    (report,) = found["groups"]
    assert [one["name"] for one in report["too_few"]] == ["south"]
    assert {one["name"] for one in report["groups"]} == {"north", "west"}
    with pytest.raises(InputError, match=r"too few rows to compare groups.*south \(\d\)"):
        audit(run, groups=["region"], parts=[], min_rows=190)


def test_thresholds_of_groups_give_equal_opportunity() -> None:
    generator = np.random.default_rng(0)

    def rows(number: int) -> tuple[JudgedRows, Grouping]:
        truth, group = generator.integers(0, 2, number), generator.integers(0, 2, number)
        score = generator.normal(size=number) + 2 * truth - 1 - 1.5 * group  # the second group is scored too low
        return judged(truth, np.stack([-score, score], axis=1)), Grouping("g", ("a", "b"), group)

    (validation, of_validation), (test, of_test) = rows(3000), rows(3000)
    found = threshold_report(test, validation, of_test, of_validation)
    assert found is not None
    assert found["equal_opportunity"]["before"] > 0.3
    assert found["equal_opportunity"]["after"] < 0.06
    assert found["accuracy"]["after"]["value"] > found["accuracy"]["before"]["value"]
    assert equal_threshold(np.array([0.1, 0.4, 0.6, 0.9]), 0.5) == pytest.approx(0.5)


# ---- words that change sides ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("She gave her book to him.", "He gave his book to him.", "She gave her book to her."),
        ("HER father", "HIS father", "HER mother"),
        ("她和爸爸说", "他和爸爸说", "她和妈妈说"),
    ],
)
def test_texts_are_written_with_the_words_of_either_side(text: str, first: str, second: str) -> None:
    assert Swapper(read_pairs("gender")).sides(text) == (first, second)


def test_words_inside_of_others_and_small_letters_of_names_stay() -> None:
    assert Swapper(read_pairs("gender")).sides("the hero of heat") == ("the hero of heat", "the heroine of heat")
    assert Swapper(read_pairs("gender")).sides("the theme of a heathen") is None
    assert Swapper(read_pairs("names")).sides("a mark of quality") is None
    assert Swapper(read_pairs("names")).sides("Mark left") == ("Mark left", "Sandra left")


def test_a_run_that_goes_by_a_word_flips(run: Run, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("great,boring\nfunny,dull\n", encoding="utf-8")
    found = counterfactual_report(run, JudgedRows.of(run), str(pairs))
    assert found["flips"]["value"] > 0.8
    assert found["shifts"]["good"]["high"] < -0.5
    assert found["examples"][0]["labels"] == ["good", "bad"]
    harmless = counterfactual_report(run, JudgedRows.of(run), "gender")
    assert harmless["flips"]["high"] < 0.3
    pairs.write_text("great\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs.txt:1: expected two different words"):
        read_pairs(str(pairs))
    with pytest.raises(InputError, match="0 of"):
        counterfactual_report(run, JudgedRows.of(run), "origins")


# ---- slices and disturbances ---------------------------------------------------------------------


def sliced(seed: int, planted: float) -> dict[str, Any]:
    generator = random.Random(seed)
    texts = [
        " ".join(generator.choices(["film", "plot", "cast", "song", "time", "scene", "hero", "joke"], k=4))
        for _ in range(800)
    ]
    truth = [generator.randint(0, 1) for _ in texts]
    chance = [planted if "joke" in text else 0.1 for text in texts]
    answers = [1 - one if generator.random() < p else one for one, p in zip(truth, chance, strict=True)]
    return slice_report(with_answers(truth, answers, texts=texts, num_resamples=50))


def test_a_planted_slice_is_found_and_none_where_there_is_none() -> None:
    found = sliced(0, 0.4)["slices"]
    assert found[0]["name"] == "with “joke”"
    assert found[0]["p_holm"] < 0.001
    assert found[0]["gap"]["high"] < 0
    false = sum(min((one["p_holm"] for one in sliced(seed, 0.1)["slices"]), default=1) < 0.05 for seed in range(1, 21))
    assert false <= 4


def test_disturbed_texts_are_the_same_every_time_and_hardly_others() -> None:
    text = "It is a wonderful film, not a waste of time!"
    for disturb in DISTURBANCES.values():
        assert disturb(text, np.random.default_rng(5)) == disturb(text, np.random.default_rng(5))
    generator = np.random.default_rng(0)
    assert typos(text, generator) != text
    assert abs(len(typos(text, generator)) - len(text)) <= 1
    assert without_punctuation(text, generator) == "It is a wonderful film not a waste of time"
    assert negated("It is good", generator) == "It is not good"
    assert negated("It is not good", generator) == "It is good"
    assert negated("这是好的", generator) == "这不是好的"


# ---- sureness ------------------------------------------------------------------------------------


def drawn(number: int, heat: float, seed: int) -> JudgedRows:
    """Return rows whose labels follow from scores that are then made ``heat`` times too sure."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(number, 2))
    p = 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))
    return judged((generator.random(number) < p).astype(np.int64), scores * heat, num_resamples=50)


def test_the_temperature_that_was_put_in_is_found() -> None:
    rows = drawn(4000, 3.0, 0)
    assert temperature(rows.outputs["scores"], rows.truths()) == pytest.approx(3.0, rel=0.1)
    found = sureness_report(drawn(2000, 3.0, 1), rows)
    assert found is not None
    assert found["expected_calibration_error"]["change"]["high"] < 0
    assert found["expected_calibration_error"]["after"]["value"] < 0.05


def test_conformal_sets_hold_the_truth_as_often_as_is_promised() -> None:
    held = []
    for seed in range(60):
        found = sureness_report(drawn(200, 2.0, 2 * seed), drawn(150, 2.0, 2 * seed + 1))
        assert found is not None
        held.append(found["conformal"]["coverage"]["value"])
    # With 150 rows the coverage is at least 90%, and at most 1 / 151 more, on average.
    assert np.mean(held) == pytest.approx(0.903, abs=3 * np.std(held) / np.sqrt(len(held)) + 0.004)
    assert conformal_threshold(np.arange(5.0)) == np.inf


def test_the_auroc_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(0)
    inside, outside = generator.integers(0, 9, 50).astype(float), generator.integers(2, 11, 30).astype(float)
    expected = roc_auc_score([0] * 50 + [1] * 30, np.concatenate([inside, outside]))
    assert auroc(inside, outside) == pytest.approx(expected)


# ---- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_tells_all_parts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["audit", str(trained), "--group", "gender", "--swap", "gender", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "accuracy"
    assert {"groups", "swaps", "slices", "robustness", "sureness", "outside", "overfitting"} <= found.keys()
    assert found["outside"]["energy"]["value"] is not None
    assert command(["audit", str(trained), "--group", "gender,region", "--quiet"]) == 0
    shown = capsys.readouterr().out
    for words in ("By gender", "too few rows", "Who gets what", "Worst of", "Disturbed texts", "conformal sets"):
        assert words in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--group", "gendre"], "has no column 'gendre'"),
        (["--swap", "nothing"], "there is no such list of words"),
        (["--part", "magic"], "there is no such part"),
        (["--columns", "text=review"], "there is no such file"),
        (["--split", "dev"], "The run has no dev rows"),
    ],
)
def test_what_cannot_be_audited_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command(["audit", str(trained), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "→" in error


@pytest.mark.slow
def test_what_twice_the_rows_would_bring_follows_from_two_doublings(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["audit", str(trained), "--part", "none", "--learning-curve", "--json"]) == 0
    curve = json.loads(capsys.readouterr().out)["learning_curve"]
    rows = [point["rows"] for point in curve["points"]]
    assert rows[0] == pytest.approx(rows[2] / 4, abs=1)
    assert rows[1] == pytest.approx(rows[2] / 2, abs=1)
    assert curve["points"][2]["value"]["value"] == pytest.approx(
        Run.open(trained).evaluation["metrics"]["accuracy"]["value"]
    )
    gains = next_gain(np.array([0.1, 0.1, -0.1, 0.05]), np.array([0.05, -0.05, 0.02, 0.1]))
    assert gains == pytest.approx([0.025, 0.0, 0.02, 0.1])


@pytest.mark.parametrize("row", ["regression", "entities"])
def test_other_tasks_are_audited_by_what_they_have(
    configured: Callable[..., RunConfig], tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, settings, example = TASK_ROWS[row]
    short = {"train": {"max_steps": 2, "evaluate_steps": 2}, "evaluation": {"num_resamples": 20, "baseline": False}}
    folder = train(configured(data=str(write_rows(tmp_path, example)), task={"name": name, **settings}, **short))
    assert command(["audit", str(folder), "--split", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"]["value"] is not None
    assert ("sureness" in found) == (row == "regression")
    assert command(["audit", str(folder), "--split", "train"]) == 0
