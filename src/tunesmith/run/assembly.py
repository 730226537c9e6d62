"""From a configuration to the parts of a run: data, task, model, method, layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data import PreparedData, RejectedRow, left_out_of, prepare
from tunesmith.data.columns import NOTHING
from tunesmith.data.config import SetConfig
from tunesmith.data.encoded import Encoded
from tunesmith.data.tables import read_report, write_report
from tunesmith.engine.batch import Collator
from tunesmith.engine.cuda import liger
from tunesmith.engine.layout import choose_layout, collator_for, shapes_for
from tunesmith.engine.precision import Precision, choose_device, choose_precision, place
from tunesmith.engine.scorer import Scorer
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.models import tokenizer_hash
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.base import LoadedModel
from tunesmith.models.failures import tokenizing
from tunesmith.models.origin import origin
from tunesmith.models.streaming import let_go
from tunesmith.models.weights import num_weights
from tunesmith.models.wrapping import inner, num_virtual_tokens
from tunesmith.run.config import RunConfig
from tunesmith.run.mixture import REPLAY, MixedSet, read_mixture, single
from tunesmith.run.offload import check_streamed, offload_note
from tunesmith.run.rows import find_rows
from tunesmith.tasks.base import Columns, Task
from tunesmith.tasks.version import task_version
from tunesmith.types import ColumnChoice, InputError, Problem
from tunesmith.version import version_of

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase


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
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many rows were left out, by the reason."""
    sets: tuple[MixedSet, ...] = ()
    """The data sets that are mixed, where there are several."""

    def task_of(self, split: str) -> Task:
        """Return the task as it reads the rows of a split: general texts beside conversations are texts."""
        texts = self.task.on_texts() if split == REPLAY else None
        return self.task if texts is None else texts

    def columns(self, split: str) -> Columns:
        """Return the canonical columns of a split, of which only what is used is read from disk."""
        return self.prepared.splits[split].columns()

    def judged_split(self, wanted: str) -> str:
        """Return the split that the final figures come from, where ``wanted`` is what is asked for."""
        return wanted if wanted in self.prepared.splits else "validation"


def load_data(config: RunConfig) -> TaskData:
    """Read the data, find the task and the columns, prepare the splits and bind the task.

    Raises ``InputError`` with everything that makes the data unusable for the task.
    """
    if config.data.mixture:
        alone = single(config.data)
        return _load_mixture(config) if alone is None else load_data(config.model_copy(update={"data": alone}))
    found = find_rows(config.data, config.task)
    task, problems = found.task, list(found.problems)
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    problems += prepared.problems
    task = task.bind(prepared.splits["train"].columns())
    problems += _checked(task, prepared)
    _raise_errors(problems)
    group = found.data.group or found.raw.group
    left_out = left_out_of(found.raw, prepared)
    return TaskData(task, prepared, tuple(problems), found.raw.rejected, group, found.data.passage, left_out)


def _load_mixture(config: RunConfig) -> TaskData:
    mixed = read_mixture(config.data, config.task)
    task = mixed.task.bind(mixed.prepared.splits["train"].columns())
    problems = [*mixed.problems, *mixed.prepared.problems, *_checked(task, mixed.prepared)]
    _raise_errors(problems)
    rejected = tuple(row for found in mixed.found for row in found.raw.rejected)
    passage = next((found.data.passage for found in mixed.found if found.data.passage is not None), None)
    return TaskData(
        task, mixed.prepared, tuple(problems), rejected, config.data.group, passage, mixed.left_out, mixed.sets
    )


def _checked(task: Task, prepared: PreparedData) -> tuple[Problem, ...]:
    """Return what the bound task finds wrong with the splits; each is looked through once and for all."""

    def build(folder: Path) -> None:
        found = [
            problem
            for name, rows in prepared.splits.items()
            if name != REPLAY
            for problem in task.check(name, rows.columns())
        ]
        write_report(folder, {}, found)

    key = hash_json([task_version(task), task.model_dump(mode="json"), prepared.key])
    return read_report(cached_folder("checked", key, build, hashes=True))[1]


def _raise_errors(problems: Sequence[Problem]) -> None:
    if errors := [problem for problem in problems if problem.severity == "error"]:
        raise InputError(errors)


def inputs_of(task: Task, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Return those of the task's ``inputs`` that a run has: of optional ones those that ``columns``, by role, fill."""
    first, *others = task.inputs
    required = {role.name for role in task.roles if role.required}
    given = [name for name in others if columns.get(name, NOTHING).strip().lower() != NOTHING or name in required]
    return (first, *given)


@dataclass(frozen=True)
class Network:
    """A model ready to score batches, with everything needed to feed it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    scorer: Scorer
    collate: Collator
    precision: Precision
    device: torch.device
    layout_reason: str
    source: str
    """Where the weights came from, for the record."""
    hub_id: str | None
    """The hub's name of the same weights, where there is one."""
    trained: frozenset[str] = frozenset()
    """The parameters that are ever trained, by name."""
    notes: tuple[Problem, ...] = ()
    """What is to be said to whoever trains it."""

    def encode(self, task: Task, columns: Columns) -> Encoded:
        """Tokenise rows that are used once; ``InputError`` where the tokenizer itself gives up."""
        with tokenizing(self.source):
            return task.encode(columns, self.tokenizer, self.max_length)

    @cached_property
    def tokenizer_sha256(self) -> str:
        """What the tokenizer does, as one hash; the tokenizer does not change any more."""
        return tokenizer_hash(self.tokenizer)

    def encode_cached(self, task: Task, columns: Columns, content_hash: str) -> Encoded:
        """Tokenise a split, or memory-map it if the same content was tokenised the same way before."""
        settings = task.model_dump(mode="json", exclude=set(task.not_encoded))
        libraries = {name: version_of(name) for name in ("tokenizers", "transformers")}
        key = hash_json([task_version(task), libraries, settings, self.tokenizer_sha256, self.max_length, content_hash])
        folder = cached_folder("encoded", key, lambda folder: self.encode(task, columns).save(folder), hashes=True)
        return Encoded.load(folder)


def make_network(
    loaded: LoadedModel,
    config: RunConfig,
    task: Task,
    surgery: Callable[[Any], nn.Module],
    *,
    is_trained: bool = False,
    proven: MutableMapping[str, float] | None = None,
) -> Network:
    """Apply the method to a loaded model and put it on its device, in its precision and layout.

    In a network that ``is_trained`` the method's weights keep their exact values for the optimizer. ``proven`` is that
    of ``choose_layout``.
    """
    device = choose_device(config.compute.device)
    let_go(loaded.model)  # of passes that checked it: a method may read weights
    model = surgery(loaded.model)
    wanted, fused = config.compute.layout, device.type == "cpu"
    layout, reason = choose_layout(
        model,
        task.reads,
        len(loaded.tokenizer),
        wanted,
        fused=fused,
        longest=loaded.max_length,
        pooling=task.row_pooling,
        proven=proven,
    )
    precision = choose_precision(config.train.precision, device, from_scratch=config.model.from_scratch)
    groups = config.method.parameter_groups(model) if is_trained else ()
    trained = frozenset(name for group in groups for name in group.names)
    check_streamed(model, trained)
    place(model, precision, device, trained)
    notes = (*_use_kernels(model, config.compute.kernels, device), *offload_note(model))
    pad_token_id = loaded.tokenizer.pad_token_id or 0
    shapes = shapes_for(precision, device)
    return Network(
        model=model,
        tokenizer=loaded.tokenizer,
        max_length=_longest_row(model, loaded.max_length),
        scorer=Scorer(model, layout, task.reads, shapes, pooling=task.row_pooling, packs=not is_trained),
        collate=collator_for(model, layout, pad_token_id, device, shapes),
        precision=precision,
        device=device,
        layout_reason=reason,
        source=loaded.source,
        hub_id=_hub_id(loaded),
        trained=trained,
        notes=notes,
    )


def _longest_row(model: nn.Module, max_length: int) -> int:
    """Return how many tokens of a row have a place beside those that the method puts before every row."""
    num_before, anatomy = num_virtual_tokens(model), Anatomy.of(model)
    if not num_before or anatomy.max_positions is None:
        return max_length
    return min(max_length, anatomy.max_positions - anatomy.position_offset - num_before)


def _use_kernels(model: nn.Module, wish: liger.Wish, device: torch.device) -> tuple[Problem, ...]:
    """Take Liger's kernels where they are wanted and equal; return a warning where none of those asked for is."""
    if not liger.wants_kernels(wish, device):
        return ()
    try:
        num_replaced, num_different = liger.use_kernels(model)
        failure = ""
    except liger.UnusableError as error:
        num_replaced, num_different, failure = 0, 0, f"the package cannot be used ({error})"
    if wish != "liger" or num_replaced:
        return ()
    reason = failure or (
        f"the results of all {num_different} that it replaces differ"
        if num_different
        else f"the package knows none of {type(inner(model)).__name__}"
    )
    message = f"compute.kernels: liger: the model keeps its own norms and gated layers, since {reason}."
    return (Problem("warning", message, "Set compute.kernels to own, or choose a model that liger-kernel supports."),)


def _hub_id(loaded: LoadedModel) -> str | None:
    known = origin(loaded.model)
    return known.name if known is not None and not Path(known.name).is_absolute() else None


def resolve(config: RunConfig, data: TaskData, network: Network, folder: Path) -> RunConfig:
    """Return the configuration with everything that was detected or chosen filled in."""
    columns = _columns(config.data.columns, data.prepared.choices)
    own = [
        next(
            (_columns(given.columns or config.data.columns, one.choices) for one in data.sets if one.config == given),
            {},
        )
        for given in config.data.mixture
    ]
    config = with_absolute_paths(config)
    mixture = tuple(
        one.changed(columns=found) if found else one for one, found in zip(config.data.mixture, own, strict=True)
    )
    known = origin(network.model)
    if known is not None and known.revision is not None:  # a branch moves
        config = config.model_copy(update={"model": config.model.changed(revision=known.revision)})
    said = {"columns": columns, "mixture": mixture, "group": data.group, "passage": data.passage}
    updates = {
        "task": data.task,
        "data": config.data.model_copy(update=said),
        "train": config.train.model_copy(update={"precision": network.precision}),
        "compute": config.compute.model_copy(update={"layout": network.scorer.layout}),
        "output": str(folder),
    }
    return config.model_copy(update=updates)


def _columns(given: Mapping[str, str], choices: Sequence[ColumnChoice]) -> dict[str, str]:
    """Return the columns of all roles; those that are to stay empty are the user's word, too."""
    roles = {choice.role for choice in choices}
    columns = {
        role: column for role, column in given.items() if role not in roles and column.strip().lower() == NOTHING
    }
    for choice in choices:
        columns[choice.role] = ",".join(filter(None, (columns.get(choice.role), choice.column)))
    return columns


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with the files and folders that it names as they are found from anywhere."""
    model = config.model
    if not model.from_scratch and (place := Path(model.name).expanduser()).exists():
        model = model.changed(name=str(place.absolute()))
    given = {name: getattr(config.data, name) for name in ("path", "validation", "test")}
    paths: dict[str, Any] = {
        name: str(Path(path).absolute()) for name, path in given.items() if path and Path(path).exists()
    }
    if config.data.mixture:
        paths["mixture"] = tuple(map(_with_absolute_paths, config.data.mixture))
    teacher = config.teacher
    if teacher is not None:
        named = {name: getattr(teacher, name) for name in ("run", "unlabelled")}
        found = {name: str(Path(path).absolute()) for name, path in named.items() if path and Path(path).exists()}
        teacher = teacher.model_copy(update=found)
    updates = {"model": model, "data": config.data.model_copy(update=paths), "teacher": teacher}
    return config.model_copy(update=updates)


def _with_absolute_paths(one: SetConfig) -> SetConfig:
    given = {name: getattr(one, name) for name in ("path", "validation", "test")}
    return one.changed(
        **{name: str(Path(path).absolute()) for name, path in given.items() if path and Path(path).exists()}
    )


def count_parameters(model: nn.Module) -> int:
    """Return how many weights there are."""
    return sum(num_weights(parameter) for parameter in model.parameters())
