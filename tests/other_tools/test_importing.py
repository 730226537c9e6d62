"""Configurations of other tools as ours: what every key becomes, and that what is written trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from small_runs import llama_folder
from tunesmith.cli.application import run as command
from tunesmith.config.build import build
from tunesmith.config.load import parse_yaml
from tunesmith.other_tools import Imported, import_config
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

__all__ = ["llama_folder"]

ROWS = [
    {"instruction": f"say {word}", "input": "", "output": f"the word is {word}"}
    for word in ["ab", "cd", "ef", "gh", "ij"]
]
PAIRS = [
    {
        "conversations": [{"from": "human", "value": f"which is better, {n}?"}],
        "chosen": {"from": "gpt", "value": "a fine answer"},
        "rejected": {"from": "gpt", "value": "no"},
    }
    for n in range(8)
]

LLAMA_FACTORY = """
### model
model_name_or_path: MODEL
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: all
use_rslora: true
loraplus_lr_ratio: 16.0
### dataset
dataset: ours
dataset_dir: FOLDER
template: llama3
cutoff_len: 64
max_samples: 1000
overwrite_cache: true
preprocessing_num_workers: 16
packing: true
### output
output_dir: OUTPUT
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
learning_rate: 1.0e-3
max_steps: 2
lr_scheduler_type: cosine
warmup_ratio: 0.1
neftune_noise_alpha: 5
bf16: false
ddp_timeout: 180000000
### eval
val_size: 0.2
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 2
deepspeed: ds.json
"""

AXOLOTL = """
base_model: MODEL
model_type: LlamaForCausalLM
load_in_8bit: false
strict: false
datasets:
  - path: FOLDER/turns.jsonl
    ds_type: json
    type: chat_template
    field_messages: conversations
    message_property_mappings: {role: from, content: value}
    roles_to_train: [assistant]
dataset_prepared_path: last_run_prepared
val_set_size: 0.2
output_dir: OUTPUT
adapter: lora
lora_r: 4
lora_alpha: 8
lora_dropout: 0.1
lora_target_modules: [q_proj, v_proj]
sequence_len: 64
sample_packing: true
pad_to_sequence_len: true
gradient_accumulation_steps: 2
micro_batch_size: 2
max_steps: 2
optimizer: adamw_torch_fused
lr_scheduler: cosine
learning_rate: 0.0002
bf16: auto
gradient_checkpointing: true
flash_attention: true
warmup_steps: 1
evals_per_epoch: 4
weight_decay: 0.0
fsdp:
special_tokens:
  pad_token: "<|pad|>"
"""


@pytest.fixture
def place(tmp_path: Path, llama_folder: Path) -> Path:
    """Return a folder with data and with the registry of LLaMA-Factory."""
    (tmp_path / "rows.json").write_text(json.dumps(ROWS * 4), encoding="utf-8")
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS), encoding="utf-8")
    turns = [
        {"conversations": [{"from": "human", "value": f"say {n}"}, {"from": "gpt", "value": f"it is {n}"}]}
        for n in range(20)
    ]
    (tmp_path / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns), encoding="utf-8")
    registry = {
        "ours": {"file_name": "rows.json"},
        "pairs": {
            "file_name": "pairs.json",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        },
        "tagged": {
            "file_name": "turns.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations"},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        },
        "odd": {
            "file_name": "turns.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "pictures", "videos": "films"},
            "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "it", "assistant_tag": "me"},
        },
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(registry), encoding="utf-8")
    return tmp_path


Write = Callable[..., Path]


@pytest.fixture
def write(place: Path, llama_folder: Path) -> Write:
    """Return what writes a file of another tool, with the places filled in and keys changed."""

    def written(text: str, name: str = "theirs.yaml", **changed: Any) -> Path:
        for word, path in (("MODEL", llama_folder), ("FOLDER", place), ("OUTPUT", place / "run")):
            text = text.replace(word, str(path))
        values = {**yaml.safe_load(text), **changed}
        (place / name).write_text(yaml.safe_dump({key: one for key, one in values.items() if one != "-"}))
        return place / name

    return written


def said(found: Imported, key: str) -> str:
    (line,) = [line for line in found.lines if line.key == key]
    return f"{line.kind}: {line.said}"


def check_all_keys_are_named(found: Imported, path: Path) -> None:
    theirs = yaml.safe_load(path.read_text())
    assert set(theirs) <= {line.key for line in found.lines}
    assert all(line.said for line in found.lines)
    for line in found.left_out:
        assert line.key in found.text, "what was left out stands in the file, too"
    assert build(RunConfig, parse_yaml(found.text, "ours")) == found.config


def test_a_file_of_llama_factory_is_translated_key_by_key_and_trains(write: Write, place: Path) -> None:
    path = write(LLAMA_FACTORY)
    found = import_config(path)
    assert found.tool == "llama-factory"
    check_all_keys_are_named(found, path)
    method = found.config.method
    assert (method.name, method.rank, method.alpha, method.rslora) == ("lora", 4, 8, True)  # type: ignore[attr-defined]
    assert method.lora_plus_ratio == 16  # type: ignore[attr-defined]
    recipe = found.config.train
    assert (recipe.batch_size, recipe.learning_rate, recipe.max_steps, recipe.seed) == (4, 1e-3, 2, 42)
    assert (recipe.schedule.name, recipe.schedule.warmup) == ("cosine", 0.1)
    assert (recipe.optimizer.weight_decay, recipe.early_stopping.patience) == (0, "never")
    assert found.config.data.path == str(place / "rows.json")
    assert (found.config.data.validation_fraction, found.config.data.test_fraction) == (0.2, 0)
    assert found.config.model.max_length == 64
    assert found.config.data.limit == 1000
    assert {line.key for line in found.left_out} == {"neftune_noise_alpha", "deepspeed"}
    assert said(found, "lora_target") == 'translated: method.target_modules: "all-linear"'
    assert said(found, "gradient_accumulation_steps").startswith("translated: train.batch_size: 4")
    assert said(found, "template").startswith("needless: Conversations are written by the model's own chat template")
    assert said(found, "overwrite_output_dir") == "needless: It is the flag --overwrite of 'tunesmith train'."
    assert {"train.optimizer.weight_decay", "method.alpha", "train.seed"} <= set(found.usual)
    assert not {"method.rank", "train.learning_rate", "train.schedule.name"} & set(found.usual), "the file says these"
    run = Run.open(train(found.config))
    assert run.summary["steps"] == 2
    assert run.config.task is not None
    assert run.config.task.name == "causal_lm"


def test_a_file_of_axolotl_is_translated_key_by_key_and_trains(write: Write, place: Path) -> None:
    path = write(AXOLOTL, "axolotl.yml")
    found = import_config(path)
    assert found.tool == "axolotl"
    check_all_keys_are_named(found, path)
    method = found.config.method
    assert (method.rank, method.alpha, method.dropout) == (4, 8, 0.1)  # type: ignore[attr-defined]
    assert method.target_modules == ("q_proj", "v_proj")  # type: ignore[attr-defined]
    assert found.config.data.columns == {"messages": "conversations"}
    assert found.config.train.batch_size == 4
    assert found.config.train.schedule.warmup == 1
    assert found.config.compute.checkpointing == "always"
    assert found.config.task is not None
    assert found.config.task.too_long == "drop"  # type: ignore[attr-defined]
    assert {line.key for line in found.left_out} == {"special_tokens"}
    assert said(found, "datasets[0].roles").startswith("needless: Turns are read")
    assert said(found, "evals_per_epoch").startswith("needless")
    assert Run.open(train(found.config)).summary["steps"] == 2


def test_preferences_and_quantised_bases(write: Write) -> None:
    keys = {"dataset": "pairs", "stage": "dpo", "pref_loss": "simpo", "pref_beta": 2.0, "simpo_gamma": 0.5}
    found = import_config(write(LLAMA_FACTORY, **keys, quantization_bit=4, pref_ftx=0.1))
    task, method = found.config.task, found.config.method
    assert task is not None
    assert (task.name, task.loss, task.beta, task.gamma) == ("preference", "simpo", 2.0, 0.5)  # type: ignore[attr-defined]
    assert method.quantize == "nf4"  # type: ignore[attr-defined]
    assert found.config.data.columns == {"prompt": "conversations", "chosen": "chosen", "rejected": "rejected"}
    assert "pref_ftx" in {line.key for line in found.left_out}
    kto = import_config(write(LLAMA_FACTORY, dataset="pairs", stage="kto")).config.task
    assert kto is not None
    assert (kto.loss, kto.desirable_weight) == ("kto", 1.0)  # type: ignore[attr-defined]
    orpo = import_config(write(AXOLOTL, rl="orpo", rl_beta=0.2, adapter="qlora"))
    assert orpo.config.task is not None
    assert (orpo.config.task.loss, orpo.config.task.beta) == ("orpo", 0.2)  # type: ignore[attr-defined]
    assert orpo.config.method.quantize == "nf4"  # type: ignore[attr-defined]


def test_a_training_by_preferences_of_an_imported_file(write: Write) -> None:
    keys = {"dataset": "pairs", "stage": "dpo", "pref_loss": "sigmoid", "pref_beta": 0.1, "use_rslora": "-"}
    found = import_config(write(LLAMA_FACTORY, **keys, val_size="-"))
    assert Run.open(train(found.config)).summary["steps"] == 2


def test_several_sets_become_a_mixture(write: Write, place: Path) -> None:
    keys = {"dataset": "ours,tagged", "mix_strategy": "interleave_under", "interleave_probs": "0.7,0.3"}
    found = import_config(write(LLAMA_FACTORY, **keys))
    sets = found.config.data.mixture
    assert [(one.path, one.weight) for one in sets] == [
        (str(place / "rows.json"), 0.7),
        (str(place / "turns.jsonl"), 0.3),
    ]
    assert sets[1].columns == {"messages": "conversations"}
    assert said(found, "dataset_info.json: tagged.tags").startswith("needless")
    odd = import_config(write(LLAMA_FACTORY, dataset="odd"))
    left = {line.key: line.said for line in odd.left_out}
    assert "Rename them" in left["dataset_info.json: odd.tags"]
    assert "dataset_info.json: odd.columns.images" not in left
    assert "dataset_info.json: odd.columns.videos" in left


def test_sets_that_show_images_become_conversations_about_them(write: Write, place: Path) -> None:
    found = import_config(write(LLAMA_FACTORY, dataset="odd")).config
    assert found.task.name == "image_chat"
    assert found.data.columns == {"messages": "conversations", "images": "pictures"}
    preferred = import_config(write(LLAMA_FACTORY, dataset="odd", stage="rm"))
    left = {line.key: line.said for line in preferred.left_out}
    assert "stage sft alone" in left["dataset_info.json: odd.columns.images"]


def test_methods_and_optimizers_of_other_names(write: Write) -> None:
    pissa = import_config(write(LLAMA_FACTORY, pissa_init=True, pissa_iter=16, use_rslora="-")).config.method
    assert (pissa.name, pissa.iterations) == ("pissa", 16)  # type: ignore[attr-defined]
    full = import_config(write(LLAMA_FACTORY, finetuning_type="full", use_galore=True, galore_rank=8))
    assert full.config.method.name == "full"
    assert full.config.train.optimizer.name == "GaLore"
    assert full.config.train.optimizer.options == {"rank": 8}
    assert said(full, "lora_rank").startswith("needless: It is an option of LoRA")
    frozen = import_config(write(LLAMA_FACTORY, finetuning_type="freeze", freeze_trainable_layers=1))
    assert frozen.config.method.layers == 1, "the tiny model has two"  # type: ignore[attr-defined]
    dora = import_config(write(AXOLOTL, peft_use_dora=True, lora_target_linear=True, peft_use_rslora=False))
    assert dora.config.method.dora  # type: ignore[attr-defined]
    assert dora.config.method.target_modules == "all-linear"  # type: ignore[attr-defined]
    tracked = import_config(write(LLAMA_FACTORY, report_to="wandb", run_name="first"))
    assert tracked.config.tracker is not None
    assert (tracked.config.tracker.to, tracked.config.tracker.name) == (("wandb",), "first")


def test_files_of_trl_torchtune_and_swift(place: Path, llama_folder: Path) -> None:
    arguments = {
        "learning_rate": 2e-4,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 10,
        "optim": "adamw_bnb_8bit",
        "adam_beta2": 0.95,
        "max_grad_norm": 0.3,
        "save_strategy": "epoch",
        "hub_token": "hf_secretsecret",
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
    }
    path = place / "training_args.json"
    path.write_text(json.dumps(arguments))
    found = import_config(path, model=str(llama_folder), data=str(place / "rows.json"))
    assert found.tool == "trl"
    recipe = found.config.train
    assert (recipe.batch_size, recipe.clip_norm, recipe.schedule.name) == (8, 0.3, "constant")
    assert (recipe.optimizer.name, recipe.optimizer.options) == ("AdamW8bit", {"betas": [0.9, 0.95]})
    assert recipe.early_stopping.metric == "loss"
    assert recipe.early_stopping.restore_best
    assert "hf_secretsecret" not in found.text
    assert "(not shown)" in found.text
    tune = {
        "output_dir": "/tmp/out",
        "tokenizer": {"_component_": "torchtune.models.llama3.llama3_tokenizer", "max_seq_len": 64},
        "model": {"_component_": "torchtune.models.llama3_2.lora_llama3_2_1b",
                  "lora_attn_modules": ["q_proj", "output_proj"],
                  "apply_lora_to_mlp": True, "lora_rank": 4, "lora_alpha": 8},
        "checkpointer": {"_component_": "torchtune.training.FullModelHFCheckpointer",
                         "checkpoint_dir": str(llama_folder),
                         "output_dir": "${output_dir}"},
        "dataset": {"_component_": "torchtune.datasets.instruct_dataset", "source": "json",
                    "data_files": str(place / "rows.json"), "packed": True},
        "optimizer": {"_component_": "torch.optim.AdamW", "lr": 3e-4, "weight_decay": 0.01, "fused": True},
        "lr_scheduler": {"_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup",
                         "num_warmup_steps": 100},
        "batch_size": 2, "gradient_accumulation_steps": 8, "epochs": 1, "dtype": "bf16", "seed": None,
    }  # fmt: skip
    (place / "tune.yaml").write_text(yaml.safe_dump(tune))
    found = import_config(place / "tune.yaml")
    assert found.tool == "torchtune"
    assert found.config.method.target_modules == ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # type: ignore[attr-defined]
    assert (found.config.train.batch_size, found.config.train.learning_rate) == (16, 3e-4)
    assert found.config.data.path == str(place / "rows.json")
    swift = {
        "model": str(llama_folder),
        "train_type": "lora",
        "dataset": [f"{place / 'rows.json'}#500"],
        "split_dataset_ratio": 0.1,
        "lora_rank": 8,
        "lora_alpha": 32,
        "target_modules": "all-linear",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "max_length": 128,
        "warmup_ratio": 0.05,
        "torch_dtype": "bfloat16",
        "model_author": "us",
    }
    (place / "swift.yaml").write_text(yaml.safe_dump(swift))
    found = import_config(place / "swift.yaml")
    assert found.tool == "ms-swift"
    check_all_keys_are_named(found, place / "swift.yaml")
    assert (found.config.train.batch_size, found.config.model.max_length) == (16, 128)


def test_what_cannot_be_read_or_told_is_refused(write: Write, place: Path) -> None:
    with pytest.raises(InputError, match="stage: ppo has no counterpart"):
        import_config(write(LLAMA_FACTORY, stage="ppo"))
    with pytest.raises(InputError, match="is not in dataset_info"):
        import_config(write(LLAMA_FACTORY, dataset="theirs"))
    with pytest.raises(InputError, match="names no model"):
        import_config(write(LLAMA_FACTORY, model_name_or_path="-"))
    (place / "none.yaml").write_text("a: 1\nb: 2\n")
    with pytest.raises(InputError, match="--from llama-factory"):
        import_config(place / "none.yaml")
    (place / "ours.yaml").write_text("model: lstm\ndata: x.csv\ntrain: {epochs: 1}\n")
    with pytest.raises(InputError, match="configuration of tunesmith already"):
        import_config(place / "ours.yaml")
    (place / "broken.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        import_config(place / "broken.json")
    with pytest.raises(InputError, match="no tool 'keras'"):
        import_config(write(AXOLOTL), "keras")


def test_values_that_cannot_be_used_are_left_out_and_named(write: Write) -> None:
    found = import_config(write(LLAMA_FACTORY, learning_rate="auto", seed=-5))
    left = {line.key: line.said for line in found.left_out}
    assert "learning_rate" in left
    assert "train.seed" in left["seed"]
    assert build(RunConfig, parse_yaml(found.text, "ours")) == found.config


def test_the_command_writes_the_file_and_says_what_became_of_every_key(
    write: Write, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, ours = write(LLAMA_FACTORY), place / "ours.yaml"
    assert command(["import", str(path), "--output", str(ours)]) == 0
    told = capsys.readouterr().err
    assert "neftune_noise_alpha: 5  → There is no noise on embeddings" in told
    assert f"tunesmith train {ours}" in told
    assert ours.read_text().startswith("# theirs.yaml of LLaMA-Factory, as a configuration of tunesmith.")
    assert command(["import", str(path), "--output", str(ours)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert command(["import", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["tool"] == "llama-factory"
    assert record["config"]["train"]["batch_size"] == 4
    assert command(["import", str(path)]) == 0
    assert parse_yaml(capsys.readouterr().out, "ours")["method"]["rank"] == 4
