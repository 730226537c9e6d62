from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from tunesmith.data.encoded import Units
from tunesmith.tasks import Regression
from tunesmith.types import InputError


@pytest.mark.parametrize("loss", ["mse", "huber", "mae"])
def test_loss_equals_torch(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 1, generator=generator, dtype=torch.float64) * 3
    target = torch.randn(9, generator=generator)
    task = Regression(loss=loss, huber_delta=0.7)
    reference = {
        "mse": functional.mse_loss,
        "mae": functional.l1_loss,
        "huber": lambda x, y: functional.huber_loss(x, y, delta=0.7),
    }[loss]
    targets = {"label": target}
    found = task.loss_sum(scores, targets, Units.single(len(scores))) / task.count_units(
        targets, Units.single(len(next(iter(targets.values()))))
    )
    torch.testing.assert_close(found, reference(scores[:, 0], target.double()), rtol=0, atol=1e-10)


def test_standardized_targets_come_back_in_the_users_units() -> None:
    columns = {"label": [100.0, 300.0, 500.0]}
    task = Regression(standardize=True).bind(columns)
    assert task.mean == 300.0
    assert task.std == pytest.approx(np.std([100, 300, 500]))
    targets = {name: torch.from_numpy(value) for name, value in task.targets(columns).items()}
    perfect = ((targets["label"] - task.mean) / task.std)[:, None]
    assert task.loss_sum(perfect, targets, Units.single(len(perfect))) == pytest.approx(0.0, abs=1e-10)
    kept = task.collect(perfect, targets, Units.single(len(perfect)))
    torch.testing.assert_close(kept["value"], targets["label"])
    measured = task.measure({"value": kept["value"].numpy()}, task.targets(columns), np.ones((1, 3)))
    assert measured["mae"][0] == pytest.approx(0.0, abs=1e-4)


def test_unstandardized_task_learns_nothing_of_the_targets() -> None:
    assert Regression().bind({"label": [1.0, 5.0]}) == Regression()


def test_constant_targets_still_standardize() -> None:
    assert Regression(standardize=True).bind({"label": [2.0, 2.0]}).std == 1.0


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf"), "abc", "", True, [1.0], "nan"])
def test_what_is_not_a_number_is_reported(wrong: object) -> None:
    columns = {"label": [1.0, "2.5", wrong], "row": ["d.csv:2", "d.csv:3", "d.csv:4"]}
    task = Regression().bind({"label": [1.0, 2.0]})
    problems = task.check("train", columns)
    assert [(problem.severity, problem.rows) for problem in problems] == [("error", ("d.csv:4",))]
    with pytest.raises(InputError, match="not a finite number"):
        task.targets(columns)


@pytest.mark.parametrize("large", [1e300, -1.7e308, 3e38, "9e99"])
@pytest.mark.parametrize("standardize", [False, True])
def test_labels_beyond_what_is_computed_with_are_reported(large: object, standardize: bool) -> None:
    columns = {"label": [1.0, large, 2.0], "row": ["d.csv:2", "d.csv:3", "d.csv:4"]}
    task = Regression(standardize=standardize).bind(columns)
    ((problem),) = task.check("train", columns)
    assert (problem.severity, problem.rows) == ("error", ("d.csv:3",))
    assert "too large" in problem.message
    assert Regression(standardize=True).bind({"label": [0.0, 1e30]}).check("train", {"label": [0.0, 1e30]}) == []


def test_labels_that_single_precision_merges_are_told() -> None:
    seconds = [1_700_000_000 + 7 * row for row in range(50)]
    (problem,) = Regression().check("train", {"label": seconds})
    assert problem.severity == "warning"
    assert "50 different values" in problem.message
    assert Regression().check("train", {"label": [value - 1_700_000_000 for value in seconds]}) == []


def test_one_value_is_nothing_to_learn() -> None:
    assert "nothing to learn" in Regression().check("train", {"label": [3, 3.0, "3"]})[0].message
    assert Regression().check("test", {"label": [3, 3.0]}) == []


def test_what_may_be_thousands_is_no_fraction() -> None:
    (problem,) = Regression().check("train", {"label": ["950", "1,500", "2,5"], "row": ["a:1", "a:2", "a:3"]})
    assert problem.rows == ("a:2",)


def test_measure_with_ones_equals_scipy() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=100).astype(np.float32)
    value = (truth + random.normal(size=100)).astype(np.float32)
    measured = Regression().measure({"value": value}, {"label": truth}, np.ones((1, 100)))
    assert measured["pearson"][0] == pytest.approx(stats.pearsonr(truth, value).statistic, rel=1e-5)
    assert measured["spearman"][0] == pytest.approx(stats.spearmanr(truth, value).statistic, rel=1e-5)


def test_details_are_bounded() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=5000).astype(np.float32)
    details = Regression().details({"value": truth * 2}, {"label": truth})
    assert len(details["scatter"]) == 2000
    assert sum(details["residuals"]["counts"]) == 5000
    assert len(details["residuals"]["edges"]) == len(details["residuals"]["counts"]) + 1
    alone = Regression().details({"value": truth[:1]}, {"label": truth[:1]})
    assert len(alone["scatter"]) == 1
