"""Commands and options that people expect from other tools, and where the same is found here."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import click

from tunesmith.config.synonyms import read_table
from tunesmith.types import InputError, Problem

DATA_SUFFIXES = frozenset(
    (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".txt", ".conll", ".gz")
)
CONFIG_SUFFIXES = {".yaml", ".yml"}

COMMANDS = read_table("""
train: finetune fine_tune fit tune sft learn run start lora full pretrain cli
plan: advise advisor estimate predict_cost memory recommend forecast
evaluate: eval test score validate benchmark measure metrics
predict: infer inference classify apply label generate tag pipeline
embed: encode vectors embeddings vectorize vectorise embed_texts
chat: talk ask converse prompt
data inspect: inspect dataset datasets explore describe check_data data_inspect profile
data audit: data_audit clean cleaning dedup deduplicate near_duplicates data_quality pii personal_data label_errors
data export: sample samples download fetch example
data passages: passages chunk chunks chunking split documents document pdf docx
compare: contest versus benchmark_methods
serve: server api deploy host rest http
studio: webui ui gui web web_page browser app
augment: augmentation more_rows synonyms back_translation eda nlpaug
merge: merge_lora merge_adapter merge_and_unload fuse
export: convert quantize quantise onnx gguf to_onnx to_gguf save_pretrained
push: upload publish push_to_hub hub huggingface hf
import: convert_config from_llamafactory from_axolotl llamafactory axolotl migrate translate_config
gate: may_replace non_inferiority promote regression_test
restore: decompress densify dense unprune expand
report: reports html show summary summarize plot
doctor: env info check system_info diagnose environment
train --help: config configure options
--help: help man usage commands
--version: version
train --task=preference: dpo rlhf kto orpo simpo ipo
train --task=reward: reward rm reward_model
train --resume --output RUN: resume continue restart
train --sweep train.learning_rate=1e-5,3e-5,1e-4: sweep grid
search: hyperopt tune_hyperparameters hpo optuna optimize optimise automl
cross-validate: crossval cross_validation crossvalidate cv kfold k_fold folds
""")
"""Each command (with options) and what else it may be called."""

NOT_YET = {
    "study": "a study of many runs",
}
"""What is not there yet."""

INSTEAD = {
    "a study of many runs": "'tunesmith report RUN RUN ...' sets runs side by side.",
}
"""What there is in its place."""

OPTIONS = read_table("""
--data: --input --file --input_file --data_path --dataset --csv --path --from --test_file --eval_file --predict_file
    --test_data --eval_data -d -i -f
--output: --out --output_file --output_path --save --to --output_dir -o
--text: --prompt --sentence --input_text --texts --question --query -t
--message: --prompt --text --ask -m
--system: --system_prompt --system_message
--max-new-tokens: --max_tokens --max_length --max_new_token --length --num_predict
--probabilities: --probs --proba --scores --return_all_scores --logits --confidence
--columns: --text_column --label_column --column --map --rename --data.columns --data.columns.text
    --data.columns.label --text_field
--split: --subset --on --eval_split --part
--answers: --predict_with_generate --num_answers
--json: --as_json --format --machine
--rows: --num_rows --limit --head -n
--model: -m --model_name_or_path
""")
"""Options of the commands besides ``train``, and what else they may be called."""

THE_RUN = "--run --model --checkpoint --model_path --model_name_or_path --adapter --model_dir --run_dir --ckpt -m -r"
NEEDLESS = (
    "--device --gpu --batch_size --cuda --per_device_eval_batch_size --num_workers --fp16 --bf16 --max_seq_length"
)


class SuggestingGroup(click.Group):
    """A group of commands that says, of one that it lacks, what was meant, or that there is no such thing yet."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            raise InputError(unknown_command(ctx.command_path, name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def unknown_command(place: str, name: str, commands: Sequence[str]) -> Problem:
    """Return the problem of a command that does not exist, with what was meant."""
    word = name.lower().replace("-", "_")
    is_top = " " not in place
    message = f"There is no command '{place} {name}'."
    if is_top and word in NOT_YET:
        what = NOT_YET[word]
        return Problem(
            "error", f"There is no command '{place} {name}': {what} is not there yet.", INSTEAD.get(what, "")
        )
    if word in commands:
        return Problem("error", message, f"Did you mean '{place} {word}'?")
    near = difflib.get_close_matches(word, commands, n=1, cutoff=0.6)
    meant = [command for command, names in COMMANDS.items() if is_top and word in names]
    if meant or near:
        return Problem("error", message, f"Did you mean '{place} {(meant or near)[0]}'?")
    suffix = Path(name).suffix.lower()
    if suffix in CONFIG_SUFFIXES:
        return Problem("error", message, f"To train as a configuration says: tunesmith train {name}")
    if suffix in DATA_SUFFIXES or os.path.exists(name):  # noqa: PTH110  (a Path refuses names that no file can have)
        look, train = f"tunesmith data inspect {name}", f"tunesmith train --model MODEL --data {name}"
        return Problem("error", message, f"To look at data: {look}. To train on it: {train}")
    return Problem("error", message, f"There is {', '.join(commands)}; '{place} --help' says what they do.")


def unknown_option(name: str, known: Sequence[str], usage: str, arguments: Sequence[str] = ()) -> Problem:
    """Return the problem of an option that a command lacks, with what was meant."""
    word = name.partition("=")[0].lower()
    word = word[:2] + word[2:].replace("-", "_")
    meant = [option for option, names in OPTIONS.items() if option in known and word in names]
    if not meant and "run" in arguments and word in THE_RUN.split():
        fix = "The run's folder is given as it is, without an option."
        return Problem("error", f"There is no option {name}.", fix)
    if not meant and "run" in arguments and word in NEEDLESS.split():
        fix = "There is nothing to set: device, precision and sizes of batches are chosen by the run and the machine."
        return Problem("error", f"There is no option {name}.", fix)
    near = meant or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    fix = f"Did you mean {near[0]}?" if near else f"'{usage} --help' lists all options."
    return Problem("error", f"There is no option {name}.", fix)


def usage_problem(error: click.ClickException) -> Problem:
    """Return what click found wrong with a command's arguments, in the words of all other problems."""
    if not isinstance(error, click.UsageError):
        return Problem("error", error.format_message())
    context = error.ctx
    path = context.command_path if context is not None else "tunesmith"
    parameters = context.command.params if context is not None else []
    if isinstance(error, click.NoSuchOption):
        options = [one for parameter in parameters if isinstance(parameter, click.Option) for one in parameter.opts]
        if hasattr(context and context.command, "flag_tree"):
            options += ["--model", "--data", "--output"]  # keys of the configuration
        arguments = [parameter.name or "" for parameter in parameters if isinstance(parameter, click.Argument)]
        return unknown_option(error.option_name, options, path, arguments)
    message = error.format_message().rstrip(".") + "."
    fix = f"'{path} --help' says how it is called."
    known = [one for parameter in parameters for one in parameter.opts]
    if "unexpected extra argument" in message and "--data" in known:
        fix = f"A file goes with --data: {path} RUN --data FILE. {fix}"
    if "Missing argument 'RUN" in message:
        fix = f"Give the folder that 'tunesmith train' wrote: {path} runs/NAME. {fix}"
    return Problem("error", message, fix)
