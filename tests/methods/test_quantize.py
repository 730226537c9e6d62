"""LoRA beside a base in 4 or 8 bits."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import tiny_batch, tiny_model
from tunesmith.engine.precision import place
from tunesmith.methods import Lora, trained_parameters
from tunesmith.models import quantized
from tunesmith.models.anatomy import Anatomy, is_linear
from tunesmith.models.weights import num_weights
from tunesmith.models.wrapping import inner
from tunesmith.types import InputError

pytest.importorskip("bitsandbytes")

# A multiple of 64 inputs each, as nearly all models have.
_SIZES = {"hidden_size": 64, "intermediate_size": 128}
MODELS = {
    "bert": partial(tiny_model, "bert", **_SIZES),
    "llama-causal": partial(tiny_model, "llama", head="causal", tie_word_embeddings=True, head_dim=32, **_SIZES),
    "gpt2-causal": partial(tiny_model, "gpt2", head="causal", n_embd=64, n_inner=128),
    "modernbert-masked": partial(tiny_model, "modernbert", head="masked", **_SIZES),
}
ERROR = {"nf4": 0.17, "int8": 0.006}
"""Largest rounding error of a weight, relative to the largest: half the widest gap of NF4 is 0.152."""
SCHEMES = ("nf4", "int8")
everything = pytest.mark.parametrize(("name", "scheme"), [(name, scheme) for name in MODELS for scheme in SCHEMES])


@pytest.fixture(autouse=True, scope="module")
def _imported() -> Iterator[None]:
    quantized.quantize(base("bert"), "nf4")  # the first import takes seconds
    return


def base(name: str) -> Any:
    return MODELS[name](dtype=torch.float32)


def applied(name: str, scheme: str, **options: Any) -> tuple[Lora, Any]:
    torch.manual_seed(1)
    method = Lora(rank=2, quantize=scheme, **options)
    return method, method.apply(base(name))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(**tiny_batch()).logits
    return scores


def shake(model: torch.nn.Module, method: Lora) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained_parameters(model, method.parameter_groups(model)):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def num_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of all weights of the linear layers, with what quantising added to them."""
    tied = set(Anatomy.of(model).tied_modules)
    total = 0
    for name, module in inner(model).named_modules():
        if is_linear(module) and "lora_" not in name and name not in tied:
            total += sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    return total


@everything
def test_layers_below_the_head_are_rounded_and_nothing_else(name: str, scheme: str) -> None:
    before, after = base(name), base(name)
    quantized.quantize(after, scheme)  # type: ignore[arg-type]
    linear = Anatomy.of(before).linear_modules
    assert set(Anatomy.of(after).linear_modules) == set(linear)
    sizes = [num_weights(parameter) for parameter in after.parameters()]
    assert sum(sizes) == sum(parameter.numel() for parameter in before.parameters())
    for key, module in after.named_modules():
        is_rounded = module.weight.dtype in (torch.uint8, torch.int8) if hasattr(module, "weight") else False
        assert is_rounded == (key in linear), key
    quantized.dequantize(after)
    for key, module in linear.items():
        whole = module.weight if isinstance(module, torch.nn.Linear) else module.weight.T
        rounded = after.get_submodule(key).weight
        assert isinstance(rounded, torch.Tensor)
        assert 0 < (rounded - whole).abs().max() <= ERROR[scheme] * whole.abs().max(), key
    untouched = {key: tensor for key, tensor in before.state_dict().items() if key.rpartition(".")[0] not in linear}
    assert all(torch.equal(after.state_dict()[key], tensor) for key, tensor in untouched.items())


@everything
def test_scores_are_those_of_the_rounded_weights_in_training_and_after(name: str, scheme: str) -> None:
    rounded = base(name)
    quantized.quantize(rounded, scheme)  # type: ignore[arg-type]
    quantized.dequantize(rounded)
    _, model = applied(name, scheme)  # B is zero: the adapter adds nothing yet
    torch.testing.assert_close(logits(model.eval()), logits(rounded.eval()), rtol=0, atol=1e-5)
    evaluated = logits(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    config = inner(model).config
    for key in ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    trained = model.train()(**tiny_batch()).logits
    torch.testing.assert_close(trained.detach(), evaluated, rtol=0, atol=1e-5)
    assert torch.equal(logits(model.eval()), evaluated)  # and training has left nothing behind


@everything
def test_gradients_reach_adapter_and_head_only_and_are_those_of_the_rounded_weights(name: str, scheme: str) -> None:
    method, model = applied(name, scheme)
    shake(model, method)
    rounded = base(name)
    quantized.quantize(rounded, scheme)  # type: ignore[arg-type]
    quantized.dequantize(rounded)
    torch.manual_seed(1)
    reference = Lora(rank=2).apply(rounded)
    shake(reference, Lora(rank=2))
    for one in (model, reference):
        one.eval()(**tiny_batch()).logits.pow(2).sum().backward()
    expected = {key: p.grad for key, p in reference.named_parameters() if p.grad is not None}
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(expected)
    assert not [key for key in found if "base_layer" in key]
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


@everything
def test_saved_and_loaded_it_predicts_the_same(name: str, scheme: str, tmp_path: Path) -> None:
    method, model = applied(name, scheme)
    shake(model, method)
    method.save(model, tmp_path)
    again = method.load(base(name), tmp_path)
    assert torch.equal(logits(again.eval()), logits(model.eval()))
    assert not [path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]


@everything
def test_an_adapter_fits_the_base_in_full_precision_too(name: str, scheme: str, tmp_path: Path) -> None:
    method, model = applied(name, scheme)
    shake(model, method)
    method.save(model, tmp_path)
    plain = Lora(rank=2).load(base(name), tmp_path)
    close = logits(plain.eval()) - logits(model.eval())
    assert close.abs().max() < 0.3 * logits(plain).abs().max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_base_shrinks(scheme: str) -> None:
    plain = tiny_model("llama", dtype=torch.float32, hidden_size=128, intermediate_size=256, head_dim=64)
    before = num_bytes(plain)
    quantized.quantize(plain, scheme)  # type: ignore[arg-type]
    # 4 bits and a scale of 8 bits per 64 weights are 0.13 of 32 bits; each layer also has a table of 256 numbers.
    assert num_bytes(plain) < {"nf4": 0.2, "int8": 0.27}[scheme] * before


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bf16_and_resuming(scheme: str) -> None:
    method, model = applied("llama-causal", scheme)
    shake(model, method)
    expected = logits(model.eval())
    place(model, "bf16", torch.device("cpu"))
    scores = logits(model)
    assert scores.dtype == torch.bfloat16
    assert (scores.float() - expected).abs().max() < 0.05 * expected.abs().max()
    loss = model.train()(**tiny_batch()).logits.float().pow(2).sum()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_learns_as_the_unquantised_one_does(scheme: str) -> None:
    def train(quantize: str) -> float:
        torch.manual_seed(1)
        model = Lora(rank=4, quantize=quantize).apply(base("llama-causal")).train()  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
        batch = tiny_batch()
        for _ in range(30):
            loss = model(**batch, labels=batch["input_ids"]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    plain, rounded = train("none"), train(scheme)
    assert rounded < 4.5  # below log 97, the loss of guessing
    assert abs(plain - rounded) < 0.25


@pytest.mark.parametrize("scheme", SCHEMES)
def test_dora_beside_a_quantised_base(scheme: str, tmp_path: Path) -> None:
    method, model = applied("llama-causal", scheme, dora=True)
    shake(model, method)
    method.save(model, tmp_path)
    assert torch.equal(logits(method.load(base("llama-causal"), tmp_path).eval()), logits(model.eval()))


@pytest.mark.parametrize("name", MODELS)
def test_nf4_is_that_of_the_paper(name: str) -> None:
    """QLoRA, appendix E: the 16 values; each weight becomes the nearest, times the largest of its 64."""
    below = [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0]
    above = [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]
    values = torch.tensor(below + above)
    before, after = base(name), base(name)
    quantized.quantize(after, "nf4")
    quantized.dequantize(after)
    for key, module in Anatomy.of(before).linear_modules.items():
        whole = module.weight.detach() if isinstance(module, torch.nn.Linear) else module.weight.detach().T
        blocks = whole.reshape(-1, 64)
        largest = blocks.abs().amax(dim=1, keepdim=True)
        nearest = values[(blocks[..., None] / largest[..., None] - values).abs().argmin(dim=-1)]
        expected = (nearest * largest).reshape(whole.shape)
        # The scales are rounded to 8 bits too.
        torch.testing.assert_close(after.get_submodule(key).weight, expected, rtol=0.02, atol=1e-3 * float(whole.std()))


def test_layers_of_other_widths_stay_whole_in_4_bits() -> None:
    model = tiny_model("bert", dtype=torch.float32, hidden_size=64, intermediate_size=96)
    quantized.quantize(model, "nf4")
    layer = model.bert.encoder.layer[0]
    assert layer.intermediate.dense.weight.dtype == torch.uint8
    assert layer.output.dense.weight.dtype == torch.float32  # 96 inputs
    with pytest.raises(InputError, match="no layer that can be kept in nf4"):
        quantized.quantize(tiny_model("bert"), "nf4")


def test_biases_of_quantised_layers_are_not_trained() -> None:
    with pytest.raises(ValueError, match="biases of quantised layers"):
        Lora(quantize="nf4", bias="all")


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(quantized, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(InputError, match=r"(?s)needs the package 'bitsandbytes'.*tunesmith\[quantize\]"):
        Lora(quantize="nf4").apply(base("bert"))


@pytest.mark.slow
def test_nothing_is_printed() -> None:
    program = (
        "from transformers import BertConfig, BertForSequenceClassification as Bert\n"
        "from tunesmith.methods import Lora\n"
        "sizes = dict(hidden_size=64, num_attention_heads=1, num_hidden_layers=1, intermediate_size=64, vocab_size=9)\n"
        "for scheme in ('none', 'nf4', 'int8'):\n"
        "    Lora(quantize=scheme).apply(Bert(BertConfig(**sizes)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
