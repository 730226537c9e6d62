"""A run's model as a plain one of ``transformers``, whole and in float32, whatever the method left of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.engine.stand_ins import remove_stand_ins
from tunesmith.models import load_trained
from tunesmith.models.wrapping import inner
from tunesmith.run import Run
from tunesmith.tasks.saved_head import head_of_run
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PlainModel:
    """What is written for others."""

    model: PreTrainedModel
    """In float32, on the CPU, in ``eval`` mode; no adapter is beside it any more."""
    tokenizer: PreTrainedTokenizerBase
    max_length: int


def plain_model(run: Run) -> PlainModel:
    """Return the model of a run with what its method trained added to it.

    Adapters are added in float32, one layer at a time, by PEFT; the sum is compared with the adapter beside its base
    as it is loaded (``tunesmith.models.merging``).

    Raises ``InputError`` for ensembles, for models of tunesmith's own, beside a quantised base, and for methods that
    add tokens instead of weights.
    """
    config, task = run.config, run.task
    network = run.network  # an ensemble has none
    if type(inner(network.model)).__module__.partition(".")[0] == "tunesmith":
        raise InputError(
            f"The model of {run.folder}, {config.model.name}, is tunesmith's own: other programs have none like it.",
            "Use 'tunesmith predict', or train a model of transformers (--model).",
        )
    method: Any = config.method
    if getattr(method, "quantize", "none") != "none":
        raise InputError(
            f"The adapter of {run.folder} was trained beside a base in {method.quantize}: added to the weights as they "
            "were before, it gives other scores.",
            "Train beside the whole base (--method.quantize none), or serve adapter and base together.",
        )
    if method.result == "own":
        # A copy: the run's own, as it was trained, is what this is compared with.
        whole = method.dense(copy.deepcopy(remove_stand_ins(network.model).float().cpu()).eval())
        return _prepared(inner(whole), network.tokenizer, network.max_length)
    if method.result == "adapter":
        # Without a base of its own, the folder of an adapter is a model, too: base and adapter in one.
        without = {"revision": None} if "revision" in type(config.model).model_fields else {}
        merged = config.model.changed(name=str(run.folder.resolve()), **without)
        loaded = merged.load(task.head(), [], config.train.seed, head_of_run)
    else:
        loaded = load_trained(run.folder, task.head(), run.summary["max_length"])
    task.adapt(loaded.tokenizer)
    return _prepared(inner(loaded.model), loaded.tokenizer, network.max_length)


def _prepared(model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int) -> PlainModel:
    whole: Any = model
    return PlainModel(whole.float().cpu().eval(), tokenizer, max_length)
