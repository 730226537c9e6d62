"""Statistics of cases: pairs of rounds, agreement of losses, what failed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.cases import CASES, EXPONENT, GROUPS, ROWS, Case
from benchmarks.child import training_result
from benchmarks.figures import case_record, exponent, losses_agree, paired_ratios

CASE = Case("some", "minilm-full", "Some case", "best", "Peer")
FACTS = {
    "num_weights": 1_000_000,
    "num_layers": 2,
    "width": 64,
    "attended_length": 10.0,
    "vocabulary": 0,
    "labelled_share": 0.0,
    "causal": False,
    "method": "full",
    "source": "rows",
}


def measured(speed: float, **more: Any) -> dict[str, Any]:
    return {
        "tokens_per_second": speed,
        "mean_loss": 0.5,
        "first_loss": 0.6,
        "final_loss": 0.4,
        "precision": "fp32",
        "peak_memory_bytes": 5,
        **more,
    }


def rounds(*pairs: tuple[float, float]) -> list[dict[str, dict[str, Any]]]:
    return [{"ours": measured(one), "best": measured(other), "gemm": {"fp32": 1e12}} for one, other in pairs]


def test_ratios_are_of_pairs_and_above_one_is_better() -> None:
    assert paired_ratios([2.0, 6.0], [1.0, 2.0], higher_is_better=True) == [2.0, 3.0]
    assert paired_ratios([2.0], [1.0], higher_is_better=False) == [0.5]


def test_medians_and_spread() -> None:
    record = case_record(CASE, rounds((200, 100), (300, 100), (100, 100)), FACTS)
    assert (record["tunesmith"], record["peer"], record["ratio"]) == (200, 100, 2)
    assert record["spread"] == [1, 3]
    assert record["repeats"] == 3
    assert record["mfu"]["tunesmith"] == pytest.approx(200 * (6e6 + 12 * 2 * 10 * 64) / 1e12)


def test_the_rate_is_that_of_the_precision() -> None:
    found = [{"ours": measured(100, precision="bf16"), "best": measured(100), "gemm": {"fp32": 1e12, "bf16": 4e12}}]
    mfu = case_record(CASE, found, FACTS)["mfu"]
    assert mfu["peer"] == pytest.approx(4 * mfu["tunesmith"])


def test_losses_that_differ_are_told() -> None:
    found = rounds((1, 1))
    found[0]["best"]["mean_loss"] = 0.6
    assert case_record(CASE, found, FACTS)["loss_agrees"] is False
    assert losses_agree(1.0, 1.04)
    assert not losses_agree(1.0, 1.1)


def test_losses_that_did_not_fall_are_told() -> None:
    found = rounds((1, 1))
    assert case_record(CASE, found, FACTS)["loss_fell"] is True
    found[0]["best"]["final_loss"] = found[0]["best"]["first_loss"]
    assert case_record(CASE, found, FACTS)["loss_fell"] is False


@pytest.mark.parametrize("key", ["error", "unavailable"])
def test_a_child_without_figures_leaves_a_reason(key: str) -> None:
    record = case_record(CASE, [{"ours": measured(1.0), "best": {key: "no disk"}}], FACTS)
    assert record["ratio"] is None
    assert record[key] == "no disk"
    assert record["side"] == "peer"


def test_a_failed_round_leaves_the_others() -> None:
    found = rounds((200, 100), (300, 100))
    found[1]["best"] = {"error": "took too long"}
    record = case_record(CASE, found, FACTS)
    assert (record["ratio"], record["repeats"]) == (2, 1)
    assert record["failures"] == [{"error": "took too long", "side": "peer"}]


def test_answers_are_compared() -> None:
    case = Case("some", "predict", "", "pipeline", "", measure=ROWS, compare="answers")
    sides = {"ours": ["a", "b"], "pipeline": ["a", "c"]}
    found = {side: {"rows_per_second": 1.0, "answers": answers} for side, answers in sides.items()}
    record = case_record(case, [found], {})
    assert record["same_answers"] == 0.5
    assert not record["answers_agree"]


def test_a_limit_takes_the_place_of_a_peer() -> None:
    case = CASES["data-cached"]
    record = case_record(case, [{"cached": {"seconds": 0.5}}], {})
    assert (record["peer"], record["ratio"]) == (2.0, 4.0)


def test_the_exponent_is_the_slope_in_logarithms() -> None:
    assert exponent([(x, 3 * x**1.5) for x in (1, 10, 100)]) == pytest.approx(1.5)


def test_linear_cost_of_longer_rows_beside_the_operations() -> None:
    case = CASES["linear-cost-length"]
    points = [[length, 4.0 * length, 1, 2] for length in (16, 64, 256)]
    record = case_record(case, [{"length": {"points": points}}], FACTS)
    assert record["tunesmith"] == pytest.approx(1.0)
    assert 1.0 < record["peer"] < 2.0
    assert record["points"][0][:2] == [16, 32.0]


def test_throughput_leaves_the_warm_up_out() -> None:
    seconds = [9.0] * 5 + [1.0] * 15
    result = training_result(seconds, [10] * 20, [2.0] * 15 + [1.0] * 5)
    assert result["tokens_per_second"] == 10
    assert result["num_warm_up_steps"] == 5
    assert (result["first_loss"], result["mean_loss"], result["final_loss"]) == (2.0, 1.75, 1.0)
    assert training_result([1.0, 1.0], [30, 10], [2.0, 1.0], per_token=True)["mean_loss"] == 1.75
    assert training_result([2.0, 1.0], [10, 10], [1.0, 1.0])["num_warm_up_steps"] == 0


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_every_case_names_children_of_its_group(case: Case) -> None:
    children = GROUPS[case.group].children
    assert case.ours in children
    assert case.peer in children or case.limit is not None or case.measure is EXPONENT
