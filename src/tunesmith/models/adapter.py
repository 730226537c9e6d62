"""Adapters merged into their base model once, into a cached folder, which is then like any other model.

A run of a method through PEFT holds an adapter, and so does any folder that ``peft`` saved.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from os.path import isdir
from pathlib import Path
from typing import Any

from tunesmith.config.load import load_yaml
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.known_hashes import known_hash
from tunesmith.files.source_hash import source_hash
from tunesmith.models.adapter_layers import load_adapter
from tunesmith.models.base import HeadOfRun
from tunesmith.models.loading import BASE, load_config, load_tokenizer, load_weights
from tunesmith.models.merging import merge, probe_rows, probe_scores, require_equal
from tunesmith.models.model_checks import position_limit
from tunesmith.models.model_folder import ModelFolder
from tunesmith.models.pinning import ADAPTER_WEIGHTS
from tunesmith.models.quantized import dequantize, quantize
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import ADAPTER_CONFIG, TOKENIZER_FILES, read_json
from tunesmith.models.sentence_folder import MODULES, PROMPTS, copy_sentence_files
from tunesmith.models.vision_reader import KEPT_FILES
from tunesmith.types import HeadSettings, InputError

_MERGING = tuple(
    f"tunesmith.models.{name}" for name in ("adapter", "adapter_layers", "loading", "merging", "quantized")
)
"""Whose source decides what is made of an adapter."""

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
    "FEATURE_EXTRACTION": BASE,
}
_HEAD_WEIGHT = re.compile(r"\.(score|classifier|out_proj|qa_outputs)\.weight$")


def merged_folder(
    folder: Path, described: Mapping[str, Any], run: Mapping[str, Any], base: ModelFolder, head_of_run: HeadOfRun | None
) -> tuple[Path, str]:
    """Return the cached folder with the adapter in ``folder`` merged into its base, and a hash of the two's weights.

    ``described`` and ``run`` are what adapter_config.json and config.yaml (if it is a run's) say.

    Merging is PEFT's: ``W + (alpha / rank) B A``, in float32. Where a run's base was quantised, it is
    the rounded ``W`` that the adapter was trained beside and that it is added to. Heads that the
    adapter brings replace the base's.
    """
    own = sorted(
        name
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, RUN_CONFIG, MODULES, PROMPTS, *TOKENIZER_FILES, *KEPT_FILES)
        if (folder / name).is_file()
    )
    key = hash_json([source_hash(*_MERGING), {name: known_hash(folder / name) for name in own}, base.weights_sha256])
    is_lora = str(described.get("peft_type")).upper() == "LORA"
    scales = {name: described.get(name) for name in (_SCALES if is_lora else sorted(described))}
    weights = hash_json([known_hash(folder / ADAPTER_WEIGHTS), repr(scales), base.weights_sha256])

    def make(target: Path) -> None:
        head = (head_of_run and head_of_run(run, folder / RUN_CONFIG)) or _head_of(folder, described)
        _merge(folder, run, base, head, target)

    return cached_folder("merged", key, make), weights


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


def _merge(folder: Path, run: Mapping[str, Any], base: ModelFolder, head: HeadSettings, target: Path) -> None:
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
    copy_sentence_files(folder, target)
    for name in KEPT_FILES:  # of models that see
        if (source := next((one / name for one in (folder, base.folder) if (one / name).is_file()), None)) is not None:
            shutil.copyfile(source, target / name)
    again = load_weights(ModelFolder(target, "", str(target)), load_config(target, head), head, seed=0, complete=True)
    require_equal(expected, probe_scores(again, rows), folder)


def _head_of(folder: Path, described: Mapping[str, Any]) -> HeadSettings:
    """Return the head that the adapter was trained with, as its files tell it."""
    from safetensors import safe_open

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
