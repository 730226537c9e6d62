"""The code of a model card: how to load a run and predict with it in plain transformers and peft."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.methods.base import Method
from tunesmith.models.base import ModelSource
from tunesmith.tasks.card import TaskCard
from tunesmith.types import HeadSettings

PLAIN = "It loads in plain `transformers`; tunesmith is not needed:"
FOLDER = 'folder = "."  # this folder'


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run was made of, each of which says on the card what is particular to it."""

    task: TaskCard
    head: HeadSettings
    method: Method
    model: ModelSource


def usage(parts: Parts, base_model: str | None) -> str:
    """Return how to use a run's folder, in Markdown; ``base_model`` is the hub's name of its starting weights."""
    loading = parts.method.loading_code(parts.head.auto_class, parts.head.num_outputs)
    if not parts.model.is_plain or loading is None:
        return use_with_tunesmith()
    adapts = parts.method.needs_base
    if parts.task.pipeline and not adapts:
        code = _code("from transformers import pipeline", "", FOLDER, *parts.task.pipeline)
        return _joined(f"{PLAIN}\n\n{code}", parts.task.pipeline_note)
    code = _code(
        *(f"import {name}" for name in parts.task.imports),
        *(loading.imports if parts.task.reads_texts else _without_tokenizer(loading.imports)),
        "",
        FOLDER,
        *loading.lines,
        *(("tokenizer = AutoTokenizer.from_pretrained(folder)",) if parts.task.reads_texts else ()),
        *parts.task.code,
    )
    where = f"`{base_model}`" if base_model else "the starting weights named in `adapter_config.json`"
    name = parts.method.title or parts.method.name
    adapter = f"This folder holds a {name} adapter of {where}; plain `{loading.library}` loads it:"
    return _joined(f"{adapter if adapts else PLAIN}\n\n{code}", parts.task.note)


def use_with_tunesmith() -> str:
    """Return how to use a network that tunesmith alone can build."""
    return "This network is built by tunesmith, which is needed to load it:\n\n" + _code(
        "import tunesmith", "", 'run = tunesmith.Run.open(".")  # this folder', 'print(run.predict(["Your text."]))'
    )


def _without_tokenizer(imports: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line.replace(", AutoTokenizer", "") for line in imports)


def _joined(*paragraphs: str) -> str:
    return "\n\n".join(filter(None, paragraphs))


def _code(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"
