"""Keyed dropout: its share, its independence, and that it depends on nothing but seed, row and place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.kernels import noise

LENGTHS = np.array([3, 5, 40, 17])


def factors(seed: int, rows: list[int], lengths: list[int], call: int = 1, probability: float = 0.1) -> torch.Tensor:
    keys = torch.from_numpy(noise.token_keys(seed, np.array(rows), np.array(lengths)))
    return noise.Mask(keys, call, probability).factors(64)


def test_torch_and_numpy_mix_the_same_bits() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32)
    bits[:4] = 0, 2**31 - 1, 2**31, 2**32 - 1
    mixed = noise._mix_in_place(torch.from_numpy(bits.view(np.int32).copy()))
    assert np.array_equal(mixed.numpy().view(np.uint32), noise._mix(bits))


def test_noise_does_not_depend_on_how_much_of_it_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.from_numpy(noise.token_keys(3, np.arange(4), LENGTHS))
    mask, tokens = noise.Mask(keys, 1, 0.3), torch.arange(3, 60)
    whole = mask.factors(50), mask.attention_factors(4, tokens, 40)
    for at_once in (1, 1000):
        monkeypatch.setattr(noise, "_AT_ONCE", at_once)
        assert all(map(torch.equal, whole, (mask.factors(50), mask.attention_factors(4, tokens, 40))))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_the_share_dropped_is_the_probability(probability: float) -> None:
    found = factors(7, list(range(50)), [40] * 50, probability=probability)
    share = float((found == 0).double().mean())
    deviation = (probability * (1 - probability) / found.numel()) ** 0.5
    assert abs(share - probability) < 4 * deviation
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - probability)])


def test_every_token_every_column_every_call_and_every_step_has_noise_of_its_own() -> None:
    base = factors(7, [0, 1], [200, 200], probability=0.5) > 0
    others = {
        "call": factors(7, [0, 1], [200, 200], call=2, probability=0.5) > 0,
        "step": factors(8, [0, 1], [200, 200], probability=0.5) > 0,
        "rows": factors(7, [2, 3], [200, 200], probability=0.5) > 0,
        "next token": base.roll(1, 0),
        "next column": base.roll(1, 1),
        "other row": base.roll(200, 0),
    }
    for name, other in others.items():
        agreement = float((base == other).double().mean())
        assert abs(agreement - 0.5) < 4 * 0.5 / base.numel() ** 0.5, name


def test_noise_follows_the_row_wherever_it_is_put() -> None:
    together = factors(11, [4, 9, 2], [3, 5, 8])
    assert torch.equal(together[3:8], factors(11, [9], [5]))
    assert torch.equal(together[8:], factors(11, [2, 4], [8, 3])[:8])


def test_a_vector_of_a_row_has_the_noise_of_the_row() -> None:
    keys = torch.from_numpy(noise.token_keys(3, np.arange(4), LENGTHS))
    first = torch.from_numpy(np.cumsum(LENGTHS) - LENGTHS)
    x = torch.ones(4, 32)
    with noise.keyed_by(keys, keys[first]):
        dropped = noise.dropout(x, 5, 0.5)
    with noise.keyed_by(keys[:3], keys[:1]):
        alone = noise.dropout(x[:1], 5, 0.5)
    assert torch.equal(dropped[:1], alone)
    assert 0 < float((dropped == 0).double().mean()) < 1


def test_without_keys_the_generator_of_torch_is_asked() -> None:
    x = torch.ones(100, 32)
    torch.manual_seed(0)
    mine = noise.dropout(x, 1, 0.5)
    torch.manual_seed(0)
    assert torch.equal(mine, torch.nn.functional.dropout(x, 0.5))
    assert noise.draw(1, 0.5) is None
