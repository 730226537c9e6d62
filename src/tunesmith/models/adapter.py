"""Adapters as models: merged into their base once, into a cached folder, then like any other model.

A run of the method ``lora`` holds an adapter, and so does any folder that ``peft`` saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.known_hashes import known_hash
from tunesmith.models.adapter_layers import load_adapter
from tunesmith.models.merging import merge, probe_rows, probe_scores, require_equal
from tunesmith.models.pinning import ADAPTER_WEIGHTS, other_weights, read_base_record
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import (
    ADAPTER_CONFIG,
    TOKENIZER_FILES,
    check_adapter_folder,
    check_model_folder,
    read_json,
)
from tunesmith.models.samples import PREFIX
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.models.location import Location
    from tunesmith.tasks.base import HeadSettings

FORMAT = 2
"""Part of the cache's keys: raise it when what is made of an adapter differs from before."""

_SCALES = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
"""What of an adapter's config says how its weights are added."""

RUN_CONFIG = "config.yaml"
"""What a run says of itself: its base model by the name that the user gave, its task, its method."""

_AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
_within: ContextVar[tuple[Path, ...]] = ContextVar("within", default=())
"""The adapters whose bases are being looked for, each the base of the one before."""


class _CircleError(InputError):
    """Adapters that are each other's base."""


_HEAD_WEIGHT = re.compile(r"\.(score|classifier|out_proj|qa_outputs)\.weight$")


def merge_adapter(folder: Path) -> tuple[Path, str, str]:
    """Return the cached folder with the adapter in ``folder`` merged into its base, what the base is, and a hash.

    Merging is PEFT's: ``W + (alpha / rank) B A``, in float32. Where a run's base was quantised, it is
    the rounded ``W`` that the adapter was trained beside and that it is added to. Heads that the
    adapter brings replace the base's. The hash is of the two's weights.

    Raises ``InputError`` when the base is not found or is another than the adapter was trained beside, files are
    damaged, the two do not fit, or the merged model gives other scores than the two beside each other.
    """
    within = _within.get()
    if folder in within:
        circle = " → ".join(map(str, (*within[within.index(folder) :], folder)))
        message = f"These adapters are each other's base, so that none of them has a model: {circle}."
        raise _CircleError(message, f"Name the base model in one of them ({ADAPTER_CONFIG}: base_model_name_or_path).")
    token = _within.set((*within, folder))
    try:
        return _merge_into_base(folder)
    finally:
        _within.reset(token)


def _merge_into_base(folder: Path) -> tuple[Path, str, str]:
    check_adapter_folder(folder)
    described = read_json(folder / ADAPTER_CONFIG)
    run = load_yaml(folder / RUN_CONFIG) if (folder / RUN_CONFIG).is_file() else {}
    base = _find_base(folder, described, run)
    own = sorted(
        name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, RUN_CONFIG, *TOKENIZER_FILES) if (folder / name).is_file()
    )
    key = hash_json([FORMAT, {name: known_hash(folder / name) for name in own}, base.weights_sha256])
    scales = {name: described.get(name) for name in _SCALES}
    weights = hash_json([known_hash(folder / ADAPTER_WEIGHTS), repr(scales), base.weights_sha256])
    merged = cached_folder("merged", key, lambda target: _merge(folder, described, run, base, target))
    return merged, base.source, weights


def _find_base(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any]) -> Location:
    """Return where the base model lies: as the run names it, or as the adapter does, with the right weights.

    A sample is best found by its own name; otherwise the adapter's absolute folder comes first, since
    what the user typed may have been relative to another place.
    """
    section = run.get("model")
    given = (section.get("name") if isinstance(section, Mapping) else section) or ""
    recorded = str(described.get("base_model_name_or_path") or "")
    pinned = section.get("revision") if isinstance(section, Mapping) else None
    revisions = {str(given): pinned} | {recorded: described.get("revision") or (pinned if recorded == given else None)}
    names = [str(name) for name in (recorded, given) if name]
    if str(given).startswith(PREFIX) or not Path(recorded).is_dir():
        names.reverse()
    problems = []
    for name in dict.fromkeys(names):
        if Path(name).resolve() == folder:
            problems.append(f"The adapter's own folder is named as its base ({name}).")
            continue
        try:
            return _as_recorded(folder, name, revisions[name])
        except _CircleError:
            raise
        except InputError as error:
            problems += [problem.message for problem in error.problems]
    raise InputError(
        f"The folder {folder} holds an adapter, and its base model is not to be found: "
        + (" ".join(problems) or f"{ADAPTER_CONFIG} names none."),
        f"Bring the base model back to where it was, or name it in {folder / ADAPTER_CONFIG} "
        "(base_model_name_or_path).",
    )


def named_bases(folder: Path) -> list[Path]:
    """Return the folders that the adapter in ``folder`` names as its base, and theirs in turn; none for others."""
    found: list[Path] = []
    waiting = [folder]
    while waiting:
        one = waiting.pop()
        names: list[Any] = []
        with suppress(InputError):
            names.append(read_json(one / ADAPTER_CONFIG).get("base_model_name_or_path"))
            section = load_yaml(one / RUN_CONFIG).get("model")
            names.append(section.get("name") if isinstance(section, Mapping) else section)
        places = [Path(name).resolve() for name in names if isinstance(name, str) and isdir(name)]  # noqa: PTH112 (which fails on names that are no paths)
        new = [place for place in dict.fromkeys(places) if place not in (folder, *found)]
        found += new
        waiting += new
    return found


def _as_recorded(folder: Path, name: str, revision: Any) -> Location:
    """Return where the base called ``name`` lies; ``InputError`` if it is not what the adapter was trained beside."""
    from tunesmith.models.location import locate

    place = locate(name, str(revision) if revision else None)
    check_model_folder(place.folder)
    place = place.identified()
    recorded = read_base_record(folder)
    if recorded is not None and (problem := other_weights(folder, recorded, name, str(place.weights_sha256))):
        raise InputError(problem)
    return place


def _merge(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any], base: Location, target: Path) -> None:
    from tunesmith.models.location import Location
    from tunesmith.models.pretrained import load_config, load_tokenizer, load_weights, position_limit
    from tunesmith.models.quantized import dequantize, quantize

    head = _head_of(folder, described, run)
    config = load_config(base.folder, head)
    with_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    tokenizer = load_tokenizer(folder if with_tokenizer else base.folder, config)
    model = load_weights(base, config, head, seed=0)
    method = run.get("method")
    scheme: Any = method.get("quantize", "none") if isinstance(method, Mapping) else "none"
    if scheme in ("nf4", "int8"):
        quantize(model, scheme)
        dequantize(model)
    wrapped = load_adapter(model, folder)
    rows = probe_rows(model, tokenizer, position_limit(model))
    expected = probe_scores(wrapped, rows)
    merged = merge(wrapped, folder)
    with quiet():
        merged.save_pretrained(target)
        tokenizer.save_pretrained(target)
    again = load_weights(Location(target, "", str(target)), load_config(target, head), head, seed=0, complete=True)
    require_equal(expected, probe_scores(again, rows), folder)


def _head_of(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any]) -> HeadSettings:
    """Return the head that the adapter was trained with: a run's task says it, else the adapter's files do."""
    from safetensors import safe_open

    from tunesmith.tasks import TASKS
    from tunesmith.tasks.base import HeadSettings

    task = run.get("task")
    if isinstance(task, Mapping) and task.get("name") in TASKS:
        return build(TASKS[str(task["name"])], task, str(folder / RUN_CONFIG)).head()
    with safe_open(folder / ADAPTER_WEIGHTS, framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    kind = described.get("task_type")
    auto_class = _AUTO_CLASSES.get(str(kind))
    if auto_class is None and not kind:
        # PEFT has no name for masked language models; what is trained beside the layers gives them away.
        is_masked = any(".predictions." in name or ".vocab_" in name for name in shapes)
        auto_class = "AutoModelForMaskedLM" if is_masked else None
    if auto_class is None:
        raise InputError(
            f"The adapter in {folder} does not say what kind of model it is for (task_type is {kind!r} in "
            f"{ADAPTER_CONFIG}).",
            f"Set task_type there to one of {', '.join(_AUTO_CLASSES)}.",
        )
    sizes = [shape[0] for name, shape in shapes.items() if _HEAD_WEIGHT.search(name) and "lora_" not in name]
    is_language_model = auto_class in ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM")
    return HeadSettings(auto_class, sizes[-1] if sizes and not is_language_model else None)
