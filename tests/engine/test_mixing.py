"""Which samples make up which step where sets are mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine.mixing import Mix, MixedPlan, counts_of

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def mix_of(sizes: list[int], counts: tuple[int, ...]) -> Mix:
    starts = np.cumsum([0, *sizes])
    return Mix(tuple(np.arange(first, first + size) for first, size in zip(starts, sizes, strict=False)), counts)


def read(mix: Mix, epochs: int, batch_size: int = 7, seed: int = 3) -> np.ndarray:
    plan = MixedPlan(mix.num_samples, batch_size, epochs, seed, mix=mix)
    return np.concatenate([plan.samples_of(step) for step in range(plan.total_steps)])


@given(SIZES, st.data())
def test_no_sample_comes_again_before_all_of_its_set_have_come(sizes: list[int], data: st.DataObject) -> None:
    counts = tuple(data.draw(st.integers(1, 60)) for _ in sizes)
    mix = mix_of(sizes, counts)
    samples = read(mix, 3)
    assert len(samples) == 3 * sum(counts)
    for own, count in zip(mix.members, counts, strict=True):
        stream = samples[np.isin(samples, own)]
        assert len(stream) == 3 * count
        for first in range(0, len(stream), len(own)):
            one_pass = stream[first : first + len(own)]
            assert len(set(one_pass.tolist())) == len(one_pass)


def test_epochs_and_seeds_have_orders_of_their_own_and_steps_need_no_history() -> None:
    mix = mix_of([10, 4], (10, 10))
    whole = read(mix, 2)
    plan = MixedPlan(20, 7, 2, 3, mix=mix)
    assert plan.samples_of(4).tolist() == whole[27:34].tolist()  # the first epoch ends with a short step
    assert whole[:20].tolist() != whole[20:].tolist()
    assert whole.tolist() != read(mix, 2, seed=4).tolist()
    assert plan.epoch_after(3) == 1.0


@given(SIZES, st.lists(st.floats(0.01, 9), min_size=4, max_size=4), st.integers(1, 200))
def test_counts_follow_shares(sizes: list[int], shares: list[float], total: int) -> None:
    shares = shares[: len(sizes)]
    counts = counts_of(sizes, shares, total)
    assert min(counts) >= 1
    assert sum(counts) == total or min(counts) == 1
    for count, share in zip(counts, shares, strict=True):
        assert count == 1 or abs(count - total * share / sum(shares)) < 1 + 1e-6


def test_sets_in_proportion_to_their_sizes_are_one_set() -> None:
    assert counts_of([10, 30, 7], [10, 30, 7], 47) == (10, 30, 7)
    assert mix_of([10, 30, 7], (10, 30, 7)).is_whole
    assert not mix_of([10, 30], (20, 20)).is_whole
    assert counts_of([100, 1], [1, 1], 101) == (51, 50)
    assert counts_of([10, 1000], [10**0.5, 1000**0.5], 1010) == pytest.approx((92, 918), abs=1)
