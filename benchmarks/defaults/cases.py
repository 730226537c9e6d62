"""The data sets that defaults are tried on: real rows, cut to a size, with a large test set where scoring is cheap."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Source = Callable[[Path], dict[str, list[Row]]]
"""From the folder of data sets to rows by split; without ``validation`` and ``test`` these are cut off ``train``."""

MINILM, SMOLLM = "sample:minilm", "sample:smollm2-135m-instruct"
STORIES = "ckpt_stories260K"
"""A Llama of 260,000 weights that has read children's stories: a folder of the data sets, without a tokenizer."""

RATES_FULL = (2e-5, 6e-5, 2e-4, 6e-4, 2e-3)
RATES_LORA = (2e-4, 6e-4, 2e-3, 6e-3, 2e-2)
RATES_HEAD = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
RATES_SCRATCH = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
RATES_TINY_LORA = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
RATES_CHAT_LORA = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


@dataclass(frozen=True, slots=True)
class Case:
    """A model, a method and some rows, with the grid that the defaults are measured against."""

    name: str
    source: Source
    task: str
    method: str
    rates: tuple[float, ...]
    epochs: tuple[int, ...]
    num_train: int
    num_validation: int
    num_test: int
    model: str = MINILM
    batch_size: int = 16
    """Of the grid; the default run chooses its own."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The figures of the table, the first in points."""
        return METRICS[self.task]

    def model_path(self, data: Path, folder: Path) -> str:
        """Return what to give as the model."""
        return str(story_model(data / STORIES, folder)) if self.model == STORIES else self.model

    def write(self, data: Path, folder: Path) -> dict[str, str]:
        """Write the rows of the three splits; return their paths by the keys of the data's section."""
        splits = self.source(data)
        shuffled = {name: random.Random(0).sample(rows, len(rows)) for name, rows in splits.items()}
        rest = shuffled["train"]
        wanted = {"test": self.num_test, "validation": self.num_validation, "train": self.num_train}
        found = {}
        for name, number in wanted.items():
            if name in shuffled and name != "train":
                found[name] = shuffled[name][:number]
            else:
                found[name], rest = rest[:number], rest[number:]
            if name == "validation":
                rest = _every_label_first(rest)
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in found.items():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        keys = {"train": "path", "validation": "validation", "test": "test"}
        return {key: str((folder / f"{name}.jsonl").absolute()) for name, key in keys.items()}


def _every_label_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with one of each label in front: however few are taken, no label is unknown."""
    first = {row["label"]: index for index, row in reversed(list(enumerate(rows))) if isinstance(row.get("label"), str)}
    chosen = sorted(first.values())
    taken = set(chosen)
    return [rows[index] for index in chosen] + [row for index, row in enumerate(rows) if index not in taken]


def _distinct(rows: Sequence[Row], *keys: str) -> list[Row]:
    """Return the first row of each text, so that none stands on two sides of a split."""
    return list({tuple(row[key] for key in keys): row for row in reversed(rows)}.values())[::-1]


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8").split("\n")


def banking77(data: Path) -> dict[str, list[Row]]:
    splits = {}
    for name in ("train", "test"):
        with (data / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            splits[name] = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]
    return splits


def sentiment(data: Path) -> dict[str, list[Row]]:
    names = {"train": "train", "validation": "dev", "test": "test"}
    splits = {}
    for name, stem in names.items():
        cells = [line.rsplit("\t", 1) for line in _lines(data / "sst2_sentences" / f"{stem}.tsv") if "\t" in line]
        splits[name] = [{"text": text, "label": {"0": "negative", "1": "positive"}[label]} for text, label in cells]
    return splits


def spam(data: Path) -> dict[str, list[Row]]:
    cells = [line.split("\t", 1) for line in _lines(data / "sms_spam" / "SMSSpamCollection") if "\t" in line]
    return {"train": _distinct([{"text": text, "label": label} for label, text in cells], "text")}


def hotels(data: Path) -> dict[str, list[Row]]:
    """Chinese reviews."""
    cells = [line.rsplit("\t", 1) for line in _lines(data / "chnsenticorp" / "train.tsv.gz") if "\t" in line]
    return {"train": _distinct([{"text": text, "label": label} for text, label in cells], "text")}


def disciplines(data: Path) -> dict[str, list[Row]]:
    """Titles of Chinese papers, by field of science."""
    names = {"train": "train", "validation": "dev", "test": "test"}
    splits = {}
    for name, stem in names.items():
        cells = [line.split("\t") for line in _lines(data / "csl_title_zh" / f"cls_ctg_{stem}.tsv.gz") if line]
        splits[name] = [{"text": text, "label": label} for _, text, label in cells]
    return splits


def reviews(data: Path) -> dict[str, list[Row]]:
    """Film reviews; the test rows are of other films."""
    from tunesmith.data.samples import find, prepare

    del data
    with prepare(find("rotten-tomatoes")).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    films = sorted({row["film"] for row in rows})
    held_out = set(random.Random(1).sample(films, len(films) // 4))
    plain = [({"text": row["text"], "label": row["label"]}, row["film"] in held_out) for row in rows]
    return {"train": [row for row, out in plain if not out], "test": [row for row, out in plain if out]}


def similarity(data: Path) -> dict[str, list[Row]]:
    splits = {}
    for name, stem in {"train": "train", "validation": "dev", "test": "test"}.items():
        cells = [line.split("\t") for line in _lines(data / "stsb" / f"sts-{stem}.tsv.gz") if line]
        splits[name] = [{"text": one[5], "text_pair": one[6], "label": float(one[4])} for one in cells]
    return splits


def entities(data: Path) -> dict[str, list[Row]]:
    names = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    return {name: list(_sentences(data / "wnut17" / file)) for name, file in names.items()}


def _sentences(path: Path) -> Iterator[Row]:
    tokens: list[str] = []
    tags: list[str] = []
    for line in [*_lines(path), ""]:
        if not line.strip():
            if tokens:
                yield {"tokens": tokens, "tags": tags}
            tokens, tags = [], []
            continue
        token, tag = line.rstrip("\r").split("\t")
        tokens.append(token)
        tags.append(tag)


def small_talk(data: Path) -> dict[str, list[Row]]:
    """Questions with short answers; those of one question stay together."""
    from tunesmith.data.samples import find, prepare

    del data
    with prepare(find("small-talk")).open(encoding="utf-8", newline="") as file:
        return {"train": _distinct(list(csv.DictReader(file)), "question")}


def instructions(data: Path) -> dict[str, list[Row]]:
    path = data / "small_instruction_sets" / "rasbt_instruction_1100.json"
    return {"train": _distinct(json.loads(path.read_text(encoding="utf-8")), "instruction", "input")}


def identity(data: Path) -> dict[str, list[Row]]:
    """Who the assistant says that it is."""
    text = "\n".join(_lines(data / "llamafactory_demos" / "identity.json.gz"))
    rows = json.loads(text.replace("{{name}}", "Vesper").replace("{{author}}", "the Lantern Society"))
    return {"train": _distinct(rows, "instruction", "input")}


def story_model(source: Path, folder: Path) -> Path:
    """Put a tokenizer beside the weights: pairs of tokens are merged in the order of what they become."""
    import shutil

    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    target = folder / "models" / STORIES
    if (target / "tokenizer.json").exists():
        return target
    scored = json.loads((source / "tok512_vocab.json").read_text(encoding="utf-8"))
    special = {1: "<s>", 2: "</s>"}
    names = [special.get(index, name) for index, (name, _) in enumerate(scored)]
    vocabulary = {name: index for index, name in enumerate(names)}
    ranked = sorted(range(len(names)), key=lambda index: -scored[index][1])
    pairs = [(names[i][:cut], names[i][cut:]) for i in ranked for cut in range(1, len(names[i])) if i > 2]
    merges = [
        pair for pair in pairs if all(part in vocabulary for part in pair) and not "".join(pair).startswith("<0x")
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", model_max_length=512
    )
    shutil.copytree(source / "hf", target, dirs_exist_ok=True)
    fast.save_pretrained(target)
    return target


LABELS, NUMBERS, TAGS, CHAT = "classification", "regression", "token_classification", "causal_lm"
METRICS = {
    LABELS: ("accuracy",),
    NUMBERS: ("r2", "spearman"),
    TAGS: ("micro_f1",),
    CHAT: ("token_accuracy", "perplexity"),
}

RATES_OF_METHODS: dict[str, tuple[float, ...]] = {
    "full": (1e-4, 3e-4, 1e-3),
    "lora": (5e-4, 1.5e-3, 5e-3),
    "rslora": (5e-4, 1.5e-3, 5e-3),
    "dora": (5e-4, 1.5e-3, 5e-3),
    "lora_plus": (5e-4, 1.5e-3, 5e-3),
    "lora_fa": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "pissa": (1.5e-4, 5e-4, 1.5e-3, 5e-3),
    "olora": (1.5e-4, 5e-4, 1.5e-3, 5e-3),
    "eva": (5e-4, 1.5e-3, 5e-3),
    "corda": (1.5e-4, 5e-4, 1.5e-3, 5e-3),
    "lora_ga": (5e-4, 1.5e-3, 5e-3),
    "adalora": (1.5e-3, 5e-3, 1.5e-2, 5e-2),
    "ia3": (3e-3, 1e-2, 3e-2, 1e-1),
    "prefix_tuning": (3e-3, 1e-2, 3e-2, 1e-1),
    "prompt_tuning": (3e-3, 1e-2, 3e-2, 1e-1),
    "p_tuning": (1e-3, 3e-3, 1e-2, 3e-2),
    "vera": (3e-3, 1e-2, 3e-2, 1e-1),
    "loha": (1.5e-3, 5e-3, 1.5e-2, 5e-2),
    "lokr": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "oft": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "boft": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "hra": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "fourierft": (1e-2, 3e-2, 1e-1, 3e-1),
    "miss": (1.5e-4, 5e-4, 1.5e-3, 5e-3),
    "randlora": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "shira": (5e-4, 1.5e-3, 5e-3, 1.5e-2),
    "c3a": (5e-3, 1.5e-2, 5e-2, 1.5e-1),
    "road": (3e-3, 1e-2, 3e-2, 1e-1),
    "ln_tuning": (1e-3, 3e-3, 1e-2, 3e-2),
}
"""By method, rates about a factor of three apart around the one that is taken by default."""

RATES = "rates-"
"""How the names of the cases begin in which a method's rate alone is varied."""

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *(
            Case(f"{RATES}{method}", reviews, LABELS, method, rates, (3, 3, 3), 480, 120, 800)
            for method, rates in RATES_OF_METHODS.items()
        ),
        Case("reviews-100-full", reviews, LABELS, "full", RATES_FULL, (4, 8, 16), 100, 100, 1200),
        Case("sentiment-250-lora", sentiment, LABELS, "lora", RATES_LORA, (2, 4, 8), 250, 100, 1200),
        Case("banking-800-full", banking77, LABELS, "full", RATES_FULL, (3, 6, 12), 800, 200, 1500),
        Case("spam-1000-freeze", spam, LABELS, "freeze", RATES_HEAD, (5, 10, 20), 1000, 200, 2000),
        Case("banking-9000-cnn", banking77, LABELS, "full", RATES_SCRATCH, (3, 6, 12), 9003, 1000, 3080, "cnn", 32),
        Case("instructions-200-tiny", instructions, CHAT, "full", RATES_SCRATCH, (2, 4, 8), 200, 100, 200, STORIES, 8),
        Case("talk-200-tiny-lora", small_talk, CHAT, "lora", RATES_TINY_LORA, (2, 4, 8), 200, 100, 300, STORIES, 8),
        Case("hotels-1000-cnn", hotels, LABELS, "full", RATES_SCRATCH, (3, 6, 12), 1000, 300, 1500, "cnn"),
        Case("similarity-250-full", similarity, NUMBERS, "full", RATES_FULL, (2, 4, 8), 250, 100, 1000),
        Case("entities-200-full", entities, TAGS, "full", RATES_FULL, (3, 6, 12), 200, 150, 1000),
        Case("disciplines-4000-cnn", disciplines, LABELS, "full", RATES_SCRATCH, (2, 4, 8), 4000, 500, 1000, "cnn"),
        Case("talk-100-lora", small_talk, CHAT, "lora", RATES_CHAT_LORA, (1, 3, 6), 100, 40, 120, SMOLLM, 8),
    )
}
