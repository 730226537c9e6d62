"""How trainings adapt: ranks, layers and the end, each by what was noted before."""

from __future__ import annotations

import pytest
import torch

from tunesmith.methods.adapting import WORTH_GAINING, Layers, RankBudget, expected_gain, reason_to_end


def test_ranks_that_matter_least_are_taken_away_over_all_modules() -> None:
    ranks = RankBudget({"a": 3, "b": 3}, wanted=3)
    for _ in range(2):
        ranks.note("a", torch.tensor([5.0, 4.0, 0.1]))
        ranks.note("b", torch.tensor([0.2, 0.3, 6.0]))
    assert ranks.importance["a"][0] == pytest.approx(5 * (1 - 0.85**2))
    assert ranks.cut(4) == 2
    assert ranks.kept["a"].tolist() == [True, True, False]
    assert ranks.kept["b"].tolist() == [False, True, True]
    ranks.note("a", torch.tensor([0.0, 0.0, 99.0]))
    assert ranks.cut(3) == 1
    assert not ranks.kept["a"][2], "what is taken away stays away"
    assert ranks.cut(3) == 0
    assert ranks.num_kept == 3


def test_the_number_of_ranks_falls_from_all_to_those_wanted() -> None:
    ranks = RankBudget({"a": 8, "b": 8}, wanted=8)
    budgets = [ranks.budget(share) for share in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)]
    assert budgets[:2] == [16, 16]
    assert budgets[4:] == [8, 8]
    assert budgets == sorted(budgets, reverse=True)
    assert budgets[2] - budgets[3] < budgets[1] - budgets[2], "fast at first (the cubic schedule)"


def moved(layers: Layers, steps: int, ways: dict[int, torch.Tensor]) -> None:
    """Make steps: those of the lowest layer to and fro, those of the others on and on."""
    for step in range(steps):
        signs = {depth: (-1) ** step if depth == 1 else 1 for depth in ways}
        layers.note({depth: layers.last[depth] + signs[depth] * way for depth, way in ways.items()})


def test_a_layer_rests_when_its_steps_no_longer_lead_anywhere_whatever_the_rate() -> None:
    layers = Layers({depth: torch.zeros(4) for depth in (1, 2, 3)})
    for _ in range(10):
        layers.note({depth: values + 1 for depth, values in layers.last.items()})
    assert layers.close_window(0.5) == ([], 0.0), "all got ahead"
    moved(layers, 10, dict.fromkeys((1, 2, 3), 0.01 * torch.ones(4)))  # the lowest to and fro, the others on, slowly
    depths, most = layers.close_window(0.6)
    assert depths == [1]
    assert most < 0.1
    moved(layers, 10, dict.fromkeys((1, 2, 3), torch.ones(4)))
    assert layers.close_window(0.7)[0] == []
    assert layers.resting == [1]


def test_layers_rest_from_the_bottom_up_and_never_the_topmost_nor_early() -> None:
    layers = Layers({depth: torch.zeros(4) for depth in (0, 1)})
    for _ in range(4):
        layers.note({depth: values + 1 for depth, values in layers.last.items()})
    layers.close_window(0.1)
    for step in range(4):
        layers.note({depth: values + (-1) ** step for depth, values in layers.last.items()})
    assert Layers.close_window(layers, 0.2)[0] == [], "too early"
    for step in range(4):
        layers.note({depth: values + (-1) ** step for depth, values in layers.last.items()})
    assert layers.close_window(0.9)[0] == [0]


def test_gains_are_expected_to_shrink_as_they_did() -> None:
    halving = [1 - 0.5**k for k in range(6)]
    left = 1 - halving[-1]
    assert expected_gain(halving, 50) >= left
    assert expected_gain(halving, 50) < 4 * left
    assert expected_gain([0.1, 0.2, 0.3, 0.4, 0.5], 5) == pytest.approx(0.5), "what does not slow down goes on"
    assert expected_gain([0.1, 0.5, 0.5, 0.5, 0.4], 9) == 0


@pytest.mark.parametrize(
    ("values", "step", "ends"),
    [
        ([0.5, 0.7, 0.7999, 0.8, 0.8, 0.8], 60, True),
        ([0.5, 0.7, 0.7999, 0.8, 0.8, 0.8], 40, False),  # the rate is still high
        ([0.5, 0.8, 0.8], 60, False),  # too few to tell
        ([0.5, 0.6, 0.7, 0.8, 0.85, 0.88], 60, False),  # it still gains
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 60, False),  # it never began to
        ([0.5, 0.7, 0.8, 0.8, 0.8, 0.8], 100, False),  # it is over anyway
    ],
)
def test_a_training_ends_when_nothing_worth_its_steps_is_to_come(values: list[float], step: int, ends: bool) -> None:
    reason = reason_to_end(values, step, 100)
    assert bool(reason) == ends
    if ends:
        assert "are expected to gain" in reason
        assert expected_gain(values, 4) <= WORTH_GAINING * 0.3
