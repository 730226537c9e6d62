"""One file of another tool's to one of ours: which tool it is, its translation, and the check that it can be used."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.config.keys import knows, list_keys
from tunesmith.config.load import dump_values, parse_yaml
from tunesmith.other_tools import axolotl, llama_factory, swift, torchtune, trl
from tunesmith.other_tools.reading import read_values
from tunesmith.other_tools.translation import Line, Translation, nested
from tunesmith.run import RunConfig
from tunesmith.types import InputError

WIDTH = 116
"""Of comments in what is written."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose files are read."""

    title: str
    translate: Callable[[Translation, Path], None]
    signs: frozenset[str]
    """Keys that it alone has."""
    model: str
    """Its key that names the model."""


def _signs(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOOLS: Mapping[str, Tool] = {
    "llama-factory": Tool(
        "LLaMA-Factory",
        llama_factory.translate,
        _signs(
            "stage finetuning_type cutoff_len dataset_dir lora_target pref_loss pref_beta val_size overwrite_cache "
            "plot_loss quantization_bit freeze_trainable_layers neat_packing train_on_prompt mask_history"
        ),
        "model_name_or_path",
    ),
    "axolotl": Tool(
        "axolotl",
        axolotl.translate,
        _signs(
            "base_model sequence_len micro_batch_size val_set_size sample_packing lora_target_linear rl "
            "dataset_prepared_path train_on_inputs evals_per_epoch saves_per_epoch pad_to_sequence_len num_epochs "
            "test_datasets pretraining_dataset base_model_config adapter lr_scheduler"
        ),
        "base_model",
    ),
    "torchtune": Tool("torchtune", torchtune.translate, _signs("checkpointer tokenizer max_steps_per_epoch"), ""),
    "ms-swift": Tool(
        "ms-swift",
        swift.translate,
        _signs("train_type tuner_type split_dataset_ratio rlhf_type val_dataset model_author quant_bits swift_version"),
        "model",
    ),
    "trl": Tool(
        "TRL (or TrainingArguments of transformers)",
        trl.translate,
        _signs(
            "dataset_name dataset_text_field use_peft completion_only_loss assistant_only_loss lora_r loss_type "
            "dataset_train_split per_device_train_batch_size num_train_epochs"
        ),
        "model_name_or_path",
    ),
}
"""Tools by their names; the keys of TRL are those of the Trainer, which others have, too, so that it comes last."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A file of another tool's as ours."""

    tool: str
    values: Mapping[str, Any]
    """Our keys, as a file has them."""
    lines: tuple[Line, ...]
    """What became of every key of theirs."""
    usual: Mapping[str, Any]
    """Our keys, dotted, of which their file says nothing: what the tool takes then."""
    config: RunConfig
    text: str
    """Our file: ``config`` as YAML, with comments that name what was left out."""

    @property
    def left_out(self) -> tuple[Line, ...]:
        """What has no counterpart."""
        return tuple(line for line in self.lines if line.kind == "left out")


def import_config(path: Path, tool: str | None = None, *, model: str = "", data: str = "") -> Imported:
    """Read the configuration of another tool in the file ``path`` as one of ours.

    Args:
        path: A YAML or JSON file of one of ``TOOLS``.
        tool: Which of them; found by the keys when not given.
        model: The model, where the file names none (or another is wanted).
        data: The data, likewise.

    Raises:
        InputError: The file cannot be read, is of no tool that is known, or cannot be translated: each with what to do.
    """
    values = read_values(path)
    name = tool or find_tool(values, path)
    if name not in TOOLS:
        raise InputError(f"There is no tool {name!r} whose files are read.", f"Known: {', '.join(TOOLS)}.")
    if model:
        values = {**values, **_given_model(name, values, model)}
    if data:
        values = _with_data(name, values, data)
    _require_model(name, values, path)
    found = Translation(values)
    TOOLS[name].translate(found, path.parent)
    keys = list(list_keys(RunConfig))
    found.translate_rest(lambda key: knows(keys, key))
    found.take_usual("output", f"runs/{path.stem}")
    if "data.path" not in found.settings and "data.mixture" not in found.settings:
        raise InputError(f"{path} names no data.", f"Give them: tunesmith import {path} --data PATH")
    tree = _checked(found, path)
    lines = tuple(found.lines[key] for key in [*values, *(key for key in found.lines if key not in values)])
    text = _text(f"{path.name} of {TOOLS[name].title}", lines, found.usual, tree)
    config = build(RunConfig, parse_yaml(text, path.name), path.name)
    return Imported(name, tree, lines, found.usual, config, text)


def find_tool(values: Mapping[str, Any], path: Path) -> str:
    """Say whose file it is by its keys; ``InputError`` where they do not tell."""
    if isinstance(values.get("data"), (str, Mapping)) and {"train", "model"} <= values.keys():
        raise InputError(f"{path} is a configuration of tunesmith already.", f"Use it: tunesmith train {path}")
    if any(isinstance(value, Mapping) and torchtune.COMPONENT in value for value in values.values()):
        return "torchtune"
    found = {name: len(tool.signs & values.keys()) for name, tool in TOOLS.items() if name != "trl"}
    best = max(found, key=lambda name: found[name])
    if found[best] and sum(count == found[best] for count in found.values()) == 1:
        return best
    if not any(found.values()) and TOOLS["trl"].signs & values.keys():
        return "trl"
    shown = ", ".join(list(map(str, values))[:8]) or "nothing"
    raise InputError(
        f"{path} does not tell by its keys which tool it is for ({shown}).",
        f"Say it: tunesmith import {path} --from {' | '.join(TOOLS)}",
    )


def _given_model(name: str, values: Mapping[str, Any], model: str) -> dict[str, Any]:
    if name == "torchtune":
        section = values.get("checkpointer")
        return {"checkpointer": {**(section if isinstance(section, Mapping) else {}), "checkpoint_dir": model}}
    return {TOOLS[name].model: model}


def _require_model(name: str, values: Mapping[str, Any], path: Path) -> None:
    key = TOOLS[name].model
    if key and not values.get(key):
        raise InputError(f"{path} names no model ({key}).", f"Give it: tunesmith import {path} --model NAME")


_DATA_KEYS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "llama-factory": ("dataset", ("eval_dataset", "interleave_probs", "mix_strategy")),
    "axolotl": ("datasets", ("test_datasets", "pretraining_dataset")),
    "torchtune": ("dataset", ("dataset_val",)),
    "ms-swift": ("dataset", ("val_dataset",)),
    "trl": ("dataset_name", ("datasets",)),
}


def _with_data(name: str, values: Mapping[str, Any], data: str) -> dict[str, Any]:
    """Return the keys with the data that were given instead of their own."""
    key, others = _DATA_KEYS[name]
    given: Any = {"axolotl": [{"path": data}], "torchtune": {torchtune.COMPONENT: "", "source": data}}.get(name, data)
    return {**{one: value for one, value in values.items() if one not in others}, key: given}


def _checked(found: Translation, path: Path) -> dict[str, Any]:
    """Return our keys as a tree of which a configuration can be built; values that cannot be used are left out."""
    for _ in range(len(found.settings) + 1):
        tree = nested(found.settings)
        try:
            build(RunConfig, tree)
            return tree
        except ConfigError as error:
            if not _leave_out(found, error):
                raise InputError(error.problems) from error
    raise AssertionError(f"{path}: no end of problems")


def _leave_out(found: Translation, error: ConfigError) -> bool:
    """Take out the settings that a problem is about; say whether there were any."""
    any_found = False
    for problem in error.problems:
        place = problem.message.split(" ")[0].rstrip(":.")
        wrong = [key for key in found.settings if key == place or key.startswith(f"{place}.")]
        for key in wrong if not _is_needed(place) else []:
            value = found.settings.pop(key)
            found.usual.pop(key, None)
            theirs = [line for line in found.lines.values() if line.kind == "translated" and f"{key}:" in line.said]
            for line in theirs or [Line(key, value, "translated", "")]:
                found.lines[line.key] = Line(line.key, line.value, "left out", problem.message)
            any_found = True
    return any_found


def _is_needed(place: str) -> bool:
    """Say whether a configuration is none without a key."""
    return place in ("model", "model.name", "data", "data.path", "task", "task.name", "method", "method.name")


def _text(source: str, lines: Iterable[Line], usual: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return the file that is written: comments, and our keys."""
    comments = [f"# {source}, as a configuration of tunesmith."]
    if left_out := [line for line in lines if line.kind == "left out"]:
        comments += ["#", "# Left out:"]
        for line in left_out:
            comments += _comment(f"{line.shown}  ({line.said})")
    if usual:
        comments += ["#", "# Their file says nothing of these; this is what their tool takes then:"]
        comments += _comment(", ".join(usual))
    ordered = {name: values[name] for name in RunConfig.model_fields if name in values}
    return "\n".join(comments) + "\n\n" + dump_values(ordered)


def _comment(text: str) -> Iterable[str]:
    safe = " ".join(text.split())  # whatever YAML takes for the end of a line is white space here
    return textwrap.wrap(safe, WIDTH, initial_indent="#   ", subsequent_indent="#     ", break_on_hyphens=False)
