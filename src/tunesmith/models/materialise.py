"""From where a model lies to a folder that it can be loaded from, made once and kept in the cache.

A GGUF file or packed weights are converted; an adapter is merged into its base model, which may be an adapter or a GGUF
file itself. What is a plain folder already stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.config.load import load_yaml
from tunesmith.models.adapter import RUN_CONFIG, merged_folder
from tunesmith.models.base import HeadOfRun
from tunesmith.models.gguf_file import convert_gguf
from tunesmith.models.location import Location, locate
from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.packed_bert import convert_packed_bert
from tunesmith.models.pinning import other_weights, read_base_record
from tunesmith.models.safety import ADAPTER_CONFIG, check_adapter_folder, check_model_folder, read_json
from tunesmith.models.samples import PREFIX
from tunesmith.types import InputError


class _CircleError(InputError):
    """Adapters that are each other's base."""


def materialise(place: Location, head_of_run: HeadOfRun | None = None, _within: tuple[Path, ...] = ()) -> ModelFolder:
    """Return the folder of safetensors that the model in ``place`` is loaded from.

    ``head_of_run`` tells the head of an adapter that a run has written. ``_within`` are the adapters whose bases
    are being looked for, each the base of the one before.

    Raises ``InputError`` when a file cannot be converted, or an adapter's base is not found or is another
    than it was trained beside, files are damaged, the two do not fit, or the merged model gives other scores than the
    two beside each other.
    """
    if place.kind == "gguf":
        folder, sha256 = convert_gguf(place.path)
        source = place.source or f"file {place.path.resolve()} (sha256 {sha256})"
        return ModelFolder(folder, source, place.name or str(folder), weights_sha256=sha256)
    if place.kind == "packed":
        assert place.tokenizer is not None
        folder, sha256 = convert_packed_bert(place.path, place.tokenizer)
        return ModelFolder(folder, str(place.source), str(folder), weights_sha256=sha256)
    if place.kind == "adapter":
        return _merge_into_base(place.path, head_of_run, _within)
    return ModelFolder(
        place.path, place.source or f"folder {place.path}", place.name or str(place.path), place.revision
    )


def _merge_into_base(folder: Path, head_of_run: HeadOfRun | None, within: tuple[Path, ...]) -> ModelFolder:
    if folder in within:
        circle = " → ".join(map(str, (*within[within.index(folder) :], folder)))
        message = f"These adapters are each other's base, so that none of them has a model: {circle}."
        raise _CircleError(message, f"Name the base model in one of them ({ADAPTER_CONFIG}: base_model_name_or_path).")
    check_adapter_folder(folder)
    described = read_json(folder / ADAPTER_CONFIG)
    run = load_yaml(folder / RUN_CONFIG) if (folder / RUN_CONFIG).is_file() else {}
    base = _find_base(folder, described, run, head_of_run, (*within, folder))
    merged, weights_sha256 = merged_folder(folder, described, run, base, head_of_run)
    source = f"adapter {folder}, merged into {base.source}"
    return ModelFolder(merged, source, str(merged), weights_sha256=weights_sha256)


def _find_base(
    folder: Path,
    described: Mapping[str, Any],
    run: Mapping[str, Any],
    head_of_run: HeadOfRun | None,
    within: tuple[Path, ...],
) -> ModelFolder:
    """Return the base model: as the run names it, or as the adapter does, with the right weights.

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
            revision = str(revisions[name]) if revisions[name] else None
            return _as_recorded(folder, name, materialise(locate(name, revision), head_of_run, within))
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


def _as_recorded(folder: Path, name: str, base: ModelFolder) -> ModelFolder:
    """Return the base called ``name``, identified; ``InputError`` if it is not what the adapter was trained beside."""
    check_model_folder(base.folder)
    base = base.identified()
    recorded = read_base_record(folder)
    if recorded is not None and (problem := other_weights(folder, recorded, name, str(base.weights_sha256))):
        raise InputError(problem)
    return base
