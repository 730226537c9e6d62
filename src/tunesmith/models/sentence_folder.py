"""What sentence-transformers writes beside a model that gives one vector a text: how it is read, and how it is written.

``modules.json`` names the parts that follow each other, each with a folder of its own; the folder of the pooling says
how the states of tokens become one vector, and ``config_sentence_transformers.json`` what is put before texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import write_text
from tunesmith.files.operations import make_folder
from tunesmith.models.observation import RowReading
from tunesmith.types import InputError

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
LENGTHS = "sentence_bert_config.json"
_POOLING = "1_Pooling"

_MODES: Mapping[str, RowReading] = {"cls": "first", "mean": "mean", "lasttoken": "last"}
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_KNOWN_PARTS = ("Transformer", "Pooling", "Normalize")


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """How a folder says that one vector is made of a text."""

    pooling: RowReading | None
    """What of a row's last hidden states makes its vector; None where that is of another kind than these."""
    parts: tuple[str, ...] = ()
    """What is beyond that, by name: kinds of pooling, and layers after it."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What is put before texts, by what they are (``query``, ``document``)."""


def read_sentence_settings(folder: Path) -> SentenceSettings | None:
    """Return what a model's folder says of its vectors; None where it says nothing.

    Raises ``InputError`` where what it says cannot be read.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _read(folder / MODULES)
    if not isinstance(modules, list) or not all(isinstance(one, Mapping) for one in modules):
        raise InputError(f"{folder / MODULES} lists no modules.", "Download or save the model again.")
    kinds = [str(one.get("type", "")).rpartition(".")[2] for one in modules]
    beyond = [kind for kind in kinds if kind not in _KNOWN_PARTS]
    modes: list[str] = ["mean"]
    if "Pooling" in kinds:
        place = folder / str(modules[kinds.index("Pooling")].get("path", "")) / "config.json"
        if place.resolve().is_relative_to(folder.resolve()) and place.is_file():
            modes = _modes(_read(place))
    pooling = _MODES.get(modes[0]) if len(modes) == 1 else None
    unknown = [] if pooling else [f"pooling by {' and '.join(modes)}"]
    given = _read(folder / PROMPTS) if (folder / PROMPTS).is_file() else {}
    prompts = given.get("prompts") if isinstance(given, Mapping) else None
    texts = prompts.items() if isinstance(prompts, Mapping) else ()
    found = {str(name): text for name, text in texts if isinstance(text, str)}
    return SentenceSettings(pooling, (*unknown, *beyond), found)


def _modes(config: Any) -> list[str]:
    """Return the kinds of pooling whose vectors stand side by side, in either of the forms that were ever written."""
    if not isinstance(config, Mapping):
        return ["mean"]
    named = config.get("pooling_mode")
    if named is not None:
        return [str(mode) for mode in named] if isinstance(named, list) else [str(named)]
    return [mode for key, mode in _OLD_KEYS.items() if config.get(key)] or ["mean"]


def sentence_files(
    width: int, pooling: RowReading, max_length: int, prompts: Mapping[str, str], *, dimensions: int | None = None
) -> dict[str, Any]:
    """Return the files that let sentence-transformers load a folder, by their names in it: what each holds, as JSON.

    Args:
        width: D, the numbers of one of the model's hidden states.
        pooling: How these become one vector, which is then brought to length 1.
        max_length: Longest text in tokens.
        prompts: What is put before texts, by what they are.
        dimensions: How many of the vector's first numbers are kept; all of them when not given.
    """
    package = "sentence_transformers.models"
    parts = [("", "Transformer"), (_POOLING, "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"{package}.{kind}"}
        for number, (path, kind) in enumerate(parts)
    ]
    (mode,) = (mode for mode, reading in _MODES.items() if reading == pooling)
    keys = {key: known == mode for key, known in _OLD_KEYS.items()}
    return {
        MODULES: modules,
        f"{_POOLING}/config.json": {"word_embedding_dimension": width, **keys, "include_prompt": True},
        LENGTHS: {"max_seq_length": max_length, "do_lower_case": False},
        PROMPTS: {
            "prompts": dict(prompts),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
            **({} if dimensions is None else {"truncate_dim": dimensions}),
        },
    }


def copy_sentence_files(source: Path, target: Path) -> None:
    """Let the model in ``target`` give vectors as the one in ``source`` does, if that says how."""
    for name in (MODULES, f"{_POOLING}/config.json", LENGTHS, PROMPTS):
        if (source / name).is_file():
            make_folder((target / name).parent)
            write_text(target / name, (source / name).read_text(encoding="utf-8"))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.", "Download or save the model again.") from error
