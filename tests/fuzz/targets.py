"""What is fuzzed: every reader of something that came from outside, with small good files to start from."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from fuzz.harness import Target
from tiny import CHAT_TEMPLATE, tiny_folder
from tunesmith.cli import application
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml, parse_overrides
from tunesmith.config.migrate import migrate
from tunesmith.data import DataConfig, prepare, read
from tunesmith.data.image_rows import ClassifiedImages
from tunesmith.models import MODELS, Pretrained
from tunesmith.run.config import RunConfig
from tunesmith.run.rows import find_rows
from tunesmith.tasks import CausalLM, Classification
from tunesmith.tasks.chat.sandbox import ChatTemplate, RefusedError
from tunesmith.types import ColumnChoice

ROWS = [
    {"text": f'words, "quoted" and café {row}', "label": ["good", "bad"][row % 2], "n": row / 3} for row in range(24)
]
MIXED = [{"text": f"text {row}", "label": ["a", "b", 3, None, ["c"], {"d": 1}, True][row % 7]} for row in range(24)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Question {row}?"}, {"role": "assistant", "content": f"Answer {row}."}]}
    for row in range(12)
]
CALLS = [
    {"role": "user", "content": "Is it cold?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}],
    },
    {"role": "tool", "content": '{"degrees": 3}', "name": "weather"},
    {"role": "assistant", "content": "It is."},
]
TOOL_ROWS = [{"messages": CALLS, "tools": [{"type": "function", "function": {"name": "weather"}}]} for _ in range(6)]
SENTENCE = [("EU", "B-ORG"), ("rejects", "O"), ("German", "B-MISC"), ("call", "O"), ("Peter", "I-PER"), ("B", "I-PER")]
CONLL = "\n".join("".join(f"{word} NN {tag}\n" for word, tag in SENTENCE[row % 3 :]) for row in range(12))
ONE_LINE = "".join(
    " ".join(w for w, _ in SENTENCE[row % 4 :]) + "\t" + " ".join(t for _, t in SENTENCE[row % 4 :]) + "\n"
    for row in range(12)
)
TAGGED = [{"tokens": [w for w, _ in SENTENCE], "tags": [t for _, t in SENTENCE]} for _ in range(10)]
SPANS = [{"text": "Peter lives in Rome", "label": {"name": {"Peter": [[0, 4]]}}} for _ in range(8)]
QUESTIONS = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"x {row} did it",
                    "qas": [{"question": "who?", "id": row, "answers": [{"text": str(row), "answer_start": 2}]}],
                }
            ]
        }
        for row in range(6)
    ]
}
PICTURES = [
    {"image": {"bytes": b"\x89PNG\r\n\x1a\n" + bytes([row] * 9), "path": None}, "label": "ab"[row % 2]}
    for row in range(12)
]
SPLITS = {name: [[f"text {name} {row}", "ab"[row % 2]] for row in range(8)] for name in ("train", "dev", "test")}


def _lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def _delimited(separator: str, header: bool = True) -> bytes:
    lines = [separator.join(["text", "label", "n"])] if header else []
    quoted = (['"' + str(row["text"]).replace('"', '""') + '"', row["label"], f"{row['n']:.3f}"] for row in ROWS)
    return "\n".join(lines + [separator.join(map(str, cells)) for cells in quoted]).encode()


def _columnar(write: Callable[[pa.Table, Any], Any], rows: list[Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        write(pa.Table.from_pylist(rows), str(path))
        return path.read_bytes()


def _write_arrow(open_writer: Any) -> Callable[[pa.Table, str], None]:
    def write(table: pa.Table, path: str) -> None:
        with pa.OSFile(path, "wb") as file, open_writer(file, table.schema) as writer:
            writer.write_table(table)

    return write


TEXT_FILES: dict[str, bytes] = {
    "commas.csv": _delimited(","),
    "semicolons.csv": _delimited(";"),
    "tabs.tsv": _delimited("\t"),
    "bare.csv": _delimited(",", header=False),
    "wide.csv": ("a,b,c,d,e,f,g\n" + "1,2.5,x y,,,true,2024-01-01\n" * 20).encode(),
    "rows.jsonl": _lines(ROWS),
    "mixed.jsonl": _lines(MIXED),
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "columns.json": json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}).encode(),
    "inner.json": json.dumps({"data": MIXED, "version": 1}).encode(),
    "splits.json": json.dumps(SPLITS).encode(),
    "questions.json": json.dumps(QUESTIONS).encode(),
    "concatenated.json": "\n".join(json.dumps(one, indent=2) for one in SPANS).encode(),
    "chats.jsonl": _lines(CHATS),
    "tools.jsonl": _lines(TOOL_ROWS),
    "tagged.jsonl": _lines(TAGGED),
    "dialogue.jsonl": _lines([{"dialogue": f"A: hi\nB: {row}", "summary": f"they say {row}"} for row in range(9)]),
    "passages.txt": ("A line of a book, and another.\n\nA new one; it is long enough.\n" * 12).encode(),
    "labels.txt": b"".join(b"__label__%s words of text %d\n" % ([b"good", b"bad"][row % 2], row) for row in range(20)),
    "digits.all": b"".join(b"%d some words %d\n" % (row % 2, row) for row in range(20)),
    "coarse.train": "".join(f"{'DESC:def' if row % 2 else 'NUM:date'} What is {row} ?\n" for row in range(20)).encode(),
    "sentences.conll": CONLL.encode(),
    "unnamed": CONLL.encode(),
    "numbered.bmes": ONE_LINE.encode(),
    "conllu.conllu": "".join(f"# text = x\n1\tEU\teu\tNOUN\tNN\t_\t0\troot\t_\t_\n2\t{r}\tx\tVERB\t_\t_\t1\tobj\t_"
                             "\t_\n\n"
                             for r in range(8)).encode(),
}  # fmt: skip
COLUMNAR_FILES: dict[str, bytes] = {
    "rows.parquet": _columnar(pa.parquet.write_table, ROWS),
    "chats.parquet": _columnar(pa.parquet.write_table, CHATS),
    "tagged.parquet": _columnar(pa.parquet.write_table, TAGGED),
    "plain.parquet": _columnar(
        lambda t, p: pa.parquet.write_table(t, p, compression="none", use_dictionary=False), ROWS
    ),
    "rows.arrow": _columnar(_write_arrow(pa.ipc.new_stream), ROWS),
    "file.arrow": _columnar(_write_arrow(pa.ipc.new_file), TAGGED),
    "rows.feather": _columnar(pa.feather.write_feather, ROWS),
    "images.parquet": _columnar(pa.parquet.write_table, PICTURES),
}
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {}, {"bad_rows": "quarantine"}, {"bad_rows": "refuse"}, {"encoding": "utf-16"}, {"encoding": "cp1252"},
    {"encoding": "utf-8"}, {"encoding": "shift_jis"}, {"delimiter": ";"}, {"delimiter": "\t"}, {"header": False},
    {"header": True}, {"passage": 200}, {"encoding": "utf-16-le"}, {"encoding": "utf-7"}, {"encoding": "idna"},
)  # fmt: skip


def use_data(folder: Path, name: str, random: Random) -> None:
    """Read, find the task and prepare the rows: all that is done before training."""
    path = folder / name
    if random.random() < 0.05:
        path = path.rename(folder / os.fsdecode(random.randbytes(6).translate(None, b"/\0") + b" " + name.encode()))
    given = folder if random.random() < 0.1 else path
    config = build(DataConfig, {"path": str(given), **random.choice(OPTIONS)}, "fuzz")
    found = find_rows(config, None)
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    columns: Any = {key: column[: min(len(column), 8)] for key, column in prepared.splits["train"].columns().items()}
    found.task.bind(columns)


TEMPLATES = {
    "chatml.jinja": CHAT_TEMPLATE.encode(),
    "system.jinja": (
        b"{%- if messages[0].role == 'system' %}{{ '<s>' + messages[0].content|trim }}{% set messages = messages[1:] %}"
        b"{% endif %}{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ m['role'] ~ ns.n "
        b"}}"
        b"{% if m.tool_calls %}{{ m.tool_calls|tojson(indent=2) }}{% else %}{% generation %}{{ m.content.split('x')[-1]"
        b".strip() }}{% endgeneration %}{% endif %}{% endfor %}"
    ),
    "macros.jinja": (
        b"{% macro line(m, width=9) %}{{ '%-9s' % m.role }}{{ '{:>9}'.format(m.content|length) }}{% endmacro %}"
        b"{% for i in range(messages|length) %}{{ line(messages[i]) * 2 }}{% endfor %}{{ strftime_now('%d %b') }}"
        b"{% if tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages|map(attribute='role')|join(', ') }}"
    ),
}


def use_template(folder: Path, name: str, random: Random) -> None:
    source = (folder / name).read_bytes().decode("utf-8", random.choice(["replace", "surrogateescape", "ignore"]))
    template = ChatTemplate(source)
    for messages in (CALLS, CHATS[0]["messages"]):
        with contextlib.suppress(RefusedError):
            template.render({"messages": messages, "tools": None, "add_generation_prompt": True, "eos_token": "</s>"})


CONFIGS = {
    "plain.yaml": b"version: 2\nmodel: lstm\ndata: a.csv\nmethod: {name: full}\n"
    b"train:\n  epochs: 3\n  batch_size: 8\n  seed: 1\n",
    "lora.yaml": b"model:\n  name: sample:minilm\n  max_length: 64\n"
    b"data:\n  path: a.csv\n  columns: {text: t, label: l}\n"
    b"  clean: {duplicates: true}\nmethod: {name: lora, rank: 8, target_modules: [q, v]}\ntrain: {learning_rate: 1e-4, "
    b"epochs: 0x1, deterministic: true}\ncompute: {layout: flat}\n"
    b"task: {name: classification, labels: [a, b]}\noutput: runs/a\n",
    "chat.yaml": b"model: m\ndata: &d {path: x.jsonl, validation: y.jsonl}\n"
    b"task:\n  name: causal_lm\n  template: |\n    {{ x }}\n"
    b"  template_arguments: {a: [1, 2.5, null], b: ~}\ntrain: {epochs: &e 2, seed: *e}\n",
}


def use_config(folder: Path, name: str, random: Random) -> None:
    path = folder / name
    values = load_yaml(path)
    pairs = [(key, str(value)[:200]) for key, value in values.items() if isinstance(key, str)]
    with contextlib.suppress(ValueError):
        parse_overrides([("train.epochs", path.read_text("utf-8", "replace")), *pairs], RunConfig)
    build(RunConfig, migrate(values, name)[0], name)


@functools.cache
def _image_files() -> dict[str, bytes]:
    """Return a picture in every kind of file, and an archive of two classes."""
    from images import KINDS, picture

    found = {}
    for number, kind in enumerate(("png", "jpeg", "gif", "bmp", "webp", "tiff")):
        buffer = io.BytesIO()
        picture(number).save(buffer, kind)
        found[f"{number}.{kind}"] = buffer.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for number, content in enumerate(list(found.values())):
            file.writestr(f"{KINDS[number % 3]}/{number}.png", content)
    return {**found, "classes.zip": archive.getvalue()}


def use_image(folder: Path, name: str, random: Random) -> None:
    """Read a picture or an archive of some, and open every one."""
    del random
    config = build(DataConfig, {"path": str(folder / name), "validation_fraction": 0, "test_fraction": 0}, "fuzz")
    raw = read(config)
    choices = [ColumnChoice(role, role, "") for role in ("image", "label") if role in raw.splits["train"].column_names]
    prepare(raw, config, choices, ClassifiedImages)


@functools.cache
def _model_files(arch: str) -> dict[str, bytes]:
    head = "causal" if arch in ("llama", "gpt2") else "sequence"
    with tempfile.TemporaryDirectory() as folder:
        path = tiny_folder(Path(folder), arch, head=head)
        return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def use_model(folder: Path, name: str, random: Random) -> None:
    """Load a model as before training, tokenise, and compute once."""
    del name, random
    import torch

    task: Any = Classification(labels=("a", "b", "c"))
    is_causal = b"<|im_start|>" in (folder / "tokenizer.json").read_bytes()
    task = CausalLM() if is_causal else task
    model = build(RunConfig, {"model": str(folder), "data": "x.csv"}, "fuzz").model
    loaded = model.load(task.head(), ["one of the films"], 0)
    columns = {"text": ["one of the films", "☃ \U0010fffd\u0301 日本"], "row": ["a:1", "a:2"], "label": ["a", "b"]}
    if is_causal:
        columns["messages"] = [json.dumps(CHATS[0]["messages"]), json.dumps(CHATS[1]["messages"])]
        task.adapt(loaded.tokenizer)
    encoded = task.encode(columns, loaded.tokenizer, min(loaded.max_length, 32))
    if not len(encoded):
        return  # the template refuses both: a training says so, and does not begin
    ids = torch.tensor([list(map(int, next(iter(encoded.inputs.values()))[0]))])
    with torch.inference_mode():
        loaded.model(input_ids=ids)


@functools.cache
def _adapter_files() -> tuple[Path, dict[str, bytes]]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    base = tiny_folder(Path(tempfile.mkdtemp(prefix="tunesmith-fuzz-")), "bert")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    wrapped = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"]))
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder)
        return base, {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.suffix != ".md"}


def use_adapter(folder: Path, name: str, random: Random) -> None:
    del name, random
    Pretrained(name=str(folder)).load(Classification(labels=("a", "b", "c")).head(), [], 0)


ARGUMENTS = (
    b"train --model lstm --data nosuch.csv --epochs 2 --train.learning_rate 1e-3 --method lora --output x",
    b"train --config DIR/a.yaml --train.seed 1 --data.columns {text:a} --task classification --data.delimiter ;",
    b"data inspect DIR/a.csv --data.encoding utf-8 --task regression",
    b"predict DIR/run --text words --output DIR/x.csv",
    b"evaluate DIR/run --data DIR/a.csv",
    b"report DIR/run DIR/other --output DIR/r.html",
    b"chat DIR/run --max-tokens 5",
    b"train --help",
    b"trian --lr 1",
)


def use_arguments(folder: Path, name: str, random: Random) -> None:
    del random
    words = (folder / name).read_bytes().replace(b"\0", b"").replace(b"DIR", os.fsencode(folder)).split(b" ")
    given = [os.fsdecode(word) for word in words][:40]
    (folder / "a.csv").write_bytes(_delimited(","))
    (folder / "a.yaml").write_bytes(CONFIGS["plain.yaml"])
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")  # as Python opens it
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), contextlib.chdir(folder):
        application.run(given)


def targets() -> dict[str, tuple[Target, float]]:
    """Return every target with its share of the cases."""
    base, adapter = _adapter_files()
    adapter["adapter_config.json"] = adapter["adapter_config.json"].replace(b"BASE", os.fsencode(base))
    found = [
        (Target("text files", TEXT_FILES, use_data), 0.29),
        (Target("tables", COLUMNAR_FILES, use_data), 0.15),
        (Target("images", _image_files(), use_image), 0.01),
        (Target("templates", TEMPLATES, use_template), 0.23),
        (Target("configurations", CONFIGS, use_config), 0.22),
        (Target("arguments", {f"{i}": line for i, line in enumerate(ARGUMENTS)}, use_arguments), 0.06),
        (Target("models bert", _model_files("bert"), use_model, whole=True), 0.01),
        (Target("models lstm", _model_files("lstm"), use_model, whole=True), 0.01),
        (Target("models llama", _model_files("llama"), use_model, whole=True), 0.01),
        (Target("adapters", adapter, use_adapter, whole=True), 0.01),
    ]
    assert set(MODELS) >= {"lstm"}
    return {target.name: (target, share) for target, share in found}
