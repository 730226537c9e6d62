"""What is refused before anything of a model folder is loaded.

Weights are read as safetensors only, and no code that travels with a model is ever run. The
checks look at the files themselves, because a setting in a config file (``auto_map``) can
make a loader import code that its caller never asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tunesmith.bounded import StoppedError, Worker
from tunesmith.config.base import nearest
from tunesmith.models.folder_checks import file_problems, setting_problems, size_problems
from tunesmith.types import InputError, Problem

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_CONFIG = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_OTHER_WEIGHTS = ("*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.npz")
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "source.spm",
    "tekken.json",
)
_CODE_KEYS = ("auto_map", "auto_mapping", "custom_pipelines", "custom_generate")
_MAX_JSON_BYTES = 200_000_000


def check_model_folder(folder: Path, *, tokenizer: bool = True) -> None:
    """Raise ``InputError`` with every reason not to load a full model from ``folder``.

    ``tokenizer`` says whether tokenizer files must be there too. Nothing is loaded: config
    files are read as JSON, of weight files only the headers.
    """
    if problems := file_problems(folder) if folder.is_dir() else []:
        raise InputError(problems)
    if not (folder / CONFIG).is_file():
        raise InputError(_no_config(folder))
    problems = _check_code(folder)
    problems += _check_config(folder / CONFIG)
    if unfit := _check_weights(folder):
        problems += unfit
    else:
        with suppress(InputError):  # reported by _check_code
            config, (num_tensors, num_weights) = read_json(folder / CONFIG), _weights_content(folder)
            sizes = size_problems(folder / CONFIG, config, num_tensors, num_weights)
            problems += sizes or _check_depth(folder / CONFIG, config, num_tensors)
    if (folder / ADAPTER_CONFIG).exists():
        problems.append(_is_adapter(folder))
    if tokenizer and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        problems.append(
            Problem(
                "error",
                f"The model folder {folder} has no tokenizer: none of {', '.join(TOKENIZER_FILES[:4])}, … is there.",
                "Copy the tokenizer's files (at least tokenizer.json) beside the weights.",
            )
        )
    if problems:
        raise InputError(problems)


def check_adapter_folder(folder: Path) -> None:
    """Raise ``InputError`` with every reason not to load an adapter from ``folder``."""
    path = folder / "adapter_model.safetensors"
    if problems := file_problems(folder):
        raise InputError(problems)
    problems = _check_code(folder)
    for needed in (folder / ADAPTER_CONFIG, path):
        if not needed.is_file():
            problems.append(Problem("error", f"The adapter's file {needed} is missing.", "Restore it from a copy."))
    if path.is_file():
        problems += _check_safetensors(path)[1]
    if (folder / ADAPTER_CONFIG).is_file() and not problems:
        problems += _check_adapter_config(folder / ADAPTER_CONFIG)
    if problems:
        raise InputError(problems)


def check_own_folder(folder: Path, weights: str, config: str) -> None:
    """Raise ``InputError`` with every reason not to read a run's own form of result: the files of these two names."""
    problems = [
        Problem("error", f"The run's file {folder / name} is missing.", "Restore it from a copy.")
        for name in (weights, config)
        if not (folder / name).is_file()
    ]
    if (folder / weights).is_file():
        problems += _check_safetensors(folder / weights)[1]
    if problems:
        raise InputError(problems)


def _check_adapter_config(path: Path) -> list[Problem]:
    described = read_json(path)
    problems = []
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(described.get(key), str | None):
            message = f"{path}: {key} is {json.dumps(described[key])[:80]}; a text was expected."
            problems.append(Problem("error", message, "Correct it, or save the adapter again."))
    # PEFT imports whatever module is named here.
    if described.get("megatron_config") or described.get("megatron_core") not in (None, "megatron.core"):
        message = f"{path} asks for modules of Megatron (megatron_config, megatron_core), which are never imported."
        problems.append(Problem("error", message, "Remove these keys if the adapter is a plain LoRA."))
    return problems


def _parse_constant(name: str) -> float:
    """Return what is infinite, as some models have it; what is no number is damage."""
    if name == "NaN":
        raise ValueError("NaN stands where a number was expected")
    return float(name)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; ``InputError`` names the file when it is none."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file: one with a JSON object was expected.")
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"{path} is too large to be a config file ({path.stat().st_size:,} bytes).")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_parse_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not valid JSON: {error}.", "Download or save the model again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; an object was expected.")
    return content


def shard_names(index: Path) -> tuple[list[str], list[Problem]]:
    """Return the weight files that an index names, and what is wrong with it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        return [], [Problem("error", f"{index} has no 'weight_map'.", "Download or save the model again.")]
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name or "\\" in name or not name.endswith(".safetensors")]
    if outside:
        message = f"{index} names weight files outside its folder or of another format: {', '.join(outside[:5])}."
        return [], [Problem("error", message, "Use a model from a source that you trust.", len(outside))]
    return names, []


def _no_config(folder: Path) -> Problem:
    if (folder / ADAPTER_CONFIG).is_file():
        return _is_adapter(folder)
    if not folder.is_dir():
        return Problem("error", f"The model folder {folder} does not exist.")
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    below = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    shown = f"it holds {', '.join(held[:6])}{', …' if len(held) > 6 else ''}" if held else "it is empty"
    return Problem(
        "error",
        f"The folder {folder} is no model: config.json is missing ({shown}).",
        f"Give the folder inside it: {folder / below[0]}" if below else "Give a folder written by save_pretrained.",
    )


def _is_adapter(folder: Path) -> Problem:
    base = ""
    with suppress(InputError):
        base = str(read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "")
    return Problem(
        "error",
        f"The folder {folder} holds an adapter (adapter_config.json), which is no whole model.",
        f"Give its base model{f', {base!r}' if base else ''}, or merge the adapter into it first.",
    )


def _check_code(folder: Path) -> list[Problem]:
    """Refuse every config file that refers to code."""
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.json")):
        if not path.name.endswith(("config.json", "_config_image.json")) and path.name != "processor.json":
            continue
        try:
            content = read_json(path)
        except InputError as error:
            problems += error.problems
            continue
        for key, value in _find_code(content):
            problems.append(
                Problem(
                    "error",
                    f"{path} refers to code of its own ({key}: {json.dumps(value)[:120]}); tunesmith never runs "
                    "code that comes with a model.",
                    "Use a model of an architecture that transformers itself knows, or remove the key if the "
                    "architecture is one of those.",
                )
            )
    return problems


def _find_code(content: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting that names code; ``content`` comes from ``json``, whose nesting is bounded."""
    if isinstance(content, dict):
        for key, value in content.items():
            place = f"{path}.{key}" if path else str(key)
            if (key in _CODE_KEYS or (key == "trust_remote_code" and value is not False)) and value:
                yield place, value
            else:
                yield from _find_code(value, place)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _find_code(value, f"{path}[{index}]")


def _check_config(path: Path) -> list[Problem]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from tunesmith.models import cnn_network, lstm_network  # noqa: F401  (they register their model types)

    try:
        config = read_json(path)
    except InputError:
        return []  # reported by _check_code, which reads every config file
    model_type = config.get("model_type")
    problems = setting_problems(path, config)
    generation = path.with_name(GENERATION_CONFIG)
    if generation.is_file():
        with suppress(InputError):  # reported by _check_code
            problems += setting_problems(generation, read_json(generation))
    if not isinstance(model_type, str) or not model_type:
        problems.append(
            Problem("error", f"{path} has no 'model_type'.", "Save the model with a recent transformers release.")
        )
    elif model_type not in CONFIG_MAPPING:
        known = [str(name) for name in CONFIG_MAPPING]
        hint = nearest(model_type, known)
        problems.append(
            Problem(
                "error",
                f"{path}: the installed transformers knows no model_type {model_type!r}.{f' {hint}' if hint else ''}",
                "Use a model of another type, or a newer transformers release.",
            )
        )
    if config.get("quantization_config"):
        problems.append(
            Problem(
                "error",
                f"{path}: the weights are quantised ('quantization_config'), which tunesmith cannot fine-tune.",
                "Use the model's version in float32, float16 or bfloat16.",
            )
        )
    return problems


def _check_depth(path: Path, config: Mapping[str, Any], held: int) -> list[Problem]:
    """Refuse a config that asks for far more layers than the ``held`` weights: building them would take for ever."""
    most = 100 + 10 * held  # some models use the same weights for every layer
    problems = []
    for key, value in _numbers(config):
        if "layer" in key.rpartition(".")[2] and value > most:
            message = f"{path} asks for {key} {value}, but there are only {held} weights."
            problems.append(Problem("error", message, "Download or save the model again."))
    return problems


def _numbers(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a config with its key."""
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content


def _check_weights(folder: Path) -> list[Problem]:
    if (folder / WEIGHTS).is_file():
        return _check_safetensors(folder / WEIGHTS)[1]
    if (folder / INDEX).is_file():
        return _check_shards(folder)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern) if path.stem != "training_args")
    if pickles:
        return [
            Problem(
                "error",
                f"The model folder {folder} has its weights as pickle only ({', '.join(pickles[:3])}), which can run "
                "code when it is read; tunesmith reads safetensors.",
                "Take a revision of the model that has model.safetensors, or convert it where you trust its origin: "
                "transformers' from_pretrained(...) and save_pretrained(...).",
                len(pickles),
                tuple(pickles),
            )
        ]
    others = sorted(path.name for pattern in (*_OTHER_WEIGHTS, "*.safetensors") for path in folder.glob(pattern))
    found = f" (found: {', '.join(others[:3])})" if others else ""
    return [
        Problem(
            "error",
            f"The model folder {folder} has no weights: neither {WEIGHTS} nor {INDEX} is there{found}.",
            "Download or save the model again.",
        )
    ]


def _weights_content(folder: Path) -> tuple[int, int]:
    """Return how many tensors the weight files of a sound folder hold, and how many numbers."""
    from safetensors import safe_open

    names = [WEIGHTS] if (folder / WEIGHTS).is_file() else shard_names(folder / INDEX)[0]
    shapes = []
    for name in names:
        with safe_open(folder / name, framework="numpy") as file:
            shapes += [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    return len(shapes), sum(map(math.prod, shapes))


def _check_shards(folder: Path) -> list[Problem]:
    try:
        names, problems = shard_names(folder / INDEX)
    except InputError as error:
        return list(error.problems)
    if problems:
        return problems
    weight_map = read_json(folder / INDEX)["weight_map"]
    for name in names:
        if not (folder / name).is_file():
            problems.append(Problem("error", f"The weight file {folder / name} is missing.", "Download it again."))
            continue
        held, found = _check_safetensors(folder / name)
        problems += found
        lost = [key for key, file in weight_map.items() if file == name and key not in held] if not found else []
        if lost:
            message = f"{folder / name} lacks weights that {INDEX} says it holds: {', '.join(lost[:3])}."
            problems.append(Problem("error", message, "Download or save the model again.", len(lost)))
    return problems


def _check_safetensors(path: Path) -> tuple[set[str], list[Problem]]:
    """Read a file's header, which must describe the file to its last byte; return its tensor names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return set(file.keys()), []
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size if path.exists() else 0
        message = f"The weight file {path} is damaged or incomplete ({size:,} bytes): {error}."
        return set(), [Problem("error", message, "Download or save the model again.")]


_trials = Worker("tunesmith.bounded.patterns:answer")
_TRIAL_SECONDS, _TRIAL_BYTES = 4.0, 512 << 20


def check_tokenizer_parts(backend: Any, folder: Path) -> None:
    """Raise ``InputError`` for a tokenizer whose normaliser or splitter takes too long, or makes texts much longer.

    ``backend`` is a ``tokenizers.Tokenizer``. Those whose parts do fixed things only are not tried.
    """
    parts = {}
    for name in ("normalizer", "pre_tokenizer"):
        part = getattr(backend, name)
        state = "" if part is None else part.__getstate__().decode("utf-8", "replace")
        if "Regex" in state or '"Replace"' in state or '"Prepend"' in state:
            parts[name] = json.loads(state)
    if parts:
        fix = "Use the tokenizer of a model that you trust."
        _try_out(parts, f"The tokenizer in {folder} cannot be used", fix)


def _try_out(request: Mapping[str, Any], what: str, fix: str) -> None:
    try:
        with _trials:
            _trials.ask(json.dumps(request).encode(), seconds=_TRIAL_SECONDS, max_bytes=_TRIAL_BYTES)
    except StoppedError as error:
        raise InputError(f"{what}: {error}.", fix) from None
    except InputError as error:
        raise InputError(f"{what}: {error.problems[0].message}", fix) from None
