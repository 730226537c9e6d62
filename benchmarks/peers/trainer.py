"""The Trainer of transformers, with PEFT where adapters are trained: the same files, recipe and normaliser."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported, process_seconds, training_result
from benchmarks.row_files import read_rows

COMPILE_WARM_UP = 12
"""Steps in which the compiler may still meet new shapes; they are left out of throughput and reported beside it."""


class Steps:
    """Notes of every step of a Trainer how long it took, how many real tokens it had, and its loss."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[int] = []
        self.losses: list[Any] = []
        self.first_step_seconds = 0.0
        self.started = 0.0

    def watch(self, trainer_class: Any, warmup: float) -> Any:
        """Return a subclass of ``trainer_class`` whose steps are noted here.

        Its rates are tunesmith's: its own linear schedule makes the first step at a rate of 0, a step less where
        there are few.
        """
        steps = self

        class Watched(trainer_class):  # type: ignore[misc]
            def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
                masks = [value for name, value in inputs.items() if name.endswith("attention_mask")]
                steps.tokens.append(sum(int(mask.sum()) for mask in masks))
                loss = super().training_step(model, inputs, *rest, **more)
                steps.losses.append(loss.detach())
                return loss

            def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
                from torch.optim.lr_scheduler import LambdaLR

                from tunesmith.engine.schedules import ScheduleConfig

                schedule, last = ScheduleConfig(name="linear", warmup=warmup), num_training_steps - 1
                self.lr_scheduler = LambdaLR(
                    optimizer or self.optimizer, lambda step: schedule.factor(min(step, last), num_training_steps)
                )
                self._created_lr_scheduler = True
                return self.lr_scheduler

        return Watched

    def callback(self) -> Any:
        from transformers import TrainerCallback

        steps = self

        class Ends(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                steps.started = time.perf_counter()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                if not steps.ends:
                    steps.first_step_seconds = process_seconds()
                steps.ends.append(time.perf_counter())

        return Ends()

    def result(self, warm_up: int | None = None, *, per_token: bool = False) -> dict[str, Any]:
        """Return throughput, losses and costs."""
        seconds = [after - before for before, after in zip([self.started, *self.ends], self.ends, strict=False)]
        losses = [float(loss) for loss in self.losses]
        return {
            **training_result(seconds, self.tokens, losses, per_token=per_token, warm_up=warm_up),
            "first_step_seconds": self.first_step_seconds,
            "seconds": self.ends[-1] - self.started,
        }


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune a classifier: ``flags`` are added to the recipe, ``dtype`` is that of the frozen weights."""
    import peft  # noqa: F401
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    imported()
    workload, flags, dtype = spec["workload"], spec["flags"], spec["dtype"]
    set_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["facts"]["model"])
    rows = read_rows(Path(spec["work"]) / "train.jsonl")
    labels = {label: index for index, label in enumerate(sorted({row["label"] for row in rows}))}
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=workload["max_length"])
    examples = [
        {name: encoded[name][index] for name in encoded} | {"labels": labels[row["label"]]}
        for index, row in enumerate(rows)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(
        spec["facts"]["model"], num_labels=len(labels), dtype=getattr(torch, dtype)
    )
    model = with_method(model, workload["method"])
    steps = Steps()
    trainer = steps.watch(Trainer, workload["warmup"])(
        model=model,
        args=TrainingArguments(**arguments(spec), **flags),
        train_dataset=examples,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=[steps.callback()],
    )
    trainer.train()
    return {
        **steps.result(COMPILE_WARM_UP if flags.get("torch_compile") else None),
        "num_trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "precision": "bf16" if flags.get("bf16") else "fp32",
    }


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe as arguments of the Trainer, everything that is not training switched off."""
    workload = spec["workload"]
    return {
        "output_dir": str(Path(spec["work"]) / "peer"),
        "num_train_epochs": workload["epochs"],
        "max_steps": workload["max_steps"] or -1,
        "per_device_train_batch_size": workload["batch_size"],
        "learning_rate": workload["learning_rate"],
        "weight_decay": workload["weight_decay"],
        "warmup_steps": workload["warmup"],
        "lr_scheduler_type": "linear",
        "max_grad_norm": workload["clip_norm"],
        "seed": spec["seed"],
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def with_method(model: Any, method: dict[str, Any]) -> Any:
    """Return the model with its parameters frozen, or with adapters, as the workload's method says."""
    if method["name"] == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=method["rank"],
            lora_alpha=2 * method["rank"],
            target_modules="all-linear" if "layers" not in method else ["query", "key", "value", "dense"],
            layers_to_transform=method.get("layers"),
            layers_pattern="layer" if "layers" in method else None,
        )
        if layers := method.get("layers"):
            without_dropout([model.base_model.embeddings, *model.base_model.encoder.layer[: min(layers)]])
        adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()  # the head too, whatever the frozen weights are in
        return adapted
    if method["name"] == "freeze":
        base = model.base_model
        frozen = [base] if not method.get("layers") else [base.embeddings, *base.encoder.layer[: method["layers"]]]
        without_dropout(frozen)
        for module in frozen:
            module.requires_grad_(False)
    return model


def without_dropout(modules: Iterable[Any]) -> None:
    """Switch dropout off in layers below everything that is trained, as tunesmith does."""
    import torch

    for module in modules:
        for part in module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0


def quality(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the accuracy that training reaches on the test rows of tunesmith's own split."""
    from benchmarks.quality import run_trainer

    return run_trainer(spec["seed"], Namespace(rows=spec["workload"]["rows"], epochs=spec["workload"]["epochs"]))


if __name__ == "__main__":
    answer({"train": train, "quality": quality})
