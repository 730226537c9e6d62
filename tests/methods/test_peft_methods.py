"""The contract of the methods that come through PEFT, each on a few architectures in turn."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import TRANSFORMERS, VOCABULARY, tiny_batch, tiny_model
from tunesmith.engine.layout import choose_layout
from tunesmith.engine.precision import place
from tunesmith.engine.stand_ins import as_written, remove_stand_ins
from tunesmith.methods import METHODS, Method, trained_parameters
from tunesmith.methods.any_peft import AnyPeft
from tunesmith.methods.lora import Lora
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.merging import merge
from tunesmith.models.wrapping import has_virtual_tokens, inner, plain_name
from tunesmith.types import InputError

SMALL: dict[str, dict[str, Any]] = {
    "rslora": {"rank": 4, "alpha": 4},
    "dora": {"rank": 2},
    "lora_plus": {"rank": 2},
    "lora_fa": {"rank": 2},
    "pissa": {"rank": 2},
    "olora": {"rank": 2},
    "eva": {"rank": 2},
    "corda": {"rank": 2},
    "lora_ga": {"rank": 2},
    "loftq": {},
    "ia3": {},
    "prefix_tuning": {"length": 3},
    "p_tuning": {"length": 3, "hidden_size": 8},
    "vera": {"rank": 8},
    "loha": {"rank": 2},
    "lokr": {"rank": 2},
    "oft": {"block_size": 4},
    "boft": {},
    "hra": {"rank": 2},
    "fourierft": {"coefficients": 20},
    "miss": {"rank": 4},
    "randlora": {"rank": 4, "alpha": 80},
    "shira": {"rank": 2},
    "c3a": {},
    "road": {},
    "ln_tuning": {},
    "trainable_tokens": {"token_indices": (2, 5, 9)},
    "peft:NAME": {"name": "peft:hira", "options": {"r": 2}},
}
"""Options of every method for models of a hidden size of 16."""

FURTHER = tuple(SMALL)
"""The methods whose contract is here."""

PROMPTS = ("prefix_tuning", "p_tuning")
ON_TURNED_LAYERS = (
    *("rslora", "dora", "lora_plus", "lora_fa", "pissa", "olora", "eva", "corda", "lora_ga"),
    *("ia3", "vera", "fourierft", "randlora", "ln_tuning", "prefix_tuning", "trainable_tokens", "peft:NAME"),
)
"""Those that fit GPT-2, whose linear layers hold their weights the other way round."""


def fits(arch: str, name: str) -> bool:
    """Say whether a method can train a classifier of this architecture; if not, it says so."""
    if name in ("loftq", "trainable_tokens"):
        return False
    if name == "prefix_tuning":
        return arch in ("bert", "roberta", "llama", "qwen3", "gpt2")
    if name == "p_tuning":
        return arch in ("bert", "roberta", "distilbert", "modernbert")
    return arch != "gpt2" or name in ON_TURNED_LAYERS


def _in_turn() -> list[tuple[str, str]]:
    """Return two architectures for each method, so that each architecture has about as many."""
    found = []
    for index, name in enumerate(SMALL):
        fitting = [arch for arch in TRANSFORMERS if fits(arch, name)]
        found += [(fitting[(index + step) % len(fitting)], name) for step in (0, 4) if fitting]
    return list(dict.fromkeys(found))


TABLE = _in_turn()
everything = pytest.mark.parametrize(("arch", "name"), TABLE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def method_of(name: str) -> Method:
    return METHODS[name](**SMALL[name])


def applied(arch: str, name: str, base: Callable[[], Any] | None = None) -> tuple[Method, Any]:
    torch.manual_seed(1)
    method = method_of(name)
    model: Any = method.apply((base or partial(tiny_model, arch))())
    if method.num_calibration_rows:
        method.take_calibration(model, method.calibrate(model, Rows(model)))
        model.zero_grad()
    return method, model.eval()


class Rows:
    """A few rows to look at, as a run would show them."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def batches(self, max_rows: int | None = None) -> Iterator[Any]:
        for seed in (1, 2, 3):
            yield Part(self.model, tiny_batch(seed=seed))


class Part:
    num_rows = 3

    def __init__(self, model: Any, batch: Mapping[str, torch.Tensor]) -> None:
        self.model, self.batch = model, batch

    def forward(self) -> None:
        with torch.no_grad():
            self.model(**self.batch)

    def backward(self) -> None:
        self.model(**self.batch, labels=torch.tensor([0, 1, 2])).loss.backward()

    def real(self, states: torch.Tensor) -> torch.Tensor:
        mask = self.batch["attention_mask"].bool()
        return states[mask] if states.shape[:2] == mask.shape else states.reshape(-1, states.shape[-1])


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**tiny_batch()).logits


def shake(model: torch.nn.Module, method: Method) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained_parameters(model, method.parameter_groups(model)):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


@everything
def test_it_begins_at_the_base_trains_its_own_weights_and_leaves_the_base_alone(arch: str, name: str) -> None:
    method, model = applied(arch, name)
    base = tiny_model(arch)
    if name not in PROMPTS:
        torch.testing.assert_close(logits(model), logits(base), rtol=0, atol=1e-9)
    named = dict(model.named_parameters())
    before = {key: parameter.detach().clone() for key, parameter in named.items()}
    groups = method.parameter_groups(model)
    names = [key for group in groups for key in group.names]
    assert sorted(names) == sorted(key for key, parameter in named.items() if parameter.requires_grad)
    head = set(Anatomy.of(base).head_parameter_names)
    own = dict(base.named_parameters())
    assert {plain_name(key) for key in names} & set(own) <= head
    assert [key for key in names if plain_name(key) not in own], "nothing of the method's own is trained"
    shake(model, method)
    optimizer = torch.optim.SGD([named[key] for key in names], lr=0.1)
    model(**tiny_batch()).logits.pow(2).sum().backward()
    reached = {key for key in names if named[key].grad is not None}
    assert any(plain_name(key) not in own for key in reached)
    optimizer.step()
    changed = {key for key, parameter in named.items() if not torch.equal(parameter, before[key])}
    assert changed == set(names)
    if name in PROMPTS:
        return  # PEFT does not switch off what it puts before rows; the model inside is untouched
    head_of_base = {key: parameter for key, parameter in base.named_parameters() if key in head}
    with model.disable_adapter():
        off = logits(model)
    with torch.no_grad():
        for key, parameter in head_of_base.items():
            trained = next(named[one] for one in names if plain_name(one) == key)
            assert not torch.equal(parameter, trained)
    torch.testing.assert_close(off, logits(base), rtol=0, atol=1e-9)


@everything
def test_what_is_saved_is_the_same_for_tunesmith_plain_peft_and_merged(arch: str, name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    place = tmp_path / "base"
    tiny_model(arch).save_pretrained(place)

    def base() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float64).eval()

    method, model = applied(arch, name, base)
    shake(model, method)
    expected = logits(model)
    assert float((expected - logits(base())).abs().max()) > 1e-4
    folder = tmp_path / "adapter"
    method.save(model, folder)
    described = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert described["base_model_name_or_path"] == str(place)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = method.load(base(), folder).eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(again), expected)
    method.save(again, tmp_path / "again")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = PeftModel.from_pretrained(base(), folder).eval()
    assert torch.equal(logits(plain), expected)
    if name in PROMPTS:
        with pytest.raises(InputError, match="cannot be merged"):
            merge(plain, folder)
        return
    # Fourier transforms are computed in float32.
    torch.testing.assert_close(logits(merge(plain, folder)), expected, rtol=0, atol=1e-6 if name == "c3a" else 1e-9)


@pytest.mark.parametrize("name", [name for name in SMALL if fits("bert", name) and name not in PROMPTS])
def test_the_flat_layout_scores_as_the_padded_one_after_training_too(name: str) -> None:
    for arch in ("bert", "llama"):
        method, model = applied(arch, name)
        assert choose_layout(model, "row", VOCABULARY, "auto")[0] == "flat"
        shake(model, method)
        with as_written(model):
            written = logits(model)
        assert choose_layout(model, "row", VOCABULARY, "auto")[0] == "flat"
        torch.testing.assert_close(logits(remove_stand_ins(model)), written)


@pytest.mark.parametrize("name", [name for name in SMALL if fits("bert", name)])
def test_it_is_trained_in_bf16_on_a_cpu(name: str) -> None:
    torch.manual_seed(1)
    method = method_of(name)
    model: Any = method.apply(tiny_model("bert", dtype=torch.float32)).eval()
    names = {one for group in method.parameter_groups(model) for one in group.names}
    place(model, "bf16", torch.device("cpu"), names)
    model(**tiny_batch()).logits.float().pow(2).sum().backward()
    gradients = {one: parameter.grad for one, parameter in model.named_parameters() if parameter.grad is not None}
    assert set(gradients) <= names
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any("modules_to_save" not in one for one in gradients)


@pytest.mark.parametrize("name", [name for name in SMALL if not fits("gpt2", name) and name != "p_tuning"])
def test_what_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(InputError) as raised:
        method_of(name).apply(tiny_model("gpt2"))
    assert raised.value.problems[0].fix


def test_prefixes_reach_the_scores() -> None:
    for arch in ("bert", "llama"):
        _, model = applied(arch, "prefix_tuning")
        assert has_virtual_tokens(model)
        before = logits(model)
        with torch.no_grad():
            model.prompt_encoder["default"].embedding.weight.add_(1.0)
        assert not torch.allclose(logits(model), before)
        torch.testing.assert_close(logits(inner(model)), logits(tiny_model(arch)))


def test_chosen_tokens_are_trained_in_a_language_model_with_tied_embeddings(tmp_path: Path) -> None:
    from peft import PeftModel

    method = METHODS["trainable_tokens"](token_indices="5,2")
    base = partial(tiny_model, "llama", head="causal", tie_word_embeddings=True)
    model: Any = method.apply(base()).eval()
    assert torch.equal(logits(model), logits(base()))
    shake(model, method)
    method.save(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = PeftModel.from_pretrained(base(), tmp_path).eval()
    torch.testing.assert_close(logits(plain), logits(model))
    changed = (logits(model) - logits(base())).abs().amax((0, 1))
    assert float(changed[[2, 5]].min()) > 1e-3  # as an output layer, too
    for wrong, said in (((), "is empty"), ((97,), "has 97 tokens")):
        with pytest.raises(InputError, match=said):
            METHODS["trainable_tokens"](token_indices=wrong).apply(base())
    with pytest.raises(InputError, match="classifier is new, and PEFT saves nothing of that kind"):
        method.apply(tiny_model("bert"))


@pytest.mark.parametrize("name", ["pissa", "olora", "corda", "lora_ga"])
def test_what_begins_elsewhere_is_a_plain_lora_beside_the_published_weights(name: str) -> None:
    method, model = applied("bert", name)
    assert isinstance(method, Lora)
    layers = [module for module in model.modules() if hasattr(module, "lora_A") and "default" in module.lora_A]
    for layer in layers:
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert len(down) == 2 * method.rank
        assert torch.equal(down[:2], down[2:])
        assert torch.equal(up[:, :2], -up[:, 2:])
        assert up[:, :2].any()
        assert layer.scaling["default"] == 2.0
    own = dict(tiny_model("bert").named_parameters())
    for key, parameter in inner(model).named_parameters():
        if plain_name(key) in own and "modules_to_save" not in key:
            assert torch.equal(parameter, own[plain_name(key)])


def test_pissa_begins_at_the_principal_part_of_every_weight() -> None:
    model: Any = METHODS["pissa"](rank=2, iterations=60).apply(tiny_model("bert"))
    layer = next(module for module in model.modules() if hasattr(module, "lora_A") and "default" in module.lora_A)
    left, sizes, right = torch.linalg.svd(layer.base_layer.weight)
    best = left[:, :2] * sizes[:2] @ right[:2]
    down, up = layer.lora_A["default"].weight[:2], layer.lora_B["default"].weight[:, :2]
    torch.testing.assert_close((layer.scaling["default"] * up @ down).detach(), best.detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("keeps", ["instruction", "knowledge"])
def test_corda_begins_at_a_part_of_the_weight(keeps: str) -> None:
    """With all directions, the factors make up the whole weight, whatever is read."""
    torch.manual_seed(1)
    method: Any = METHODS["corda"](rank=16, keeps=keeps)
    model: Any = method.apply(tiny_model("bert"))
    method.take_calibration(model, method.calibrate(model, Rows(model)))
    for layer in (module for module in model.modules() if "default" in getattr(module, "lora_A", ())):
        down, up = layer.lora_A["default"].weight[:16], layer.lora_B["default"].weight[:, :16]
        made = layer.scaling["default"] * up @ down
        torch.testing.assert_close(made.detach(), layer.base_layer.weight.detach(), rtol=0, atol=1e-4)


def test_eva_gives_ranks_to_layers_whose_inputs_have_few_directions() -> None:
    method, model = applied("bert", "eva")
    assert isinstance(method, Lora)
    layers = {name: module for name, module in model.named_modules() if "default" in getattr(module, "lora_A", ())}
    ranks = [len(layer.lora_A["default"].weight) for layer in layers.values()]
    assert sum(ranks) == method.rank * len(ranks)
    assert len(set(ranks)) > 1
    assert {1 <= rank <= 4 for rank in ranks} == {True}
    assert {round(layer.scaling["default"], 6) for layer in layers.values()} == {2.0}
    name, layer = next(iter(layers.items()))
    read: list[torch.Tensor] = []
    handle = layer.base_layer.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    for part in Rows(model).batches():
        part.forward()
        read[-1] = part.real(read[-1])
    handle.remove()
    centred = torch.cat(read) - torch.cat(read).mean(0)
    _, _, right = torch.linalg.svd(centred)
    down = layer.lora_A["default"].weight
    cosines = (right[: len(down)] * down).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-3), name


def test_lora_ga_begins_along_the_gradient() -> None:
    _, model = applied("bert", "lora_ga")
    layer = next(module for module in model.modules() if hasattr(module, "lora_A") and "default" in module.lora_A)
    base = tiny_model("bert")
    for seed in (1, 2, 3):
        Part(base, tiny_batch(seed=seed)).backward()
    gradient = base.bert.encoder.layer[0].attention.self.query.weight.grad
    _, _, right = torch.linalg.svd(gradient)
    down = layer.lora_A["default"].weight[:2]
    inside = (down @ right[:4].T @ right[:4]).norm(dim=1) / down.norm(dim=1)
    torch.testing.assert_close(inside, torch.ones_like(inside), rtol=0, atol=1e-3)


def test_lora_fa_turns_the_gradient_of_b_alone() -> None:
    method, model = applied("bert", "lora_fa")
    shake(model, method)
    model(**tiny_batch()).logits.pow(2).sum().backward()
    layer = next(module for module in model.modules() if hasattr(module, "lora_A") and "default" in module.lora_A)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert down.grad is None
    before = up.grad.clone()
    method.after_gradients(model, 1, 10)
    torch.testing.assert_close(up.grad @ (down @ down.T) * layer.scaling["default"] ** 2, before)


def test_loftq_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS["loftq"](rank=4)
    monkeypatch.setattr("tunesmith.methods.loftq.has_gpu", lambda: False)
    with pytest.raises(InputError, match="needs a GPU"):
        method.apply(tiny_model("bert"))
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("tunesmith.methods.loftq.has_gpu", lambda: True)
    wide: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64, "dtype": torch.float32}
    expected = logits(tiny_model("bert", **wide))
    started = logits(method.apply(tiny_model("bert", **wide)).eval())
    rounded = logits(Lora(rank=4, quantize="nf4").apply(tiny_model("bert", **wide)).eval())
    assert float((started - expected).norm()) < 0.9 * float((rounded - expected).norm())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "peft:HIRAA"}, "Did you mean 'peft:HIRA'"),
        ({"name": "peft:HIRA", "options": {"hira_dropot": 0.1}}, "Did you mean 'hira_dropout'"),
        ({"name": "peft:HIRA", "options": {"task_type": "SEQ_CLS"}}, "tunesmith tells PEFT that itself"),
        ({"name": "peft:VBLORA"}, "must be divisible by `vector_length`"),
        ({"name": "peft:SHADOW"}, "cannot run"),
        ({"name": "peft:LORA", "options": {"init_lora_weights": "pissa"}}, "changes the model's own weights"),
    ],
)
def test_what_peft_cannot_do_is_said_before_training(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        AnyPeft(**settings).apply(tiny_model("bert", dtype=torch.float32))
    assert said in str(raised.value)


def test_the_page_has_every_method_with_its_rate() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    table = page[page.index("## Methods through PEFT") : page.index("### How the rates were chosen")]
    rows = {line.split("|")[1].strip(" `"): line for line in table.splitlines() if line.startswith("| `")}
    for name, method in METHODS.items():
        if name in SMALL or name == "adalora" or name == "prompt_tuning":
            rate = f"{method.default_learning_rate:g}".replace("e-0", "e-")
            assert f"| {rate} |" in rows[name], name


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("boft", {"block_size": 5}, "does not divide the 16 inputs"),
        ("road", {"group_size": 6}, "does not divide the 16 outputs"),
        ("c3a", {"block_size": 5}, "does not divide the 16 inputs"),
        ("pissa", {"rank": 17}, "has 16 directions"),
        ("lora_ga", {"rank": 9}, "Choose a rank of at most 8"),
        ("loha", {"quantize": "int8"}, "no form of the method 'loha' for layers in 4 or 8 bits"),
        ("olora", {"quantize": "int8"}, "begins with factors of whole weights"),
        ("hra", {"target_modules": "word_embeddings"}, "is a table of embeddings"),
        ("vera", {"target_modules": "quary"}, "Did you mean 'query'"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        METHODS[name](**options).apply(tiny_model("bert"))
    assert said in str(raised.value)
