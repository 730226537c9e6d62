"""Files of ms-swift: its command's arguments as YAML or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith.other_tools.data_sets import ForeignSet, keep_for_validation, locate, write_sets
from tunesmith.other_tools.methods import (
    translate_bits,
    translate_loads,
    translate_merging_keys,
    translate_start,
    without_lora,
)
from tunesmith.other_tools.trainer_keys import Usual, take_usual, translate_lora, translate_trainer
from tunesmith.other_tools.translation import Translation, names_in, read_notes
from tunesmith.types import InputError

LOSSES: Mapping[str, str] = {"dpo": "sigmoid", "orpo": "orpo", "simpo": "simpo", "kto": "kto"}
METHODS: Mapping[str, Mapping[str, object]] = {
    "lora": {"method": "lora"},
    "full": {"method": "full"},
    "adalora": {"method": "adalora"},
    "boft": {"method": "boft"},
    "vera": {"method": "vera"},
    "fourierft": {"method": "fourierft"},
    "bone": {"method": "miss"},
}
NEEDLESS = read_notes("""
model_type model_author model_name template template_backend model_kwargs device_map max_memory use_hf
    The model's own files say what it is, and how conversations are written; models are the hub's, or folders.
torch_dtype
    It is train.precision.
swift_version framework cached_dataset data_seed load_from_cache_file dataset_shuffle val_dataset_shuffle add_version
create_checkpoint_symlink ignore_args_error logprobs lazy_tokenize strict load_args
    Nothing of the result depends on it.
freeze_llm freeze_vit freeze_aligner freeze_parameters_ratio
    What is trained is said by the method.
quant_method
    Bases of few bits are those of bitsandbytes.
use_chat_template agent_template padding_side truncation_strategy
    Conversations are written by the model's own template; task.too_long says what becomes of long ones.
infer_backend temperature top_k top_p repetition_penalty max_new_tokens stream
    It is said where answers are written.
""")
LEFT_OUT = read_notes("""
adapters resume_only_model
    To go on from an adapter, name its folder as the model.
loss_scale
    Marks in the data (train, weight) say which turns are learned.
ref_model reward_model reward_funcs external_plugins
    The reference is the model as it was loaded.
new_special_tokens
    The vocabulary stays as it is.
rpo_alpha cpo_alpha label_smoothing
    Of losses of preferences there are task.loss and task.beta.
galore_rank use_galore galore_target_modules
    train.optimizer: {name: GaLore, options: {rank: 64}}.
target_regex
    Modules are named, or their last parts, and not described by a pattern.
trainable_parameters freeze_parameters trainable_parameters_regex freeze_parameters_regex
    Which parameters are trained is said by the method.
""")


def translate(found: Translation, place: Path) -> None:
    """Translate a file of ms-swift's that stands in the folder ``place``."""
    found.translate("model", {"model": found.get("model")})
    _task(found)
    adapts = _method(found)
    _data(found, place)
    rows = found.number("per_device_train_batch_size") or 1
    usual = Usual(
        rows=1,
        accumulation=max(1, round(16 / rows)),
        rate=1e-4 if adapts else 1e-5,
        warmup=0.05,
        schedule="cosine",
        weight_decay=0.1,
    )
    translate_trainer(found, usual)
    found.apply_table(NEEDLESS, "needless")
    found.apply_table(LEFT_OUT, "left out")
    take_usual(found, usual)


def _task(found: Translation) -> None:
    kind = found.get("rlhf_type")
    if kind is None:
        found.take_usual("task", "causal_lm")
        if found.get("system") is not None:
            found.translate("system", {"task.system": found.get("system")})
        return
    name = str(kind).lower()
    if name == "rm":
        found.translate("rlhf_type", {"task": "reward"})
        return
    if name not in LOSSES:
        message = f"rlhf_type: {name!r} has no counterpart in one step."
        raise InputError(message, f"Known: {', '.join(LOSSES)}, rm; rewards are the task grpo (docs/tasks/grpo.md).")
    found.translate("rlhf_type", {"task": "preference", "task.loss": LOSSES[name]})
    if found.number("beta") is not None:
        found.translate("beta", {"task.beta": found.number("beta")})
    found.take_usual("task.beta", 2.0 if name == "simpo" else 0.1)


def _method(found: Translation) -> bool:
    key = "train_type" if found.get("train_type") is not None else "tuner_type"
    name = str(found.get(key) or "lora").lower()
    if name not in METHODS:
        raise InputError(f"{key}: {name!r} has no counterpart.", f"Known: {', '.join(METHODS)}.")
    found.translate(key, METHODS[name])
    if found.settings["method.name"] == "lora":
        found.number_or_usual("lora_rank", "method.rank", 8)
        found.number_or_usual("lora_alpha", "method.alpha", 32)
        found.number_or_usual("lora_dropout", "method.dropout", 0.05)
        translate_lora(found, targets="target_modules")
        translate_start(found, "init_weights")
    translate_bits(found, "quant_bits")
    translate_loads(found)
    translate_merging_keys(found)
    without_lora(found)
    return name != "full"


def _data(found: Translation, place: Path) -> None:
    sets = []
    for text in names_in(found.get("dataset")):
        name, _, number = text.partition("#")
        sets.append(ForeignSet(locate(name.removeprefix("HF::"), place)))
        if number:
            why = "Rows of a set are all read: data.limit bounds those of a split."
            found.note_part(f"dataset: {text}", text, "left out", why)
    judged = [locate(name.partition("#")[0], place) for name in names_in(found.get("val_dataset"))]
    write_sets(found, "dataset", sets, judged[0] if judged else None)
    if judged:
        found.also("val_dataset", "data.validation" if len(sets) == 1 else "data.mixture")
    keep_for_validation(found, "split_dataset_ratio", given=bool(judged))
