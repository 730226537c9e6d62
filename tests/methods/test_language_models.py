"""Every method on language models: causal and masked, output layer tied to the embeddings or not, head new or not."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tiny import tiny_batch, tiny_folder
from tunesmith.methods import Freeze, Full, Lora, Method, trained_parameters
from tunesmith.models import Pretrained, load_trained
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.origin import origin, set_origin
from tunesmith.models.weights import align
from tunesmith.models.wrapping import inner, plain_name
from tunesmith.types import HeadSettings, InputError

CAUSAL = HeadSettings("AutoModelForCausalLM", None)
MASKED = HeadSettings("AutoModelForMaskedLM", None)

MODELS: dict[str, tuple[str, HeadSettings, dict[str, Any], set[str]]] = {
    # name: architecture, head, how the folder is made, parameters that its files lack
    "llama-tied": ("llama", CAUSAL, {"head": "causal", "tie_word_embeddings": True}, set()),
    "llama-untied": ("llama", CAUSAL, {"head": "causal", "tie_word_embeddings": False}, set()),
    "gpt2-tied": ("gpt2", CAUSAL, {"head": "causal"}, set()),
    "bert": ("bert", MASKED, {"head": "masked", "headless": False}, set()),
    "bert-headless": (
        "bert",
        MASKED,
        {},
        {"cls.predictions.bias"}
        | {
            f"cls.predictions.transform.{part}.{kind}" for part in ("dense", "LayerNorm") for kind in ("weight", "bias")
        },
    ),
    "roberta-headless": (
        "roberta",
        MASKED,
        {},
        {"lm_head.bias"}
        | {f"lm_head.{part}.{kind}" for part in ("dense", "layer_norm") for kind in ("weight", "bias")},
    ),
    "distilbert-headless": (
        "distilbert",
        MASKED,
        {},
        {"vocab_projector.bias"}
        | {f"vocab_{part}.{kind}" for part in ("transform", "layer_norm") for kind in ("weight", "bias")},
    ),
    "modernbert-headless": ("modernbert", MASKED, {}, {"head.dense.weight", "head.norm.weight", "decoder.bias"}),
}
METHODS: dict[str, Callable[[], Method]] = {
    "full": Full,
    "freeze-gradual": partial(Freeze, gradual=True, layer_decay=0.5),
    "lora": partial(Lora, rank=2),
    "lora-all-options": partial(Lora, rank=4, rslora=True, dora=True, lora_plus_ratio=4, init="gaussian"),
    "lora-bias": partial(Lora, rank=2, bias="all"),
}
ADAPTERS = [case for case in METHODS if case.startswith("lora")]


def is_quick(name: str, case: str) -> bool:
    """Say whether a model meets a case in every test run: adapters take turns."""
    return case not in ADAPTERS or case == ADAPTERS[list(MODELS).index(name) % len(ADAPTERS)]


everything = pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=() if is_quick(name, case) else pytest.mark.slow)
        for name in MODELS
        for case in METHODS
    ],
)
main_methods = pytest.mark.parametrize(("name", "case"), [(name, case) for name in MODELS for case in ("full", "lora")])


def load(name: str, folder: Path) -> Any:
    arch, head, settings, _ = MODELS[name]
    path = folder / arch if (folder / arch).exists() else tiny_folder(folder, arch, **settings)
    return Pretrained(name=str(path)).load(head, [], 3).model


def applied(name: str, case: str, folder: Path) -> tuple[Method, Any]:
    method = METHODS[case]()
    base = load(name, folder)
    torch.manual_seed(1)
    return method, method.apply(base).eval()


def shake(model: torch.nn.Module, method: Method) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained_parameters(model, method.parameter_groups(model)):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(**tiny_batch()).logits
    return scores


@pytest.mark.parametrize("name", MODELS)
def test_what_is_new_and_what_is_output(name: str, tmp_path: Path) -> None:
    model = load(name, tmp_path)
    new = MODELS[name][3]
    assert origin(model).new_parameters == new
    assert set(Anatomy.of(model).head_parameter_names) == new
    top = Anatomy.of(model).num_layers + 1
    depths = Anatomy.of(model).depths
    assert {key for key, depth in depths.items() if depth == top} == new
    assert depths[next(key for key, p in model.named_parameters() if p is model.get_input_embeddings().weight)] == 0
    output = model.get_output_embeddings()
    assert output not in Anatomy.of(model).linear_modules.values()
    if not model.config.tie_word_embeddings and not new:
        (key,) = (key for key, parameter in model.named_parameters() if parameter is output.weight)
        assert depths[key] == top - 1
    assert (output.weight is model.get_input_embeddings().weight) == model.config.tie_word_embeddings


@everything
def test_saved_and_loaded_it_is_the_same_model(name: str, case: str, tmp_path: Path) -> None:
    method, model = applied(name, case, tmp_path)
    names = [key for group in method.parameter_groups(model) for key in group.names]
    assert len(names) == len(set(names))
    method.update(model, 1.0)
    assert {key for key, parameter in model.named_parameters() if parameter.requires_grad} == set(names)
    shake(model, method)
    method.save(model, tmp_path / "saved")
    if method.needs_base:
        again = method.load(load(name, tmp_path), tmp_path / "saved").eval()
    else:
        transformers.AutoTokenizer.from_pretrained(tmp_path / MODELS[name][0]).save_pretrained(tmp_path / "saved")
        opened = load_trained(tmp_path / "saved", MODELS[name][1]).model
        set_origin(opened, origin(model))  # what was new to the method is its head here too
        again = method.apply(opened).eval()
    assert torch.equal(logits(again), logits(model))
    assert [key for group in method.parameter_groups(again) for key in group.names] == names
    plain = load_plainly(MODELS[name][1].auto_class, tmp_path / MODELS[name][0], tmp_path / "saved")
    torch.testing.assert_close(logits(plain), logits(model), rtol=0, atol=2e-6)


def load_plainly(auto_class: str, base: Path, saved: Path) -> Any:
    """Load as somebody would who has no tunesmith."""
    from peft import PeftModel

    is_adapter = (saved / "adapter_config.json").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, auto_class).from_pretrained(
            base if is_adapter else saved, dtype=torch.float32, attn_implementation="eager"
        )
        if is_adapter:
            model = PeftModel.from_pretrained(model, saved)
    align(model)
    return model.eval()


@main_methods
def test_a_step_changes_what_is_trainable_and_keeps_ties(name: str, case: str, tmp_path: Path) -> None:
    method, model = applied(name, case, tmp_path)
    method.update(model, 1.0)
    if case.startswith("lora"):
        shake(model, method)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    parameters = [parameter for _, parameter in trained_parameters(model, method.parameter_groups(model))]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    model(**tiny_batch()).logits.pow(2).sum().backward()
    optimizer.step()
    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed <= trainable
    keys = ("k_lin.bias", "key.bias", "k_proj.bias")
    assert not {key for key in trainable - changed if not plain_name(key).endswith(keys)}
    whole = inner(model)
    tied = whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    assert tied == whole.config.tie_word_embeddings


@pytest.mark.parametrize("name", MODELS)
def test_lora_trains_and_saves_adapters_and_what_is_new(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    method, model = applied(name, "lora", tmp_path)
    method.save(model, tmp_path / "saved")
    trained = {plain_name(key) for key, p in model.named_parameters() if p.requires_grad}
    new = MODELS[name][3]
    assert {key for key in trained if "lora_" not in key} == new
    saved = {plain_name(key): tensor for key, tensor in load_file(tmp_path / "saved/adapter_model.safetensors").items()}
    assert {key for key in saved if "lora_" not in key} == new
    embeddings = inner(model).get_input_embeddings().weight
    if inner(model).config.tie_word_embeddings:
        assert not [key for key, tensor in saved.items() if tensor.shape == embeddings.shape]
    adapted = {key.partition(".lora_")[0] for key in saved if "lora_" in key}
    assert adapted == set(Anatomy.of(load(name, tmp_path)).linear_modules)
    described = json.loads((tmp_path / "saved/adapter_config.json").read_text(encoding="utf-8"))
    assert described["task_type"] == ("CAUSAL_LM" if MODELS[name][1] is CAUSAL else None)
    assert described["base_model_name_or_path"] == str(tmp_path / MODELS[name][0])


@pytest.mark.parametrize("name", ["llama-tied", "gpt2-tied"])
def test_a_saved_causal_model_can_write(name: str, tmp_path: Path) -> None:
    method, model = applied(name, "full", tmp_path)
    method.save(model, tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text(encoding="utf-8"))
    assert config["use_cache"] is True
    assert config["eos_token_id"] == 2
    assert json.loads((tmp_path / "saved/generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == 2
    transformers.AutoTokenizer.from_pretrained(tmp_path / MODELS[name][0]).save_pretrained(tmp_path / "saved")
    loaded = load_trained(tmp_path / "saved", CAUSAL)
    assert torch.equal(logits(loaded.model), logits(model))
    assert loaded.model.config.use_cache is True
    written = loaded.model.generate(**tiny_batch((5,)), max_new_tokens=4, do_sample=False)
    assert written.shape[1] > 5


def test_a_probe_trains_what_is_new_of_a_masked_model(tmp_path: Path) -> None:
    model = Freeze().apply(load("bert-headless", tmp_path))
    assert {key for key, p in model.named_parameters() if p.requires_grad} == MODELS["bert-headless"][3]


@pytest.mark.parametrize(("method", "message"), [(Freeze(), "no head of its own"), (Freeze(layers=2), "Everything")])
def test_without_a_head_of_its_own_nothing_can_be_left_to_train(method: Freeze, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        method.apply(load("llama-tied", tmp_path))


def test_thawing_starts_at_the_top_layer_where_there_is_no_head(tmp_path: Path) -> None:
    method = Freeze(gradual=True)
    model = method.apply(load("llama-tied", tmp_path))
    depths = Anatomy.of(model).depths
    for progress, lowest in ((0.0, 2), (0.34, 1), (0.67, 0)):
        method.update(model, progress)
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {key for key, depth in depths.items() if depth >= lowest}


@pytest.mark.parametrize(
    ("name", "target"), [("llama-tied", "lm_head"), ("bert", "decoder"), ("bert", "word_embeddings")]
)
def test_a_tied_layer_is_no_target(name: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="change it in one place only"):
        Lora(target_modules=(target,)).apply(load(name, tmp_path))


def test_an_untied_output_layer_can_be_asked_for(tmp_path: Path) -> None:
    method = Lora(rank=2, target_modules=("lm_head", "q_proj"))
    model = method.apply(load("llama-untied", tmp_path)).eval()
    shake(model, method)
    method.save(model, tmp_path / "saved")
    assert torch.equal(logits(method.load(load("llama-untied", tmp_path), tmp_path / "saved").eval()), logits(model))
