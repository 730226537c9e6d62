"""Adapters and runs as models: merged into their base, and refused in words when that cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tiny import tiny_batch, tiny_folder, tiny_model, tiny_tokenizer
from tunesmith.methods import METHODS, Lora, trained_parameters
from tunesmith.models import Pretrained
from tunesmith.models.origin import origin
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner
from tunesmith.types import HeadSettings, InputError

SEQUENCE = HeadSettings("AutoModelForSequenceClassification", 4)
TOKEN = HeadSettings("AutoModelForTokenClassification", 5)
CAUSAL = HeadSettings("AutoModelForCausalLM", None)
MASKED = HeadSettings("AutoModelForMaskedLM", None)

CASES: dict[str, tuple[str, HeadSettings, dict[str, Any]]] = {
    "bert": ("bert", SEQUENCE, {}),
    "bert-dora": ("bert", SEQUENCE, {"dora": True, "rslora": True}),
    "bert-bias": ("bert", SEQUENCE, {"bias": "all"}),
    "llama-tags": ("llama", TOKEN, {}),
    "llama-chat": ("llama", CAUSAL, {}),
    "gpt2-chat": ("gpt2", CAUSAL, {}),
    "llama-untied": ("llama", CAUSAL, {"target_modules": ("embed_tokens", "lm_head", "up_proj")}),
    "bert-masked": ("bert", MASKED, {}),
    "distilbert-masked": ("distilbert", MASKED, {}),
    "bert-pissa": ("bert", SEQUENCE, {"method": "pissa", "rank": 2}),
    "modernbert-vera": ("modernbert", SEQUENCE, {"method": "vera", "rank": 4}),
    "llama-oft": ("llama", CAUSAL, {"method": "oft", "block_size": 4}),
    "bert-norms": ("bert", SEQUENCE, {"method": "ln_tuning"}),
    "llama-tokens": ("llama", CAUSAL, {"method": "trainable_tokens", "token_indices": (4, 9)}),
    "llama-adalora": ("llama", CAUSAL, {"method": "adalora", "initial_rank": 3, "target_rank": 2}),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def train_adapter(base: Path, head: HeadSettings, folder: Path, **options: Any) -> Any:
    """Save an adapter as a run would, all of whose weights have moved; return the model in ``eval`` mode."""
    torch.manual_seed(1)
    settings = dict(options)
    name = settings.pop("method", None)
    method: Any = METHODS[name](**settings) if name else Lora(rank=2, **settings)
    loaded = Pretrained(name=str(base)).load(head, [], 3)
    model = method.apply(loaded.model).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained_parameters(model, method.parameter_groups(model)):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    method.save(model, folder)
    loaded.tokenizer.save_pretrained(folder)
    return model


def folder_of(arch: str, head: HeadSettings, path: Path, *, tied: bool = True) -> Path:
    if head is CAUSAL:
        return tiny_folder(path, arch, head="causal", tie_word_embeddings=tied)
    return tiny_folder(path, arch)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(**tiny_batch()).logits
    return scores


@pytest.mark.parametrize("case", CASES)
def test_merged_equals_unmerged(case: str, tmp_path: Path) -> None:
    arch, head, options = CASES[case]
    base = folder_of(arch, head, tmp_path, tied="lm_head" not in options.get("target_modules", ()))
    model = train_adapter(base, head, tmp_path / "adapter", **options)
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(head, [], 0)
    expected = logits(model)
    # float32 rounds W + BA once and sums in another order.
    torch.testing.assert_close(logits(loaded.model), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    known = origin(loaded.model)
    assert known is not None
    assert known.new_parameters == frozenset()  # the adapter's own head is the head from now on
    assert Path(known.name).parent == tmp_path / "cache" / "merged"
    assert loaded.source.startswith(f"adapter {tmp_path / 'adapter'}, merged into folder ")
    plain = getattr(transformers, head.auto_class).from_pretrained(known.name, attn_implementation="eager")
    torch.testing.assert_close(logits(plain.eval()), logits(loaded.model), rtol=0, atol=1e-6)


def test_what_is_no_weight_of_the_model_is_not_merged(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    train_adapter(base, SEQUENCE, tmp_path / "adapter", method="prompt_tuning", length=3)
    with pytest.raises(InputError, match=r"PROMPT_TUNING\) does not become part of a model's weights"):
        Pretrained(name=str(tmp_path / "adapter")).load(SEQUENCE, [], 0)


def test_merging_in_float64_is_exact(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with quiet():
        model = get_peft_model(tiny_model("llama", head="causal", tie_word_embeddings=True), config)
    before = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), before, rtol=0, atol=1e-13)


def test_it_is_merged_once_and_again_when_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_folder(tmp_path)
    train_adapter(base, SEQUENCE, tmp_path / "adapter")
    source = Pretrained(name=str(tmp_path / "adapter"))
    first = origin(source.load(SEQUENCE, [], 0).model)
    again = origin(source.load(SEQUENCE, [], 0).model)
    train_adapter(base, SEQUENCE, tmp_path / "adapter", alpha=9)
    changed = origin(source.load(SEQUENCE, [], 0).model)
    assert first is not None
    assert again is not None
    assert changed is not None
    assert first.name == again.name != changed.name
    assert len(list((tmp_path / "cache" / "merged").iterdir())) == 2


def test_another_task_gets_a_new_head_on_the_merged_layers(tmp_path: Path) -> None:
    model = train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(HeadSettings(SEQUENCE.auto_class, 2), [], 0).model
    known = origin(loaded)
    assert known is not None
    assert known.new_parameters == {"classifier.weight", "classifier.bias"}
    batch = tiny_batch()
    with torch.no_grad():
        merged, unmerged = loaded.bert(**batch), inner(model).bert(**batch)
    torch.testing.assert_close(merged.last_hidden_state, unmerged.last_hidden_state, rtol=0, atol=1e-5)


def test_an_adapter_of_plain_peft_is_a_model_too(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny_folder(tmp_path, "llama", head="causal")
    torch.manual_seed(0)
    config = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    with quiet():
        wrapped = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config).eval()
        wrapped.save_pretrained(tmp_path / "adapter")
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(CAUSAL, [], 0)
    torch.testing.assert_close(logits(loaded.model), logits(wrapped), rtol=0, atol=1e-5)
    assert loaded.tokenizer.chat_template == tiny_tokenizer("chat").chat_template  # the base's own


@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_an_adapter_is_merged_into_the_rounded_weights_it_was_trained_beside(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    base = tiny_folder(tmp_path, "llama", head="causal", **sizes)
    model = train_adapter(base, CAUSAL, tmp_path / "run", quantize=scheme)
    run = f"model: {{name: {base}}}\nmethod: {{name: lora, quantize: {scheme}}}\n"
    (tmp_path / "run" / "config.yaml").write_text(run, encoding="utf-8")
    loaded = Pretrained(name=str(tmp_path / "run")).load(CAUSAL, [], 0)
    torch.testing.assert_close(logits(loaded.model), logits(model), rtol=0, atol=1e-5)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_an_adapter_on_an_adapter(tmp_path: Path) -> None:
    train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "first")
    second = train_adapter(tmp_path / "first", SEQUENCE, tmp_path / "second")
    (tmp_path / "second" / "config.yaml").write_text(f"model: {tmp_path / 'first'}\n", encoding="utf-8")
    expected = logits(second)
    shutil.rmtree(tmp_path / "cache")  # the merged base is made again from the run that the second one names
    loaded = Pretrained(name=str(tmp_path / "second")).load(SEQUENCE, [], 0)
    torch.testing.assert_close(logits(loaded.model), expected, rtol=0, atol=1e-5)


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_what_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base, other = tiny_folder(tmp_path), tiny_folder(tmp_path, "llama")
    adapter = tmp_path / "adapter"
    train_adapter(base, SEQUENCE, adapter)

    def load() -> None:
        Pretrained(name=str(adapter)).load(SEQUENCE, [], 0)

    edit(adapter, base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"(?s)base model is not to be found: .*gone.* does not exist.*Bring the base"):
        load()
    edit(adapter, base_model_name_or_path=None)
    with pytest.raises(InputError, match=r"adapter_config\.json names none"):
        load()
    edit(adapter, base_model_name_or_path=str(adapter))
    with pytest.raises(InputError, match="not to be found"):
        load()
    edit(adapter, base_model_name_or_path=str(other))
    with pytest.raises(InputError, match="does not hold the weights"):
        load()
    recorded = (adapter / "adapter_model.safetensors").read_bytes()
    save_file(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.safetensors")  # of others
    with pytest.raises(InputError, match="does not fit LlamaForSequenceClassification"):
        load()
    (adapter / "adapter_model.safetensors").write_bytes(recorded)
    edit(adapter, base_model_name_or_path=str(base), task_type="SOMETHING")
    with pytest.raises(InputError, match="Set task_type there"):
        load()
    edit(adapter, task_type="SEQ_CLS", peft_type="IA3")
    with pytest.raises(InputError, match=r"not LoRA|does not fit"):
        load()
    edit(adapter, peft_type="LORA", auto_mapping={"base_model_class": "Evil", "parent_library": "evil"})
    with pytest.raises(InputError, match="code of its own"):
        load()
    edit(adapter, auto_mapping=None)
    load()
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(InputError, match="damaged or incomplete"):
        load()


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    next(tensor for name, tensor in tensors.items() if "lora_B" in name)[0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="cannot be merged"):
        Pretrained(name=str(tmp_path / "adapter")).load(SEQUENCE, [], 0)


def test_missing_and_unknown_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    head = next(name for name in tensors if name.endswith("classifier.weight"))
    save_file({name: tensor for name, tensor in tensors.items() if name != head}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"classifier\.(modules_to_save\.default\.)?weight"):
        Pretrained(name=str(tmp_path / "adapter")).load(SEQUENCE, [], 0)


TIED: dict[str, tuple[str, dict[str, Any]]] = {
    "output": ("llama", {"target_modules": ["lm_head"]}),
    "embeddings": ("gpt2", {"target_modules": ["wte", "c_attn"]}),
    "both": ("llama", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "output-copied": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]}),
    "embeddings-copied": ("qwen3", {"target_modules": ["v_proj"], "modules_to_save": ["embed_tokens"]}),
}


@pytest.mark.parametrize("case", TIED)
def test_what_is_tied_is_merged_in_the_adapted_place_only(case: str, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    arch, options = TIED[case]
    base = tiny_folder(tmp_path, arch, head="causal", tie_word_embeddings=True)
    torch.manual_seed(0)
    with quiet():
        config = LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False, **options)
        wrapped = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config).eval()
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        wrapped.save_pretrained(tmp_path / "adapter")
    expected = logits(wrapped)
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(CAUSAL, [], 0)
    torch.testing.assert_close(logits(loaded.model), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    known = origin(loaded.model)
    assert known is not None
    with quiet():
        plain = transformers.AutoModelForCausalLM.from_pretrained(known.name).eval()
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_merge_that_changes_the_scores_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be with shared weights, were these not given to each module first."""
    from peft import LoraConfig, get_peft_model

    from tunesmith.models import merging

    base = tiny_folder(tmp_path, "llama", head="causal", tie_word_embeddings=True)
    torch.manual_seed(0)
    with quiet():
        config = LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False, target_modules=["lm_head"])
        get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(
            tmp_path / "adapter"
        )
    monkeypatch.setattr(merging, "_untie", lambda wrapped: None)
    with pytest.raises(InputError, match=r"gives other scores than the adapter beside its base .*differ by"):
        Pretrained(name=str(tmp_path / "adapter")).load(CAUSAL, [], 0)
    assert not list((tmp_path / "cache" / "merged").iterdir())


def test_an_adapter_of_a_larger_vocabulary_is_refused_with_all_that_matters(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny_folder(tmp_path, "llama", head="causal")
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(base)
        model.resize_token_embeddings(307)
        config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        wrapped = get_peft_model(model, config)
        wrapped.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    with pytest.raises(InputError) as caught:
        Pretrained(name=str(tmp_path / "adapter")).load(CAUSAL, [], 0)
    (problem,) = caught.value.problems
    assert "embed_tokens" in problem.message
    assert "[307, 16], the model's is [300, 16]" in problem.message
    assert "resize_token_embeddings(307)" in problem.fix


def test_a_base_of_other_weights_is_refused_by_name(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapter = tmp_path / "adapter"
    train_adapter(base, SEQUENCE, adapter)
    method, source = Lora(rank=2), Pretrained(name=str(base))
    method.load(source.load(SEQUENCE, [], 3).model, adapter)
    Pretrained(name=str(adapter)).load(SEQUENCE, [], 0)
    tiny_folder(tmp_path, seed=1)  # the same folder, written again
    message = rf"The base model {base} does not hold the weights that the adapter in {adapter} was trained beside"
    with pytest.raises(InputError, match=message):
        Pretrained(name=str(adapter)).load(SEQUENCE, [], 0)
    with pytest.raises(InputError, match=message):
        method.load(source.load(SEQUENCE, [], 3).model, adapter)
    tiny_folder(tmp_path)
    Pretrained(name=str(adapter)).load(SEQUENCE, [], 0)


def test_equal_adapters_are_equal_files_that_say_which_base_they_have(tmp_path: Path) -> None:
    from safetensors import safe_open

    from tunesmith.files.hashing import hash_file

    base = tiny_folder(tmp_path)
    files = []
    for name in "abcdef":
        train_adapter(base, SEQUENCE, tmp_path / name)
        files.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert len(set(files)) == 1
    with safe_open(tmp_path / "a" / "adapter_model.safetensors", framework="pt") as file:
        assert file.metadata() == {
            "base_model": str(base),
            "base_weights_sha256": hash_file(base / "model.safetensors"),
            "format": "pt",
        }


def test_adapters_in_a_circle_are_named(tmp_path: Path) -> None:
    names = ["first", "second", "third"]
    train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "first")
    for name in names[1:]:
        shutil.copytree(tmp_path / "first", tmp_path / name)
    for name, base in zip(names, [*names[1:], names[0]], strict=True):
        edit(tmp_path / name, base_model_name_or_path=str(tmp_path / base))
    with pytest.raises(InputError, match=r"each other's base.*: .*second → .*third → .*first → .*second"):
        Pretrained(name=str(tmp_path / "second")).load(SEQUENCE, [], 0)
    edit(tmp_path / "third", base_model_name_or_path=str(tmp_path / "third"))
    with pytest.raises(InputError, match="own folder is named as its base"):
        Pretrained(name=str(tmp_path / "first")).load(SEQUENCE, [], 0)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_patterns_of_an_adapter_never_run_away(tmp_path: Path) -> None:
    model = train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    adapter = tmp_path / "adapter"
    evil = r"(([a-z])+.)+[A-Z]([a-z])+$"
    named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]

    def load() -> Any:
        return Pretrained(name=str(adapter)).load(SEQUENCE, [], 0).model

    edit(adapter, target_modules=evil)  # the weights say which modules are adapted
    torch.testing.assert_close(logits(load()), logits(model), rtol=0, atol=1e-5)
    edit(adapter, target_modules=named, exclude_modules=evil)
    torch.testing.assert_close(logits(load()), logits(model), rtol=0, atol=1e-5)
    edit(adapter, exclude_modules=None, alpha_pattern={r"((\w|\.|\w\w)+)+[A-Z][A-Z]": 3})
    with pytest.raises(InputError, match="takes too long to match"):
        load()
    edit(adapter, alpha_pattern={r"layer\.(0|(1": 3})
    with pytest.raises(InputError, match="is no regular expression"):
        load()
    edit(adapter, alpha_pattern={}, modules_to_save=[evil])
    with pytest.raises(InputError, match="names of modules were expected"):
        load()


def test_ranks_and_scales_by_pattern_are_what_peft_makes_of_them(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny_folder(tmp_path, "llama", head="causal")
    torch.manual_seed(0)
    patterns = {r"layers\.1\..*\.q_proj": 4, r"layers\.\d\.mlp\.(up|down)_proj": 3, "k_proj": 1}
    config = LoraConfig(
        r=2,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        rank_pattern=patterns,
        alpha_pattern=patterns,
    )
    with quiet():
        wrapped = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config).eval()
        wrapped.save_pretrained(tmp_path / "adapter")
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(CAUSAL, [], 0)
    torch.testing.assert_close(logits(loaded.model), logits(wrapped), rtol=0, atol=1e-5)


def test_a_merged_model_with_changed_bytes_is_merged_again(tmp_path: Path) -> None:
    model = train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    source = Pretrained(name=str(tmp_path / "adapter"))
    source.load(SEQUENCE, [], 0)
    (path,) = (tmp_path / "cache" / "merged").glob("*/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-2000:] = bytes(2000)
    path.write_bytes(content)
    torch.testing.assert_close(logits(source.load(SEQUENCE, [], 0).model), logits(model), rtol=0, atol=1e-5)
