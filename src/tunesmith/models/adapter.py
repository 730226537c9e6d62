"""Adapters as models: merged into their base once, into a cached folder, then like any other model.

A run of the method ``lora`` holds an adapter, and so does any folder that ``peft`` saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_file, hash_json
from tunesmith.models import structure
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import (
    ADAPTER_CONFIG,
    CONFIG,
    TOKENIZER_FILES,
    check_adapter_folder,
    check_adapter_patterns,
    read_json,
)
from tunesmith.models.samples import PREFIX
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from tunesmith.models.location import Location
    from tunesmith.tasks.base import HeadSettings

FORMAT = 1
"""Part of the cache's keys: raise it when what is made of an adapter differs from before."""

WEIGHTS = "adapter_model.safetensors"

RUN_CONFIG = "config.yaml"
"""What a run says of itself: its base model by the name that the user gave, its task, its method."""

_AUTO_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
_HEAD_WEIGHT = re.compile(r"\.(score|classifier|out_proj|qa_outputs)\.weight$")


def merge_adapter(folder: Path) -> tuple[Path, str]:
    """Return the cached folder with the adapter in ``folder`` merged into its base, and what the base is.

    Merging is PEFT's: ``W + (alpha / rank) B A``, in float32. Where a run's base was quantised, it is
    the rounded ``W`` that the adapter was trained beside and that it is added to. Heads that the
    adapter brings replace the base's.

    Raises ``InputError`` when the base is not found, files are damaged, or the two do not fit.
    """
    from tunesmith.models.safety import check_model_folder

    check_adapter_folder(folder)
    described = read_json(folder / ADAPTER_CONFIG)
    run = load_yaml(folder / RUN_CONFIG) if (folder / RUN_CONFIG).is_file() else {}
    base = _find_base(folder, described, run)
    check_model_folder(base.folder)
    own = sorted(name for name in (ADAPTER_CONFIG, WEIGHTS, RUN_CONFIG, *TOKENIZER_FILES) if (folder / name).is_file())
    key = hash_json([FORMAT, {name: hash_file(folder / name) for name in own}, _identity(base)])
    merged = cached_folder("merged", key, lambda target: _merge(folder, described, run, base, target))
    return merged, base.source


def _find_base(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any]) -> Location:
    """Return where the base model lies: as the run names it, or as the adapter does.

    A sample is best found by its own name; otherwise the adapter's absolute folder comes first, since
    what the user typed may have been relative to another place.
    """
    from tunesmith.models.location import locate

    section = run.get("model")
    given = (section.get("name") if isinstance(section, Mapping) else section) or ""
    recorded = described.get("base_model_name_or_path") or ""
    names = [str(name) for name in (recorded, given) if name]
    if str(given).startswith(PREFIX) or not Path(recorded).is_dir():
        names.reverse()
    problems = []
    for name in dict.fromkeys(names):
        if Path(name).resolve() == folder:
            continue
        try:
            return locate(name, described.get("revision") if name == recorded else None)
        except InputError as error:
            problems += [problem.message for problem in error.problems]
    raise InputError(
        f"The folder {folder} holds an adapter, and its base model is not to be found: "
        + (" ".join(problems) or f"{ADAPTER_CONFIG} names none."),
        f"Bring the base model back to where it was, or name it in {folder / ADAPTER_CONFIG} "
        "(base_model_name_or_path).",
    )


def _identity(base: Location) -> list[Any]:
    """Return what tells one base from another without reading its weights: commit, or size and time of its files."""
    if base.revision is not None:
        return [base.name, base.revision]
    files = sorted(path for path in base.folder.iterdir() if path.name == CONFIG or path.suffix == ".safetensors")
    return [str(base.folder), *([path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files)]


def _merge(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any], base: Location, target: Path) -> None:
    from tunesmith.models.pretrained import load_config, load_tokenizer, load_weights
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
    wrapped = _load_adapter(model, folder)
    try:
        with quiet():
            merged = cast("PreTrainedModel", wrapped.merge_and_unload(safe_merge=True))
    except MemoryError:
        raise
    except Exception as error:  # what is not finite, and kinds of LoRA that cannot be merged
        raise InputError(f"The adapter in {folder} cannot be merged: {error}") from error
    with quiet():
        merged.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _head_of(folder: Path, described: Mapping[str, Any], run: Mapping[str, Any]) -> HeadSettings:
    """Return the head that the adapter was trained with: a run's task says it, else the adapter's files do."""
    from safetensors import safe_open

    from tunesmith.tasks import TASKS
    from tunesmith.tasks.base import HeadSettings

    task = run.get("task")
    if isinstance(task, Mapping) and task.get("name") in TASKS:
        return build(TASKS[str(task["name"])], task, str(folder / RUN_CONFIG)).head()
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
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


def _load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Return ``model`` with the adapter's layers and weights; ``InputError`` unless all of them fit."""
    with quiet():
        from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    what = f"The adapter in {folder} does not fit {type(model).__name__}"
    try:
        with quiet():
            config = LoraConfig.from_pretrained(str(folder))
            if not isinstance(config, LoraConfig):
                raise InputError(f"{folder / ADAPTER_CONFIG} describes a {config.peft_type} adapter, not LoRA.")
            known = structure.origin(model)
            new = known.new_parameters if known else frozenset()
            check_adapter_patterns(read_json(folder / ADAPTER_CONFIG), dict(model.named_modules()), folder)
            tensors = load_file(folder / WEIGHTS)
            wrapped = PeftModel(model, config)
            result: Any = set_peft_model_state_dict(wrapped, tensors)
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # PEFT checks little of what a config says, and raises anything
        raise InputError(f"{what}: {(str(error).strip() or type(error).__name__).splitlines()[0]}") from error
    filled = {structure.plain_name(name) for name in tensors}
    lost = [name for name in result.missing_keys if ".lora_" in name or ".modules_to_save." in name]
    lost += sorted(new - filled)
    if wrong := [*lost, *result.unexpected_keys]:
        raise InputError(
            Problem(
                "error",
                f"{what}: {len(wrong)} weights are missing or unknown ({', '.join(wrong[:3])}"
                f"{', …' if len(wrong) > 3 else ''}).",
                "Name its own base model in adapter_config.json (base_model_name_or_path), and its task_type.",
                len(wrong),
            )
        )
    return wrapped
