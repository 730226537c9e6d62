"""Loading a model whose weights stay in their files: at no time is all of it in memory.

``transformers`` is given what stands for the weights, tensors of the right shapes without any memory. It renames, ties
and initialises as it does with real ones; which weight each of them became is told by the one number that each has.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.streaming import Stream, StreamSettings, hollow, stream_of
from tunesmith.models.weight_files import Stored, open_weights, suit, weight_names, weights_in
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_FIX = "Set compute.offload to none, or choose another model."


def load_streamed(
    auto_class: Any, place: ModelFolder, config: PretrainedConfig, settings: StreamSettings
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return the model of ``config`` and what ``from_pretrained`` says of its loading.

    Torch's random numbers decide what is new, as they do without streaming. Raises ``InputError`` for a model without
    layers, and for one whose files hold its weights in another arrangement than it computes with.
    """
    stored, settings = _stored_in(place, settings)
    given = {name: _given(one) for name, one in stored.items()}
    kind, config = _class_of(auto_class, config)
    model, found = kind.from_pretrained(
        None,
        config=copy.deepcopy(config),
        state_dict=dict(given),
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    _read_generation_settings(model, place.folder)
    known = {tensor.untyped_storage().data_ptr(): stored[name] for name, tensor in given.items()}
    found_in = {one: known.get(one.untyped_storage().data_ptr()) for one in model.parameters()}
    in_files = {parameter: one for parameter, one in found_in.items() if one is not None}
    _require_arrangement(model, place.folder, found, in_files)
    try:
        stream = Stream(model, in_files, settings)
    except ValueError as error:
        message = f"compute.offload: {type(model).__name__} cannot be brought in layer by layer: {error}."
        raise InputError(message, _FIX) from error
    _read_buffers(model, known)
    stream.rest(torch.device("cpu"), torch.float32)
    return model, found


def _stored_in(place: ModelFolder, settings: StreamSettings) -> tuple[dict[str, Stored], StreamSettings]:
    """Return a folder's weights in files, and how they can be streamed from there.

    What is read only until the model is divided is not worth a copy in another format: a layer is converted at a time.
    """
    if settings.until_divided:
        stored = open_weights([place.folder / name for name in weight_names(place.folder)])
        is_mapped = settings.is_mapped and suit(stored.values(), settings.dtype, aligned=True)
        return stored, replace(settings, is_mapped=is_mapped)
    sha256 = place.identified().weights_sha256
    assert sha256 is not None
    return weights_in(place.folder, sha256, settings.dtype, aligned=settings.is_mapped)[0], settings


def stream_again(model: PreTrainedModel, again: PreTrainedModel) -> None:
    """Let a model that was made with the weights of one that is streamed be streamed as well."""
    stream = stream_of(model)
    if stream is not None:
        own = Stream(again, stream.of(again.parameters()), stream.settings)
        own.rest(torch.device("cpu"), torch.float32)


def _given(stored: Stored) -> torch.Tensor:
    return hollow(stored.shape) if stored.dtype.is_floating_point else stored.tensor().clone()


def _class_of(auto_class: Any, config: Any) -> tuple[Any, Any]:
    """Return the class that ``auto_class`` would take for a config, and the config that it would be given."""
    found = auto_class._model_mapping[type(config)]
    if isinstance(found, (list, tuple)):
        named = {kind.__name__: kind for kind in found}
        found = next((named[name] for name in config.architectures or () if name in named), found[0])
    texts = config.get_text_config()
    is_of_text = texts is not config and found.config_class is type(texts)
    return found, texts if is_of_text else config


def _read_generation_settings(model: Any, folder: Path) -> None:
    """Give a model that writes the settings of its folder, as ``from_pretrained`` does."""
    from transformers import GenerationConfig

    if not model.can_generate():
        return
    has_own = (folder / "generation_config.json").is_file()
    settings: dict[str, Any] = {} if has_own else {"config_file_name": "config.json", "_from_model_config": True}
    model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True, **settings)


def _require_arrangement(model: nn.Module, folder: Path, found: dict[str, Any], in_files: Any) -> None:
    """Refuse a model of which a weight was made of several, or of a part, of those in its files."""
    new = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
    made = [name for name, one in model.named_parameters() if name not in new and one not in in_files]
    if made:
        message = (
            f"compute.offload: the files in {folder} hold {len(made)} of the weights of {type(model).__name__} in "
            f"another arrangement than it computes with ({', '.join(made[:3])}{', …' if len(made) > 3 else ''})."
        )
        raise InputError(message, _FIX)


def _read_buffers(model: nn.Module, known: dict[int, Stored]) -> None:
    """Read what is stored with the weights and is none."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            stored = None if buffer is None else known.get(buffer.untyped_storage().data_ptr())
            if stored is not None:
                module._buffers[name] = stored.tensor().float()
