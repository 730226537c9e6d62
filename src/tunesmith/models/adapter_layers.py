"""The layers of an adapter around its base model, as the adapter's files describe them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.failures import said
from tunesmith.models.origin import origin
from tunesmith.models.pinning import ADAPTER_WEIGHTS
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import ADAPTER_CONFIG, read_json
from tunesmith.models.wrapping import inner, plain_name, token_table
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

_PLAIN = re.compile(r"[\w.-]{1,300}")
_MAX_PATTERN = 1000
_PATTERN_SECONDS = 2.0
"""What matching all patterns of a file against all names of a model may take."""


MERGEABLE = (
    *("LORA", "ADALORA", "IA3", "VERA", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "FOURIERFT", "MISS", "RANDLORA"),
    *("SHIRA", "C3A", "ROAD", "LN_TUNING", "TRAINABLE_TOKENS", "HIRA"),
)
"""PEFT's names of the adapters that become part of their base's weights; others are opened beside it alone."""


def read_adapter_config(folder: Path, model: nn.Module, kind: str = "LORA") -> Any:
    """Return what ``adapter_config.json`` says, with every pattern in it replaced by the names that it stands for.

    PEFT matches regular expressions from that file with each of the model's names, and some of them never end.
    Which modules are adapted, the names of the weights say without any; where a pattern decides more (ranks and
    scales of single modules), it is matched here, within a limit of time. First values of virtual tokens, which the
    weights replace, are not made from the text and by the tokenizer that the file names.

    Raises ``InputError`` when the file describes no adapter of this ``kind`` (PEFT's name of it), or a pattern is none
    or takes too long.
    """
    path = folder / ADAPTER_CONFIG
    described, title = read_json(path), {"LORA": "LoRA"}.get(kind, kind)
    if str(described.get("peft_type", "")).upper() != kind:
        raise InputError(f"{path} describes a {described.get('peft_type')} adapter, not {title}.")
    with quiet():
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

        try:
            config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)].from_pretrained(str(folder))
        except Exception as error:  # fields of any type reach PEFT's own checks
            raise InputError(f"{path} describes no {title} adapter: {said(error)}") from error
    _require_plain(path, "modules_to_save", getattr(config, "modules_to_save", None))
    if hasattr(config, "target_modules"):
        _name_targets(config, folder, [name for name, _ in model.named_modules()])
    if hasattr(config, "prompt_tuning_init"):
        config.prompt_tuning_init, config.tokenizer_name_or_path = "RANDOM", None
        config.prompt_tuning_init_text = config.tokenizer_kwargs = None
    return config


def _name_targets(config: Any, folder: Path, names: Sequence[str]) -> None:
    """Put names in the place of the patterns that say which modules are adapted, and how."""
    path, targets = folder / ADAPTER_CONFIG, config.target_modules
    excluded = getattr(config, "exclude_modules", None)
    if isinstance(targets, str) or excluded or getattr(config, "layers_pattern", None):
        config.target_modules = _adapted(folder) or targets
        config.exclude_modules = config.layers_pattern = config.layers_to_transform = None
    _require_plain(path, "target_modules", config.target_modules)
    for key in ("rank_pattern", "alpha_pattern"):
        given = getattr(config, key, None) or {}
        if not isinstance(given, Mapping):
            raise InputError(f"{path}: {key} is {str(given)[:80]!r}; an object of numbers by module was expected.")
        if not all(isinstance(pattern, str) and _PLAIN.fullmatch(pattern) for pattern in given):
            setattr(config, key, _resolved(path, key, given, names))


def _adapted(folder: Path) -> list[str]:
    """Return the names of the modules for which the adapter's file holds weights."""
    from safetensors import safe_open

    with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy") as file:
        names = list(file.keys())
    return sorted({plain_name(name).partition(".lora_")[0] for name in names if ".lora_" in name})


def _require_plain(path: Path, key: str, names: Any) -> None:
    if names is None:
        return
    given = list(names) if isinstance(names, (list, tuple, set, frozenset)) else [names]
    if wrong := [name for name in given if not (isinstance(name, str) and _PLAIN.fullmatch(name))]:
        raise InputError(
            f"{path}: {key} holds {str(wrong[0])[:80]!r}; names of modules were expected.",
            "Write the names out, such as q_proj or model.layers.0.mlp.up_proj.",
        )


def _resolved(path: Path, key: str, patterns: Mapping[Any, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the value of the first pattern that fits each name, by the name: what PEFT finds for it."""
    import regex

    found: dict[str, Any] = {}
    deadline = time.monotonic() + _PATTERN_SECONDS
    for pattern, value in patterns.items():
        what = f"{path}: {key} has the pattern {str(pattern)[:80]!r}, which"
        if len(str(pattern)) > _MAX_PATTERN:
            raise InputError(f"{what} is {len(str(pattern)):,} characters long.", "Name the modules instead.")
        try:
            compiled = regex.compile(rf"(.*\.)?({pattern})")
            for name in names:
                left = max(0.01, deadline - time.monotonic())
                if name and name not in found and compiled.fullmatch(name, timeout=left):
                    found[name] = value
        except regex.error as error:
            raise InputError(f"{what} is no regular expression: {error}.", "Name the modules instead.") from error
        except TimeoutError as error:
            raise InputError(f"{what} takes too long to match.", "Name the modules instead.") from error
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))  # PEFT takes the end of a name for it, too


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Return ``model`` with the adapter's layers and weights; ``InputError`` unless all of them fit."""
    from safetensors.torch import load_file

    with quiet():
        from peft import PeftModel, set_peft_model_state_dict

    what = f"The adapter in {folder} does not fit {type(model).__name__}"
    kind = str(read_json(folder / ADAPTER_CONFIG).get("peft_type", "")).upper()
    if kind not in MERGEABLE:
        raise InputError(
            f"The adapter in {folder} (peft_type {kind or 'null'}) does not become part of a model's weights.",
            f"Open the run that made it, or name a folder with one of {', '.join(MERGEABLE)}.",
        )
    config = read_adapter_config(folder, model, kind)
    known = origin(model)
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    filled = {plain_name(name) for name in tensors}
    wrong = sorted(known.new_parameters - filled) if known else []
    try:
        with quiet():
            wrapped = PeftModel(model, config)
            given = {_file_name(name) for name in tensors}
            parts = (f".{wrapped.base_model.prefix}", ".modules_to_save.")
            own = (name for name, _ in wrapped.named_parameters() if any(part in name for part in parts))
            wrong = [name for name in own if _file_name(name) not in given] + wrong
            if not wrong:
                _check_shapes(what, wrapped, tensors)
                result: Any = set_peft_model_state_dict(wrapped, tensors)
                wrong += result.unexpected_keys
    except InputError:
        raise
    except Exception as error:  # whatever a file asks for that PEFT cannot do with this model
        raise InputError(f"{what}: {said(error)}") from error
    if wrong:
        raise InputError(
            Problem(
                "error",
                f"{what}: {len(wrong)} weights are missing or unknown ({', '.join(wrong[:3])}"
                f"{', …' if len(wrong) > 3 else ''}).",
                "Name its own base model in adapter_config.json (base_model_name_or_path), and its task_type.",
                len(wrong),
            )
        )
    return wrapped.eval()


def _check_shapes(what: str, wrapped: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ``InputError`` when weights have another shape than the model's; a larger vocabulary is told apart."""
    shapes = {_file_name(name): tuple(tensor.shape) for name, tensor in wrapped.state_dict().items()}
    wrong = {
        name: (tuple(tensor.shape), shapes[_file_name(name)])
        for name, tensor in tensors.items()
        if shapes.get(_file_name(name), tuple(tensor.shape)) != tuple(tensor.shape)
    }
    if not wrong:
        return
    shown = "; ".join(f"{name}: {list(here)}, the model's is {list(there)}" for name, (here, there) in wrong.items())
    tables = {len(table.weight) for table in _tables(wrapped)}
    resized = sorted({here[0] for here, there in wrong.values() if here[1:] == there[1:] and there[0] in tables})
    fix = "Name its own base model in adapter_config.json (base_model_name_or_path), and its task_type."
    if resized:
        fix = (
            f"The adapter was trained on a vocabulary of {resized[0]} tokens. Load the base model in transformers, "
            f"call resize_token_embeddings({resized[0]}), save it with the adapter's tokenizer, and name that folder "
            "in adapter_config.json (base_model_name_or_path)."
        )
    message = f"{what}: {len(wrong)} of its weights have another shape ({shown[:600]})."
    raise InputError(Problem("error", message, fix, len(wrong)))


def _tables(wrapped: nn.Module) -> list[Any]:
    """Return what has a row for every token: the embeddings, and a language model's output layer."""
    whole: Any = inner(wrapped)
    found = [token_table(whole), Anatomy.of(wrapped).output_embeddings]
    return [table for table in found if table is not None and getattr(table, "weight", None) is not None]


def _file_name(name: str) -> str:
    """Return a weight's name as it is in neither of its two places, the model and the file, but equal for both."""
    plain = re.sub(r"\.default(?=\.|$)", "", plain_name(name))
    return re.sub(r"(?<=\.lora_magnitude_vector)\.weight$", "", plain)
