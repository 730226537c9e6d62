"""What other tools call the keys of the configuration, so that a habit is answered with the right key.

Trainer and scripts of Hugging Face, TRL, PEFT, LLaMA-Factory, axolotl, Unsloth, Lightning, plain habit. These names are
not taken as keys: a near meaning is not the same one. They are what an unknown key, flag or value is
answered with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a foreign name stands for here."""

    settings: tuple[tuple[str, str], ...]
    """Keys, each with the value that the name implies; empty where the user brings the value."""
    note: str = ""
    """What differs."""

    def as_flags(self) -> str:
        """Return ``--method lora --method.quantize nf4``."""
        return " ".join(f"--{key} {value}".rstrip() for key, value in self.settings)

    def as_keys(self) -> str:
        """Return ``'method: lora' and 'method.quantize: nf4'``."""
        return " and ".join(f"'{key}: {value}'" if value else f"'{key}'" for key, value in self.settings)


def meaning_of(name: str, is_known: Callable[[str], bool]) -> Meaning | None:
    """Return what a name of another tool stands for, if it is one and all of it are keys that ``is_known``."""
    found = _MEANINGS.get(plain(name.rsplit(".", 1)[-1]))
    return found if found is not None and all(is_known(key) for key, _ in found.settings) else None


def plain(name: str) -> str:
    """Return a name as these tables have it: small letters, underscores."""
    return name.strip().lstrip("-").lower().replace("-", "_").replace(" ", "_")


def foreign_names() -> Iterator[tuple[str, Meaning]]:
    """Yield every foreign name with its meaning."""
    yield from _MEANINGS.items()


_STEP_NOTE = (
    "It is the rows of a whole step; what does not fit into memory at once is split by itself, so that there is "
    "nothing to multiply (compute.micro_batch_rows bounds the parts)."
)
_WARMUP_NOTE = "Below 1 it is a share of all steps, from 1 on a number of steps."
_FP16_NOTE = "There is no fp16: bf16 has the range of fp32 and needs no scaling of losses."
_DATA_NOTE = "It takes a file, a folder, hub:owner/name or sample:NAME."
_LIMIT_NOTE = "It limits the rows that are read."
_LAYOUT_NOTE = "Rows stand one after the other without padding by default, each attending to itself alone."
_NO_LOGGER = (
    "Every step stands in metrics.jsonl and for TensorBoard in tensorboard/ of the run; there is nothing to set."
)
_ONE_DEVICE = "A run uses one device; several processes or GPUs are not there yet."
_NO_HUB = "A finished run goes to the hub by a command of its own: tunesmith push RUN NAME."
_TRACKERS = (
    "Every step stands in metrics.jsonl and for TensorBoard in tensorboard/ of the run; beside them it is wandb, "
    "mlflow or trackio, or several with commas."
)

_PLAIN = """
train.learning_rate: lr learning_rate base_lr max_lr peak_lr init_lr base_learning_rate
train.epochs: epochs epoch num_train_epochs num_epochs n_epochs max_epochs train_epochs nb_epochs
train.max_steps: steps num_steps n_steps total_steps num_train_steps max_train_steps max_iters iters iterations
train.optimizer: optim optimizer optimizer_name optimiser
train.optimizer.weight_decay: weight_decay wd adam_weight_decay
train.schedule: lr_scheduler_type lr_scheduler scheduler lr_schedule schedule scheduler_type
train.clip_norm: max_grad_norm grad_clip gradient_clip gradient_clip_val gradient_clipping clip_grad_norm max_norm
train.seed: seed random_seed random_state data_seed
compute.device: device device_map accelerator
compute.deterministic: deterministic full_determinism
train.evaluate_steps: eval_steps eval_every eval_interval evaluate_every val_check_interval evals_per_epoch
    eval_strategy evaluation_strategy
compute.checkpoint_steps: save_steps save_every save_interval save_strategy saves_per_epoch checkpoint_every
compute.keep_checkpoints: save_total_limit max_checkpoints keep_last_n_checkpoints
train.early_stopping.patience: early_stopping_patience patience early_stopping early_stop
train.early_stopping.metric: metric_for_best_model monitor best_metric
train.early_stopping.restore_best: load_best_model_at_end restore_best_weights
train.early_stopping.minimum_gain: early_stopping_threshold min_delta early_stopping_delta
train.precision: precision dtype torch_dtype mixed_precision amp compute_dtype
train.l1: l1_lambda l1_regularization
train.l2: l2_lambda l2_regularization
output: output_dir out out_dir save_dir save_path output_path output_folder run_dir checkpoint_dir save_folder
model: model_name_or_path model_name base_model model_id model_path pretrained_model pretrained
    pretrained_model_name_or_path checkpoint base backbone architecture
model.revision: model_revision revision
model.max_length: max_seq_length max_seq_len max_length cutoff_len sequence_len seq_len seq_length block_size
    model_max_length max_len maxlen context_length max_tokens max_source_length max_position_embeddings
model.dropout: hidden_dropout hidden_dropout_prob dropout_prob
data.validation: validation_file val_file eval_file eval_data val_data dev_file valid_file eval_dataset
    validation_data validation_path test_datasets
data.test: test_file test_data test_path test_dataset
data.validation_fraction: val_size val_set_size validation_split val_split eval_size validation_size dev_size
    validation_ratio
data.test_fraction: test_size test_split test_ratio
data.delimiter: sep separator
data.columns.text: text_column text_column_name dataset_text_field text_field text_col text_columns input_column
data.columns.label: label_column label_column_name label_col label_field target_column target labels_column
data.group: group_column group_by
task: task_name task_type problem_type stage
task.labels: label_names id2label label_list class_names
task.label_smoothing: label_smoothing_factor label_smoothing smoothing
task.class_weights: class_weight class_weights loss_weights
task.focal_gamma: focal_loss gamma
task.train_on: train_on_inputs train_on_input completion_only_loss assistant_only_loss mask_history
    train_on_responses_only train_on_prompt
task.template: chat_template prompt_template
task.system: system_prompt default_system system_message
task.probability: mlm_probability mask_probability
method: finetuning_type adapter peft peft_type peft_method fine_tuning_method tuner
method.rank: lora_r lora_rank r rank lora_dim
method.alpha: lora_alpha
method.dropout: lora_dropout
method.target_modules: lora_target lora_target_modules target_modules lora_modules lora_target_linear
method.layers_to_transform: lora_layers peft_layers_to_transform lora_layers_to_transform
method.lora_plus_ratio: loraplus_lr_ratio lora_plus_lr_ratio
method.iterations: pissa_iter
method.layers: freeze_trainable_layers num_unfrozen_layers unfreeze_layers freeze_layers
method.head_factor: head_lr_multiplier head_lr_factor head_lr_mult
method.layer_decay: llrd layerwise_lr_decay layer_wise_lr_decay lr_layer_decay
evaluation.max_new_tokens: max_new_tokens generation_max_length max_target_length
evaluation.answers: predict_with_generate num_generations
evaluation.num_resamples: num_bootstrap bootstrap n_bootstrap
compute.compile: torch_compile compile use_compile
compute.micro_batch_rows: micro_batch_size per_device_eval_batch_size eval_batch_size micro_batch
task.loss: pref_loss loss_type dpo_loss_type
task.beta: pref_beta rl_beta dpo_beta
task.gamma: simpo_gamma
task.desirable_weight: kto_chosen_weight kto_desirable_weight
task.undesirable_weight: kto_rejected_weight kto_undesirable_weight
task.template_arguments: chat_template_kwargs
tracker.project: wandb_project mlflow_experiment_name experiment_name trackio_project
tracker.name: run_name wandb_name wandb_run_name mlflow_run_name
tracker=wandb: wandb use_wandb
tracker=mlflow: mlflow use_mlflow
train.precision=bf16: bf16 bfloat16
train.precision=fp32: fp32 tf32
compute.device=cpu: cpu use_cpu no_cuda
method=lora method.rslora=true: use_rslora rslora peft_use_rslora
method=lora method.dora=true: use_dora dora peft_use_dora
method=pissa: pissa_init
method=lora: lora use_lora use_peft
method=full: full_finetuning
method=freeze: freeze freeze_base
task.train_on=all: train_on_source
data.header: header
method=lora method.quantize=nf4: qlora load_in_4bit load_4bit use_4bit quantization_bit bnb_4bit_quant_type
    quantization quantize bits
method=lora method.quantize=int8: load_in_8bit load_8bit use_8bit
compute.kernels=liger: use_liger_kernel use_liger enable_liger_kernel liger
data.columns.text=COLUMN data.columns.label=COLUMN: columns column column_mapping field_mapping
"""
"""Keys, with the values that a name implies, and the names: ``method=lora method.dora=true: use_dora``."""

_NOTED: tuple[tuple[Meaning, str], ...] = (
    (
        Meaning((), "The training rows are drawn in a new order in every epoch, by train.seed."),
        "shuffle",
    ),
    (
        Meaning((("task.labels", ""),), "Labels and their number are found in the data."),
        "num_labels num_classes",
    ),
    (
        Meaning((("task.labels", ""),), "A list of labels in the order of their numbers."),
        "label2id",
    ),
    (
        Meaning((("model", ""),), "A pretrained model brings its own tokenizer."),
        "tokenizer_name",
    ),
    (
        Meaning((("compute.layout", "flat"),), _LAYOUT_NOTE),
        "packing pack sample_packing neat_packing flash_attention flash_attn",
    ),
    (
        Meaning((("compute.layout", ""),), _LAYOUT_NOTE),
        "group_by_length padding pad_to_max_length attn_implementation",
    ),
    (
        Meaning((("train.optimizer.options", "'{betas: [0.9, 0.999]}'"),), ""),
        "adam_beta1 adam_beta2 betas",
    ),
    (
        Meaning((("train.optimizer.options", "'{momentum: 0.9}'"),), ""),
        "momentum",
    ),
    (
        Meaning((("train.optimizer.options", "'{eps: 1.0e-8}'"),), ""),
        "adam_epsilon",
    ),
    (
        Meaning((), "Code that comes with a model or a data set is never run; there is nothing to set."),
        "trust_remote_code",
    ),
    (
        Meaning((("train.batch_size", ""),), _STEP_NOTE),
        (
            "per_device_train_batch_size train_batch_size batch_size batchsize bs batch global_batch_size "
            "gradient_accumulation_steps gradient_accumulation grad_accum accumulate_grad_batches "
            "accumulation_steps"
        ),
    ),
    (
        Meaning((("train.schedule.warmup", ""),), _WARMUP_NOTE),
        "warmup warmup_ratio warmup_steps num_warmup_steps lr_warmup_steps warmup_proportion",
    ),
    (
        Meaning((("train.precision", "bf16"),), _FP16_NOTE),
        "fp16 float16 half use_fp16",
    ),
    (
        Meaning((("compute.device", "cuda"),), "Without it the fastest device at hand is taken."),
        "gpu gpus cuda use_gpu use_cuda gpu_id n_gpu",
    ),
    (
        Meaning((("compute.checkpointing", "always"),), "'auto' does it where memory is short."),
        ("gradient_checkpointing use_gradient_checkpointing activation_checkpointing grad_checkpointing recompute"),
    ),
    (
        Meaning((("data", ""),), _DATA_NOTE),
        (
            "dataset dataset_name data_path dataset_path train_file datasets train_data train_path input "
            "input_file file data_file data_files csv dataset_dir training_data train_dataset"
        ),
    ),
    (
        Meaning((("data.limit", ""),), _LIMIT_NOTE),
        "max_train_samples max_samples num_samples n_samples max_rows num_rows nrows max_examples",
    ),
    (
        Meaning((), _NO_LOGGER),
        ("logging_steps logging_dir log_interval logging_strategy tensorboard plot_loss"),
    ),
    (
        Meaning((("tracker", ""),), _TRACKERS),
        "report_to tracking logger loggers",
    ),
    (
        Meaning((), _ONE_DEVICE),
        "local_rank ddp fsdp deepspeed num_processes num_gpus ddp_find_unused_parameters nproc_per_node",
    ),
    (
        Meaning((), _NO_HUB),
        "push_to_hub hub_model_id hub_token hub_strategy",
    ),
    (
        Meaning((), "Rows are read and tokenised once and cached; there are no workers to set."),
        "dataloader_num_workers num_workers preprocessing_num_workers num_proc",
    ),
    (
        Meaning((), "Training ends with the evaluation; 'tunesmith evaluate' and 'tunesmith predict' do it again."),
        "do_train do_eval do_predict",
    ),
)

_VALUES = {
    "task": """
classification: sentiment sentiment_analysis text_classification sequence_classification seq_cls intent spam topic
    binary multiclass multi_class multilabel multi_label multi_label_classification single_label_classification
    emotion nli entailment paraphrase categorization classify classifier
regression: rating score similarity sts stars text_regression semantic_similarity scoring
token_classification: ner pos tagging sequence_labeling sequence_labelling named_entity_recognition entities
    chunking token_cls tokens pos_tagging slot_filling
causal_lm: sft chat instruction instructions instruct clm lm llm language_modeling language_modelling generation
    text_generation causal causallm dialogue conversation completion pretraining pt gpt supervised_fine_tuning
seq2seq: summarization summarisation translation text2text text_to_text sequence_to_sequence text2text_generation
    seq_2_seq_lm nmt
embedding: embeddings sentence_embeddings sentence_similarity retrieval search bi_encoder biencoder contrastive
    sentence_transformers sbert feature_extraction information_retrieval dense_retrieval triplet triplets
preference: dpo ipo orpo simpo kto cpo rlhf preferences preference_learning alignment preference_optimization
    direct_preference_optimization
image_chat: vlm mllm vision_chat visual_chat vision_language vision_language_model image_text_to_text multimodal
    visual_instruction_tuning llava
reward: rm reward_model reward_modeling reward_modelling bradley_terry pairwise
grpo: rlvr rl reinforcement reinforcement_learning group_relative_policy_optimization ppo dapo dr_grpo rloo reinforce
    verifiable_rewards
masked_lm: mlm fill_mask masked masked_language_modeling masked_language_modelling domain_adaptation maskedlm
""",
    "method": """
full: full_finetuning full_fine_tuning fft finetune finetuning fine_tuning all sft none
freeze: frozen head head_only linear_probe linear_probing probing last_layer feature_extraction classifier_only
lora: peft adapter qlora low_rank
lora_plus: loraplus
lora_fa: lorafa
lora_ga: loraga
prompt_tuning: soft_prompt soft_prompts
prefix_tuning: prefix
p_tuning: ptuning
ia3: t_few
bitfit: bias_only biases bias bit_fit
lisa: layerwise layer_sampling
sparse: sparse_finetuning sparse_fine_tuning masked_finetuning fish_mask sift
compress: compression prune pruning svd factorize factorise low_rank_factorization wanda
""",
}
"""For each thing that is chosen the choices, and what else they are called."""

_VALUE_NOTES: Mapping[str, str] = {
    "qlora": "with 'method.quantize: nf4'",
}


def read_table(text: str) -> dict[str, tuple[str, ...]]:
    """Return the names after each ``heading:`` of a table; lines that go on are indented."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        heading, _, names = entry.partition(": ")
        found[heading] = tuple(names.split())
    return found


def _meanings() -> dict[str, Meaning]:
    found: dict[str, Meaning] = {}
    for settings, names in read_table(_PLAIN).items():
        pairs = tuple((key, value) for key, _, value in (part.partition("=") for part in settings.split()))
        found |= dict.fromkeys(names, Meaning(pairs))
    for meaning, noted in _NOTED:
        found |= dict.fromkeys(noted.split(), meaning)
    return found


_MEANINGS = _meanings()
_CHOICES = {what: read_table(text) for what, text in _VALUES.items()}


def choice_meant(what: str, name: str, known: Collection[str]) -> str:
    """Return a hint at the choice (a task, a method) that another tool's name stands for, or nothing."""
    word = plain(name)
    for choice, names in _CHOICES.get(what, {}).items():
        if choice in known and word in names:
            note = _VALUE_NOTES.get(word)
            return f"Did you mean '{choice}'{f', {note}' if note else ''}?"
    return ""


def foreign_choices() -> Iterator[tuple[str, str, str]]:
    """Yield what is chosen, the foreign name and the choice that it stands for."""
    for what, choices in _CHOICES.items():
        for choice, names in choices.items():
            yield from ((what, name, choice) for name in names)
