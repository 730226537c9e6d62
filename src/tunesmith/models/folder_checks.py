"""What of a model folder would fail only after training, or never end: found before anything of it is loaded."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.types import Problem

_READ = (".json", ".txt", ".model", ".spm", ".jinja", ".safetensors", ".tiktoken")
_LARGE = (".safetensors", ".model", ".spm", ".tiktoken")
_TEMPLATES = "additional_chat_templates"
_MAX_TEXT_BYTES = 200_000_000

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_TABLES = ("vocab_size", "type_vocab_size", "intermediate_size", "n_inner", "d_ff", "hidden_dim", "encoder_ffn_dim")
_POSITIONS = ("max_position_embeddings", "n_positions")
_FREE_POSITIONS = 1_000_000_000
"""Weights that a table of positions may seem to have: most models of many positions have no table of them."""


def file_problems(folder: Path) -> list[Problem]:
    """Return what stands in the place of files that loaders read: folders, pipes, devices, links to nothing."""
    return [problem for path in _files(folder) if (problem := _file_problem(path)) is not None]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ:
            yield path
        elif path.name == _TEMPLATES and path.is_dir():
            yield from sorted(path.iterdir())


def _file_problem(path: Path) -> Problem | None:
    fix = "Download or save the model again, or remove it."
    try:
        found = path.stat()
    except OSError as error:
        what = "is a link to a file that is not there" if path.is_symlink() else f"cannot be read: {error.strerror}"
        return Problem("error", f"{path} {what}.", fix)
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "no file")
        return Problem("error", f"{path} is {kind}; a file was expected.", fix)
    if found.st_size > _MAX_TEXT_BYTES and path.suffix not in _LARGE:
        limit = f"{_MAX_TEXT_BYTES:,}"
        return Problem("error", f"{path} has {found.st_size:,} bytes; such a file may have {limit}.", fix)
    return None


def setting_problems(path: Path, config: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with the values of a config or generation config that are used only after training."""
    problems = [
        Problem(
            "error",
            f"{path}: {key} is {_shown(value)}; the number of a token was expected, or several, or null.",
            "Write the token's number there (the tokenizer's files have it).",
        )
        for key, value in _token_ids(config)
        if not _is_token_id(value)
    ]
    names = config.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        message = f"{path}: architectures is {_shown(names)}; a list of names of classes was expected."
        problems.append(Problem("error", message, "Remove it, or write the class's name there."))
    return problems


def _token_ids(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _token_ids(value, f"{prefix}{key}.")
        elif str(key).endswith("_token_id"):
            yield f"{prefix}{key}", value


def _is_token_id(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= -1)


def size_problems(path: Path, config: Mapping[str, Any], num_tensors: int, num_weights: int) -> list[Problem]:
    """Return the sizes in a config that its weights cannot have: a loader would first make room for them."""
    width = max((value for key in _WIDTHS if isinstance(value := config.get(key), int)), default=1)
    limits = {
        **dict.fromkeys(_LAYERS, num_tensors),
        **dict.fromkeys(_WIDTHS, 4 * num_weights + 10_000_000),
        **dict.fromkeys(_TABLES, (4 * num_weights + 10_000_000) // max(width, 1)),
        **dict.fromkeys(_POSITIONS, (4 * num_weights + _FREE_POSITIONS) // max(width, 1)),
    }
    fix = "Download or save the model again; config.json and weights must belong together."
    return [
        Problem(
            "error",
            f"{path}: {key} is {_shown(value)}, which does not fit the weights beside it ({num_tensors:,} tensors of "
            f"{num_weights:,} numbers).",
            fix,
        )
        for key, most in limits.items()
        if isinstance(value := config.get(key), int) and (value > most or (value < 0 and key not in _POSITIONS))
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
