"""A run's model as a plain one of ``transformers``, whole and in float32, whatever the method left of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.models.wrapping import inner
from tunesmith.run import Run
from tunesmith.run.whole_model import load_whole
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class PlainModel:
    """What is written for others."""

    model: PreTrainedModel
    """In float32, on the CPU, in ``eval`` mode; no adapter is beside it any more."""
    tokenizer: PreTrainedTokenizerBase
    max_length: int


def plain_model(run: Run) -> PlainModel:
    """Return the model of a run with what its method trained added to it, loaded anew.

    Raises ``InputError`` for ensembles, for models of tunesmith's own, beside a quantised base, and for methods that
    add tokens instead of weights.
    """
    config = run.config
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
    loaded = load_whole(run.directory, config, run.task)
    run.task.adapt(loaded.tokenizer)
    trained: Any = loaded.model
    model = trained.float().cpu().eval()
    whole: Any = inner(method.dense(model).eval() if method.result == "own" else model)
    return PlainModel(whole, loaded.tokenizer, network.max_length)
