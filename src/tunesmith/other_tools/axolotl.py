"""axolotl's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.other_tools.axolotl_data import translate_datasets
from tunesmith.other_tools.methods import translate_loads, translate_merging_keys, translate_start, without_lora
from tunesmith.other_tools.trainer_keys import (
    LEFT_OUT as LEFT_OUT_BY_ALL,
)
from tunesmith.other_tools.trainer_keys import (
    NEEDLESS as NEEDLESS_BY_ALL,
)
from tunesmith.other_tools.trainer_keys import (
    Usual,
    take_usual,
    translate_batch,
    translate_evaluation,
    translate_lora,
    translate_optimizer,
    translate_precision,
    translate_schedule,
    translate_steps,
)
from tunesmith.other_tools.translation import Translation, is_said, read_notes
from tunesmith.types import InputError

USUAL = Usual(rows=1, epochs=1, rate=2e-4, schedule="cosine")
LOSSES: Mapping[str, str] = {
    "dpo": "sigmoid",
    "ipo": "ipo",
    "kto": "kto",
    "orpo": "orpo",
    "simpo": "simpo",
}
NEEDLESS = read_notes("""
model_type tokenizer_type tokenizer_config processor_type is_llama_derived_model is_mistral_derived_model
is_qwen_derived_model is_falcon_derived_model base_model_config base_model_ignore_patterns
    The model's own files say what it is.
strict debug seed_worker profiler_steps
    It says nothing of the result.
wandb_entity wandb_watch wandb_run_id wandb_log_model mlflow_tracking_uri hf_mlflow_log_artifacts comet_api_key
comet_workspace use_comet wandb_mode use_tensorboard
    Where a tracker's own library sends figures is said by its environment variables.
plugins liger_rope liger_rms_norm liger_glu_activation liger_fused_linear_cross_entropy liger_layer_norm
liger_cross_entropy cut_cross_entropy unsloth_lora_mlp unsloth_lora_qkv unsloth_lora_o unsloth_rms_norm unsloth_rope
lora_mlp_kernel lora_qkv_kernel lora_o_kernel flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_mlp
flash_attn_fuse_qkv lora_on_cpu lora_fan_in_fan_out
    Layers, heads and losses are computed by this program's own code (compute.kernels: liger on GPUs).
shuffle_merged_datasets shuffle_before_merging_datasets
    Rows are drawn in a new order in every epoch.
evals_per_epoch saves_per_epoch
    There are evaluations after every epoch, or as often as the rows are worth it (train.evaluate_steps); a checkpoint
    is saved at every one.
eval_table_size eval_max_new_tokens eval_causal_lm_metrics do_causal_lm_eval do_bench_eval eval_sample_packing
    The finished model is judged by its task's metrics, answers by evaluation.answers.
skip_prepare_dataset dataset_keep_in_memory dataset_shard_num dataset_shard_idx dataset_exact_deduplication
    Rows are read and tokenised once; those that repeat another one are left out (data.clean.duplicates).
sample_packing_group_size sample_packing_bin_size sample_packing_eff_est total_num_tokens multipack_real_batches
    Rows stand one after the other without padding.
chat_template_jinja_path
    It is task.template.
save_first_step hf_use_auth_token
    Nothing of the result depends on it.
""")
LEFT_OUT = read_notes("""
lora_model_dir
    To go on from an adapter, name its folder as the model: it is merged into its base, and a new adapter is trained.
special_tokens tokens added_tokens_overrides
    The vocabulary stays as it is; the tokens of the model's own tokenizer are taken.
unfrozen_parameters
    Which parameters are trained is said by the method: freeze trains upper layers.
cosine_min_lr_ratio cosine_constant_lr_ratio
    A cosine falls to 0 over all steps.
lr_groups embedding_lr embedding_lr_scale
    All matrices have one rate, but by method.layer_decay and LoRA+.
loraplus_lr_embedding
    Embeddings have the rate of the other matrices.
relora relora_steps relora_prune_ratio relora_cpu_offload
    An adapter is not merged and begun anew.
s2_attention
    Attention is the model's own.
loss_watchdog_threshold loss_watchdog_patience
    Steps whose gradient leaps are skipped: train.spike_factor.
curriculum_sampling
    Rows are drawn in a new order in every epoch.
process_reward_model
    The task reward judges whole answers.
dpo_use_weighting rpo_alpha dpo_label_smoothing_alpha dpo_norm_loss precompute_ref_log_probs dpo_use_logits_to_keep
orpo_alpha cpo_alpha
    Of losses of preferences there are task.loss and task.beta.
trl vllm
    What the task grpo is told stands in docs/tasks/grpo.md.
torch_compile_backend torch_compile_mode
    Layers are compiled in one way (compute.compile).
qat quantization gptq gptq_groupsize gptq_model_v1
    Bases of few bits are NF4 and int8 (method.quantize).
""")


def translate(found: Translation, place: Path) -> None:
    """Translate a file of axolotl's that stands in the folder ``place``."""
    _model(found)
    _task(found)
    _method(found)
    translate_datasets(found, place)
    translate_batch(found, "micro_batch_size", "gradient_accumulation_steps", USUAL)
    translate_steps(found)
    translate_schedule(found, "lr_scheduler", USUAL)
    translate_optimizer(found, "optimizer")
    translate_precision(found)
    translate_evaluation(found)
    _trackers(found)
    _early_stopping(found)
    for table in (NEEDLESS, NEEDLESS_BY_ALL):
        found.apply_table(table, "needless")
    for table in (LEFT_OUT, LEFT_OUT_BY_ALL):
        found.apply_table(table, "left out")
    take_usual(found, USUAL)


def _model(found: Translation) -> None:
    found.translate("base_model", {"model": found.get("base_model")})
    if (revision := found.get("revision_of_model")) is not None:
        found.translate("revision_of_model", {"model.revision": revision})
    if found.get("sequence_len") is None:
        found.take_usual("model.max_length", 512)


def _task(found: Translation) -> None:
    kind = found.get("rl")
    if kind is None:
        found.take_usual("task", "causal_lm")
        if found.is_on("train_on_inputs"):
            found.translate("train_on_inputs", {"task.train_on": "all"})
        found.needless("train_on_inputs", "Of conversations the answers are learned.")
        length = str(found.get("excess_length_strategy") or "drop").lower()
        found.take_usual("task.too_long", "drop" if length == "drop" else "truncate")
        if found.get("excess_length_strategy") is not None:
            found.also("excess_length_strategy", "task.too_long")
        _template(found)
        return
    name = str(kind).lower()
    if name not in LOSSES:
        raise InputError(
            f"rl: {name!r} has no counterpart in one step.",
            f"Known: {', '.join(LOSSES)}; learning from rewards is the task grpo (docs/tasks/grpo.md).",
        )
    found.translate("rl", {"task": "preference", "task.loss": LOSSES[name]})
    found.number_or_usual("rl_beta" if found.get("rl_beta") is not None else "dpo_beta", "task.beta", 0.1)
    if name == "kto":
        found.number_or_usual("kto_desirable_weight", "task.desirable_weight", 1.0)
        found.number_or_usual("kto_undesirable_weight", "task.undesirable_weight", 1.0)
    smoothing = found.number("dpo_label_smoothing")
    if smoothing:
        found.translate("dpo_label_smoothing", {"task.label_smoothing": smoothing})
    found.needless(
        "train_on_inputs excess_length_strategy dpo_label_smoothing", "Of preferences the answers are learned."
    )
    _template(found)


def _template(found: Translation) -> None:
    name, own = found.get("chat_template"), found.get("chat_template_jinja")
    if own is not None:
        found.translate("chat_template_jinja", {"task.template": own})
        found.needless("chat_template", "It is the template that is given.")
    elif name == "chatml":
        found.translate("chat_template", {"task.template": "chatml"})
    elif name is not None:
        why = "Conversations are written by the model's own template; another one is task.template: FILE.jinja."
        found.needless("chat_template", why)
    found.needless("default_system_message", "It is task.system.")


def _method(found: Translation) -> None:
    adapter = str(found.get("adapter") or "full").lower()
    if adapter == "qlora":
        found.translate("adapter", {"method": "lora", "method.quantize": "nf4"})
    elif adapter in ("lora", "full"):
        found.translate("adapter", {"method": adapter})
    else:
        raise InputError(f"adapter: {adapter!r} has no counterpart.", "Known: lora, qlora, or none for full.")
    if adapter != "full":
        found.number_or_usual("lora_r", "method.rank", 8)
        found.number_or_usual("lora_alpha", "method.alpha", 16)
        if found.is_on("lora_target_linear"):
            found.translate("lora_target_linear", {"method.target_modules": "all-linear"})
            found.needless("lora_target_modules", "Every linear layer is adapted.")
        else:
            translate_lora(found, targets="lora_target_modules")
        for key, name in (("peft_use_rslora", "rslora"), ("peft_use_dora", "dora")):
            if found.is_on(key):
                found.translate(key, {f"method.{name}": True})
        layers = found.get("peft_layers_to_transform")
        if isinstance(layers, list):
            found.translate("peft_layers_to_transform", {"method.layers_to_transform": layers})
        translate_start(found, "peft_init_lora_weights")
    translate_loads(found)
    translate_merging_keys(found)
    without_lora(found)


def _trackers(found: Translation) -> None:
    """Translate trackers, which are on there as soon as they are given a project."""
    names = {"wandb": "wandb_project", "mlflow": "mlflow_experiment_name"}
    asked = [name for name, key in names.items() if is_said(found.get(key)) or found.is_on(f"use_{name}")]
    if asked:
        found.translate(
            " ".join(f"{names[name]} use_{name}" for name in asked),
            {"tracker": ",".join(asked), **_named(found, "tracker.project", [names[name] for name in asked])},
        )
        keys = ["wandb_name", "mlflow_run_name"]
        if named := _named(found, "tracker.name", keys):
            found.translate(" ".join(keys), named)
        return
    found.needless("wandb_name wandb_run_id mlflow_run_name use_wandb use_mlflow", "There is no tracker.")


def _named(found: Translation, path: str, keys: list[str]) -> dict[str, Any]:
    return next(({path: str(value)} for key in keys if (value := found.get(key)) is not None), {})


def _early_stopping(found: Translation) -> None:
    patience = found.number("early_stopping_patience")
    if patience:
        found.translate("early_stopping_patience", {"train.early_stopping.patience": patience})
