"""The contract of every method, on every architecture."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from methods.test_peft_methods import FURTHER
from tiny import ARCHITECTURES, TRANSFORMERS, tiny_batch, tiny_model, tiny_tokenizer
from tunesmith.methods import METHODS, Freeze, Full, Lora, Method, trained_parameters
from tunesmith.methods.adalora import AdaLora
from tunesmith.methods.auto import Auto
from tunesmith.methods.bitfit import BitFit
from tunesmith.methods.compress import Compress
from tunesmith.methods.contrastive import Contrastive
from tunesmith.methods.lisa import Lisa
from tunesmith.methods.prompts import PromptTuning
from tunesmith.methods.sparse import Sparse
from tunesmith.models import load_trained
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.origin import Origin, set_origin
from tunesmith.models.weights import align
from tunesmith.models.wrapping import plain_name
from tunesmith.types import HeadSettings, InputError

HEAD = HeadSettings("AutoModelForSequenceClassification", 3)

CASES: dict[str, Callable[[], Method]] = {
    "full": Full,
    "freeze-head": Freeze,
    "freeze-layers": partial(Freeze, layers=1, layer_decay=0.5),
    "freeze-gradual": partial(Freeze, gradual=True),
    "lora": partial(Lora, rank=2),
    "lora-all-options": partial(
        Lora, rank=4, alpha=3, rslora=True, dora=True, lora_plus_ratio=4, layer_decay=0.5, init="gaussian"
    ),
    "lora-top": partial(Lora, rank=2, layers_to_transform="top 1"),
    "lora-bias": partial(Lora, rank=2, bias="all"),
    "adalora": partial(AdaLora, initial_rank=4, target_rank=2),
    "bitfit": BitFit,
    "prompt_tuning": partial(PromptTuning, length=4),
    "lisa": partial(Lisa, layers=1),
    "sparse": partial(Sparse, share=0.1, choose="gradient"),
    "compress": partial(Compress, way="whitened"),
    "compress-prune": partial(Compress, heads=0.5),
    "contrastive": partial(Contrastive, passes=1),
    "auto": partial(Auto, start="lora", rank=2),
    "whole-auto": partial(Auto, start="full"),
}
ADAPTERS = ("lora", "adalora", "prompt_tuning", "auto")
OWN = ("sparse", "compress")
"""What is saved beside a base model in a form of its own."""
HAS_HEADS = ("bert", "roberta", "distilbert", "llama", "qwen3")
"""Whose attention heads are known."""
CHANGING = ("freeze-gradual", "lisa")
"""Of what they ever train, not all is trained at first."""
WITHOUT_LINEAR = ("lstm", "cnn")
WITHOUT_BIASES = ("modernbert", "llama", "qwen3", "t5", "lstm")
TAKES_VECTORS = ("bert", "roberta", "distilbert", "modernbert")
"""Classifiers that find what they read without the tokens."""


def fits(arch: str, case: str) -> bool:
    """Say whether a method can train a classifier of this architecture; if not, it says so."""
    if case == "prompt_tuning":
        return arch in TAKES_VECTORS
    if case == "compress-prune":
        return arch in HAS_HEADS
    if case == "lisa":
        return arch != "cnn"
    if case == "bitfit":
        return arch not in WITHOUT_BIASES
    adapts = case == "auto" or case.partition("-")[0] in ("lora", "adalora", "sparse", "compress")
    return not (arch in WITHOUT_LINEAR and adapts)


TABLE = [(arch, case) for arch in ARCHITECTURES for case in CASES if fits(arch, case)]


def method_of(case: str) -> str:
    return case.removeprefix("whole-").partition("-")[0]


def in_turn(table: list[tuple[str, str]]) -> Any:
    """Parametrize by a table; of the cases of one method every architecture has one in its turn, the rest is slow."""

    def is_quick(arch: str, case: str) -> bool:
        same = [other for one, other in table if one == arch and method_of(other) == method_of(case)]
        return case == same[ARCHITECTURES.index(arch) % len(same)]

    rows = [pytest.param(*row, marks=() if is_quick(*row) else pytest.mark.slow) for row in table]
    return pytest.mark.parametrize(("arch", "case"), rows)


everything = in_turn(TABLE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny tensors are quicker on one thread, and so are tests beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def applied(arch: str, case: str, **settings: Any) -> tuple[Method, torch.nn.Module]:
    torch.manual_seed(1)
    method = CASES[case]() if not (arch == "cnn" and case == "freeze-layers") else Freeze(layers=1)
    model = method.apply(tiny_model(arch, **settings)).eval()
    if method.num_calibration_rows:
        method.take_calibration(model, method.calibrate(model, TinyRows(model)))
    return method, model


class TinyRows:
    """One batch to calibrate with."""

    num_rows = 3

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def batches(self, max_rows: int | None = None) -> Iterator[TinyRows]:
        yield self

    def forward(self) -> None:
        logits(self.model)

    def backward(self) -> None:
        self.model(**tiny_batch()).logits.pow(2).sum().backward()

    def classes(self) -> np.ndarray[Any, Any]:
        return np.arange(self.num_rows) % 2

    def vectors(self, model: torch.nn.Module, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        found: torch.Tensor = model(**tiny_batch()).logits[rows]
        return found

    def real(self, states: torch.Tensor) -> torch.Tensor:
        mask = tiny_batch()["attention_mask"].bool()
        return states[mask] if states.shape[:2] == mask.shape else states.reshape(-1, states.shape[-1])


def opened(folder: Path, head: HeadSettings = HEAD) -> Any:
    """Return the whole model in ``folder`` as a run is opened with it."""
    tiny_tokenizer().save_pretrained(folder)
    model = load_trained(folder, head).model
    if type(model).__module__.startswith("transformers."):
        model.set_attn_implementation("eager")  # as those are that it is compared with
    return model


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(**tiny_batch()).logits


def shake(model: torch.nn.Module, method: Method) -> None:
    """Move all that is ever trained, so that nothing saved equals its initial value."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        groups = method.parameter_groups(model)
        places = {name: where for group in groups for name, where in group.places.items()}
        for name, parameter in trained_parameters(model, groups):
            change = 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if name in places:  # a part alone is trained
                change = torch.zeros_like(change).put_(places[name], change.reshape(-1)[places[name]])
            parameter.add_(change)


def test_every_method_has_a_case() -> None:
    assert set(map(method_of, CASES)) | set(FURTHER) == set(METHODS)


@everything
def test_groups_hold_each_trained_parameter_once(arch: str, case: str) -> None:
    method, model = applied(arch, case)
    groups = method.parameter_groups(model)
    names = [name for group in groups for name in group.names]
    named = dict(model.named_parameters())
    trained = {name for name, parameter in named.items() if parameter.requires_grad}
    assert len(names) == len(set(names))
    assert trained <= set(names) <= set(named)
    if case not in CHANGING:
        assert trained == set(names)
    for group in groups:
        for name in group.names:
            norm = any(part in name.lower() for part in ("norm", "ln_"))
            assert group.decay == (named[name].ndim > 1 and not norm), name


@everything
def test_a_step_changes_what_is_trainable_and_nothing_else(arch: str, case: str) -> None:
    method, model = applied(arch, case)
    model.zero_grad()
    if method.needs_base:  # while B is zero, A has no gradient
        shake(model, method)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(
        [parameter for _, parameter in trained_parameters(model, method.parameter_groups(model))], lr=0.1
    )
    method.update(model, 0.0)
    model(**tiny_batch()).logits.pow(2).sum().backward()
    optimizer.step()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert changed <= trainable
    # A key's bias shifts all scores of a query alike and cancels in the softmax, up to rounding.
    keys = ("k_lin.bias", "key.bias", "k_proj.bias", "key.up.bias", "k_proj.up.bias", "k_lin.up.bias")
    assert not {name for name in trainable - changed if not plain_name(name).endswith(keys)}


@everything
def test_save_and_load_give_the_same_model_bit_for_bit(arch: str, case: str, tmp_path: Path) -> None:
    is_adapter = case.startswith((*ADAPTERS, *OWN))
    no_cache = {} if arch in WITHOUT_LINEAR else {"use_cache": False}
    # Whole models are opened in float32, and without a cache of keys where they only classify.
    method, model = applied(arch, case, **({} if is_adapter else {"dtype": torch.float32, **no_cache}))
    assert method.needs_base == is_adapter
    shake(model, method)
    method.save(model, tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".safetensors")]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = (method.load(tiny_model(arch), tmp_path) if is_adapter else method.apply(opened(tmp_path))).eval()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(again), logits(model))
    if case != "lisa":  # draws what is trained first from the seed
        assert [name for name, p in again.named_parameters() if p.requires_grad] == [
            name for name, p in model.named_parameters() if p.requires_grad
        ]


@pytest.mark.parametrize(
    ("arch", "case"), [one for one in TABLE if one[0] in TRANSFORMERS and one[1] in ("full", "bitfit")]
)
def test_whole_folder_loads_in_plain_transformers(arch: str, case: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    method, model = applied(arch, case)
    shake(model, method)
    method.save(model, tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    align(plain)
    assert torch.equal(logits(plain), logits(model))


@in_turn([(arch, case) for arch, case in TABLE if case.startswith(ADAPTERS)])
def test_adapter_folder_loads_in_plain_peft(arch: str, case: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base = tmp_path / "base"
    tiny_model(arch).save_pretrained(base)
    torch.manual_seed(1)
    method = CASES[case]()
    model = method.apply(AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float64)).eval()
    shake(model, method)
    method.save(model, tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert described["base_model_name_or_path"] == str(base)
    plain = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert torch.equal(logits(plain), logits(model))


@pytest.mark.parametrize("case", ["lora", "lora-all-options"])
@pytest.mark.parametrize("arch", TRANSFORMERS)
def test_lora_starts_as_the_base_model(arch: str, case: str) -> None:
    _, model = applied(arch, case)
    # DoRA divides by a norm and multiplies by it, which rounds.
    torch.testing.assert_close(logits(model), logits(tiny_model(arch)), rtol=0, atol=0 if case == "lora" else 1e-13)


@pytest.mark.parametrize("arch", TRANSFORMERS)
def test_lora_trains_adapters_and_head_only(arch: str) -> None:
    _, model = applied(arch, "lora")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = {plain_name(name) for name in trained if "lora_" not in name}
    assert head == set(Anatomy.of(tiny_model(arch)).head_parameter_names)
    adapted = {plain_name(name).partition(".lora_")[0] for name in trained if "lora_" in name}
    assert adapted == set(Anatomy.of(tiny_model(arch)).linear_modules)


def test_lora_saves_equal_files_for_equal_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        method, model = applied("bert", "lora")
        method.save(model, tmp_path / name)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_lora_trains_a_pooler_whose_weights_are_new(tmp_path: Path) -> None:
    def base() -> Any:
        model = tiny_model("bert")
        new = frozenset({"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"})
        set_origin(model, Origin("org/name", "abc", new))
        return model

    method = Lora(rank=2)
    model = method.apply(base()).eval()
    trained = {plain_name(name) for name, p in model.named_parameters() if p.requires_grad}
    assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= trained
    assert {name for name in trained if "pooler" in name and "lora" in name} == set()
    top = Anatomy.of(model).num_layers + 1
    depths = Anatomy.of(model).depths
    assert {depths[name] for name in depths if "pooler" in name} == {top}
    shake(model, method)
    method.save(model, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))["revision"] == "abc"
    assert torch.equal(logits(method.load(base(), tmp_path).eval()), logits(model))
    assert {"bert.pooler.dense.weight"} <= set(Anatomy.of(base()).head_parameter_names)
    probe = Freeze().apply(base())
    assert {name for name, p in probe.named_parameters() if p.requires_grad} == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(("alpha", "rslora", "scale"), [(None, False, 2.0), (3.0, False, 0.75), (3.0, True, 1.5)])
def test_lora_scale(alpha: float | None, rslora: bool, scale: float) -> None:
    model = Lora(rank=4, alpha=alpha, rslora=rslora, target_modules=("query",)).apply(tiny_model("bert"))
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    assert [layer.scaling["default"] for layer in layers] == [scale] * 2


def test_lora_plus_and_layer_decay_scales() -> None:
    method = Lora(rank=2, lora_plus_ratio=16, layer_decay=0.5, target_modules=("query",))
    model = method.apply(tiny_model("bert"))
    scales = {
        plain_name(name): group.learning_rate_scale for group in method.parameter_groups(model) for name in group.names
    }
    prefix = "bert.encoder.layer.{}.attention.self.query.lora_{}.default.weight"
    assert scales == {
        prefix.format(0, "A"): 0.25,
        prefix.format(0, "B"): 4.0,
        prefix.format(1, "A"): 0.5,
        prefix.format(1, "B"): 8.0,
        "classifier.weight": 1.0,
        "classifier.bias": 1.0,
    }


def test_lora_on_embeddings(tmp_path: Path) -> None:
    method = Lora(rank=2, target_modules=("word_embeddings", "query"), layer_decay=0.5)
    model = method.apply(tiny_model("bert")).eval()
    scales = {name: group.learning_rate_scale for group in method.parameter_groups(model) for name in group.names}
    assert {scale for name, scale in scales.items() if "lora_embedding" in name} == {0.125}
    shake(model, method)
    method.save(model, tmp_path)
    assert torch.equal(logits(method.load(tiny_model("bert"), tmp_path).eval()), logits(model))


@pytest.mark.parametrize(
    ("given", "kept"),
    [("all", "all"), ("top-1", "top 1"), ("top 2", "top 2"), (1, (1,)), ("1, 0", (1, 0)), ([0], (0,))],
)
def test_lora_adapts_the_layers_asked_for(given: Any, kept: Any) -> None:
    method = Lora(rank=2, layers_to_transform=given)
    assert method.layers_to_transform == kept
    model = method.apply(tiny_model("bert"))
    adapted = {plain_name(name) for name, p in model.named_parameters() if p.requires_grad and "lora_" in name}
    expected = {"all": {0, 1}, "top 1": {1}, "top 2": {0, 1}}.get(kept, set(kept))
    assert {int(name.split(".")[3]) for name in adapted if ".layer." in name} == expected
    assert kept == "all" or not [name for name in adapted if ".layer." not in name]
    again = Lora.model_validate(method.model_dump(mode="json"))
    assert again == method


@pytest.mark.parametrize("wrong", ["top", "top 0", "bottom 2", "-1", -1, [], True, "1.5", {"top": 2}])
def test_lora_refuses_what_names_no_layers(wrong: Any) -> None:
    with pytest.raises((ValidationError, InputError), match="layers_to_transform"):
        Lora(layers_to_transform=wrong).apply(tiny_model("bert"))


@pytest.mark.parametrize("wrong", ["top 3", "0,2"])
def test_lora_says_how_many_layers_there_are(wrong: str) -> None:
    with pytest.raises(InputError, match="has 2 layers"):
        Lora(layers_to_transform=wrong).apply(tiny_model("bert"))
    with pytest.raises(InputError, match="in layer 1"):
        Lora(layers_to_transform=1, target_modules=("word_embeddings",)).apply(tiny_model("bert"))


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if not fits(arch, "prompt_tuning")])
def test_vectors_before_rows_are_refused_where_they_have_no_place(arch: str) -> None:
    with pytest.raises(InputError, match="puts vectors before every row in the place of tokens"):
        PromptTuning(length=4).apply(tiny_model(arch))


def test_vectors_before_rows_are_refused_where_peft_leaves_them_out() -> None:
    with pytest.raises(InputError, match="PEFT has no such place in BertForMaskedLM"):
        PromptTuning(length=4).apply(tiny_model("bert", head="masked"))


@pytest.mark.parametrize("arch", WITHOUT_LINEAR)
def test_lora_without_linear_layers_names_what_fits(arch: str) -> None:
    with pytest.raises(InputError, match="'full' or 'freeze'"):
        Lora().apply(tiny_model(arch))


@pytest.mark.parametrize("arch", WITHOUT_BIASES)
def test_bitfit_without_biases_names_what_fits(arch: str) -> None:
    with pytest.raises(InputError, match="has none below its head") as raised:
        BitFit().apply(tiny_model(arch))
    assert "'lora'" in str(raised.value)


def test_lora_reports_every_unknown_target() -> None:
    with pytest.raises(InputError) as raised:
        Lora(target_modules="qery, classifier, query, nonsense").apply(tiny_model("bert"))
    texts = [str(problem) for problem in raised.value.problems]
    assert len(texts) == 3
    assert "Did you mean 'query'?" in texts[0]
    assert "part of the head" in texts[1]
    assert "value" in texts[2]


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    method, model = applied("bert", "lora")
    method.save(model, tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        method.load(tiny_model("llama"), tmp_path)
    with pytest.raises(InputError, match="another shape"):
        method.load(tiny_model("bert", num_labels=5), tmp_path)


@pytest.mark.parametrize("case", ["full", "lora"])
def test_damaged_files_are_refused_by_name(case: str, tmp_path: Path) -> None:
    method, model = applied("bert", case)
    method.save(model, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=path.name):
        method.load(tiny_model("bert"), tmp_path) if method.needs_base else opened(tmp_path)


def test_full_refuses_another_models_weights(tmp_path: Path) -> None:
    method, model = applied("bert", "full")
    method.save(model, tmp_path)
    with pytest.raises(InputError, match="another shape"):
        opened(tmp_path, HeadSettings(HEAD.auto_class, 4))


def test_adapter_config_with_code_is_refused(tmp_path: Path) -> None:
    method, model = applied("bert", "lora")
    method.save(model, tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["auto_mapping"] = {"base_model_class": "Evil", "parent_library": "evil"}
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="auto_mapping"):
        method.load(tiny_model("bert"), tmp_path)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_layer_decay_falls_from_the_head_to_the_embeddings(arch: str) -> None:
    method = Full(layer_decay=0.5)
    model = method.apply(tiny_model(arch))
    top = Anatomy.of(model).num_layers + 1
    scales = {name: group.learning_rate_scale for group in method.parameter_groups(model) for name in group.names}
    depths = Anatomy.of(model).depths
    assert scales == {name: 0.5 ** (top - depth) for name, depth in depths.items()}
    assert set(depths.values()) == set(range(top + 1))
    assert {name for name, depth in depths.items() if depth == top} == set(Anatomy.of(model).head_parameter_names)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_gradual_thaws_one_group_after_another_from_the_top(arch: str) -> None:
    method = Freeze(gradual=True)
    model = method.apply(tiny_model(arch))
    depths = Anatomy.of(model).depths
    top = Anatomy.of(model).num_layers + 1
    seen = []
    for stage in range(top + 1):
        method.update(model, stage / (top + 1))
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {name for name, depth in depths.items() if depth >= top - stage}
        seen.append(trained)
    method.update(model, 1.0)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == seen[-1] == set(depths)
    method.update(model, 0.0)  # a pure function of progress: it also goes back
    assert {name for name, p in model.named_parameters() if p.requires_grad} == seen[0]


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if fits(arch, "lisa")])
def test_lisa_wakes_the_layers_that_the_seed_draws(arch: str) -> None:
    method, seen = Lisa(layers=1, draws=6), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        model = method.apply(tiny_model(arch))
        assert torch.equal(torch.get_rng_state(), before)
        depths, num_layers = Anatomy.of(model).depths, Anatomy.of(model).num_layers
        inside = {name for _, prefix in Anatomy.of(model).layers for name in depths if name.startswith(f"{prefix}.")}
        course = []
        for part in range(6):
            method.update(model, part / 6)
            trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            assert set(depths) - inside <= trained
            awake = {depths[name] for name in trained & inside}
            assert len(awake) == 1
            assert trained & inside == {name for name in inside if depths[name] in awake}
            course.append(awake.pop())
        seen.append(course)
        method.update(model, 1.0)
        assert {depths[name] for name in inside if model.get_parameter(name).requires_grad} == {course[-1]}
    assert seen[0] == seen[1] != seen[2] or num_layers < 2
    assert len({depth for course in seen for depth in course}) > 1


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if not fits(arch, "compress-prune")])
def test_heads_are_pruned_of_known_kinds_of_layers_only(arch: str) -> None:
    with pytest.raises(InputError, match="not of a kind whose heads and units are known") as raised:
        Compress().apply(tiny_model(arch))
    assert "whitened" in str(raised.value)


def test_lisa_says_where_all_layers_would_be_trained() -> None:
    with pytest.raises(InputError, match=r"has 2 layers.*all of them all the time"):
        Lisa().apply(tiny_model("bert"))
    with pytest.raises(InputError, match="method 'full'"):
        Lisa(layers=1).apply(tiny_model("cnn"))


def test_gradual_leaves_permanently_frozen_layers_alone() -> None:
    method = Freeze(gradual=True, layers=1)
    model = method.apply(tiny_model("bert"))
    method.update(model, 1.0)
    depths = Anatomy.of(model).depths
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, depth in depths.items() if depth >= 2}
    method.update(model, 0.49)
    assert {depths[name] for name, p in model.named_parameters() if p.requires_grad} == {3}


def test_freeze_layers_can_leave_embeddings_trained() -> None:
    model = Freeze(layers=1, embeddings=False).apply(tiny_model("bert"))
    depths = Anatomy.of(model).depths
    assert {depths[name] for name, p in model.named_parameters() if p.requires_grad} == {0, 2, 3}


def test_parameters_fixed_by_the_architecture_stay_fixed() -> None:
    for method in (Full(), Freeze(gradual=True), Freeze(layers=1, embeddings=False)):
        model = tiny_model("distilbert", sinusoidal_pos_embds=True)
        fixed = model.distilbert.embeddings.position_embeddings.weight
        fixed.requires_grad_(False)
        trained = method.apply(model)
        method.update(trained, 1.0)
        names = {name for group in method.parameter_groups(trained) for name in group.names}
        assert not fixed.requires_grad
        assert "distilbert.embeddings.position_embeddings.weight" not in names


@pytest.mark.parametrize(
    "settings",
    [{"all_but_head": True, "layers": 1}, {"all_but_head": True, "gradual": True}, {"all_but_head": False}],
)
def test_contradictory_freezing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"all_but_head|nothing would be frozen"):
        Freeze(**settings)


def test_too_many_layers_names_the_number() -> None:
    with pytest.raises(InputError, match="the model has 2 layers"):
        Freeze(layers=3).apply(tiny_model("bert"))
