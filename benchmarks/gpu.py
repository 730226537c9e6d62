"""Speed, memory and utilisation on one GPU, beside TRL and Unsloth.

    python benchmarks/gpu.py [--only CASE ...] [--json FILE] [--steps N] [--list] [--smoke]

Nothing is downloaded: models are Llamas of 1B and 8B weights (and an encoder as small as MiniLM) with random
weights, rows are random tokens whose lengths are spread as those of instruction data. All tools get the same
rows in the same order, bf16 weights, AdamW, no dropout, and learn the second half of every row. Each measurement
is a process of its own. Tokens are real ones, padding never counts; the first steps, in which
kernels are compiled and memory is found, are left out of the rate and reported beside it. Utilisation (MFU) is
against the rate of a large bf16 matrix product, measured on the same GPU in the same run.

--smoke: tiny models and few steps, on a CPU, too; shows that everything runs and measures nothing of worth.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

WARMUP_STEPS = 4
LEARNING_RATE = 1e-5
SEED = 0


@dataclass(frozen=True)
class Shape:
    """A model's sizes."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    key_heads: int
    vocabulary: int
    is_encoder: bool = False

    @property
    def num_weights(self) -> int:
        """Weights of matrix multiplications, embeddings and head left out."""
        head_size = self.width // self.heads
        attention = self.width * head_size * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + (2 if self.is_encoder else 3) * self.width * self.feed_forward)


@dataclass(frozen=True)
class Case:
    """A model, a method and rows."""

    name: str
    shape: Shape
    method: str
    """full or lora (rank 16 on every linear layer)."""
    mean_length: int
    longest: int
    rows_per_step: int
    micro_batch_tokens: int
    variants: tuple[str, ...] = ("tunesmith", "tunesmith-liger", "tunesmith-compiled", "trl", "trl-liger", "unsloth")
    recomputes: bool = False
    """Activation checkpointing for peers, where memory does not suffice without; tunesmith decides itself."""


LLAMA_1B = Shape(16, 2048, 8192, 32, 8, 128_256)
LLAMA_8B = Shape(32, 4096, 14_336, 32, 8, 128_256)
MINILM = Shape(6, 384, 1536, 12, 12, 30_522, is_encoder=True)

CASES = (
    Case("1b-lora", LLAMA_1B, "lora", 400, 2048, 32, 8192),
    Case("1b-full", LLAMA_1B, "full", 400, 2048, 32, 8192),
    Case("8b-lora", LLAMA_8B, "lora", 400, 2048, 16, 4096),
    Case("minilm-full", MINILM, "full", 40, 256, 256, 16_384, ("tunesmith", "tunesmith-graphs", "trainer")),
)
SMOKE = {
    True: Shape(2, 64, 128, 4, 4, 300, is_encoder=True),
    False: Shape(2, 64, 128, 4, 2, 300),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    cases = [case for case in CASES if not options.only or case.name in options.only]
    if options.list or not cases:
        print("\n".join(f"{case.name}: {', '.join(case.variants)}" for case in CASES))
        return 0 if options.list else 2
    if options.smoke:
        cases = [_small(case) for case in cases]
    if options.child:
        _child(options, replace(cases[0], recomputes=options.recompute))
        return 0
    records: list[dict[str, Any]] = []
    for case in cases:
        records += compare(case, options)
        if options.json:
            options.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(table(records))
    return 1 if any("error" in record for record in records) else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--only", nargs="+", metavar="CASE", choices=[case.name for case in CASES])
    variants = sorted({name for case in CASES for name in case.variants})
    found.add_argument(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        choices=variants,
        help="these tools only",
    )
    found.add_argument("--steps", type=int, default=20, help="measured steps, after the warm-up")
    found.add_argument("--json", type=Path, metavar="FILE")
    found.add_argument("--list", action="store_true")
    found.add_argument("--smoke", action="store_true")
    found.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    found.add_argument("--child", help=argparse.SUPPRESS)
    found.add_argument("--recompute", action="store_true", help=argparse.SUPPRESS)
    return found


def _small(case: Case) -> Case:
    return replace(
        case, shape=SMOKE[case.shape.is_encoder], mean_length=12, longest=40, rows_per_step=4, micro_batch_tokens=64
    )


# ---- running and comparing ---------------------------------------------------------------------------


def compare(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a case with every tool; return one record per pair of a variant of tunesmith and a peer."""
    wanted = [name for name in case.variants if not options.variants or name in options.variants]
    found = {name: _measured(case, name, options) for name in ("gemm", *wanted)}
    rate = found.pop("gemm").get("flops_per_second")
    for result in found.values():
        if rate and "tokens_per_second" in result:
            result["mfu"] = result["tokens_per_second"] * result["flops_per_token"] / rate
    ours = {name: result for name, result in found.items() if name.startswith("tunesmith")}
    peers = {name: result for name, result in found.items() if name not in ours} or {"none": {"unavailable": ""}}
    best = max(ours, key=lambda name: ours[name].get("tokens_per_second", 0.0), default="")
    pairs = [(best, name) for name in peers] + [(name, "") for name in ours if name != best]
    return [_record(case, one, ours.get(one, {}), other, peers.get(other, {}), rate) for one, other in pairs]


def _record(
    case: Case, name: str, ours: dict[str, Any], peer_name: str, peer: dict[str, Any], rate: float | None
) -> dict[str, Any]:
    mine, theirs = ours.get("tokens_per_second"), peer.get("tokens_per_second")
    return {
        "case": case.name,
        "variant": name,
        "peer_name": peer_name,
        "tunesmith": mine,
        "peer": theirs,
        "ratio": mine / theirs if mine and theirs else None,
        "unit": "tokens/s",
        "gemm_flops_per_second": rate,
        "details": {"tunesmith": ours, "peer": peer},
        **({"error": error} if (error := ours.get("error") or peer.get("error")) else {}),
        **({"unavailable": reason} if (reason := peer.get("unavailable")) else {}),
    }


def _measured(case: Case, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a tool measured, in a process of its own; failing is a result, too."""
    print(f"{case.name} {variant} ...", file=sys.stderr, flush=True)
    if options.in_process:
        return _attempt(case, variant, options)
    found = _in_process(case, variant, options)
    if "OutOfMemory" in found.get("error", "") and not variant.startswith("tunesmith"):
        found = {**_in_process(case, variant, options, "--recompute"), "recomputes": True}
    return found


def _in_process(case: Case, variant: str, options: argparse.Namespace, *flags: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", variant, "--only", case.name, "--steps", str(options.steps)]
    command += [*flags, *(["--smoke"] if options.smoke else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return {"error": f"the process ended with status {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return found


def _child(options: argparse.Namespace, case: Case) -> None:
    print("RESULT " + json.dumps(_attempt(case, options.child, options)), flush=True)


def _attempt(case: Case, variant: str, options: argparse.Namespace) -> dict[str, Any]:
    try:
        return MEASURES[variant](case, options.steps)
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return what was found as Markdown."""
    lines = [
        "| Case | tunesmith | Peer | Ratio | MFU, ours / peer | Our peak memory (predicted) | Peer's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for record in records:
        ours, peer = record["details"]["tunesmith"], record["details"]["peer"]
        cells = [
            record["case"],
            f"{record['variant']}: {_shown(record['tunesmith'], '{:,.0f}')}",
            f"{record['peer_name']}: {_shown(record['peer'], '{:,.0f}')}" if record["peer_name"] else "",
            _shown(record["ratio"], "{:.2f}"),
            f"{_shown(ours.get('mfu'), '{:.1%}')} / {_shown(peer.get('mfu'), '{:.1%}')}",
            f"{_gigabytes(ours, 'peak_memory_bytes')} ({_gigabytes(ours, 'predicted_memory_bytes')})",
            _gigabytes(peer, "peak_memory_bytes"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    remarks = [
        f"- {one['case']}, {one['peer_name'] or one['variant']}: {text}" for one in records if (text := _remark(one))
    ]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def _remark(record: dict[str, Any]) -> str:
    attention = record["details"]["peer"].get("attention")
    return str(record.get("error") or record.get("unavailable") or (attention and f"attention: {attention}") or "")


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _gigabytes(result: dict[str, Any], key: str) -> str:
    return _shown(result[key] / 1e9, "{:.2f} GB") if key in result else "–"


# ---- what all tools are given ------------------------------------------------------------------------


def make_rows(case: Case, num_rows: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Return rows of random tokens, their lengths log-normal about the mean, as those of instructions are."""
    generator = np.random.default_rng(SEED)
    spread = 0.6
    lengths = generator.lognormal(math.log(case.mean_length) - spread**2 / 2, spread, num_rows)
    return [generator.integers(5, case.shape.vocabulary, int(one)) for one in lengths.clip(8, case.longest).round()]


def num_rows_of(case: Case, num_steps: int) -> int:
    return case.rows_per_step * (WARMUP_STEPS + num_steps)


def flops_per_token(case: Case, rows: Sequence[Any], num_trained: int) -> float:
    """Return the operations of a step per real token; LoRA has no gradients of frozen weights (4N, not 6N).

    Half of the tokens are learned. What is computed twice does not count.
    """
    shape, lengths = case.shape, np.array([len(row) for row in rows], dtype=np.float64)
    attended = float((lengths**2).sum() / lengths.sum()) * (1.0 if shape.is_encoder else 0.5)
    attention = 12 * shape.layers * attended * shape.width
    head = 0.0 if shape.is_encoder else 0.5 * shape.vocabulary * shape.width
    if case.method == "lora":
        return 4 * shape.num_weights + attention + 4 * head + 6 * num_trained
    return 6 * shape.num_weights + attention + 6 * head


def build_model(case: Case, device: Any, dtype: Any) -> Any:
    """Return the model with random weights, made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, LlamaConfig

    shape = case.shape
    sizes: dict[str, Any] = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": max(case.longest, 512),
        "pad_token_id": 0,
    }
    torch.manual_seed(SEED)
    with torch.device(device):
        if shape.is_encoder:
            off: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 2}
            scored: Any = AutoModelForSequenceClassification
            return scored.from_config(BertConfig(**sizes, **off), dtype=dtype)
        config = LlamaConfig(**sizes, num_key_value_heads=shape.key_heads)
        causal: Any = AutoModelForCausalLM
        return causal.from_config(config, dtype=dtype)


def choose() -> tuple[Any, Any]:
    """Return the device, and bf16 where it is multiplied natively."""
    from tunesmith.engine.precision import DTYPES, choose_device, choose_precision

    device = choose_device("auto")
    return device, DTYPES[choose_precision("auto", device, from_scratch=False)]


class Clock:
    """Seconds and tokens of the steps after the warm-up, and the peak of memory."""

    def __init__(self, device: Any) -> None:
        from tunesmith.run.memory import reset_peak

        self.device, self.seconds, self.tokens = device, list[float](), list[int]()
        reset_peak(device)
        self.first = self.last = self._now()

    def _now(self) -> float:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def stepped(self, num_tokens: int) -> None:
        now = self._now()
        self.seconds.append(now - self.last)
        self.tokens.append(num_tokens)
        self.last = now

    def result(self, case: Case, rows: Sequence[Any], num_trained: int) -> dict[str, Any]:
        from tunesmith.run.memory import peak_bytes

        measured = self.seconds[WARMUP_STEPS:]
        return {
            "tokens_per_second": sum(self.tokens[WARMUP_STEPS:]) / sum(measured),
            "step_seconds": statistics.median(measured),
            "warmup_seconds": sum(self.seconds[:WARMUP_STEPS]),
            "peak_memory_bytes": peak_bytes(self.device),
            "flops_per_token": flops_per_token(case, rows, num_trained),
            "num_trained": num_trained,
        }


def measure_gemm(case: Case, _steps: int) -> dict[str, Any]:
    """Return the rate of a large square matrix product in bf16, the best of a few."""
    import torch

    device, dtype = choose()
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = math.inf
    for _ in range(3):
        clock = Clock(device)
        for _ in range(10):
            torch.mm(left, right)
        clock.stepped(0)
        best = min(best, clock.seconds[0] / 10)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"flops_per_second": 2.0 * size**3 / best, "device": name, "case": case.name}


# ---- tunesmith ---------------------------------------------------------------------------------------


def measure_tunesmith(
    case: Case, num_steps: int, *, liger: bool = False, compiled: bool = False, graphs: bool = False
) -> dict[str, Any]:
    """Train with tunesmith's parts, as a run would put them together."""
    from tunesmith.engine.cuda import liger as kernels
    from tunesmith.engine.cuda.compile import compile_layers
    from tunesmith.engine.cuda.graphs import BaseGraphs
    from tunesmith.engine.free_memory import memory_of
    from tunesmith.engine.loop import train
    from tunesmith.engine.memory_plan import plan_memory
    from tunesmith.engine.recompute import recompute_layers
    from tunesmith.models.structure import base_model, inner

    device, dtype = choose()
    if (liger or graphs) and device.type != "cuda":
        return {"unavailable": "needs CUDA"}
    if liger and find_spec("liger_kernel") is None:
        return {"unavailable": "pip install liger-kernel"}
    training, rows = _training(case, num_steps, device, dtype)
    model = training.scorer.model
    replaced = kernels.use_kernels(model) if liger else (0, 0)
    in_use, available = memory_of(device)
    plan = plan_memory(training, "auto", in_use=in_use, available=available)
    training.token_budget = plan.micro_batch_tokens
    if compiled:
        compile_layers(model)
    if plan.checkpointing:
        recompute_layers(model)
    if graphs:
        captured = BaseGraphs(base_model(inner(model)), training.scorer.switches, plan.micro_batch_tokens)
        training.scorer = replace(training.scorer, graphs=captured)
    clock, losses = Clock(device), []
    for info in train(training):
        clock.stepped(info.num_tokens)
        losses.append(info.loss)
    num_trained = sum(parameter.numel() for parameter in training.optimizer.parameters)
    return {
        **clock.result(case, rows, num_trained),
        "mean_loss": statistics.fmean(losses),
        "predicted_memory_bytes": plan.predicted_bytes,
        "micro_batch_tokens": plan.micro_batch_tokens,
        "checkpointing": plan.checkpointing,
        "kernels_replaced": replaced[0],
        "kernels_put_back": replaced[1],
    }


def _training(case: Case, num_steps: int, device: Any, dtype: Any) -> tuple[Any, list[Any]]:
    """Return the parts of a training and its rows."""
    from tunesmith.data.encoded import Encoded, Ragged
    from tunesmith.engine.attention import FLAT_ATTENTION, register
    from tunesmith.engine.config import TrainConfig
    from tunesmith.engine.layout import collator_for
    from tunesmith.engine.loop import Training
    from tunesmith.engine.optimizers import MasterOptimizer
    from tunesmith.engine.order import StepPlan
    from tunesmith.engine.scorer import Scorer
    from tunesmith.methods import Full, Lora
    from tunesmith.models.structure import inner
    from tunesmith.tasks import TASKS

    rows = make_rows(case, num_rows_of(case, num_steps))
    tokens = Ragged.from_rows(rows)
    tasks: dict[str, Any] = dict(TASKS)
    if case.shape.is_encoder:
        task = tasks["classification"](labels=("a", "b"), multi_label=False)
        data = Encoded({"input_ids": tokens}, {"label": np.arange(len(rows), dtype=np.int64) % 2})
    else:
        task = tasks["causal_lm"]()
        reads = [np.arange(len(row) // 2, len(row) - 1) for row in rows]
        labels = [row[where + 1] for row, where in zip(rows, reads, strict=True)]
        data = Encoded({"input_ids": tokens}, {"labels": Ragged.from_rows(labels)}, reads=Ragged.from_rows(reads))
    method = Lora(rank=16, alpha=32) if case.method == "lora" else Full()
    model = method.apply(build_model(case, device, dtype)).to(dtype)
    register()  # that the flat layout fits these architectures is proven by tests, in float64
    inner(model).set_attn_implementation(FLAT_ATTENTION)
    config = TrainConfig(
        batch_size=case.rows_per_step,
        epochs=1,
        learning_rate=LEARNING_RATE,
        micro_batch_tokens=case.micro_batch_tokens,
        schedule={"name": "constant", "warmup": 0},
    )
    training = Training(
        scorer=Scorer(model, "flat", task.reads),
        collate=collator_for(model, "flat", 0, device),
        task=task,
        data=data,
        plan=StepPlan(len(rows), case.rows_per_step, 1.0, SEED),
        optimizer=MasterOptimizer(model, method.parameter_groups(model), config.optimizer, LEARNING_RATE),
        learning_rate=LEARNING_RATE,
        config=config,
        prepare_step=lambda _progress: None,
    )
    return training, rows


# ---- peers -------------------------------------------------------------------------------------------


def _ordered(case: Case, num_steps: int) -> Iterator[dict[str, Any]]:
    """Yield the rows in the order of tunesmith's steps, with labels where they are learned."""
    from tunesmith.engine.order import StepPlan

    rows = make_rows(case, num_rows_of(case, num_steps))
    plan = StepPlan(len(rows), case.rows_per_step, 1.0, SEED)
    for step in range(plan.total_steps):
        for index in plan.rows_of(step).tolist():
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

    rows = make_rows(case, num_rows_of(case, num_steps))
    tokens = [len(one["input_ids"]) for one in _ordered(case, num_steps)]
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
    import tempfile

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
                train_dataset=Dataset.from_list(list(_ordered(case, num_steps))),
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
    import tempfile

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
                train_dataset=Dataset.from_list(list(_ordered(case, num_steps))),
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
    import tempfile

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
                train_dataset=Dataset.from_list(list(_ordered(case, num_steps))),
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


MEASURES: dict[str, Callable[[Case, int], dict[str, Any]]] = {
    "gemm": measure_gemm,
    "tunesmith": measure_tunesmith,
    "tunesmith-liger": lambda case, steps: measure_tunesmith(case, steps, liger=True),
    "tunesmith-compiled": lambda case, steps: measure_tunesmith(case, steps, compiled=True),
    "tunesmith-graphs": lambda case, steps: measure_tunesmith(case, steps, graphs=True),
    "trl": measure_trl,
    "trl-liger": lambda case, steps: measure_trl(case, steps, liger=True),
    "trainer": measure_trainer,
    "unsloth": measure_unsloth,
}


if __name__ == "__main__":
    sys.exit(main())
