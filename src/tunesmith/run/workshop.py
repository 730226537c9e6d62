"""What several runs share. A run by itself has a workshop of its own; a study's runs, one after the other, have one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from tunesmith.engine.predict import forward_tokens
from tunesmith.evaluate import Baseline, baseline
from tunesmith.files.atomic import remove_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.ownership import COLUMNS
from tunesmith.models.base import LoadedModel
from tunesmith.models.sharing import memory_beside, own_memory
from tunesmith.run.assembly import Network, TaskData, load_data
from tunesmith.run.computed_columns import ComputedColumns
from tunesmith.run.idle_networks import IdleNetworks
from tunesmith.run.kept_states import KeptStates
from tunesmith.run.offload import streaming_of
from tunesmith.run.parts_from_files import until_divided
from tunesmith.run.reuse import Reuse
from tunesmith.tasks.saved_head import head_of_run

if TYPE_CHECKING:
    from types import TracebackType

    from transformers import PreTrainedTokenizerBase

    from tunesmith.data.encoded import Encoded
    from tunesmith.engine.config import ComputeConfig
    from tunesmith.models.base import ModelSource
    from tunesmith.run.config import RunConfig

T = TypeVar("T")


class Workshop:
    """Gives runs of one process what they have in common, each thing by what it was made from.

    A run that uses one is, to the bit, the run that it is alone:

    - **Shared** is what no run changes: rows as they were read and prepared; a model as it was loaded, its tokenizer;
      tokens; what models made of rows before training (``ComputedColumns``); baselines. Two runs share a thing when
      its key, which names all that it follows from, is the same for both.
    - **Never shared** is what a run changes: weights that are trained and a model's buffers (their memory is the run's
      own, whatever the model was made of), optimizers, random numbers, progress, run folders.
    - **Memory** is given back by ``release`` (models as they were loaded) and ``close`` (everything). A run leaves
      nothing behind but what others may share: tokens and columns are mapped from disk where they are large.

    As a context manager it closes at the end. Rows are read once: a file that changes while the workshop is open is,
    for its runs, as it was. One process and one thread use it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        keeps_models: bool = True,
        keeps_networks: bool = False,
        most_lost: float = 0.0,
        share: float = 1.0,
    ) -> None:
        """Begin with nothing.

        Args:
            folder: Where computed columns are kept for all runs, also from one process to the next; each run's own
                folder when not given, with what is large in that of the first run that needs it.
            keeps_models: Whether models are held, as they were loaded, for runs that come. What a single run has no
                use for.
            keeps_networks: Whether networks of runs that are left unfinished are kept for runs that begin alike.
            most_lost: Seconds of training that may be in memory alone, to be made again after a kill: then checkpoints
                are written less often than at every evaluation (``KeptStates``).
            share: The part of the machine's memory that is this process's to keep states and networks in.
        """
        self._folder = folder
        self.keeps_models = keeps_models
        self.states = KeptStates(most_lost, share)
        self.networks = IdleNetworks(keeps_networks, share)
        self.reuse = Reuse()
        self._made: dict[str, object] = {}
        self._templates: dict[str, LoadedModel] = {}
        """Models as they were loaded, which nobody trains or changes."""
        self._same_models: dict[str, str] = {}
        """What else is asked for where a model that was loaded is wanted: by its key, that of the model."""
        self._layouts: dict[str, dict[str, float]] = {}
        self._tokenizers: dict[int, PreTrainedTokenizerBase] = {}
        """Those that several runs use, by their identity."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(delete=error is None)

    def once(self, key: Sequence[Any], make: Callable[[], T]) -> T:
        """Return what ``make`` gave when this was first asked for with an equal key (JSON values)."""
        name, kind = hash_json(list(key)), str(key[0])
        if name not in self._made:
            self._made[name] = self.reuse.make(kind, name, make)
        else:
            self.reuse.used_again(kind, name)
        return cast("T", self._made[name])

    def data(self, config: RunConfig) -> TaskData:
        """Return the rows of a run and its task, bound to them."""
        values = config.model_dump(mode="json")
        return self.once(["data", values["data"], values["task"]], lambda: load_data(config))

    def load(self, config: RunConfig, data: TaskData) -> LoadedModel:
        """Return a run's model with what is new in it initialised from the run's seed.

        It may share memory with others: see ``own``.
        """
        head, seed, source = data.task.head(), config.train.seed, config.model
        streaming = streaming_of(config) or until_divided(config)

        def load(texts: Iterable[str]) -> LoadedModel:
            return source.load(head, texts, seed, head_of_run, streaming=streaming)

        if not self.keeps_models or source.from_scratch:
            return load(data.task.vocabulary_texts(data.columns("train")))

        def key_of(source: ModelSource) -> str:
            kind = [source.model_dump(mode="json"), None if streaming is None else streaming.key()]
            return hash_json([*kind, *head.auto_classes, head.num_outputs, dict(head.config)])

        key = key_of(source)
        key = self._same_models.get(key, key)
        if key not in self._templates:
            made = self.reuse.make("model", key, lambda: load(()))
            self._templates[key] = made
            self._same_models[key_of(source.changed(max_length=made.max_length))] = key  # so a resumed run asks for it
        else:
            self.reuse.used_again("model", key)
        template = self._templates[key]
        own = self.once(["tokenizer", key, *_task_of(data)], lambda: copy.deepcopy(template.tokenizer))
        self._tokenizers[id(own)] = own
        return replace(source.load_again(template, seed), tokenizer=own)

    def proven_layouts(self, config: RunConfig, data: TaskData) -> dict[str, float]:
        """Return what was found of layouts on models that differ from a run's in weights that a seed makes alone."""
        parts = [one.model_dump(mode="json") for one in (config.model, config.method, config.compute, data.task)]
        return self._layouts.setdefault(hash_json(parts), {})

    def own(self, network: Network) -> None:
        """Give a run the memory of the parameters that it is going to train, and of the buffers."""
        for template in self._templates.values():
            own_memory(network.model, template.model, network.trained)

    @property
    def shared_places(self) -> set[int]:
        """The memory of models as they were loaded: networks have it in common, and write to none of it."""
        return {one.data_ptr() for template in self._templates.values() for one in template.model.parameters()}

    def bytes_beside(self, network: Network) -> int:
        """Return the memory of what is held for other runs, as far as a run does not use it, on its device: bytes."""
        models = memory_beside((template.model for template in self._templates.values()), network.model)
        kept = self.states.num_bytes + self.networks.num_bytes
        return models + (kept if network.device.type == "cpu" else 0)

    def tokenizer_sha256(self, network: Network) -> str:
        """Return what the tokenizer does, as one hash."""
        place = id(network.tokenizer)
        if place not in self._tokenizers:
            return network.tokenizer_sha256
        return self.once(["tokenizer_sha256", place], lambda: network.tokenizer_sha256)

    def encoded(self, network: Network, data: TaskData, split: str) -> Encoded:
        """Return the tokens of a split."""
        content = data.prepared.hashes[split]
        task = data.task_of(split)
        key = ["encoded", task.model_dump(mode="json"), self.tokenizer_sha256(network), network.max_length, content]
        return self.once(key, lambda: network.encode_cached(task, data.columns(split), content))

    def columns(self, folder: Path, network: Network, compute: ComputeConfig) -> ComputedColumns:
        """Return the place of what a run's model makes of rows; ``folder`` is the run's."""
        machine = [
            network.scorer.layout,
            str(network.device),
            forward_tokens(compute.micro_batch_tokens, network.device),
            compute.kernels,
            compute.deterministic,
        ]
        return ComputedColumns(folder, self._folder, machine, self.once)

    def baseline(self, data: TaskData, split: str, seed: int, working: Callable[[], None]) -> Baseline | None:
        """Return the classical rival on a split; ``working`` is called where it has to be trained.

        It depends on the rows alone: runs with other seeds than that of the split have the same.
        """
        hashes = data.prepared.hashes
        key = ["baseline", *_task_of(data), hashes["train"], hashes[split], seed]

        def make() -> Baseline | None:
            working()
            return baseline(data.task, data.columns("train"), data.columns(split), seed)

        return self.once(key, make)

    def release(self) -> None:
        """Forget models as they were loaded: no run is to come that needs one."""
        self._templates.clear()

    def close(self, *, delete: bool = True) -> None:
        """Forget everything and, unless work is to go on from it, ``delete`` the columns of the common folder."""
        self.release()
        self.states.clear()
        self.networks.close()
        self._made.clear()
        self._tokenizers.clear()
        if delete and self._folder is not None:
            for kind in COLUMNS:
                remove_folder(self._folder / kind)


def _task_of(data: TaskData) -> list[Any]:
    return [data.task.model_dump(mode="json")]
