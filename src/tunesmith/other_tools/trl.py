"""Files for the scripts and configurations of TRL, and ``TrainingArguments`` of transformers as JSON or YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith.other_tools.data_sets import ForeignSet, keep_for_validation, locate, write_sets
from tunesmith.other_tools.methods import translate_loads, translate_merging_keys, without_lora
from tunesmith.other_tools.trainer_keys import Usual, take_usual, translate_lora, translate_trainer
from tunesmith.other_tools.translation import Translation, is_said, read_notes
from tunesmith.types import InputError

USUAL = Usual()
RATES = {"sft": 2e-5, "dpo": 1e-6, "kto": 1e-6, "orpo": 1e-6, "reward": 1e-4}
"""Rates of TRL's trainers where nothing is said; the Trainer's own is another."""
LOSSES: Mapping[str, str] = {
    "sigmoid": "sigmoid",
    "hinge": "hinge",
    "ipo": "ipo",
    "robust": "robust",
    "sigmoid_norm": "sigmoid_norm",
    "simpo": "simpo",
    "orpo": "orpo",
    "kto": "kto",
}
SIGNS: Mapping[str, frozenset[str]] = {
    "kto": frozenset(("desirable_weight", "undesirable_weight")),
    "dpo": frozenset(("beta", "loss_type", "label_smoothing", "precompute_ref_log_probs", "sync_ref_model")),
    "reward": frozenset(("center_rewards_coefficient",)),
    "sft": frozenset(
        ("dataset_text_field", "packing", "completion_only_loss", "assistant_only_loss", "max_seq_length", "max_length")
    ),
}
"""Keys that one trainer alone has, the most certain first."""
NEEDLESS = read_notes("""
do_predict do_eval prediction_loss_only eval_do_concat_batches batch_eval_metrics include_for_metrics
    The finished model is judged by its task's metrics.
data_seed
    Rows are drawn by train.seed.
full_determinism
    It is compute.deterministic; on the CPU all of it repeats anyway.
dataset_train_split dataset_test_split dataset_config dataset_streaming
    Splits of a data set are found by their names.
use_liger_kernel use_liger liger_kernel_config use_liger_loss
    It is compute.kernels: liger, on GPUs.
precompute_ref_log_probs precompute_ref_batch_size
    What the reference says is computed once.
disable_dropout
    It is model.dropout: 0.
model_init_kwargs pad_token eos_token padding_value pad_to_multiple_of dataset_kwargs
    Its files say what a model is, and its tokenizer which tokens end and pad.
lora_task_type use_peft
    It follows from the task and the method.
average_tokens_across_devices
    A step's loss is a mean over its tokens, wherever they are computed.
dtype torch_dtype
    It is train.precision.
packing_strategy shuffle_dataset num_items_in_batch
    Rows stand one after the other without padding.
""")
LEFT_OUT = read_notes("""
ref_model sync_ref_model ref_model_mixup_alpha ref_model_sync_steps model_adapter_name ref_adapter_name reference_free
    The reference is the model as it was loaded.
rpo_alpha ld_alpha f_divergence_type f_alpha_divergence_coef use_weighting discopop_tau loss_weights
center_rewards_coefficient
    Of losses of preferences there are task.loss, task.beta and task.gamma.
max_prompt_length max_completion_length truncation_mode
    Rows are cut at model.max_length as wholes.
label_smoothing_factor
    It is task.label_smoothing, of the tasks that have it.
chat_template_path
    It is task.template: FILE.jinja.
chat_template
    It is task.template.
modules_to_save
    What the adapter stands beside and a new head are trained.
activation_offloading
    Activations are computed again where memory is short.
loss_type
    The loss of what is learned is the task's.
""")


def translate(found: Translation, place: Path) -> None:
    """Translate a file of TRL's, or of the Trainer's, that stands in the folder ``place``."""
    trainer = _trainer(found)
    model = found.get("model_name_or_path")
    if model is not None:
        found.translate("model_name_or_path", {"model": model})
    _length(found, trainer)
    _task(found, trainer)
    _method(found)
    _data(found, place)
    usual = USUAL if trainer not in RATES else Usual(rate=RATES[trainer])
    translate_trainer(found, usual)
    found.apply_table(NEEDLESS, "needless")
    found.apply_table(LEFT_OUT, "left out")
    take_usual(found, usual)


def _trainer(found: Translation) -> str:
    """Say which of TRL's trainers the file is for; ``transformers`` where it is the plain one."""
    if any(is_said(found.get(key)) for key in ("num_generations", "reward_funcs", "reward_model_name_or_path")):
        raise InputError(
            "The file is for GRPO, whose rewards are code: it has no counterpart in a file.",
            "The task grpo learns from rewards: docs/tasks/grpo.md.",
        )
    return next((name for name, signs in SIGNS.items() if signs & found.values.keys()), "transformers")


def _length(found: Translation, trainer: str) -> None:
    for key in ("max_length", "max_seq_length"):
        if found.number(key) is not None:
            found.translate(key, {"model.max_length": found.number(key)})
    if trainer in ("sft", "dpo", "kto", "reward"):
        found.take_usual("model.max_length", 1024)


def _task(found: Translation, trainer: str) -> None:
    if trainer == "reward":
        found.take_usual("task", "reward")
    elif trainer in ("dpo", "kto"):
        found.take_usual("task", "preference")
        asked = found.get("loss_type")
        asked = asked[0] if isinstance(asked, list) and len(asked) == 1 else asked
        loss = "kto" if trainer == "kto" else LOSSES.get(str(asked or "sigmoid"))
        if trainer == "dpo" and asked is not None and loss is not None:
            found.translate("loss_type", {"task.loss": loss})
        elif loss is None:
            found.leave_out("loss_type", f"There is no such loss; sigmoid was written. Others: {', '.join(LOSSES)}.")
        found.take_usual("task.loss", loss or "sigmoid")
        found.number_or_usual("beta", "task.beta", 0.1)
        for key in ("desirable_weight", "undesirable_weight"):
            if trainer == "kto":
                found.number_or_usual(key, f"task.{key}", 1.0)
        if found.number("label_smoothing"):
            found.translate("label_smoothing", {"task.label_smoothing": found.number("label_smoothing")})
        found.needless("label_smoothing", "It is 0.")
    elif trainer == "sft":
        found.take_usual("task", "causal_lm")
        only = found.get("assistant_only_loss"), found.get("completion_only_loss")
        if True not in only:
            # Of conversations all of the text is learned there, unless somebody says otherwise; of prompts with
            # completions the completions alone.
            is_plain = found.get("dataset_text_field") is not None
            found.take_usual("task.train_on", "all" if is_plain or False in only else "assistant")
        found.needless("assistant_only_loss completion_only_loss", "Of conversations the answers are learned.")


def _method(found: Translation) -> None:
    adapts = found.is_on("use_peft") or any(
        is_said(found.get(key)) for key in ("lora_r", "lora_alpha", "lora_target_modules")
    )
    if found.get("use_peft") is False:
        adapts = False
    found.take_usual("method", "lora" if adapts else "full")
    if adapts:
        found.number_or_usual("lora_r", "method.rank", 16)
        found.number_or_usual("lora_alpha", "method.alpha", 32)
        found.number_or_usual("lora_dropout", "method.dropout", 0.05)
        translate_lora(found, targets="lora_target_modules")
    translate_loads(found)
    translate_merging_keys(found)
    without_lora(found)


def _data(found: Translation, place: Path) -> None:
    name = found.get("dataset_name")
    sets = []
    if name is not None:
        sets.append(ForeignSet(locate(str(name), place, str(found.get("dataset_config") or ""))))
    mixed = found.get("datasets")
    sets += [
        ForeignSet(locate(str(entry["path"]), place, str(entry.get("name") or "")))
        for entry in (mixed if isinstance(mixed, list) else [])
        if isinstance(entry, Mapping) and is_said(entry.get("path"))
    ]
    field = found.get("dataset_text_field")
    if field is not None and sets and field != "text":
        sets[0].columns["text"] = str(field)
    if sets:
        write_sets(found, "dataset_name datasets dataset_text_field", sets)
    found.needless("dataset_text_field", "The column is found by its name and content.")
    keep_for_validation(found, "test_size", given=False)
