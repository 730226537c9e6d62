"""Attention in native code against its definition, sequence by sequence, in both number formats."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tunesmith.kernels import attention, library, noise
from tunesmith.kernels.attention import Pattern, Queries, Rotation

pytestmark = pytest.mark.skipif(library.library() is None, reason="no C compiler: there is no native code")

LENGTHS = (1, 5, 31, 32, 33, 70, 130)
HEADS, KEY_HEADS, DEPTH = 4, 2, 64
BORDERS = torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)
NUM_TOKENS = sum(LENGTHS)


def rotation() -> Rotation:
    angles = torch.arange(NUM_TOKENS)[:, None] * 10000 ** (-torch.arange(DEPTH // 2) * 2 / DEPTH)
    angles = torch.cat([angles, angles], dim=1)
    return Rotation(angles.cos(), angles.sin())


def mask() -> noise.Mask:
    keys = noise.token_keys(5, np.arange(len(LENGTHS)), np.array(LENGTHS))
    return noise.Mask(torch.from_numpy(keys), 9, 0.2)


def some_queries() -> tuple[torch.Tensor, Queries]:
    """Return the first and last tokens, and of the sequence of 5 none."""
    starts = BORDERS[:-1].long()
    tokens = [torch.tensor([start, start + length - 1]).unique() for start, length in zip(starts, LENGTHS, strict=True)]
    tokens[1] = tokens[1][:0]
    places = torch.cat([part - start for part, start in zip(tokens, starts, strict=True)])
    borders = torch.tensor([0, *np.cumsum([len(part) for part in tokens])], dtype=torch.int32)
    return torch.cat(tokens), Queries(borders, places.int())


PATTERNS = {
    "all": Pattern(BORDERS, 0.125),
    "causal": Pattern(BORDERS, 0.125, ahead=0),
    "window": Pattern(BORDERS, 0.125, ahead=0, behind=8),
    "window to both sides": Pattern(BORDERS, 0.125, ahead=6, behind=6),
    "rotated": Pattern(BORDERS, 0.125, ahead=0, rotation=rotation()),
    "noisy": Pattern(BORDERS, 0.125, mask=mask()),
}


def defined(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Return [T, H * D] by the definition, in the numbers' own format."""
    if pattern.rotation is not None:
        query, key = (attention.rotated(tensor, pattern.rotation) for tensor in (query, key))
    key, value = (tensor.repeat_interleave(HEADS // KEY_HEADS, dim=1) for tensor in (key, value))
    parts = []
    for start, end in zip(BORDERS[:-1].tolist(), BORDERS[1:].tolist(), strict=True):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        distance = torch.arange(end - start)[None] - torch.arange(end - start)[:, None]
        hidden = (distance > pattern.ahead) | (-distance > pattern.behind)
        weights = torch.softmax((q @ k.transpose(1, 2) * pattern.scale).masked_fill(hidden, -math.inf), dim=-1)
        if pattern.mask is not None:
            factors = pattern.mask.attention_factors(HEADS, torch.arange(start, end), end - start)
            weights = weights * factors.transpose(0, 1).to(weights.dtype)
        parts.append((weights @ v).transpose(0, 1).flatten(1))
    return torch.cat(parts)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("way", ["packed", "apart", "head by head", "few queries"])
def test_native_attention_is_attention(name: str, way: str, dtype: torch.dtype, tolerance: float) -> None:
    pattern = PATTERNS[name]
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(NUM_TOKENS, (HEADS + 2 * KEY_HEADS) * DEPTH, generator=generator).to(dtype).requires_grad_()
    query, key, value = attention.split_heads(packed, HEADS, DEPTH)
    expected = defined(*(tensor.float() for tensor in (query, key, value)), pattern)
    tokens = torch.arange(NUM_TOKENS)
    if way == "packed":
        found = attention.attend_packed(packed, HEADS, DEPTH, pattern)
    elif way == "apart":
        found = attention.attend(query, key, value, pattern)
    elif way == "head by head":  # as transformers lays them out after rotating
        found = attention.attend(
            *(t.transpose(0, 1).contiguous().transpose(0, 1) for t in (query, key, value)), pattern
        )
    else:
        tokens, queries = some_queries()
        found = attention.attend(query[tokens], key, value, replace(pattern, queries=queries))
    assert found.dtype == dtype
    assert (found.float() - expected[tokens]).abs().max() <= tolerance * expected.abs().max()
    weights = torch.randn(expected[tokens].shape, generator=generator).to(dtype)
    (mine,) = torch.autograd.grad(found, packed, weights)
    (reference,) = torch.autograd.grad(expected[tokens], packed, weights.float())
    assert (mine.float() - reference.float()).abs().max() <= tolerance * reference.float().abs().max()


def random_heads() -> attention.Heads:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(NUM_TOKENS, n, DEPTH, generator=generator) for n in (HEADS, KEY_HEADS, KEY_HEADS))
    return query, key, value


def test_native_code_takes_what_it_can_read_and_nothing_else() -> None:
    query, key, value = random_heads()
    plain, turned = PATTERNS["all"], PATTERNS["rotated"]
    cosines, sines = rotation().cosines, rotation().sines
    assert all(attention.serves_heads((query, key, value), pattern) for pattern in PATTERNS.values())
    for heads in (
        (query.bfloat16(), key, value),
        (query, key.bfloat16(), value),
        (query, key, value.double()),
        (query.double(), key.double(), value.double()),
        (query[..., :32], key, value),
        (query, key, value[..., :32]),
        (query[:, :3], key, value),
        (query[1:], key, value),
        (query[..., :40], key[..., :40], value[..., :40]),
        (query, key, value.transpose(0, 2).contiguous().transpose(0, 2)),
    ):
        assert not attention.serves_heads(heads, plain)
    for pattern in (
        replace(plain, borders=BORDERS.long()),
        replace(plain, borders=torch.stack([BORDERS, BORDERS], dim=1)[:, 0]),
        replace(plain, queries=some_queries()[1]),
        replace(turned, rotation=Rotation(cosines.bfloat16(), sines)),
        replace(turned, rotation=Rotation(cosines[:, :32], sines[:, :32])),
        replace(turned, rotation=Rotation(cosines[1:], sines[1:])),
        replace(plain, mask=mask().of(slice(1, None))),
    ):
        assert not attention.serves_heads((query, key, value), pattern)
    packed = torch.cat([part.flatten(1) for part in (query, key, value)], dim=1)
    assert attention.serves_packed(packed, HEADS, DEPTH, turned)
    assert not attention.serves_packed(packed, HEADS - 1, DEPTH, turned)
    assert not attention.serves_packed(packed, 2 * HEADS, DEPTH, turned)
    assert not attention.serves_packed(packed.repeat(1, 2)[:, : packed.shape[1]], HEADS, DEPTH, turned)


def test_heads_that_share_their_numbers_have_the_sum_of_their_gradients() -> None:
    query, key, value = random_heads()
    few = [tensor[:, :1].clone().requires_grad_() for tensor in (key, value)]
    shared = [tensor.expand(-1, KEY_HEADS, -1) for tensor in few]
    copied = [tensor.repeat(1, KEY_HEADS, 1) for tensor in few]
    mine, expected = (attention.attend(query, *both, PATTERNS["all"]) for both in (shared, copied))
    assert torch.equal(mine, expected)
    weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1))
    for one, two in zip(
        torch.autograd.grad(mine, few, weights), torch.autograd.grad(expected, few, weights), strict=True
    ):
        assert torch.equal(one, two)


def test_nobody_may_ask() -> None:
    query, key, value = random_heads()
    nobody = Queries(torch.zeros_like(BORDERS), torch.empty(0, dtype=torch.int32))
    assert attention.attend(query[:0], key, value, replace(PATTERNS["all"], queries=nobody)).shape == (0, HEADS * DEPTH)
