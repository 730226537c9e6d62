"""Operations on rows: native code against torch's own, values and gradients, in both number formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch.nn import functional

from tunesmith.kernels import adamw, cross_entropy, library, noise, rows

needs_native = pytest.mark.skipif(library.library() is None, reason="no C compiler: there is nothing to compare with")

FORMATS = [(torch.float32, 5e-6), (torch.bfloat16, 2e-2)]

NUM_TOKENS = 37


def mask(probability: float = 0.3) -> noise.Mask:
    keys = noise.token_keys(2**40 + 7, np.array([5, 3, 9]), np.array([10, 20, 7]))
    return noise.Mask(torch.from_numpy(keys), 77, probability)


def random(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator).to(dtype)


CASES: dict[str, tuple[Callable[..., torch.Tensor | tuple[torch.Tensor, ...]], str]] = {
    "layer norm": (lambda x, b, r, g, s: rows.add_layer_norm(x, b, r, g, s, epsilon=1e-5), "MVMVV"),
    "layer norm with noise": (
        lambda x, b, r, g, s: rows.add_layer_norm(x, b, r, g, s, epsilon=1e-5, mask=mask()),
        "MVMVV",
    ),
    "layer norm without shift": (lambda x, r, g: rows.add_layer_norm(x, None, r, g, None, epsilon=1e-5), "MMV"),
    "layer norm without gain": (lambda x, r, s: rows.add_layer_norm(x, None, r, None, s, epsilon=1e-5), "MMV"),
    "layer norm without bias": (lambda x, r, g, s: rows.add_layer_norm(x, None, r, g, s, epsilon=1e-5), "MMVV"),
    "rms norm": (lambda x, r, g: rows.add_rms_norm(x, r, g, 1e-5), "MMV"),
    "rms norm alone": (lambda x, g: rows.add_rms_norm(x, None, g, 1e-5), "MV"),
    "rms norm, sum unused": (lambda x, r, g: rows.add_rms_norm(x, r, g, 1e-5)[1], "MMV"),
    "dropout": (lambda x: noise.drop(x, mask()), "M"),
    **{f"{kind}": (lambda x, b, kind=kind: rows.activate(x, b, kind), "MV") for kind in rows.EAGER},
    **{f"gated {kind}": (lambda x, kind=kind: rows.gated(x, kind), "M") for kind in rows.EAGER},
}


@needs_native
@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS, ids=str)
@pytest.mark.parametrize("width", [16, 100])
@pytest.mark.parametrize("name", CASES)
def test_native_code_computes_what_torch_computes(
    monkeypatch: pytest.MonkeyPatch, name: str, width: int, dtype: torch.dtype, tolerance: float
) -> None:
    operation, kinds = CASES[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [random(generator, dtype, *((NUM_TOKENS, width) if kind == "M" else (width,))) for kind in kinds]
    native = values_and_gradients(operation, inputs)
    for module in (rows, noise):
        monkeypatch.setattr(module, "serves", lambda *_: False)
    eager = values_and_gradients(operation, inputs)
    assert len(native) == len(eager) > len(inputs)
    for mine, expected in zip(native, eager, strict=True):
        assert mine.dtype == dtype
        assert (mine - expected).abs().max() <= tolerance * expected.abs().max()


def values_and_gradients(
    operation: Callable[..., torch.Tensor | tuple[torch.Tensor, ...]], inputs: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    results = operation(*leaves)
    results = results if isinstance(results, tuple) else (results,)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(result.shape, generator=generator).to(result.dtype) for result in results]
    gradients = torch.autograd.grad(results, leaves, weights)
    return [*(result.detach() for result in results), *gradients]


@needs_native
def test_a_nan_is_never_swallowed() -> None:
    x = torch.randn(4, 32)
    x[2, 5] = torch.nan
    ones, zeros = torch.ones(32), torch.zeros(32)
    for result in (
        rows.add_layer_norm(x, zeros, torch.zeros(4, 32), ones, zeros, epsilon=1e-5),
        rows.add_rms_norm(x, None, ones, 1e-5)[1],
        *(rows.activate(x, None, kind) for kind in rows.EAGER),
        *(rows.gated(x.repeat(1, 2), kind) for kind in rows.EAGER),
    ):
        assert result[2].isnan().any()
        assert not result[[0, 1, 3]].isnan().any()
    scores = torch.randn(3, 300, requires_grad=True)
    broken = scores.detach().clone()
    broken[1, 7] = torch.nan
    assert cross_entropy.cross_entropy_sum(broken.requires_grad_(), torch.tensor([1, 2, 3])).isnan()


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cross_entropy_equals_that_of_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = random(generator, dtype, 9, 24).requires_grad_()
    weight = random(generator, dtype, 301, 24)
    labels = torch.tensor([0, 300, 5, -100, 17, 17, 2, -100, 299])
    loss = cross_entropy.cross_entropy_sum(hidden @ weight.t(), labels)
    expected = functional.cross_entropy((hidden @ weight.t()).float(), labels, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    mine, reference = (torch.autograd.grad(3 * one, hidden)[0].float() for one in (loss, expected))
    assert (mine - reference).abs().max() <= (1e-5 if dtype == torch.float32 else 2e-2) * reference.abs().max()


@pytest.mark.parametrize("label", [300, -1, 2**40])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    scores = torch.randn(5, 300, requires_grad=True)
    labels = torch.tensor([0, -100, label, 299, 4])
    with pytest.raises(IndexError):
        cross_entropy.cross_entropy_sum(scores, labels)
    with pytest.raises(ValueError, match="4"):
        cross_entropy.cross_entropy_sum(scores, torch.arange(4))
    none = cross_entropy.cross_entropy_sum(scores[:0], labels[:0])
    assert none.item() == 0


@needs_native
def test_torch_knows_of_tensors_that_native_code_writes() -> None:
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(300, 8)
    scores = hidden @ weight.t()
    squared = scores.square().sum()
    cross_entropy.cross_entropy_sum(scores, torch.arange(4))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        squared.backward()
    weights, shadow = torch.randn(6, 3), torch.zeros(6, 3, dtype=torch.bfloat16)
    written = (weights, torch.zeros(6, 3), torch.zeros(6, 3), shadow)
    before = [tensor._version for tensor in written]
    settings = adamw.AdamW(0.01, (0.9, 0.999), 1e-8, 0.1, 1)
    adamw.update(settings, torch.randn(6, 3), weights, written[1:3], shadow)
    between = [tensor._version for tensor in written]
    adamw.update_rows(settings, adamw.RowGradient(torch.tensor([2]), torch.ones(1, 3)), weights, written[1:3], shadow)
    after = [tensor._version for tensor in written]
    assert all(one < two < three for one, two, three in zip(before, between, after, strict=True))


@needs_native
def test_scores_that_others_need_are_not_overwritten() -> None:
    """A cap on the scores keeps its own output for its gradient."""
    raw = torch.randn(5, 300, requires_grad=True)
    capped = torch.tanh(raw)
    before = capped.detach().clone()
    loss = cross_entropy.cross_entropy_sum(capped, torch.arange(5))
    assert torch.equal(capped, before)
    (mine,) = torch.autograd.grad(loss, raw)
    (expected,) = torch.autograd.grad(functional.cross_entropy(torch.tanh(raw), torch.arange(5), reduction="sum"), raw)
    assert torch.allclose(mine, expected, atol=1e-6)


def test_scores_are_not_overwritten_where_nothing_is_learnt() -> None:
    scores = torch.randn(5, 300)
    before = scores.clone()
    cross_entropy.cross_entropy_sum(scores, torch.arange(5))
    assert torch.equal(scores, before)


@needs_native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adamw_is_that_of_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(100_003, generator=generator)
    reference = weights.clone().requires_grad_()
    shadow = torch.empty(weights.shape, dtype=torch.bfloat16)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    optimizer = torch.optim.AdamW([reference], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    for step in range(1, 5):
        gradient = random(generator, dtype, *weights.shape)
        settings = adamw.AdamW(0.01, (0.8, 0.95), 1e-6, 0.1, step, factor=0.5)
        adamw.update(settings, gradient, weights, (first, second), shadow)
        reference.grad = gradient.float() * 0.5
        optimizer.step()
    assert torch.allclose(weights, reference, rtol=1e-5, atol=1e-6)
    assert torch.equal(shadow, weights.bfloat16())


@needs_native
def test_adamw_on_few_rows_is_adamw_on_all() -> None:
    generator = torch.Generator().manual_seed(0)
    table, expected = (torch.randn(50, 20, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    shadows = [torch.empty(table.shape, dtype=torch.bfloat16) for _ in range(2)]
    moments, dense_moments = ((torch.zeros_like(table), torch.zeros_like(table)) for _ in range(2))
    known = None
    for step in range(1, 6):
        ids = torch.randint(0, 30, (12,), generator=generator)
        values = torch.randn(12, 20, generator=generator)
        sparse = torch.sparse_coo_tensor(ids[None], values, table.shape, check_invariants=True)
        gradient = adamw.RowGradient.of(sparse)
        if step == 3:
            gradient = gradient.plus(adamw.RowGradient.of(sparse))
        settings = adamw.AdamW(0.01, (0.9, 0.999), 1e-8, 0.1, step, factor=0.7)
        known = adamw.update_rows(
            settings, gradient, table, moments, shadows[0], with_moments=known if step > 2 else None
        )
        adamw.update(settings, gradient.dense(expected), expected, dense_moments, shadows[1])
        assert torch.equal(gradient.rows, ids.unique())
    assert torch.equal(table, expected)
    assert torch.equal(*shadows)
    assert all(map(torch.equal, moments, dense_moments))
    assert 0 < int(known.sum()) < 31


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1, 5000, 300_001])
def test_sums_of_squares(size: int, dtype: torch.dtype) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert adamw.squares(x) == pytest.approx(float(x.double().square().sum()), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_column_sums(dtype: torch.dtype) -> None:
    x = torch.randn(71, 45, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.allclose(rows.column_sums(x).float(), x.float().sum(0), rtol=1e-2, atol=1e-4)
