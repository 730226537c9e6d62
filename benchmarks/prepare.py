"""What is made once per group, before anything is measured: files that all tools read, and facts about them."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.child import answer
from benchmarks.row_files import write_rows

NUM_TEST_ROWS = 64
GSM8K = "gsm8k/train.jsonl.gz"
BART_SMALL = {"layers": 4, "attention_heads": 4, "ffn_dim": 1024}


def training(spec: dict[str, Any]) -> dict[str, Any]:
    """Write ``train.jsonl`` and ``test.jsonl`` into the work folder and return the facts of the workload."""
    from transformers import AutoTokenizer

    from tunesmith.models.location import locate
    from tunesmith.models.materialise import materialise

    workload, work = spec["workload"], Path(spec["work"])
    model = str(materialise(locate(workload["model"])).folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    is_chat = workload["data"] == "chat"
    source, rows = chats() if is_chat else reviews()
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    lengths: list[int] = []
    num_labelled = 0
    for row in rows:
        length, labelled = (chat_length if is_chat else text_length)(row, tokenizer, workload["max_length"])
        if length is None:
            continue
        if len(train) < workload["rows"]:
            train.append(row)
            lengths.append(length)
            num_labelled += labelled
        elif len(test) < NUM_TEST_ROWS:
            test.append(row)
        else:
            break
    write_rows(work / "train.jsonl", train)
    write_rows(work / "test.jsonl", test or train[:NUM_TEST_ROWS])
    num_tokens = sum(lengths)
    return {
        "model": model,
        "source": source,
        "num_rows": len(train),
        "num_tokens": num_tokens,
        "tokens_per_row": num_tokens / len(lengths),
        "attended_length": sum(length * length for length in lengths) / num_tokens,
        "labelled_share": num_labelled / num_tokens if is_chat else 0.0,
        **shape_of(model, causal=is_chat),
    }


def reviews() -> tuple[str, Iterator[dict[str, Any]]]:
    """Return the name and the distinct rows, shuffled, of the film reviews."""
    from tunesmith.data.samples import find, prepare

    with prepare(find("rotten-tomatoes")).open(encoding="utf-8", newline="") as file:
        labels = {row["text"]: row["label"] for row in csv.DictReader(file)}
    rows = list(labels.items())
    random.Random(0).shuffle(rows)
    return "Rotten Tomatoes", ({"text": text, "label": label} for text, label in rows)


def chats() -> tuple[str, Iterator[dict[str, Any]]]:
    """Return the name and the rows, shuffled, of questions with answers as conversations."""
    path = Path(os.environ.get("TUNESMITH_TEST_DATA", "")) / GSM8K
    if os.environ.get("TUNESMITH_TEST_DATA") and path.exists():
        source = "GSM8K"
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            pairs = [(row["question"], row["answer"]) for row in map(json.loads, lines)]
    else:
        from tunesmith.data.samples import find, prepare

        source = "small-talk"
        with prepare(find("small-talk")).open(encoding="utf-8", newline="") as file:
            pairs = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(pairs)
    return source, (
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in pairs
    )


def text_tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """Write questions with their answers as pairs to translate, to prefer or to find; see ``benchmarks.workloads``."""
    workload, work = spec["workload"], Path(spec["work"])
    source, found = chats()
    pairs = [tuple(turn["content"] for turn in row["messages"]) for row in found][: workload["rows"] + NUM_TEST_ROWS]
    answers = [answer for _, answer in pairs]
    rows = [
        {
            "translation": {"source": question, "target": answer},
            "preferences": {
                "prompt": [{"role": "user", "content": question}],
                "chosen": [{"role": "assistant", "content": answer}],
                "rejected": [{"role": "assistant", "content": answers[number - 1]}],
            },
            "search": {"anchor": question, "positive": answer},
        }[workload["data"]]
        for number, (question, answer) in enumerate(pairs)
    ]
    rows = [row for row, (question, answer) in zip(rows, pairs, strict=True) if question != answer]
    write_rows(work / "train.jsonl", rows[: workload["rows"]])
    write_rows(work / "test.jsonl", rows[workload["rows"] :] or rows[:NUM_TEST_ROWS])
    return {"model": _model_of(workload["model"], work), "source": source, "num_rows": min(len(rows), workload["rows"])}


def _model_of(name: str, work: Path) -> str:
    """Return the folder of a sample model, or of a small BART of random weights: only its cost is of interest."""
    from tunesmith.models.location import locate
    from tunesmith.models.materialise import materialise

    if name != "bart-small":
        return str(materialise(locate(name)).folder)
    import torch
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    folder = work / "model"
    tokenizer = AutoTokenizer.from_pretrained(str(materialise(locate("sample:minilm")).folder))
    ids: dict[str, Any] = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    ids |= {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.sep_token_id}
    sides = ("encoder", "decoder")
    sizes: dict[str, Any] = {f"{side}_{what}": number for side in sides for what, number in BART_SMALL.items()}
    torch.manual_seed(0)
    config = BartConfig(vocab_size=len(tokenizer), d_model=256, max_position_embeddings=512, **sizes, **ids)
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def text_length(row: dict[str, Any], tokenizer: Any, max_length: int) -> tuple[int | None, int]:
    """Return the tokens of a text as it is trained on; none of them is a label."""
    return len(tokenizer(row["text"], truncation=True, max_length=max_length)["input_ids"]), 0


def chat_length(row: dict[str, Any], tokenizer: Any, max_length: int) -> tuple[int | None, int]:
    """Return the tokens of a conversation and of its answer, or nothing where it is longer than ``max_length``."""
    messages = row["messages"]
    whole, prompt = (
        len(tokenizer(tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=asks))["input_ids"])
        for part, asks in ((messages, False), (messages[:-1], True))
    )
    return (whole, whole - prompt) if whole <= max_length else (None, 0)


def shape_of(model: str, *, causal: bool) -> dict[str, Any]:
    """Return what the formulas of ``benchmarks.flops`` need to know of a model's shape."""
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        network = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    linear = (
        module
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    )
    return {
        "num_weights": sum(module.weight.numel() for module in linear),
        "num_layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "vocabulary": config.vocab_size if causal else 0,
        "causal": causal,
    }


def prediction(spec: dict[str, Any]) -> dict[str, Any]:
    """Train a model briefly and write the texts to predict on."""
    from benchmarks.ours import train_quietly

    work = Path(spec["work"])
    facts = training({**spec, "workload": {**spec["workload"], "rows": 320}})
    train_quietly({**spec, "facts": facts, "workload": {**spec["workload"], "max_steps": 4}}, work / "run")
    _, rows = reviews()
    texts = [row["text"] for row, _ in zip(rows, range(spec["workload"]["rows"]), strict=False)]
    (work / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    return {**facts, "num_rows": len(texts)}


def generation(spec: dict[str, Any]) -> dict[str, Any]:
    """Train a chat model for one step and write the prompts to answer."""
    from benchmarks.ours import train_quietly

    work, workload = Path(spec["work"]), spec["workload"]
    brief = {**workload, "rows": 8, "max_steps": 1, "learning_rate": 1e-6}
    facts = training({**spec, "workload": brief})
    train_quietly({**spec, "facts": facts, "workload": brief}, work / "run")
    _, rows = chats()
    prompts = [row["messages"][0]["content"] for row, _ in zip(rows, range(workload["rows"]), strict=False)]
    (work / "texts.json").write_text(json.dumps(prompts), encoding="utf-8")
    return {**facts, "num_rows": len(prompts)}


def short_rows(spec: dict[str, Any]) -> dict[str, Any]:
    """Write many short labelled rows, all different: a third to all of a review, with a number before it."""
    from tunesmith.models.location import locate
    from tunesmith.models.materialise import materialise

    work, num_rows = Path(spec["work"]), spec["workload"]["rows"]
    source, found = reviews()
    rows = list(found)

    def make() -> Iterator[dict[str, Any]]:
        for index in range(num_rows):
            row = rows[index % len(rows)]
            words = row["text"].split()
            kept = max(4, len(words) * (1 + index // len(rows) % 3) // 3)
            yield {"text": f"{index} {' '.join(words[:kept])}", "label": row["label"]}

    write_rows(work / "train.jsonl", make())
    write_rows(work / "test.jsonl", rows[:NUM_TEST_ROWS])
    return {"model": str(materialise(locate(spec["workload"]["model"])).folder), "source": source, "num_rows": num_rows}


def long_model(spec: dict[str, Any]) -> dict[str, Any]:
    """Save an encoder of MiniLM's shape with 2,048 positions and random weights: only its cost is of interest."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith.models.location import locate
    from tunesmith.models.materialise import materialise

    source, folder = materialise(locate(spec["workload"]["model"])).folder, Path(spec["work"]) / "model"
    config = AutoConfig.from_pretrained(source)
    config.max_position_embeddings = 2048
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, model_max_length=2048).save_pretrained(folder)
    return {"model": str(folder), "source": "made of one word", **shape_of(str(folder), causal=False)}


def nothing(spec: dict[str, Any]) -> dict[str, Any]:
    """Prepare nothing."""
    del spec
    return {"source": ""}


if __name__ == "__main__":
    answer(
        {
            "training": training,
            "prediction": prediction,
            "generation": generation,
            "text_tasks": text_tasks,
            "short_rows": short_rows,
            "long_model": long_model,
            "nothing": nothing,
        }
    )
