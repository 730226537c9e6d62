"""LLaMA-Factory's files, with the registry of data sets that stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunesmith.other_tools.llama_factory_data import translate_datasets
from tunesmith.other_tools.methods import (
    set_optimizer,
    translate_bits,
    translate_loads,
    translate_merging_keys,
    translate_start,
    without_lora,
)
from tunesmith.other_tools.reading import read_values
from tunesmith.other_tools.trainer_keys import Usual, take_usual, translate_lora, translate_trainer
from tunesmith.other_tools.translation import Translation, read_notes
from tunesmith.types import InputError

USUAL = Usual()
USUAL_LENGTH = 2048
LOSSES: Mapping[str, str] = {
    "sigmoid": "sigmoid",
    "hinge": "hinge",
    "ipo": "ipo",
    "orpo": "orpo",
    "simpo": "simpo",
}
NEEDLESS = read_notes("""
template
    Conversations are written by the model's own chat template (ChatML where it has none); another one is
    task.template: FILE.jinja.
do_predict predict_with_generate compute_accuracy eval_num_beams ignore_pad_token_for_loss
    The finished model is judged by its task's metrics, answers by evaluation.answers.
visual_inputs processor_kwargs freeze_vision_tower freeze_multi_modal_projector freeze_language_model
    What of a model is trained is said by the method.
pissa_convert
    What is saved is a plain adapter of the base as it was published.
create_new_adapter
    A new adapter is trained.
disable_gradient_checkpointing
    Activations are computed again where memory is short (compute.checkpointing).
enable_liger_kernel
    It is compute.kernels: liger, on GPUs.
use_unsloth use_unsloth_gc use_kt
    Layers are computed by this program's own code.
dataset_dir media_dir
    Paths of the data hold it.
quantization_method quantization_device_map
    Bases of few bits are those of bitsandbytes.
split_special_tokens
    What users write is text, whatever it looks like (task.special_tokens).
tool_format
    Calls of tools are written by the chat template.
infer_backend infer_dtype export_dir export_size export_device export_legacy_format export_hub_model_id
    Serving is 'tunesmith serve', merging 'tunesmith merge', other forms 'tunesmith export'.
""")
LEFT_OUT = read_notes("""
adapter_name_or_path
    To go on from an adapter, name its folder as the model: it is merged into its base, and a new adapter is trained.
ref_model ref_model_adapters
    The reference is the model as it was loaded.
pref_ftx
    There is no loss of the better answer beside that of preferences, but in task.loss: orpo.
use_badam badam_mode badam_layer_optimizer badam_switch_interval
    The method lisa trains a few layers at a time.
use_adam_mini use_muon
    train.optimizer names others of pytorch-optimizer.
use_llama_pro
    No layers are added to a model; the method freeze trains the upper ones.
add_tokens new_special_tokens add_special_tokens resize_vocab
    The vocabulary stays as it is; the method trainable_tokens trains chosen embeddings.
shift_attn mixture_of_depths llama_pro
    The model's layers are not changed.
freeze_extra_modules freeze_trainable_modules
    The method freeze counts layers from the bottom.
galore_target galore_layerwise apollo_target apollo_layerwise galore_proj_type apollo_proj apollo_scale_type
    It applies to all matrices; options go into train.optimizer.options.
reward_model reward_model_type ppo_epochs ppo_score_norm ppo_target
    PPO is not there; the task grpo is.
""")


def translate(found: Translation, place: Path) -> None:
    """Translate a file of LLaMA-Factory's that stands in the folder ``place``."""
    _model(found)
    _task(found)
    _method(found)
    _optimizer(found)
    translate_datasets(found, place)
    translate_trainer(found, USUAL)
    found.apply_table(NEEDLESS, "needless")
    found.apply_table(LEFT_OUT, "left out")
    patience = found.number("early_stopping_steps")
    if patience:
        found.translate("early_stopping_steps", {"train.early_stopping.patience": patience})
    take_usual(found, USUAL)


def _model(found: Translation) -> None:
    found.translate("model_name_or_path", {"model": found.get("model_name_or_path")})
    if found.get("cutoff_len") is None:
        found.take_usual("model.max_length", USUAL_LENGTH)


def _task(found: Translation) -> None:
    stage = str(found.get("stage") or "sft").lower()
    if stage == "ppo":
        message = "stage: ppo has no counterpart: a language model learns from rewards by the task grpo."
        raise InputError(message, "Write its configuration anew: docs/tasks/grpo.md.")
    if stage in ("dpo", "kto"):
        _preferences(found, stage)
        return
    tasks = {"pt": "causal_lm", "sft": "causal_lm", "rm": "reward"}
    if stage not in tasks:
        raise InputError(f"stage: {stage!r} is none of LLaMA-Factory's.", "Known: pt, sft, rm, dpo, kto.")
    found.translate("stage", {"task": tasks[stage]}, "Rows are texts." if stage == "pt" else "")
    if stage == "pt":
        found.settings["task.form"] = "text"
    found.needless("pref_loss pref_beta pref_ftx simpo_gamma dpo_label_smoothing", "It is of other stages.")
    if found.is_on("train_on_prompt"):
        found.translate("train_on_prompt", {"task.train_on": "all"})
    elif found.is_on("mask_history"):
        found.translate("mask_history", {"task.train_on": "last"})
    system = found.get("default_system")
    if system is not None:
        found.translate("default_system", {"task.system": system})
    thinks = found.is_on("enable_thinking")
    if found.get("enable_thinking") is not None:
        found.translate("enable_thinking", {"task.template_arguments": {"enable_thinking": thinks}})


def _preferences(found: Translation, stage: str) -> None:
    asked = "kto" if stage == "kto" else str(found.get("pref_loss") or "sigmoid").lower()
    loss = "kto" if stage == "kto" else LOSSES.get(asked)
    found.translate("stage", {"task": "preference"})
    if loss is None:
        found.settings["task.loss"] = "sigmoid"
        found.leave_out("pref_loss", f"There is no such loss; sigmoid was written. Others: {', '.join(LOSSES)}, kto.")
    elif stage == "kto":
        found.settings["task.loss"] = "kto"
        found.needless("pref_loss", "It is KTO.")
    else:
        found.translate("pref_loss", {"task.loss": loss})
    found.number_or_usual("pref_beta", "task.beta", 0.1)
    if loss == "simpo":
        found.number_or_usual("simpo_gamma", "task.gamma", 0.5)
    else:
        found.needless("simpo_gamma", "The loss is another.")
    if loss == "kto":
        found.number_or_usual("kto_chosen_weight", "task.desirable_weight", 1.0)
        found.number_or_usual("kto_rejected_weight", "task.undesirable_weight", 1.0)
    else:
        found.needless("kto_chosen_weight kto_rejected_weight", "The loss is another.")
    smoothing = found.number("dpo_label_smoothing")
    if smoothing:
        found.translate("dpo_label_smoothing", {"task.label_smoothing": smoothing})
    else:
        found.needless("dpo_label_smoothing", "It is 0.")
    found.needless("train_on_prompt mask_history", "Of preferences the answers are learned.")


def _method(found: Translation) -> None:
    kind = str(found.get("finetuning_type") or "lora").lower()
    if kind not in ("lora", "full", "freeze", "oft"):
        raise InputError(f"finetuning_type: {kind!r} has no counterpart.", "Known: lora, full, freeze, oft.")
    found.translate("finetuning_type", {"method": kind})
    if kind == "lora":
        rank = found.number_or_usual("lora_rank", "method.rank", 8)
        found.number_or_usual("lora_alpha", "method.alpha", 2 * rank)
        translate_lora(found, targets="lora_target")
        if found.is_on("pissa_init"):
            found.translate("pissa_init", {"method": "pissa"})
            iterations = found.number("pissa_iter")
            if iterations is not None and iterations >= 0:
                found.translate("pissa_iter", {"method.iterations": iterations})
        found.leave_out("loraplus_lr_embedding", "Embeddings have the rate of the other matrices.")
    elif kind == "freeze":
        _layers(found)
    elif kind == "oft":
        block = found.number("oft_block_size")
        if block:
            found.translate("oft_block_size", {"method.block_size": block})
        found.leave_out("oft_rank oft_target module_dropout", "Say it by the options of the method oft.")
    translate_bits(found, "quantization_bit")
    translate_loads(found)
    translate_merging_keys(found)
    translate_start(found, "init_lora_weights")
    without_lora(found)


def _layers(found: Translation) -> None:
    """Turn the number of upper layers that are trained into that of the lower ones, where the model is here."""
    trained = int(found.number("freeze_trainable_layers") or 2)
    num_layers = _num_layers(str(found.get("model_name_or_path") or ""))
    if num_layers is None or trained < 0:
        found.leave_out(
            "freeze_trainable_layers",
            "The method freeze counts the layers that are not trained, from the bottom: method.layers is the number of "
            "layers less those that are.",
        )
        return
    layers = max(0, num_layers - trained)
    found.translate("freeze_trainable_layers", {"method.layers": layers}, f"The model has {num_layers} layers.")


def _num_layers(model: str) -> int | None:
    path = Path(model).expanduser() / "config.json"
    if not model or not path.is_file():
        return None
    layers = read_values(path).get("num_hidden_layers")
    return layers if isinstance(layers, int) else None


def _optimizer(found: Translation) -> None:
    for tool, name in (("galore", "GaLore"), ("apollo", "APOLLO")):
        if not found.is_on(f"use_{tool}"):
            continue
        keys = {"rank": f"{tool}_rank", "update_proj_gap": f"{tool}_update_interval", "scale": f"{tool}_scale"}
        options = {option: number for option, key in keys.items() if (number := found.number(key)) is not None}
        set_optimizer(found, " ".join([f"use_{tool}", *keys.values()]), name, options)
