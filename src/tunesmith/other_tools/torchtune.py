"""torchtune's files: parts that are named by their Python paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.other_tools.data_sets import ForeignSet, locate, write_sets
from tunesmith.other_tools.reading import placed
from tunesmith.other_tools.trainer_keys import Usual, take_usual, translate_batch
from tunesmith.other_tools.translation import Translation, as_number, is_said, read_notes
from tunesmith.types import InputError

USUAL = Usual(rows=2, epochs=1, rate=3e-4, schedule="constant", clip=None)
COMPONENT = "_component_"
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
KNOWN_DATA = {
    "alpaca_dataset": "hub:tatsu-lab/alpaca",
    "alpaca_cleaned_dataset": "hub:yahma/alpaca-cleaned",
    "grammar_dataset": "hub:liweili/c4_200m",
    "samsum_dataset": "hub:Samsung/samsum",
    "slimorca_dataset": "hub:Open-Orca/SlimOrca-Dedup",
}
"""Builders that stand for one data set of the hub."""
SCHEDULES = {"get_cosine_schedule_with_warmup": "cosine"}
NEEDLESS = read_notes("""
metric_logger profiler log_every_n_steps log_peak_memory_stats log_level
    Every step stands in metrics.jsonl.
resume_from_checkpoint save_adapter_weights_only
    It is the flag --resume of 'tunesmith train'.
enable_activation_offloading custom_sharded_layers fsdp_cpu_offload optimizer_in_bwd
    Where memory is short, activations are computed again.
shuffle
    Rows are drawn in a new order in every epoch.
tokenizer
    A model brings its own tokenizer.
loss
    The loss is the task's.
collate_fn
    Rows stand one after the other without padding.
""")


def translate(found: Translation, place: Path) -> None:
    """Translate a file of torchtune's that stands in the folder ``place``."""
    found.values = _resolved(found.values)
    _model(found, place)
    _method(found)
    _data(found, place)
    _recipe(found)
    found.take_usual("task", "causal_lm")
    found.take_usual("data.validation_fraction", 0)
    found.take_usual("data.test_fraction", 0)
    found.apply_table(NEEDLESS, "needless")
    take_usual(found, USUAL)


def _resolved(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys with ``${other.key}`` replaced by what it stands for."""

    def of(path: str, depth: int) -> Any:
        value: Any = values
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return replaced(value, depth + 1)

    def replaced(value: Any, depth: int = 0) -> Any:
        if isinstance(value, Mapping):
            return {key: replaced(one, depth) for key, one in value.items()}
        if isinstance(value, list):
            return [replaced(one, depth) for one in value]
        if not isinstance(value, str) or depth > 10:
            return value
        if whole := _REFERENCE.fullmatch(value):
            return of(whole[1], depth)
        return _REFERENCE.sub(lambda match: str(of(match[1], depth)), value)

    return {key: replaced(value) for key, value in values.items()}


def _section(found: Translation, key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, Mapping) else {}


def _component(section: Mapping[str, Any]) -> str:
    return str(section.get(COMPONENT) or "").rpartition(".")[2]


def _model(found: Translation, place: Path) -> None:
    folder = _section(found, "checkpointer").get("checkpoint_dir")
    if not is_said(folder):
        raise InputError("The file names no folder of weights (checkpointer.checkpoint_dir).", "Give --model NAME.")
    found.translate("checkpointer", {"model": placed(str(folder), place) or str(folder)})
    tokenizer = _section(found, "tokenizer")
    length = as_number(tokenizer.get("max_seq_len"))
    if length:
        found.translate("tokenizer", {"model.max_length": length})


def _method(found: Translation) -> None:
    model = _section(found, "model")
    name = _component(model)
    adapts = name.startswith(("lora_", "qlora_", "dora_", "qdora_"))
    if not adapts:
        found.translate("model", {"method": "full"}, f"The weights say that it is {name}.")
        return
    settings: dict[str, Any] = {"method": "lora"}
    names = [str(one) for one in model.get("lora_attn_modules") or ()]
    targets = ["o_proj" if one == "output_proj" else one for one in names]
    if model.get("apply_lora_to_mlp"):
        targets += ["gate_proj", "up_proj", "down_proj"]
    if targets:
        settings["method.target_modules"] = targets
    for theirs, ours, usual in (("lora_rank", "rank", 8), ("lora_alpha", "alpha", 16), ("lora_dropout", "dropout", 0)):
        number = as_number(model.get(theirs))
        settings[f"method.{ours}"] = usual if number is None else number
    if "dora" in name or model.get("use_dora"):
        settings["method.dora"] = True
    if name.startswith(("qlora", "qdora")) or model.get("quantize_base"):
        settings["method.quantize"] = "nf4"
    found.translate("model", settings)
    if model.get("apply_lora_to_output"):
        why = "The output layer is not adapted, for it is tied to the embeddings in many models."
        found.note_part("model.apply_lora_to_output", True, "left out", why)


def _data(found: Translation, place: Path) -> None:
    section = found.get("dataset")
    entries = section if isinstance(section, list) else [section] if isinstance(section, Mapping) else []
    sets = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            continue
        name, source, files = _component(entry), entry.get("source"), entry.get("data_files")
        first = files[0] if isinstance(files, list) and files else files
        if is_said(first):
            path = placed(str(first), place) or str(first)
        elif is_said(source):
            path = locate(str(source), place)
        elif name in KNOWN_DATA:
            path = KNOWN_DATA[name]
        else:
            raise InputError(f"dataset[{number}]: {name or 'it'} names no source.", "Give the data as --data PATH.")
        one = ForeignSet(path)
        if is_said(entry.get("column")) and name == "text_completion_dataset":
            one.columns["text"] = str(entry["column"])
        elif is_said(entry.get("column_map")):
            why = "Columns are found by name and content; data.columns names them by role."
            found.note_part(f"dataset[{number}].column_map", entry["column_map"], "left out", why)
        if entry.get("train_on_input"):
            found.settings["task.train_on"] = "all"
        sets.append(one)
    write_sets(found, "dataset", sets)
    if found.get("dataset_val") is not None:
        found.leave_out("dataset_val", "Name its file as data.validation.")


def _recipe(found: Translation) -> None:
    translate_batch(found, "batch_size", "gradient_accumulation_steps", USUAL)
    optimizer = _section(found, "optimizer")
    if optimizer:
        _optimizer(found, optimizer)
    schedule = _section(found, "lr_scheduler")
    if schedule:
        name = SCHEDULES.get(_component(schedule))
        settings: dict[str, Any] = {"train.schedule": name or "cosine"}
        if (warmup := as_number(schedule.get("num_warmup_steps"))) is not None:
            settings["train.schedule.warmup"] = warmup
        note = "" if name else "There is no such schedule."
        found.translate("lr_scheduler", settings, note)
    clip = as_number(found.get("clip_grad_norm"))
    if clip is not None:
        found.translate("clip_grad_norm", {"train.clip_norm": clip})
    dtype = str(found.get("dtype") or "")
    if dtype in ("bf16", "fp32"):
        found.translate("dtype", {"train.precision": dtype})
    elif dtype:
        found.leave_out("dtype", "Numbers are bf16 or fp32: train.precision.")
    if found.is_on("enable_activation_checkpointing"):
        found.translate("enable_activation_checkpointing", {"compute.checkpointing": "always"})
    if found.get("max_steps_per_epoch") is not None:
        why = "Steps are bounded in all: train.max_steps."
        found.leave_out("max_steps_per_epoch", why)
    if found.is_on("compile"):
        found.translate("compile", {"compute.compile": "auto"})
    if found.get("device") is not None:
        found.translate("device", {"compute.device": "auto"}, "The fastest device at hand is taken.")


def _optimizer(found: Translation, section: Mapping[str, Any]) -> None:
    name = _component(section)
    ours = {"AdamW": "adamw", "PagedAdamW8bit": "AdamW8bit", "AdamW8bit": "AdamW8bit", "CPUOffloadOptimizer": "adamw"}
    settings: dict[str, Any] = {"train.optimizer": ours.get(name, name)}
    if (rate := as_number(section.get("lr"))) is not None:
        settings["train.learning_rate"] = rate
    if (decay := as_number(section.get("weight_decay"))) is not None:
        settings["train.optimizer.weight_decay"] = decay
    known = (COMPONENT, "lr", "weight_decay", "fused", "foreach")
    if options := {key: value for key, value in section.items() if key not in known and is_said(value)}:
        settings["train.optimizer.options"] = options
    found.translate("optimizer", settings)
