"""TRL's SFTTrainer, with PEFT where adapters are trained: conversations of which the answer is learned."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported
from benchmarks.peers.trainer import Steps, arguments
from benchmarks.row_files import read_rows


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune a chat model: ``flags`` are added to the recipe, ``dtype`` is that of the frozen weights."""
    if find_spec("trl") is None:
        return {"unavailable": "TRL is not installed: pip install trl"}
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    imported()
    workload, flags, dtype = spec["workload"], spec["flags"], spec["dtype"]
    set_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["facts"]["model"])
    conversations = [row["messages"] for row in read_rows(Path(spec["work"]) / "train.jsonl")]
    rows = Dataset.from_list([{"prompt": messages[:-1], "completion": messages[-1:]} for messages in conversations])
    model = AutoModelForCausalLM.from_pretrained(spec["facts"]["model"], dtype=getattr(torch, dtype))
    method = workload["method"]
    adapters = (
        LoraConfig(task_type="CAUSAL_LM", r=method["rank"], lora_alpha=2 * method["rank"], target_modules="all-linear")
        if method["name"] == "lora"
        else None
    )
    steps = Steps()
    trainer = steps.watch(SFTTrainer, workload["warmup"])(
        model=model,
        args=SFTConfig(**arguments(spec), max_length=workload["max_length"], completion_only_loss=True, **flags),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapters,
        callbacks=[steps.callback()],
    )
    trainer.train()
    return {
        **steps.result(per_token=True),
        "num_trained": sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad),
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "gradient_checkpointing": trainer.args.gradient_checkpointing,
    }


if __name__ == "__main__":
    answer({"train": train})
