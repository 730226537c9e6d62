"""The model of a finished run as one module, with whatever its method trained inside it."""

from __future__ import annotations

from typing import Any

from tunesmith.models import LoadedModel, load_trained
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.tasks.base import Task
from tunesmith.tasks.saved_head import head_of_run


def load_whole(directory: RunDirectory, config: RunConfig, task: Task) -> LoadedModel:
    """Return a run's model in float32, loaded anew; no adapter stands beside it.

    An adapter is added to its base by PEFT, layer by layer, and the sum is compared with the adapter beside its base as
    it is loaded (``tunesmith.models.merging``). What a method has in a form of its own stays in that form.
    """
    head, folder, method = task.head(), directory.path, config.method
    if not method.needs_base:
        return load_trained(folder, head, directory.read_json("training")["max_length"])
    if method.result == "adapter":
        # Without a base of its own, the folder of an adapter is a model, too: base and adapter in one.
        without = {"revision": None} if "revision" in type(config.model).model_fields else {}
        merged = config.model.changed(name=str(folder.resolve()), **without)
        return merged.load(head, [], config.train.seed, head_of_run)
    loaded = config.model.load(head, [], config.train.seed, head_of_run)
    own: Any = method.load(loaded.model, folder)
    return LoadedModel(own, loaded.tokenizer, loaded.max_length, loaded.source)
