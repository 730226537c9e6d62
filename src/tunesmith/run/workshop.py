"""What several runs have in common: read, loaded and computed once. A single run uses it too, with nobody to share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tunesmith.files.hashing import hash_json
from tunesmith.models.base import LoadedModel
from tunesmith.run.assembly import Network, TaskData, load_data, make_network
from tunesmith.tasks.saved_head import head_of_run

if TYPE_CHECKING:
    from tunesmith.data.encoded import Encoded
    from tunesmith.run.config import RunConfig

T = TypeVar("T")


class Workshop:
    """Parts of runs, by what they were made from."""

    def __init__(self, *, one_base: bool = False) -> None:
        self._one_base = one_base
        """Whether the runs' models are to use one frozen base."""
        self._made: dict[str, object] = {}
        self._templates: dict[str, LoadedModel] = {}
        """Models as they were loaded, which nobody trains or changes."""
        self._first: Network | None = None
        """The one whose frozen weights the others use."""

    def once(self, key: Sequence[Any], make: Callable[[], T]) -> T:
        """Return what ``make`` gave when this was first asked for with an equal key (JSON values)."""
        name = hash_json(list(key))
        if name not in self._made:
            self._made[name] = make()
        return cast("T", self._made[name])

    def data(self, config: RunConfig) -> TaskData:
        """Return the rows of a run and its task, bound to them."""
        values = config.model_dump(mode="json")
        return self.once(["data", values["data"], values["task"]], lambda: load_data(config))

    def load(self, config: RunConfig, data: TaskData) -> LoadedModel:
        """Return a run's model with what is new in it initialised from the run's seed."""
        head, seed, source = data.task.head(), config.train.seed, config.model
        if not self._one_base or source.from_scratch:
            read = chain.from_iterable(data.task.texts(data.columns("train")).values())
            return source.load(head, (text or "" for text in read), seed, head_of_run)
        key = hash_json([source.model_dump(mode="json"), head.auto_class, head.num_outputs, dict(head.config)])
        if key not in self._templates:
            self._templates[key] = source.load(head, (), seed, head_of_run)
        template = self._templates[key]
        own = self.once(["tokenizer", *_task_of(data)], lambda: copy.deepcopy(template.tokenizer))
        return replace(source.load_again(template, seed), tokenizer=own)

    def network(self, config: RunConfig, data: TaskData, loaded: LoadedModel) -> Network:
        """Return a run's adapted model, on the base of those before it where that is to be one."""
        made = make_network(loaded, config, data.task, config.method.apply, like=self._first, is_trained=True)
        if self._one_base and self._first is None:
            self._first = made
        return made

    def encoded(self, network: Network, data: TaskData, split: str) -> Encoded:
        """Return the tokens of a split."""
        key = ["encoded", *_task_of(data), network.max_length, data.prepared.hashes[split]]
        return self.once(
            key, lambda: network.encode_cached(data.task, data.columns(split), data.prepared.hashes[split])
        )

    def release(self) -> None:
        """Forget what only composing needs: every run has its model."""
        self._templates.clear()


def _task_of(data: TaskData) -> list[Any]:
    return [data.task.model_dump(mode="json")]
