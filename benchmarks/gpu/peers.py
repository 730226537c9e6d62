"""Training the same model on the same rows by other tools, at their best flags."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from benchmarks.gpu.cases import LEARNING_RATE, SEED, Case, build_model, make_rows
from benchmarks.gpu.clock import Clock, choose


def ordered_rows(case: Case, num_steps: int) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of tunesmith's steps, with labels where they are learned."""
    from tunesmith.engine.order import StepPlan

    rows = make_rows(case, case.num_rows(num_steps))
    plan = StepPlan(len(rows), case.rows_per_step, 1.0, SEED)
    for step in range(plan.total_steps):
        for index in plan.samples_of(step).tolist():
            row = rows[index].tolist()
            if case.shape.is_encoder:
                yield {"input_ids": row, "labels": index % 2}
            else:
                half = len(row) // 2 + 1
                yield {"input_ids": row, "labels": [-100] * half + row[half:]}


def rows_at_once(case: Case, *, padded: bool = True) -> int:
    """Return the largest micro-batch that divides a step and holds about as many tokens as tunesmith's.

    Padding to the longest row about doubles the tokens.
    """
    most = max(case.micro_batch_tokens // (case.mean_length * (2 if padded else 1)), 1)
    return max(size for size in range(1, case.rows_per_step + 1) if case.rows_per_step % size == 0 and size <= most)


def _peer_dtype(case: Case, dtype: Any) -> Any:
    """Return the format of a peer's weights: all that are trained have a master in float32, as tunesmith's have."""
    import torch

    return torch.float32 if case.method == "full" else dtype


def _arguments(case: Case, device: Any, dtype: Any, folder: str, *, padded: bool = True) -> Any:
    """Return what the Trainer of transformers and its kin are given."""
    import torch

    size = rows_at_once(case, padded=padded)
    return {
        "output_dir": folder,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": case.rows_per_step // size,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "bf16": dtype == torch.bfloat16,
        "gradient_checkpointing": case.recomputes,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "seed": SEED,
        "dataloader_pin_memory": device.type == "cuda",
        "use_cpu": device.type == "cpu",
        "disable_tqdm": True,
    }


def _trained(case: Case, num_steps: int, make: Callable[[Any], Any], device: Any) -> dict[str, Any]:
    """Train with a Trainer that ``make`` builds around a callback, in the given order of rows, and time its steps."""
    import torch
    from transformers import TrainerCallback

    rows = make_rows(case, case.num_rows(num_steps))
    tokens = [len(one["input_ids"]) for one in ordered_rows(case, num_steps)]
    per_step = [sum(tokens[first : first + case.rows_per_step]) for first in range(0, len(tokens), case.rows_per_step)]

    class Steps(TrainerCallback):
        clock: Clock

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.clock = Clock(device)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.clock.stepped(per_step[len(self.clock.seconds)])

    steps = Steps()
    trainer = make(steps)
    trainer._get_train_sampler = lambda *_, **__: torch.utils.data.SequentialSampler(trainer.train_dataset)
    outcome = trainer.train()
    num_trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return {**steps.clock.result(case, rows, num_trained), "mean_loss": outcome.training_loss}


def measure_trl(case: Case, num_steps: int, *, liger: bool = False) -> dict[str, Any]:
    """Train with TRL's SFTTrainer at its best flags: without padding where FlashAttention is installed."""
    for package in ("trl", *(["liger_kernel"] if liger else [])):
        if find_spec(package) is None:
            return {"unavailable": f"pip install {package.replace('_', '-')}"}
    from datasets import Dataset
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    device, dtype = choose()
    if liger and device.type != "cuda":
        return {"unavailable": "needs CUDA"}
    flash = find_spec("flash_attn") is not None and device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        arguments = _arguments(case, device, dtype, folder, padded=not flash)
        model = build_model(case, device, _peer_dtype(case, dtype))
        model.set_attn_implementation("flash_attention_2" if flash else "sdpa")
        adapters = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
        flags: Any = {"padding_free": flash, "use_liger_kernel": liger, "max_length": case.longest, "packing": False}
        found = _trained(
            case,
            num_steps,
            lambda callback: SFTTrainer(
                model=model,
                args=SFTConfig(**arguments, **flags),
                train_dataset=Dataset.from_list(list(ordered_rows(case, num_steps))),
                processing_class=_tokenizer(case),
                peft_config=adapters if case.method == "lora" else None,
                callbacks=[callback],
            ),
            device,
        )
    return {**found, "attention": "flash_attention_2, no padding" if flash else "sdpa, padded"}


def measure_trainer(case: Case, num_steps: int) -> dict[str, Any]:
    """Train with the Trainer of transformers, padding to the longest row of a batch."""
    if find_spec("accelerate") is None:
        return {"unavailable": "pip install accelerate"}
    from datasets import Dataset
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    device, dtype = choose()
    with tempfile.TemporaryDirectory() as folder:
        return _trained(
            case,
            num_steps,
            lambda callback: Trainer(
                model=build_model(case, device, _peer_dtype(case, dtype)),
                args=TrainingArguments(**_arguments(case, device, dtype, folder)),
                train_dataset=Dataset.from_list(list(ordered_rows(case, num_steps))),
                data_collator=DataCollatorWithPadding(_tokenizer(case)),
                callbacks=[callback],
            ),
            device,
        )


def measure_unsloth(case: Case, num_steps: int) -> dict[str, Any]:
    """Train with Unsloth's patched model and SFTTrainer, from a folder with the same random weights.

    In full fine-tuning its weights are what it makes of them, which may have no master in float32.
    """
    if find_spec("unsloth") is None:
        return {"unavailable": "pip install unsloth"}
    import torch

    if not torch.cuda.is_available():
        return {"unavailable": "needs CUDA"}
    from unsloth import FastLanguageModel  # first of all, as it asks for

    from datasets import Dataset  # isort: skip
    from trl.trainer.sft_config import SFTConfig  # isort: skip
    from trl.trainer.sft_trainer import SFTTrainer  # isort: skip

    device, dtype = choose()
    with tempfile.TemporaryDirectory() as folder:
        build_model(case, device, dtype).save_pretrained(f"{folder}/model")
        _tokenizer(case).save_pretrained(f"{folder}/model")
        torch.cuda.empty_cache()
        model, tokenizer = FastLanguageModel.from_pretrained(
            f"{folder}/model",
            max_seq_length=case.longest,
            dtype=dtype,
            load_in_4bit=False,
            full_finetuning=case.method == "full",
        )
        if case.method == "lora":
            modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
            model = FastLanguageModel.get_peft_model(
                model,
                r=16,
                lora_alpha=32,
                lora_dropout=0,
                target_modules=modules,
                use_gradient_checkpointing="unsloth" if case.recomputes else False,
            )
        arguments = _arguments(case, device, dtype, f"{folder}/out")
        return _trained(
            case,
            num_steps,
            lambda callback: SFTTrainer(
                model=model,
                args=SFTConfig(**arguments, max_length=case.longest, packing=False),
                train_dataset=Dataset.from_list(list(ordered_rows(case, num_steps))),
                processing_class=tokenizer,
                callbacks=[callback],
            ),
            device,
        )


def _tokenizer(case: Case) -> Any:
    """Return a tokenizer that knows no words: rows come as tokens already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"t{index}": index for index in range(case.shape.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t1"))
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=tokenizer, pad_token="t0", unk_token="t1", eos_token="t2", bos_token="t3")
