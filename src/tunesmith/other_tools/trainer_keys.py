"""Keys of the Trainer of transformers, which LLaMA-Factory, TRL, ms-swift and (in part) axolotl take over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.other_tools.translation import Translation, is_said, names_in, read_notes

OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("adamw", "adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "adamw_anyprecision"),
        ("adamw", ""),
    ),
    "paged_adamw_32bit": ("adamw", "Moments are not paged out of the GPU's memory here."),
    "paged_adamw": ("adamw", "Moments are not paged out of the GPU's memory here."),
    **dict.fromkeys(("adamw_8bit", "adamw_bnb_8bit"), ("AdamW8bit", "")),
    "paged_adamw_8bit": ("AdamW8bit", "Moments are not paged out of the GPU's memory here."),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit"), ("Lion8bit", "")),
    **dict.fromkeys(("lion_32bit", "lion_pytorch", "paged_lion_32bit"), ("Lion", "")),
    "adafactor": ("adafactor", ""),
    "sgd": ("sgd", ""),
    "adagrad": ("Adagrad", ""),
    "rmsprop": ("RMSprop", ""),
    "galore_adamw": ("GaLore", ""),
    "galore_adamw_8bit": ("GaLore", "Its moments have 32 bits here."),
    "apollo_adamw": ("APOLLO", ""),
    "came_pytorch": ("CAME", ""),
    "adopt_adamw": ("ADOPT", ""),
}
"""Each optimizer there: what it is here, and what differs."""
SCHEDULES: Mapping[str, tuple[str, str]] = {
    "linear": ("linear", ""),
    "cosine": ("cosine", ""),
    "constant": ("constant", ""),
    "constant_with_warmup": ("constant", ""),
    "inverse_sqrt": ("inverse_sqrt", ""),
    "warmup_stable_decay": ("wsd", "The rate falls over the last fifth of the steps (train.schedule.decay)."),
    "polynomial": ("linear", "A polynomial of power 1, their usual one, is a line."),
    "cosine_with_restarts": ("cosine", "With one cycle, their usual number, it is a plain cosine."),
    "cosine_with_min_lr": ("cosine", "It falls to 0 here, and not to a least rate."),
}
_NO_SUCH_SCHEDULE = "There is no such schedule; 'cosine' was written. Others: linear, constant, inverse_sqrt, wsd."
OFF_BESIDE = "The other one was taken."
NEEDLESS = read_notes("""
overwrite_cache preprocessing_num_workers dataloader_num_workers dataloader_pin_memory num_proc
dataloader_persistent_workers dataloader_prefetch_factor preprocessing_batch_size tokenized_path dataset_num_proc
dataset_processes dataset_prepared_path dataloader_drop_last remove_unused_columns streaming buffer_size
    Rows are read and tokenised once, cached, and mapped from the disk.
overwrite_output_dir
    It is the flag --overwrite of 'tunesmith train'.
resume_from_checkpoint auto_resume_from_checkpoints
    It is the flag --resume of 'tunesmith train'.
logging_steps logging_strategy logging_first_step log_level log_every_n_steps plot_loss logging_dir
include_num_input_tokens_seen include_tokens_per_second disable_tqdm
    Every step stands in metrics.jsonl, and for TensorBoard in tensorboard/ of the run.
per_device_eval_batch_size eval_batch_size eval_accumulation_steps
    Evaluations are cut to fit by themselves.
packing neat_packing sample_packing eval_packing eval_sample_packing pad_to_sequence_len padding_free group_by_length
group_by_modality_length train_sampling_strategy packed
    Rows stand one after the other without padding, each attending to itself alone.
flash_attn flash_attention attn_implementation attn_impl xformers_attention sdp_attention eager_attention
use_flash_attention_2
    Attention is computed by this program's own, or torch's, kernels.
save_only_model save_safetensors
    Checkpoints are safetensors, and a finished run keeps its model alone.
greater_is_better
    The direction of a metric is known.
tf32
    It is set on GPUs that have it.
trust_remote_code trust_remote_code_model
    Code that comes with a model or data is never run.
auto_find_batch_size
    A step that does not fit into memory is split, with the same gradient.
use_fast_tokenizer tokenizer_use_fast use_fast
    Tokenizers are fast ones.
ddp_timeout ddp_find_unused_parameters local_rank ddp_backend ddp_bucket_cap_mb nproc_per_node
    It is about several processes, and says nothing of the result.
use_cache low_cpu_mem_usage cache_dir torch_empty_cache_steps
    Nothing of the result depends on it.
gradient_checkpointing_kwargs use_reentrant_gc
    There is one way of computing activations again.
do_train
    It is trained.
""")
"""Keys of which nothing has to be said, with the reason."""
LEFT_OUT = read_notes("""
deepspeed fsdp fsdp_config fsdp_version accelerator_config ddp tensor_parallel_size context_parallel_size
sequence_parallel_size
    How a training is spread over devices is no part of the configuration here.
neftune_noise_alpha noisy_embedding_alpha
    There is no noise on embeddings; model.dropout is what keeps a model from learning rows by heart.
push_to_hub hub_model_id hub_strategy hub_private_repo hub_revision
    A finished run is pushed by a command of its own: tunesmith push RUN NAME.
hub_token hf_hub_token hf_token ms_hub_token
    Tokens stay where the hub's own library keeps them: hf auth login.
optim_args optim_target_modules
    Options of the optimizer go into train.optimizer.options, by their names.
lr_scheduler_kwargs
    A schedule has 'warmup' and, of wsd, 'decay': train.schedule.
rope_scaling rope_theta rope_parameters
    A model keeps the positions that it was trained with.
""")


@dataclass(frozen=True, slots=True)
class Usual:
    """What a tool takes where its file says nothing."""

    rows: int = 8
    """On a device at once."""
    accumulation: int = 1
    epochs: float = 3
    rate: float = 5e-5
    schedule: str = "linear"
    warmup: float = 0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    seed: int = 42


def translate_trainer(found: Translation, usual: Usual) -> None:
    """Translate what the Trainer knows: batches, steps, rate, schedule, optimizer, precision, evaluation, saving."""
    translate_batch(found, "per_device_train_batch_size", "gradient_accumulation_steps", usual)
    translate_steps(found)
    translate_schedule(found, "lr_scheduler_type", usual)
    translate_optimizer(found, "optim")
    translate_precision(found)
    translate_evaluation(found)
    translate_trackers(found)
    found.apply_table(NEEDLESS, "needless")
    found.apply_table(LEFT_OUT, "left out")
    if found.get("max_grad_norm") == 0:
        found.translate("max_grad_norm", {"train.clip_norm": None})


def take_usual(found: Translation, usual: Usual) -> None:
    """Write the recipe that the tool takes by itself, as far as nothing was said of it."""
    for path, value in {
        "train.epochs": usual.epochs,
        "train.learning_rate": usual.rate,
        "train.optimizer.weight_decay": usual.weight_decay,
        "train.clip_norm": usual.clip,
        "train.seed": usual.seed,
        "train.schedule": usual.schedule,
        "train.schedule.warmup": usual.warmup,
        "train.early_stopping.patience": "never",
        "train.early_stopping.restore_best": False,
    }.items():
        if path != "train.epochs" or "train.max_steps" not in found.settings:
            found.take_usual(path, value)


def translate_batch(found: Translation, rows_key: str, accumulation_key: str, usual: Usual) -> None:
    """Multiply the rows of a device with the batches that are accumulated: the rows of a step."""
    given = [found.number(rows_key), found.number(accumulation_key)]
    keys = f"{rows_key} {accumulation_key}"
    if any(is_said(found.get(key)) and found.number(key) is None for key in keys.split()):
        found.leave_out(keys, "It is no number here: train.batch_size is the rows of a whole step.")
        return
    rows, accumulation = (given[0] or usual.rows), (given[1] or usual.accumulation)
    size = int(rows * accumulation)
    if given == [None, None]:
        found.take_usual("train.batch_size", size)
        return
    note = f"{rows:g} rows x {accumulation:g} accumulated; with several devices there, so many times as many."
    found.translate(keys, {"train.batch_size": size}, note)


def translate_steps(found: Translation) -> None:
    """Take a number of steps where it is one: -1 stands for none."""
    steps = found.number("max_steps")
    if steps is not None and steps <= 0:
        found.needless("max_steps", "It stands for no limit.")


def translate_schedule(found: Translation, name_key: str, usual: Usual) -> None:
    """Translate the shape of the rate, and its warm-up, which steps decide before a share does."""
    name = str(found.get(name_key) or usual.schedule).lower()
    here, note = SCHEDULES.get(name, ("cosine", _NO_SUCH_SCHEDULE))
    if found.get(name_key) is None:
        found.take_usual("train.schedule", here)
    elif name in SCHEDULES:
        found.translate(name_key, {"train.schedule": here}, note)
    else:
        found.settings["train.schedule.name"] = here
        found.leave_out(name_key, note)
    steps, share = found.number("warmup_steps"), found.number("warmup_ratio")
    if name == "constant" and (steps or share):
        found.translate("warmup_steps warmup_ratio", {"train.schedule.warmup": 0}, "'constant' has no warm-up there.")
    elif steps:
        found.translate("warmup_steps", {"train.schedule.warmup": steps})
        found.needless("warmup_ratio", "Steps go before a share.")
    elif share is not None:
        found.translate("warmup_ratio", {"train.schedule.warmup": share})
        found.needless("warmup_steps", "0 stands for the share.")
    elif steps is not None:
        found.translate("warmup_steps", {"train.schedule.warmup": 0})


def translate_optimizer(found: Translation, key: str) -> None:
    """Translate the optimizer by its name, and what Adam's kind is told."""
    name = found.get(key)
    if name is not None and str(name).lower() in OPTIMIZERS:
        here, note = OPTIMIZERS[str(name).lower()]
        found.translate(key, {"train.optimizer": here}, note)
    elif name is not None:
        found.settings["train.optimizer.name"] = "adamw"
        found.leave_out(
            key,
            "It is not known by this name; adamw was written. train.optimizer takes any of torch.optim, and others of "
            "bitsandbytes and pytorch-optimizer.",
        )
    is_adam = str(found.settings.get("train.optimizer.name", "adamw")) in ("adamw", "AdamW8bit", "GaLore", "APOLLO")
    first, second, epsilon = (found.number(f"adam_{one}") for one in ("beta1", "beta2", "epsilon"))
    if not is_adam:
        found.leave_out("adam_beta1 adam_beta2 adam_epsilon", "The optimizer is none of Adam's kind.")
        return
    options: dict[str, Any] = dict(found.settings.get("train.optimizer.options", {}))
    if first is not None or second is not None:
        options["betas"] = [0.9 if first is None else first, 0.999 if second is None else second]
    if epsilon is not None:
        options["eps"] = epsilon
    if options:
        found.settings["train.optimizer.options"] = options
        found.also("adam_beta1 adam_beta2 adam_epsilon", "train.optimizer.options")


def translate_precision(found: Translation) -> None:
    """Translate bf16 and fp16; of the latter there is none."""
    bf16, fp16 = found.get("bf16"), found.get("fp16")
    if str(bf16).lower() in ("true", "full"):
        found.translate("bf16", {"train.precision": "bf16"})
        found.needless("fp16", OFF_BESIDE)
    elif bf16 == "auto":
        found.translate("bf16", {"train.precision": "auto"})
        found.needless("fp16", OFF_BESIDE)
    elif str(fp16).lower() == "true":
        found.translate("fp16", {"train.precision": "bf16"}, "There is no fp16: bf16 has the range of fp32.")
        found.needless("bf16", OFF_BESIDE)
    else:
        found.needless("bf16 fp16", "What the hardware is quick with is taken (train.precision: auto).")
    if found.is_on("gradient_checkpointing"):
        found.translate("gradient_checkpointing", {"compute.checkpointing": "always"})
    elif found.get("gradient_checkpointing") is not None:
        found.needless("gradient_checkpointing", "Where memory is short, activations are computed again.")


def translate_evaluation(found: Translation) -> None:
    """Translate when there are evaluations and checkpoints, and whether the best step is gone back to."""
    strategy = str(found.get("eval_strategy") or found.get("evaluation_strategy") or "").lower()
    steps = found.number("eval_steps")
    if strategy in ("no", "epoch") or steps is None or steps < 1:
        found.needless("eval_steps", "There are evaluations after every epoch, or as often as the rows are worth it.")
    found.needless(
        "eval_strategy evaluation_strategy do_eval eval_on_start eval_delay",
        "There are evaluations where there are validation rows: train.evaluate_steps says how often.",
    )
    if str(found.get("save_strategy")).lower() in ("no", "epoch", "best") or (found.number("save_steps") or 1) < 1:
        found.needless("save_steps", "A checkpoint is saved at every evaluation.")
    found.needless("save_strategy save_on_each_node", "A checkpoint is saved at every evaluation.")
    if (limit := found.number("save_total_limit")) is not None and limit < 1:
        found.needless("save_total_limit", "The newest checkpoint and the best one stay.")
    if found.get("load_best_model_at_end") is not None:
        best = found.is_on("load_best_model_at_end")
        found.translate("load_best_model_at_end", {"train.early_stopping.restore_best": best})
    metric = str(found.get("metric_for_best_model") or "").removeprefix("eval_")
    if metric == "loss":
        found.translate("metric_for_best_model", {"train.early_stopping.metric": "loss"})
    elif metric:
        said = "Metrics have names of their own here: train.early_stopping.metric, the task's main one when not given."
        found.leave_out("metric_for_best_model", said)


def translate_trackers(found: Translation) -> None:
    """Translate where figures are reported to: the trackers that there are, TensorBoard by itself."""
    asked = found.get("report_to")
    names = [str(one).lower() for one in (asked if isinstance(asked, list) else [asked] if asked else [])]
    here = [name for name in names if name in ("wandb", "mlflow", "trackio")]
    others = [name for name in names if name not in (*here, "tensorboard", "none", "all")]
    if here:
        found.translate("report_to", {"tracker": ",".join(here)}, f"Not: {', '.join(others)}." if others else "")
    elif others:
        found.leave_out("report_to", "Trackers are wandb, mlflow and trackio, and TensorBoard always.")
    else:
        found.needless("report_to", "Every step is recorded for TensorBoard.")
    if "tracker.to" not in found.settings:
        found.needless("run_name wandb_project trackio_project mlflow_experiment_name", "There is no tracker.")


def translate_lora(found: Translation, *, targets: str) -> None:
    """Translate what LoRA is told in every tool of HF's kind; ``targets`` is the key that names modules."""
    wanted = found.get(targets)
    names = names_in(wanted)
    if names and all(name in ("all", "all-linear") for name in names):
        found.translate(targets, {"method.target_modules": "all-linear"})
    elif isinstance(wanted, str) and any(sign in wanted for sign in "^$*()|\\"):
        found.leave_out(targets, "Modules are named, or their last parts, and not described by a pattern.")
    elif names:
        found.translate(targets, {"method.target_modules": names})
    for key, name in (("use_rslora", "rslora"), ("use_dora", "dora")):
        if found.is_on(key):
            found.translate(key, {f"method.{name}": True})
