"""The variable-length path of flat attention, as far as it can be checked without a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from engine.test_layout import LENGTHS, loss_and_gradients, reference, rows
from tiny import VOCABULARY
from tunesmith.engine.batch import FEW, Borders, find_borders
from tunesmith.engine.cuda import attention as variable_length
from tunesmith.engine.layout import choose_layout

CPU = torch.device("cpu")


def plain_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    **named: bool,
) -> torch.Tensor:
    """What torch's kernel computes, sequence by sequence; where it names shared heads, it wants to be told of them."""
    assert torch.equal(cu_seq_q, cu_seq_k)
    assert cu_seq_q.dtype == torch.int32
    shares_heads = query.shape[1] != key.shape[1]
    assert named in ({}, {"enable_gqa": True})
    assert shares_heads or not named
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert int(cu_seq_q[-1]) == len(query)
    left, right = window_size
    attended = []
    for first, last in zip(cu_seq_q.tolist(), cu_seq_q[1:].tolist(), strict=False):
        distance = torch.arange(last - first)[:, None] - torch.arange(last - first)
        allowed = torch.ones_like(distance, dtype=torch.bool)
        allowed &= (distance <= left) if left >= 0 else allowed
        allowed &= (-distance <= right) if right >= 0 else allowed
        parts = (tensor[first:last].transpose(0, 1) for tensor in (query, key, value))
        attended.append(
            functional.scaled_dot_product_attention(
                *parts, attn_mask=allowed, scale=scale, enable_gqa=shares_heads
            ).transpose(0, 1)
        )
    return torch.cat(attended)


@pytest.mark.parametrize("names_shared_heads", [True, False], ids=["enable_gqa", "as they are"])
@pytest.mark.parametrize("arch", ["bert", "llama", "qwen3", "modernbert"])
def test_with_the_kernel_flat_still_equals_plain_transformers(
    arch: str, names_shared_heads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Causal or not, with windows and shared heads: the arguments given to the kernel mean what they should."""
    calls: list[int] = []

    def counting(*arguments: Any, **settings: Any) -> torch.Tensor:
        calls.append(1)
        given, key, *_ = arguments
        assert ("enable_gqa" in settings) == (names_shared_heads and given.shape[1] != key.shape[1])
        return plain_kernel(*arguments, **settings)

    data = rows(LENGTHS["mixed"])
    model = reference(arch)
    expected = loss_and_gradients(model, "padded", data)
    monkeypatch.setattr(variable_length, "kernel", lambda: counting)
    monkeypatch.setattr(variable_length, "_names_shared_heads", lambda _: names_shared_heads)
    monkeypatch.setattr(variable_length, "supports", lambda query, dropout: dropout == 0.0)
    layout, reason = choose_layout(model, "row", VOCABULARY, "auto")
    assert layout == "flat", reason
    calls.clear()
    found = loss_and_gradients(model, "flat", data, FEW)
    assert len(calls) == model.config.num_hidden_layers
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-8)
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=0, atol=1e-8, msg=name)


def query(device: str = "cuda", dtype: torch.dtype = torch.bfloat16, head_size: int = 64) -> torch.Tensor:
    return torch.empty(1, 4, 10, head_size, device=device, dtype=dtype)


def test_what_the_kernel_does_not_do_is_left_to_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variable_length, "_capability", lambda _index: (9, 0))
    with FakeTensorMode():
        assert variable_length.supports(query(), 0.0)
        assert variable_length.supports(query(dtype=torch.float16), 0.0)
        assert variable_length.supports(query(), 0.1)
        assert not variable_length.supports(query(dtype=torch.float32), 0.0)
        assert not variable_length.supports(query(head_size=320), 0.0)
        assert not variable_length.supports(query(head_size=36), 0.0)
        assert not variable_length.supports(query("cpu"), 0.0)
        monkeypatch.setattr(variable_length, "_capability", lambda _index: (7, 5))
        assert not variable_length.supports(query(), 0.0)
        monkeypatch.setattr(variable_length, "_capability", lambda _index: (9, 0))
        monkeypatch.setattr(variable_length, "kernel", lambda: None)
        assert not variable_length.supports(query(), 0.0)
        assert variable_length.supports(query(), 0.1)
        monkeypatch.setattr(variable_length, "dropping_kernel", lambda: None)
        assert not variable_length.supports(query(), 0.1)


@pytest.mark.parametrize("num_key_heads", [4, 2])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 5), (False, 5)])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_torch_accepts_what_it_is_given(causal: bool, window: int | None, num_key_heads: int, dropout: float) -> None:
    """The real functions, traced over tensors that only claim to be on a GPU: names, types and shapes fit."""
    settings = {"scale": 0.1, "causal": causal, "window": window, "dropout": dropout}
    with FakeTensorMode(), torch.no_grad():
        made = [torch.empty(10, heads, 64, device="cuda", dtype=torch.bfloat16) for heads in (4, num_key_heads)]
        borders = Borders((), torch.empty(3, device="cuda", dtype=torch.int32), 6)
        attended = variable_length.attend(made[0], made[1], made[1], borders, **settings)
        assert attended.shape == (10, 4, 64)
        assert attended.is_cuda


def test_windows_are_counted_as_the_kernel_counts_them() -> None:
    assert variable_length.window_size(causal=True, window=None) == (-1, 0)
    assert variable_length.window_size(causal=False, window=None) == (-1, -1)
    assert variable_length.window_size(causal=True, window=4096) == (4095, 0)
    assert variable_length.window_size(causal=False, window=65) == (64, 64)


def test_the_borders_are_numbers_the_kernel_takes() -> None:
    lengths = np.array([3, 5, 9])
    borders = find_borders(lengths.tolist(), CPU, FEW)
    assert borders.cumulative_lengths.tolist() == [0, 3, 8, 17, 64]
    assert borders.cumulative_lengths.dtype == torch.int32
    assert borders.max_length == 47
    assert isinstance(borders.max_length, int)
