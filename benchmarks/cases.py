"""Every case of the suite, as data: what is measured, against whom, and at what size.

A group is a set of processes that are run in turn, round after round; a case compares two of
them. Cases that share a process share its measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.workloads import (
    CHAT,
    FROZEN,
    LORA_RATE,
    MINILM,
    MINILM_LORA,
    PREFERENCES,
    SEARCH,
    SMOLLM2_FULL,
    SMOLLM2_LORA,
    TRANSLATION,
    Workload,
)


@dataclass(frozen=True, slots=True)
class Child:
    """A process that measures one thing, always a fresh one."""

    module: str
    job: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    """The virtual environment of ``benchmarks.environments`` it runs in."""
    num_busy: int = 0
    """Processes that keep a core busy meanwhile."""


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that are run in turn on the same prepared files."""

    name: str
    children: Mapping[str, Child]
    quick: Workload
    full: Workload
    prepare: str = "training"
    """Job of ``benchmarks.prepare`` that makes the files."""
    quick_options: Mapping[str, Any] = field(default_factory=dict)
    full_options: Mapping[str, Any] = field(default_factory=dict)
    needs_gemm: bool = True


@dataclass(frozen=True, slots=True)
class Measure:
    """What is read from a child's answer."""

    key: str
    unit: str
    higher_is_better: bool


TOKENS = Measure("tokens_per_second", "tokens/s", higher_is_better=True)
NEW_TOKENS = Measure("tokens_per_second", "new tokens/s", higher_is_better=True)
ROWS = Measure("rows_per_second", "rows/s", higher_is_better=True)
SECONDS = Measure("seconds", "s", higher_is_better=False)
ACCURACY = Measure("accuracy", "", higher_is_better=True)
EXPONENT = Measure("exponent", "", higher_is_better=False)
"""The slope of cost over size in logarithms."""


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison; ratios above 1 are in tunesmith's favour."""

    name: str
    group: str
    title: str
    peer: str
    """A child of the group, or empty where ``limit`` stands in its place."""
    peer_name: str
    ours: str = "ours"
    measure: Measure = TOKENS
    compare: Literal["loss", "answers", ""] = "loss"
    limit: float | None = None
    is_quick: bool = False
    """Whether ``make bench`` makes it."""
    note: str = ""


def ours(job: str = "train", **options: Any) -> Child:
    return Child("benchmarks.ours", job, options)


def trainer(dtype: str = "float32", **flags: Any) -> Child:
    return Child("benchmarks.peers.trainer", "train", {"flags": flags, "dtype": dtype})


def trl(dtype: str = "float32", **flags: Any) -> Child:
    return Child("benchmarks.peers.trl", "train", {"flags": flags, "dtype": dtype})


BEST: dict[str, Any] = {"bf16": True, "train_sampling_strategy": "group_by_length"}
"""The flags that make the Trainer fastest at the same maths; its fused AdamW is the default already."""
GROUPED = {"train_sampling_strategy": "group_by_length"}
TRL_BEST: dict[str, Any] = {**BEST, "gradient_checkpointing": False}
TRL_DEFAULT: dict[str, Any] = {}


NUM_BUSY = (0, 1, 3)
"""Processes beside which a training is measured that shares its cores."""


def litgpt(precision: str) -> Child:
    return Child("benchmarks.peers.litgpt", "train", {"precision": precision}, environment="litgpt")


def frozen(name: str, method: Mapping[str, Any], rate: float) -> Group:
    quick = replace(Workload(**FROZEN), method=dict(method), learning_rate=rate)
    dtype = "bfloat16" if method["name"] == "lora" else "float32"
    children = {"ours": ours(), "best": trainer(dtype, **BEST)}
    return Group(name, children, quick, replace(quick, rows=3200))


def of_task(name: str, job: str, workload: Workload, flags: Mapping[str, Any]) -> Group:
    """Return a group of another task than labels and chats; both sides compute in fp32."""
    peer = Child("benchmarks.peers.text_tasks", job, {"flags": flags})
    children = {"ours": ours(precision="fp32"), "peer": peer}
    full = replace(workload, rows=4 * workload.rows)
    return Group(name, children, workload, full, prepare="text_tasks", needs_gemm=False)


GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group(
            "minilm-full",
            {
                "ours": ours(),
                "ours-fp32": ours(precision="fp32"),
                "best": trainer(**BEST),
                "default": trainer(),
                "compiled": trainer(**BEST, torch_compile=True),
            },
            replace(MINILM, rows=960),
            replace(MINILM, rows=4800),
        ),
        Group(
            "minilm-lora",
            {"ours": ours(), "best": trainer("bfloat16", **BEST), "default": trainer()},
            replace(MINILM_LORA, rows=960),
            replace(MINILM_LORA, rows=4800),
        ),
        Group(
            "smollm2-lora",
            {
                "ours": ours(),
                "best": trl("bfloat16", **TRL_BEST),
                "default": trl(**TRL_DEFAULT),
                "litgpt": litgpt("bf16-mixed"),
                "litgpt-true": litgpt("bf16-true"),
            },
            replace(SMOLLM2_LORA, rows=32),
            SMOLLM2_LORA,
        ),
        Group("smollm2-full", {"ours": ours(), "best": trl(**TRL_BEST)}, replace(SMOLLM2_FULL, rows=32), SMOLLM2_FULL),
        frozen("frozen-probe", {"name": "freeze"}, 1e-3),
        frozen("frozen-top2", {"name": "freeze", "layers": 4}, 1e-4),
        frozen("frozen-lora-top2", {"name": "lora", "rank": 8, "layers": [4, 5]}, LORA_RATE),
        Group(
            "predict",
            {
                "ours": ours("predict"),
                "pipeline": Child("benchmarks.peers.pipeline", "classify", {"batch_sizes": (8, 32, 128)}),
            },
            replace(MINILM, rows=2000),
            replace(MINILM, rows=10_000),
            prepare="prediction",
        ),
        Group(
            "generate",
            {
                "ours": ours("generate"),
                "pipeline": Child("benchmarks.peers.pipeline", "generate", {"batch_sizes": (8, 32)}),
            },
            Workload(**{**CHAT, "rows": 32}),
            Workload(**{**CHAT, "rows": 32}),
            prepare="generation",
            quick_options={"max_new_tokens": 32},
            full_options={"max_new_tokens": 64},
        ),
        of_task("translation", "translate", TRANSLATION, GROUPED),
        of_task("preferences", "prefer", PREFERENCES, GROUPED),
        of_task("search", "embed", SEARCH, {}),
        Group(
            "beside-others",
            {
                name + (f"-{num_busy}" if num_busy else ""): replace(child, num_busy=num_busy)
                for num_busy in NUM_BUSY
                for name, child in (("ours", ours(precision="fp32")), ("trainer", trainer(**GROUPED)))
            },
            replace(MINILM, rows=640),
            replace(MINILM, rows=1600),
            needs_gemm=False,
        ),
        Group(
            "predict-beside-others",
            {
                "ours" + (f"-{num_busy}" if num_busy else ""): replace(ours("predict"), num_busy=num_busy)
                for num_busy in NUM_BUSY
            },
            replace(MINILM, rows=1000),
            replace(MINILM, rows=4000),
            prepare="prediction",
            needs_gemm=False,
        ),
        Group(
            "data",
            {
                "ours": ours("tokenise"),
                "cached": ours("tokenise_again"),
                "tokenizers": Child("benchmarks.peers.tokenizers", "encode"),
            },
            replace(MINILM, rows=100_000, max_steps=1),
            replace(MINILM, rows=1_000_000, max_steps=1),
            prepare="short_rows",
            needs_gemm=False,
        ),
        Group(
            "start",
            {"ours": ours("first_step"), "trainer": trainer(**BEST), "help": ours("help")},
            replace(MINILM, rows=4800, max_steps=1),
            replace(MINILM, rows=4800, max_steps=1),
            needs_gemm=False,
        ),
        Group(
            "linear",
            {"tokens": ours("linear_tokens"), "length": ours("linear_length")},
            MINILM,
            MINILM,
            prepare="long_model",
            quick_options={"tokens": 8192, "by": "quick"},
            full_options={"tokens": 32_768, "by": "full"},
            needs_gemm=False,
        ),
        Group(
            "quality",
            {"ours": ours("quality"), "trainer": Child("benchmarks.peers.trainer", "quality")},
            replace(MINILM, rows=1500),
            replace(MINILM, rows=6000),
            prepare="nothing",
            needs_gemm=False,
        ),
    )
}

TOKEN_SIZES = {
    "quick": tuple(2**power for power in range(10, 17, 2)),
    "full": tuple(2**power for power in range(10, 21, 2)),
}
LENGTH_SIZES = {"quick": (16, 64, 256, 1024), "full": (16, 32, 64, 128, 256, 512, 1024, 2048)}

_TRAINER, _TRL = "Trainer", "TRL"
_BEST = "best flags (bf16, grouped by length, fused AdamW)"
_BEST_LORA = "best flags (bf16, frozen weights too, grouped by length, fused AdamW)"

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("minilm-full", "minilm-full", "MiniLM, all weights", "best", f"{_TRAINER}, {_BEST}", is_quick=True),
        Case(
            "minilm-full-default",
            "minilm-full",
            "MiniLM, all weights",
            "default",
            f"{_TRAINER}, defaults (fp32)",
            is_quick=True,
            note="precision differs: ours is bf16 where the processor has it",
        ),
        Case(
            "minilm-full-fp32",
            "minilm-full",
            "MiniLM, all weights, fp32",
            "default",
            f"{_TRAINER}, defaults (fp32)",
            ours="ours-fp32",
        ),
        Case(
            "minilm-full-compile",
            "minilm-full",
            "MiniLM, all weights",
            "compiled",
            f"{_TRAINER}, best flags and torch_compile",
        ),
        Case(
            "minilm-lora", "minilm-lora", "MiniLM, LoRA r8", "best", f"{_TRAINER} + PEFT, {_BEST_LORA}", is_quick=True
        ),
        Case(
            "minilm-lora-default",
            "minilm-lora",
            "MiniLM, LoRA r8",
            "default",
            f"{_TRAINER} + PEFT, defaults (fp32)",
            note="precision differs: ours is bf16 where the processor has it",
        ),
        Case(
            "smollm2-lora",
            "smollm2-lora",
            "SmolLM2-135M, LoRA r16",
            "best",
            f"{_TRL} + PEFT, best flags (bf16, frozen weights too, no checkpointing, grouped by length, fused AdamW)",
            is_quick=True,
        ),
        Case(
            "smollm2-lora-default",
            "smollm2-lora",
            "SmolLM2-135M, LoRA r16",
            "default",
            f"{_TRL} + PEFT, defaults (bf16, gradient checkpointing)",
        ),
        Case(
            "smollm2-lora-litgpt",
            "smollm2-lora",
            "SmolLM2-135M, LoRA r16",
            "litgpt",
            "LitGPT, bf16-mixed",
            note="LitGPT's schedule is a cosine and it does not clip",
        ),
        Case(
            "smollm2-lora-litgpt-true",
            "smollm2-lora",
            "SmolLM2-135M, LoRA r16",
            "litgpt-true",
            "LitGPT, bf16-true",
            note="LitGPT then keeps no fp32 master of the adapters; cosine, no clipping",
        ),
        Case(
            "smollm2-full",
            "smollm2-full",
            "SmolLM2-135M, all weights",
            "best",
            f"{_TRL}, best flags (bf16, no checkpointing, grouped by length, fused AdamW)",
        ),
        Case(
            "frozen-probe",
            "frozen-probe",
            "MiniLM, head only, 5 epochs",
            "best",
            f"{_TRAINER}, {_BEST}",
            measure=SECONDS,
            is_quick=True,
        ),
        Case(
            "frozen-top2",
            "frozen-top2",
            "MiniLM, top two layers, 5 epochs",
            "best",
            f"{_TRAINER}, {_BEST}",
            measure=SECONDS,
        ),
        Case(
            "frozen-lora-top2",
            "frozen-lora-top2",
            "MiniLM, LoRA in the top two layers, 5 epochs",
            "best",
            f"{_TRAINER} + PEFT, {_BEST_LORA}",
            measure=SECONDS,
        ),
        Case(
            "predict",
            "predict",
            "MiniLM, texts to labels with scores",
            "pipeline",
            "pipeline('text-classification'), best of 6 settings",
            measure=ROWS,
            compare="answers",
            is_quick=True,
        ),
        Case(
            "generate",
            "generate",
            "SmolLM2-135M, 32 greedy answers",
            "pipeline",
            "pipeline('text-generation'), best of 4 settings",
            measure=NEW_TOKENS,
            compare="answers",
            note="in bf16, greedy answers part at near ties, which rounding decides",
        ),
        Case(
            "translation",
            "translation",
            "A small BART, all weights, fp32",
            "peer",
            "Seq2SeqTrainer, grouped by length",
            measure=ROWS,
        ),
        Case(
            "preferences",
            "preferences",
            "SmolLM2-135M, DPO by LoRA r16, fp32, the reference's pass included",
            "peer",
            f"{_TRL} + PEFT, grouped by length, no checkpointing",
            measure=SECONDS,
        ),
        Case(
            "search",
            "search",
            "MiniLM, embedding by in-batch negatives, fp32",
            "peer",
            "sentence-transformers",
            measure=ROWS,
        ),
        *(
            case
            for num_busy, words in zip(NUM_BUSY[1:], ("one busy process", "three busy processes"), strict=True)
            for case in (
                Case(
                    f"beside-others-{num_busy}",
                    "beside-others",
                    f"MiniLM, all weights, fp32, beside {words}",
                    f"trainer-{num_busy}",
                    f"{_TRAINER}, fp32, grouped by length, as much beside it",
                    ours=f"ours-{num_busy}",
                ),
                Case(
                    f"beside-others-{num_busy}-kept",
                    "beside-others",
                    f"Share of its quiet speed that a training keeps beside {words}",
                    "ours",
                    "tunesmith, nothing beside it",
                    ours=f"ours-{num_busy}",
                ),
                Case(
                    f"beside-others-{num_busy}-kept-trainer",
                    "beside-others",
                    f"The same share of the {_TRAINER}",
                    "trainer",
                    f"{_TRAINER}, nothing beside it",
                    ours=f"trainer-{num_busy}",
                    note=f"both sides are the {_TRAINER}",
                ),
                Case(
                    f"beside-others-{num_busy}-kept-predict",
                    "predict-beside-others",
                    f"Share of its quiet speed that predicting keeps beside {words}",
                    "ours",
                    "tunesmith, nothing beside it",
                    ours=f"ours-{num_busy}",
                    measure=ROWS,
                    compare="answers",
                ),
            )
        ),
        Case(
            "data-tokenise",
            "data",
            "Tokenising short rows and packing them",
            "tokenizers",
            "the tokenizer alone",
            measure=SECONDS,
            compare="",
            is_quick=True,
        ),
        Case(
            "data-cached",
            "data",
            "The same data the second time",
            "",
            "limit",
            ours="cached",
            measure=SECONDS,
            compare="",
            limit=2.0,
            is_quick=True,
        ),
        Case(
            "first-step",
            "start",
            "Start of `tunesmith train` to its first step",
            "trainer",
            f"script with the {_TRAINER}",
            measure=SECONDS,
            compare="",
            is_quick=True,
            note="the Trainer's time is that from the start of its process to the end of its first step",
        ),
        Case(
            "cli-help",
            "start",
            "`tunesmith --help`",
            "",
            "limit",
            ours="help",
            measure=SECONDS,
            compare="",
            limit=0.5,
            is_quick=True,
        ),
        Case(
            "linear-cost-tokens",
            "linear",
            "Exponent of seconds per epoch over tokens per epoch",
            "",
            "linear",
            ours="tokens",
            measure=EXPONENT,
            compare="",
            limit=1.0,
            note="time = tokens^exponent; below 1 while fixed costs weigh",
        ),
        Case(
            "linear-cost-length",
            "linear",
            "Exponent of seconds per row over tokens per row",
            "",
            "exponent of the operations themselves",
            ours="length",
            measure=EXPONENT,
            compare="",
            note="attention's share grows with the row, so that more than 1 is expected",
        ),
        Case(
            "quality",
            "quality",
            "MiniLM, accuracy on test rows",
            "trainer",
            f"{_TRAINER}, same recipe, fp32",
            measure=ACCURACY,
            compare="",
        ),
    )
}
