"""Translation, preferences and embedding by the tools of each: Seq2SeqTrainer, TRL's DPO, sentence-transformers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported
from benchmarks.peers.trainer import Steps, arguments
from benchmarks.row_files import read_rows


def translate(spec: dict[str, Any]) -> dict[str, Any]:
    """Train an encoder-decoder by the Seq2SeqTrainer."""
    import torch
    from transformers import (
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        set_seed,
    )

    imported()
    workload = spec["workload"]
    set_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["facts"]["model"])
    rows = read_rows(Path(spec["work"]) / "train.jsonl")
    limits = {"truncation": True, "max_length": workload["max_length"]}
    examples = [
        {
            **{name: ids for name, ids in tokenizer(row["source"], **limits).items() if name != "token_type_ids"},
            "labels": tokenizer(text_target=row["target"], **limits)["input_ids"],
        }
        for row in rows
    ]
    model = AutoModelForSeq2SeqLM.from_pretrained(spec["facts"]["model"], dtype=torch.float32)
    steps = Steps()
    trainer = steps.watch(Seq2SeqTrainer, workload["warmup"])(
        model=model,
        args=Seq2SeqTrainingArguments(**arguments(spec), **spec["flags"]),
        train_dataset=examples,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        callbacks=[steps.callback()],
    )
    trainer.train()
    return result(steps, trainer, spec, per_token=True)


def prefer(spec: dict[str, Any]) -> dict[str, Any]:
    """Train by TRL's DPOTrainer; the reference is the model with its adapters switched off."""
    if find_spec("trl") is None:
        return {"unavailable": "TRL is not installed: pip install trl"}
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    imported()
    workload = spec["workload"]
    set_seed(spec["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["facts"]["model"])
    rank = workload["method"]["rank"]
    steps = Steps()
    trainer = steps.watch(DPOTrainer, workload["warmup"])(
        model=AutoModelForCausalLM.from_pretrained(spec["facts"]["model"], dtype=torch.float32),
        args=DPOConfig(
            **arguments(spec), max_length=workload["max_length"], gradient_checkpointing=False, **spec["flags"]
        ),
        train_dataset=Dataset.from_list(list(read_rows(Path(spec["work"]) / "train.jsonl"))),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear"),
        callbacks=[steps.callback()],
    )
    trainer.train()
    return result(steps, trainer, spec)


def embed(spec: dict[str, Any]) -> dict[str, Any]:
    """Train by sentence-transformers with in-batch negatives."""
    if find_spec("sentence_transformers") is None:
        return {"unavailable": "sentence-transformers is not installed: pip install sentence-transformers"}
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import set_seed

    imported()
    workload = spec["workload"]
    set_seed(spec["seed"])
    words = Transformer(spec["facts"]["model"], max_seq_length=workload["max_length"])
    model = SentenceTransformer(modules=[words, Pooling(words.get_word_embedding_dimension(), "mean")], device="cpu")
    rows = list(read_rows(Path(spec["work"]) / "train.jsonl"))
    steps = Steps()
    trainer = steps.watch(SentenceTransformerTrainer, workload["warmup"])(
        model=model,
        args=SentenceTransformerTrainingArguments(**arguments(spec), **spec["flags"]),
        train_dataset=Dataset.from_list(rows),
        loss=MultipleNegativesRankingLoss(model, scale=20.0),
        callbacks=[steps.callback()],
    )
    trainer.train()
    return result(steps, trainer, spec)


def result(steps: Steps, trainer: Any, spec: dict[str, Any], *, per_token: bool = False) -> dict[str, Any]:
    """Return throughput in rows and tokens, losses and costs."""
    found = steps.result(per_token=per_token)
    return {
        **found,
        "rows_per_second": spec["workload"]["batch_size"] / found["step_seconds"],
        "num_trained": sum(weights.numel() for weights in trainer.model.parameters() if weights.requires_grad),
        "precision": "bf16" if spec["flags"].get("bf16") else "fp32",
    }


if __name__ == "__main__":
    answer({"translate": translate, "prefer": prefer, "embed": embed})
