"""From a configuration to the parts of a run: data, task, model, method, layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data import PreparedData, RejectedRow, prepare
from tunesmith.data.encoded import FORMAT, Encoded
from tunesmith.engine.batch import Collator
from tunesmith.engine.layout import choose_layout, collator_for, shapes_for
from tunesmith.engine.precision import choose_device, choose_precision, place
from tunesmith.engine.scorer import Scorer
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.models import tokenizer_hash
from tunesmith.models.base import LoadedModel
from tunesmith.models.structure import num_weights, origin
from tunesmith.run.config import RunConfig
from tunesmith.run.rows import find_rows
from tunesmith.tasks.base import Columns, Task
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

INPUT_ROLES = ("text", "text_pair")


@dataclass(frozen=True)
class TaskData:
    """The rows of every split in the task's canonical columns, and the task bound to them."""

    task: Task
    prepared: PreparedData
    problems: tuple[Problem, ...]
    """Notes and warnings; errors have been raised."""
    rejected: tuple[RejectedRow, ...] = ()
    group: str | None = None
    """The column whose values never cross splits: the user's, or the data's own."""
    passage: int | None = None
    """How lines of plain text files were joined: the user's word, or the task's."""

    def columns(self, split: str) -> dict[str, list[Any]]:
        """Return the canonical columns of a split."""
        return dict(self.prepared.splits[split][:])

    @property
    def judged_split(self) -> str:
        """The split that the final figures come from."""
        return "test" if "test" in self.prepared.splits else "validation"


def load_data(config: RunConfig) -> TaskData:
    """Read the data, find the task and the columns, prepare the splits and bind the task.

    Raises ``InputError`` with everything that makes the data unusable for the task.
    """
    found = find_rows(config.data, config.task)
    task, problems = found.task, list(found.problems)
    prepared = prepare(found.raw, found.data, found.choices)
    problems += prepared.problems
    data = TaskData(task, prepared, ())
    train_columns = data.columns("train")
    task = task.bind(train_columns)
    for split in prepared.splits:
        problems += task.check(split, train_columns if split == "train" else data.columns(split))
    _raise_errors(problems)
    group = config.data.group or found.raw.group
    return TaskData(task, prepared, tuple(problems), found.raw.rejected, group, found.data.passage)


def _raise_errors(problems: Sequence[Problem]) -> None:
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise InputError(errors)


def texts_of(columns: Columns) -> list[str]:
    """Return all input texts of some rows."""
    return [text for role in INPUT_ROLES for text in columns.get(role, ())]


@dataclass(frozen=True)
class Network:
    """A model ready to score batches, with everything needed to feed it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    scorer: Scorer
    collate: Collator
    precision: str
    device: torch.device
    layout_reason: str
    source: str
    """Where the weights came from, for the record."""
    hub_id: str | None
    """The hub's name of the same weights, where there is one."""

    def encode(self, task: Task, columns: Columns) -> Encoded:
        """Tokenise rows that are used once."""
        return task.encode(columns, self.tokenizer, self.max_length)

    def encode_cached(self, task: Task, columns: Columns, content_hash: str) -> Encoded:
        """Tokenise a split, or memory-map it if the same content was tokenised the same way before."""
        key = hash_json(
            [FORMAT, task.model_dump(mode="json"), tokenizer_hash(self.tokenizer), self.max_length, content_hash]
        )
        folder = cached_folder("encoded", key, lambda folder: self.encode(task, columns).save(folder))
        return Encoded.load(folder)


def make_network(loaded: LoadedModel, config: RunConfig, task: Task, surgery: Callable[[Any], nn.Module]) -> Network:
    """Apply the method to a loaded model and put it on its device, in its precision and layout."""
    device = choose_device(config.train.device)
    model = surgery(loaded.model)
    layout, reason = choose_layout(model, task.reads, len(loaded.tokenizer), config.train.layout)
    precision = choose_precision(config.train.precision, device, from_scratch=config.model.from_scratch)
    place(model, precision, device)
    pad_token_id = loaded.tokenizer.pad_token_id or 0
    shapes = shapes_for(precision, device)
    return Network(
        model=model,
        tokenizer=loaded.tokenizer,
        max_length=loaded.max_length,
        scorer=Scorer(model, layout, task.reads, shapes),
        collate=collator_for(model, layout, pad_token_id, device, shapes),
        precision=precision,
        device=device,
        layout_reason=reason,
        source=loaded.source,
        hub_id=_hub_id(loaded),
    )


def _hub_id(loaded: LoadedModel) -> str | None:
    known = origin(loaded.model)
    return known.name if known is not None and not Path(known.name).is_absolute() else None


def resolve(config: RunConfig, data: TaskData, network: Network, learning_rate: float, folder: Path) -> RunConfig:
    """Return the configuration with everything that was detected or chosen filled in."""
    columns: dict[str, str] = {}
    for choice in data.prepared.choices:
        columns[choice.role] = ",".join(filter(None, (columns.get(choice.role), choice.column)))
    train = config.train.model_copy(
        update={"learning_rate": learning_rate, "precision": network.precision, "layout": network.scorer.layout}
    )
    model = config.model
    if not model.from_scratch and (place := Path(model.name).expanduser()).exists():
        model = model.changed(name=str(place.absolute()))
    updates = {
        "task": data.task,
        "model": model,
        "data": config.data.model_copy(
            update={"columns": columns, "group": data.group, "passage": data.passage} | _absolute_paths(config)
        ),
        "train": train,
        "output": str(folder),
    }
    return config.model_copy(update=updates)


def _absolute_paths(config: RunConfig) -> dict[str, str]:
    given = {name: getattr(config.data, name) for name in ("path", "validation", "test")}
    return {name: str(Path(path).absolute()) for name, path in given.items() if path and Path(path).exists()}


def parameter_counts(model: nn.Module, trained: Sequence[str]) -> tuple[int, int]:
    """Return the number of all parameters and of those that are ever trained."""
    names = set(trained)
    sizes = {name: num_weights(parameter) for name, parameter in model.named_parameters()}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name in names)
