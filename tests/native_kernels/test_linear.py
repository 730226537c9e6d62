"""Linear layers of few tokens: native code on packed weights against torch's own products."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from tunesmith.kernels import library, linear, rows

pytestmark = pytest.mark.skipif(library.library() is None, reason="no C compiler: there is nothing to compare with")


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def assert_near(mine: torch.Tensor, expected: torch.Tensor) -> None:
    assert mine.shape == expected.shape
    assert (mine - expected).abs().max() <= 5e-6 * expected.abs().max()


@pytest.mark.parametrize("num_outputs", [1, 16, 50, 140, 256])
@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25, 100])
def test_packed_weights_give_the_product(num_rows: int, num_outputs: int) -> None:
    x, weight, bias = random(num_rows, 70), random(num_outputs, 70), random(num_outputs)
    made = linear.Linear(linear.packed(weight), num_outputs, bias)(x)
    assert made.shape == (num_rows, num_outputs)
    if num_rows:
        assert_near(made, x @ weight.t() + bias)


@pytest.mark.parametrize("num_rows", [1, 3, 29])
def test_rows_that_do_not_stay_in_the_cache_together_are_all_computed(num_rows: int) -> None:
    x, weight = random(num_rows, 9000), random(40, 9000)
    assert_near(linear.Linear(linear.packed(weight), 40)(x), x @ weight.t())


@pytest.mark.parametrize("num_rows", [1, 2, 20])
@pytest.mark.parametrize("kind", get_args(rows.Activation))
def test_an_activation_follows_bias_and_product(kind: rows.Activation, num_rows: int) -> None:
    x, weight, bias = random(num_rows, 64), random(100, 64) / 8, random(100)
    made = linear.Linear(linear.packed(weight), 100, bias, kind)(x)
    assert_near(made, rows.EAGER[kind](x @ weight.t() + bias))


def test_weights_and_tokens_may_lie_otherwise_in_memory() -> None:
    x, weight = random(64, 9).t(), random(64, 48).t()
    assert_near(linear.Linear(linear.packed(weight), 48)(x), x @ weight.t())


def test_a_number_that_is_none_stays_in_its_row() -> None:
    x, weight = random(8, 64), random(33, 64)
    x[3, 5] = torch.nan
    made = linear.Linear(linear.packed(weight), 33)(x)
    assert made[3].isnan().all()
    assert not made[[0, 1, 2, 4, 5, 6, 7]].isnan().any()


@pytest.mark.parametrize("x", [torch.zeros(3, 63), torch.zeros(3, 64, dtype=torch.bfloat16)], ids=["width", "format"])
def test_tokens_of_another_kind_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float32 \[N, 64\]"):
        linear.Linear(linear.packed(random(16, 64)), 16)(x)


def test_nothing_is_packed_where_vectors_are_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = random(16, 64)
    monkeypatch.setattr(linear, "NARROWEST_PANEL", 1)
    assert linear.can_pack(weight)
    assert not linear.can_pack(weight.bfloat16())
    monkeypatch.setattr(linear, "NARROWEST_PANEL", 1000)
    assert not linear.can_pack(weight)
