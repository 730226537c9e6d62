"""The CUDA path on a real GPU: the same results as elsewhere, one wait a step, memory as predicted.

Skipped where there is none. What can be checked without one is in the files test_cuda_*.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine import memory
from engine.stepping import compute_gradients, recomputing
from engine.test_layout import LENGTHS, rows
from tiny import VOCABULARY, tiny_model
from tunesmith.engine import attention, checkpoint
from tunesmith.engine import loop as loop_module
from tunesmith.engine.batch import find_borders
from tunesmith.engine.cuda import attention as variable_length
from tunesmith.engine.cuda import liger
from tunesmith.engine.cuda.compile import compile_layers
from tunesmith.engine.cuda.graphs import BaseGraphs
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.loop import train
from tunesmith.engine.memory_needs import measure
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.precision import be_deterministic
from tunesmith.engine.recompute import recompute_layers
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods.base import ParameterGroup
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner

DEVICE = torch.device("cuda")
HOST = torch.device("cpu")

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")]

BF16 = torch.bfloat16
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def close(found: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    """Say that the largest difference is no more than a share of the largest value."""
    difference = (found.double().cpu() - expected.double().cpu()).abs().max()
    assert difference <= share * expected.double().abs().max().cpu(), f"{difference} of {expected.abs().max()}"


@pytest.fixture
def repeating() -> Iterator[None]:
    be_deterministic(wanted=True)
    yield
    be_deterministic(wanted=False)


# ---- attention ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("head_size", [32, 64, 128, 256])
@pytest.mark.parametrize("num_key_heads", [8, 2])
@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, 16), (False, 16)])
def test_the_kernel_gives_what_the_groups_give_in_float32(
    causal: bool, window: int | None, num_key_heads: int, head_size: int, dtype: torch.dtype
) -> None:
    lengths = [3, 17, 17, 40, 129, 300]
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, head_size), (num_key_heads, head_size), (num_key_heads, head_size)]
    made = [torch.randn(sum(lengths), *shape, generator=generator).to(DEVICE, dtype) for shape in shapes]
    pull = torch.randn(sum(lengths), *shapes[0], generator=generator).to(DEVICE, dtype)
    borders = to_device(find_borders(lengths, HOST), DEVICE)
    assert variable_length.supports(made[0].transpose(0, 1)[None], 0.0)

    given = [tensor.clone().requires_grad_() for tensor in made]
    found = variable_length.attend(*given, borders, scale=0.2, causal=causal, window=window)
    gradients = torch.autograd.grad(found, given, pull)

    wide = [tensor.float().requires_grad_() for tensor in made]
    module = torch.nn.Module()
    with attention.borders_of(borders):
        expected, _ = attention.flat_attention(
            module,
            *(tensor.transpose(0, 1)[None] for tensor in wide),
            None,
            scaling=0.2,
            is_causal=causal,
            sliding_window=window,
        )
    expected_gradients = torch.autograd.grad(expected[0], wide, pull.float())
    close(found, expected[0], 2e-2)
    for one, other in zip(gradients, expected_gradients, strict=True):
        close(one, other, 3e-2)


@pytest.mark.parametrize("num_key_heads", [8, 2])
def test_dropout_of_attention_drops_its_share_and_repeats_with_its_seed(num_key_heads: int, repeating: None) -> None:
    """Equal weights over ones: each output is the share that was kept, made larger by as much as was dropped."""
    lengths, dropout = [400, 900, 1300], 0.25
    borders = to_device(find_borders(lengths, HOST), DEVICE)
    query = torch.zeros(sum(lengths), 8, 64, device=DEVICE, dtype=BF16, requires_grad=True)
    key = torch.randn(sum(lengths), num_key_heads, 64, device=DEVICE).to(BF16).requires_grad_()
    value = torch.ones(sum(lengths), num_key_heads, 64, device=DEVICE, dtype=BF16, requires_grad=True)
    assert variable_length.supports(query, dropout)

    def attended(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        found = variable_length.attend(
            query, key, value, borders, scale=0.2, causal=False, window=None, dropout=dropout
        )
        return [found, *torch.autograd.grad(found.float().sum(), (query, key, value))]

    first, again, other = attended(1), attended(1), attended(2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert float(first[0].float().mean()) == pytest.approx(1.0, abs=0.01)
    spread = (dropout / (1 - dropout) / lengths[0]) ** 0.5
    assert float(first[0][: lengths[0], :, 0].float().std()) == pytest.approx(spread, rel=0.1)
    # What is summed is linear in the values, whose gradient must be that of the very weights that were kept.
    assert float(first[3].float().sum()) == pytest.approx(float(first[0].float().sum()), rel=1e-2)


@pytest.mark.parametrize("arch", ["bert", "roberta", "llama", "qwen3", "modernbert"])
def test_a_flat_step_in_bf16_is_that_of_float64_on_the_host(arch: str) -> None:
    settings = NO_DROPOUT if arch in ("bert", "roberta") else {}
    data, order = rows(LENGTHS["mixed"]), np.arange(12)

    def step(dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model = tiny_model(arch, **settings)
        assert choose_layout(model, "row", VOCABULARY, "flat", fused=False)[0] == "flat"
        model.to(device, dtype)
        scorer = Scorer(model, "flat", "row")
        batch = collator_for(model, "flat", 1, device)(data, order)
        with scorer.surrounding(batch):
            loss = functional.cross_entropy(scorer(batch).float(), batch.targets["label"])
            loss.backward()
        return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    loss, gradients = step(BF16, DEVICE)
    expected_loss, expected = step(torch.float64, HOST)
    close(loss, expected_loss, 2e-2)
    assert gradients.keys() == expected.keys()
    total = torch.cat([(gradients[name].double().cpu() - expected[name]).flatten() for name in expected]).norm()
    assert total < 0.1 * torch.cat([gradient.flatten() for gradient in expected.values()]).norm()


# ---- steps -------------------------------------------------------------------------------------------


def parts(model: str = "smollm", device: torch.device = DEVICE, **settings: Any) -> Training:
    """Return a training on the GPU, in bf16."""
    made = memory.training(model, **{"dtype": BF16, "fused": device.type == "cpu", **settings})
    network = made.scorer.model.to(device)
    groups = [ParameterGroup(tuple(made.optimizer.names), 1.0, decay=True)]
    optimizer = MasterOptimizer(network, groups, made.config.optimizer, made.learning_rate)
    return replace(made, optimizer=optimizer, collate=replace(made.collate, device=device))


def on_waiting(mode: str) -> None:
    """Let torch fail ("error") or say nothing ("default") when the host waits for the GPU, as far as CUDA tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is in beta
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def no_waiting() -> Iterator[None]:
    on_waiting("error")
    try:
        yield
    finally:
        on_waiting("default")


@pytest.mark.parametrize(("model", "settings"), [("smollm", {"head": "causal"}), ("minilm", {})])
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_a_step_waits_once(
    model: str, settings: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = parts(model, dtype=dtype, micro_batch_tokens=700, **settings)
    waited: list[int] = []
    counts = False
    numbers = loop_module.numbers

    def counted(*tensors: torch.Tensor) -> list[float]:
        on_waiting("default")
        waited.append(len(tensors))
        found = numbers(*tensors)
        if counts:
            on_waiting("error")
        return found

    monkeypatch.setattr(loop_module, "numbers", counted)
    steps = train(training)
    next(steps)  # kernels are loaded
    waited.clear()
    counts = True
    with no_waiting():
        infos = list(steps)
    assert len(waited) == len(infos) > 0
    assert all(number > 2 for number in waited), "the step was not split"


def test_losses_fall_and_are_those_of_the_host() -> None:
    settings = {"head": "causal", "epochs": 6}
    here = [info.loss for info in train(parts(**settings))]
    there = [info.loss for info in train(parts(device=HOST, **settings))]
    assert here == pytest.approx(there, rel=2e-2)
    assert here[-1] < here[0]


@pytest.mark.parametrize(("model", "settings"), [("smollm", {"head": "causal"}), ("minilm", {})])
def test_resumed_equals_uninterrupted_bit_for_bit(
    model: str, settings: dict[str, Any], repeating: None, tmp_path: Path
) -> None:
    """With dropout (minilm), whose random numbers are drawn on the GPU."""
    settings = {**settings, "epochs": 4}
    curve = [info.loss for info in train(parts(model, **settings))]
    first = parts(model, **settings)
    steps = train(first)
    losses = [next(steps).loss for _ in range(2)]
    checkpoint.save(first, tmp_path, {})
    found, problems = checkpoint.find(tmp_path)
    assert found is not None
    assert not problems
    second = parts(model, **settings)
    checkpoint.restore(second, found)
    assert losses + [info.loss for info in train(second)] == curve


def gradients(training: Training) -> dict[str, torch.Tensor]:
    training.scorer.set_training()
    compute_gradients(training, np.arange(len(training.data)))
    found = {name: gradient.clone() for name, gradient in training.optimizer.gradients().items()}
    assert found
    training.optimizer.discard()
    return found


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], share: float) -> None:
    assert found.keys() == expected.keys()
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in expected]).norm()
    assert difference <= share * torch.cat([gradient.flatten() for gradient in expected.values()]).norm()


@pytest.mark.parametrize(("model", "settings"), [("smollm", {"head": "causal"}), ("minilm", {})])
def test_recomputing_gives_the_same_gradients(model: str, settings: dict[str, Any], repeating: None) -> None:
    """The backward pass runs in a thread of torch's own, and dropout is drawn again as it was."""
    training = parts(model, **settings)
    expected = gradients(training)
    with recomputing(training.scorer.model):
        found = gradients(training)
    assert_near(found, expected, 1e-6)


def test_graphs_give_the_same_gradients() -> None:
    training = parts(head="causal", micro_batch_tokens=700)
    expected = gradients(training)
    scorer = training.scorer
    runner = BaseGraphs(Anatomy.of(scorer.model).base, scorer.switches, 700)
    graphed = replace(training, scorer=replace(scorer, graphs=runner))
    for _ in range(3):  # captured, then replayed
        assert_near(gradients(graphed), expected, 2e-2)
    assert 0 < len(runner._captured) <= 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_layers_give_the_same_gradients(recompute: bool) -> None:
    training = parts(head="causal")
    expected = gradients(training)
    compile_layers(training.scorer.model)
    if recompute:
        recompute_layers(training.scorer.model)
    try:
        assert_near(gradients(training), expected, 3e-2)
    finally:
        torch._dynamo.reset()
        attention.register()


# ---- Liger -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
def test_kernels_of_liger_are_proven_equal_and_train_the_same(method: str) -> None:
    pytest.importorskip("liger_kernel")
    training = parts(head="causal", method=method)
    expected = gradients(training)
    replaced, put_back = liger.use_kernels(training.scorer.model)
    num_layers = inner(training.scorer.model).config.num_hidden_layers
    assert (replaced, put_back) == (3 * num_layers + 1, 0)
    assert_near(gradients(training), expected, 3e-2)


def test_the_loss_of_liger_is_ours() -> None:
    pytest.importorskip("liger_kernel")
    training = parts(head="causal")
    expected = gradients(training)
    scorer = training.scorer
    weight, reason = liger.choose_loss(scorer.model, scorer.head, liger.linear_cross_entropy_sum)
    assert weight is not None, reason
    fused: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = lambda hidden, labels: (  # noqa: E731
        liger.linear_cross_entropy_sum(hidden, weight, labels)
    )
    assert_near(gradients(replace(training, scorer=replace(scorer, fused_loss=fused))), expected, 3e-2)


# ---- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize(("model", "settings"), [("smollm", {"head": "causal", "vocabulary": 32_000}), ("minilm", {})])
def test_the_peak_of_memory_is_predicted(
    model: str, settings: dict[str, Any], method: str, checkpointing: bool
) -> None:
    training = parts(model, method=method, rows=256, lengths=(40, 500), micro_batch_tokens=16_384, **settings)
    needs = measure(training)
    if checkpointing:
        recompute_layers(training.scorer.model)
    steps = train(training)
    next(steps)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    next(steps)
    actual = torch.cuda.max_memory_allocated(DEVICE)
    predicted = needs.peak(16_384, checkpointing=checkpointing)
    # Workspaces of cuBLAS (some 32 MiB) are in what torch counts and not in what is planned.
    assert 0.85 < predicted / (actual - 2**25) < 1.25


def test_the_device_is_asked_for_its_memory() -> None:
    in_use, available = memory_of(DEVICE)
    held = torch.empty(2**26, dtype=torch.uint8, device=DEVICE)
    now, left = memory_of(DEVICE)
    assert now >= in_use + held.nbytes
    assert left <= available
