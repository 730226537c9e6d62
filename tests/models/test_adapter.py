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
from tunesmith.methods import Lora, trained_parameters
from tunesmith.models import Pretrained, structure
from tunesmith.models.quiet import quiet
from tunesmith.tasks.base import HeadSettings
from tunesmith.types import InputError

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
    "bert-masked": ("bert", MASKED, {}),
    "distilbert-masked": ("distilbert", MASKED, {}),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def train_adapter(base: Path, head: HeadSettings, folder: Path, **options: Any) -> Any:
    """Save an adapter as a run would, all of whose weights have moved; return the model in ``eval`` mode."""
    torch.manual_seed(1)
    method = Lora(rank=2, **options)
    loaded = Pretrained(name=str(base)).load(head, [], 3)
    model = method.apply(loaded.model).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in trained_parameters(model, method.parameter_groups(model)):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    method.save(model, folder)
    loaded.tokenizer.save_pretrained(folder)
    return model


def folder_of(arch: str, head: HeadSettings, path: Path) -> Path:
    return (
        tiny_folder(path, arch, head="causal", tie_word_embeddings=True) if head is CAUSAL else tiny_folder(path, arch)
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(**tiny_batch()).logits
    return scores


@pytest.mark.parametrize("case", CASES)
def test_merged_equals_unmerged(case: str, tmp_path: Path) -> None:
    arch, head, options = CASES[case]
    model = train_adapter(folder_of(arch, head, tmp_path), head, tmp_path / "adapter", **options)
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(head, [], 0)
    expected = logits(model)
    # float32 rounds W + BA once and sums in another order.
    torch.testing.assert_close(logits(loaded.model), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    known = structure.origin(loaded.model)
    assert known is not None
    assert known.new_parameters == frozenset()  # the adapter's own head is the head from now on
    assert Path(known.name).parent == tmp_path / "cache" / "merged"
    assert loaded.source.startswith(f"adapter {tmp_path / 'adapter'}, merged into folder ")
    plain = getattr(transformers, head.auto_class).from_pretrained(known.name, attn_implementation="eager")
    torch.testing.assert_close(logits(plain.eval()), logits(loaded.model), rtol=0, atol=1e-6)


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
    first = structure.origin(source.load(SEQUENCE, [], 0).model)
    again = structure.origin(source.load(SEQUENCE, [], 0).model)
    train_adapter(base, SEQUENCE, tmp_path / "adapter", alpha=9)
    changed = structure.origin(source.load(SEQUENCE, [], 0).model)
    assert first is not None
    assert again is not None
    assert changed is not None
    assert first.name == again.name != changed.name
    assert len(list((tmp_path / "cache" / "merged").iterdir())) == 2


def test_another_task_gets_a_new_head_on_the_merged_layers(tmp_path: Path) -> None:
    model = train_adapter(tiny_folder(tmp_path), SEQUENCE, tmp_path / "adapter")
    loaded = Pretrained(name=str(tmp_path / "adapter")).load(HeadSettings(SEQUENCE.auto_class, 2), [], 0).model
    known = structure.origin(loaded)
    assert known is not None
    assert known.new_parameters == {"classifier.weight", "classifier.bias"}
    batch = tiny_batch()
    with torch.no_grad():
        merged, unmerged = loaded.bert(**batch), structure.inner(model).bert(**batch)
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
    with pytest.raises(InputError, match="does not fit LlamaForSequenceClassification"):
        load()
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
