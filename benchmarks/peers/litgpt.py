"""LitGPT's LoRA recipe for SmolLM2, in an environment of its own (``benchmarks.environments``).

Its recipe cannot be made quite the same: the rate falls along a cosine and gradients are not
clipped. Rows, prompts, what is learned of them, rank, rate and batch are.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported, process_seconds, training_result

MODEL = "SmolLM2-135M-Instruct"


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Run ``litgpt finetune_lora`` from Python and read the metrics that it logs."""
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.data import JSON
    from litgpt.finetune import lora as recipe
    from litgpt.prompts import SmolLM2

    imported()
    # What follows the training: it reads the command line again and merges the adapters, at a cost in memory.
    first_step = note_first_step()
    recipe.save_hyperparameters = recipe.merge_lora = lambda *_, **__: None
    workload, work = spec["workload"], Path(spec["work"]) / "litgpt"
    checkpoint = converted(Path(spec["facts"]["model"]), work / MODEL)
    rows = write_data(Path(spec["work"]), work / "data")
    size = workload["batch_size"]
    num_steps = min(rows * workload["epochs"] // size, workload["max_steps"] or rows)
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    rank = workload["method"]["rank"]
    recipe.setup(
        checkpoint,
        out,
        precision=spec["precision"],
        lora_r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        lora_key=True,
        lora_projection=True,
        lora_mlp=True,
        data=JSON(work / "data", mask_prompt=True, prompt_style=SmolLM2(), num_workers=0),
        train=TrainArgs(
            save_interval=None,
            log_interval=1,
            global_batch_size=size,
            micro_batch_size=size,
            lr_warmup_steps=max(1, round(workload["warmup"] * num_steps)),  # fewer than all: it divides by the rest
            epochs=workload["epochs"],
            max_steps=workload["max_steps"],
            max_seq_length=workload["max_length"],
        ),
        eval=EvalArgs(interval=1_000_000_000, max_new_tokens=1, max_iters=1, final_validation=False),
        optimizer={
            "class_path": "torch.optim.AdamW",
            "init_args": {"lr": workload["learning_rate"], "weight_decay": workload["weight_decay"], "fused": True},
        },
        seed=spec["seed"],
    )
    with next(out.rglob("metrics.csv")).open(encoding="utf-8", newline="") as file:
        steps = [row for row in csv.DictReader(file) if row.get("iter_time")]
    tokens = [int(float(row["tokens"])) for row in steps]
    result = training_result(
        [float(row["iter_time"]) for row in steps],
        [after - before for before, after in zip([0, *tokens], tokens, strict=False)],
        [float(row["loss"]) for row in steps],
        per_token=True,
    )
    return {**result, "first_step_seconds": first_step[0], "precision": spec["precision"]}


def note_first_step() -> list[float]:
    """Return a list that will hold how old the process was when its first optimizer step was done."""
    import torch

    ages: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: Any, *arguments: Any, **settings: Any) -> Any:
        found = original(self, *arguments, **settings)
        if not ages:
            ages.append(process_seconds())
        return found

    torch.optim.AdamW.step = step  # type: ignore[method-assign]
    return ages


def converted(source: Path, folder: Path) -> Path:
    """Return the model in LitGPT's own format, made on the first call."""
    from litgpt.scripts.convert_hf_checkpoint import convert_hf_checkpoint

    if not (folder / "lit_model.pth").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if file.is_file() and not (folder / file.name).exists():
                (folder / file.name).symlink_to(file.resolve())
        convert_hf_checkpoint(folder, model_name=MODEL)
    return folder


def write_data(work: Path, folder: Path) -> int:
    """Write the rows as LitGPT reads them and return how many are trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in (("train", "train"), ("test", "val")):
        lines = (work / f"{source}.jsonl").read_text(encoding="utf-8").splitlines()
        pairs = [json.loads(line)["messages"] for line in lines]
        rows = [{"instruction": asked["content"], "output": answer["content"]} for asked, answer in pairs]
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        if name == "train":
            num_rows = len(rows)
    return num_rows


if __name__ == "__main__":
    answer({"train": train})
