"""What people bring from other tools, and slips of the finger, are answered with what there is here."""

from __future__ import annotations

import click
import pytest

from tunesmith.cli import application
from tunesmith.cli.application import COMMANDS, run
from tunesmith.cli.flags import OWN_OPTIONS, FlagTree, split_flags
from tunesmith.cli.suggestions import COMMANDS as OTHER_COMMANDS
from tunesmith.cli.suggestions import INSTEAD, NOT_YET, OPTIONS
from tunesmith.config.build import build, suggest_key
from tunesmith.config.synonyms import foreign_choices, foreign_names, plain
from tunesmith.methods import METHODS
from tunesmith.run import RunConfig
from tunesmith.tasks import TASKS
from tunesmith.types import InputError

pytestmark = pytest.mark.usefixtures("folder")

TREE = FlagTree(RunConfig)
OWN = {"--resume": False, "--overwrite": False, "--quiet": False, "--sweep": True, "--help": False}


def fix_of(*arguments: str) -> str:
    (problem,) = split_flags(arguments, TREE, OWN).problems
    return problem.fix


def test_every_foreign_name_stands_for_keys_that_exist_and_takes_their_values() -> None:
    for name, meaning in foreign_names():
        assert meaning.settings or meaning.note, name
        for key, value in meaning.settings:
            assert TREE.accepts(key), (name, key)
            if value and value != "COLUMN" and not value.startswith("'"):
                needed = {"method": {"name": "lora"}, "task": {"name": "causal_lm"}}
                section, _, rest = key.partition(".")
                values: dict[str, object] = {"model": "x", "data": "y"}
                if rest:
                    inner = {rest: value if value not in ("true", "false") else value == "true"}
                    values[section] = {**needed.get(section, {}), **inner}
                else:
                    values[section] = value
                build(RunConfig, values)


def test_foreign_names_are_no_keys_themselves() -> None:
    assert not {name for name, _ in foreign_names()} & set(TREE.names()) - {"model", "data", "task", "method"}


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--lr", "3e-4"], "--train.learning_rate"),
        (["--gpu"], "--compute.device cuda"),
        (["--epochs", "3"], "--train.epochs"),
        (["--batch-size", "8"], "--train.batch_size"),
        (["--rank", "16"], "--method.rank"),
        (["--learning_rate=1e-5"], "--train.learning_rate"),
        (["--num_train_epochs", "1"], "--train.epochs"),
        (["--per_device_train_batch_size", "8"], "--train.batch_size"),
        (["--gradient_accumulation_steps", "8"], "--train.batch_size"),
        (["--lora_r", "8"], "--method.rank"),
        (["--lora-alpha", "8"], "--method.alpha"),
        (["--output_dir", "x"], "--output"),
        (["--max_seq_length", "128"], "--model.max_length"),
        (["--bf16", "True"], "--train.precision bf16"),
        (["--fp16"], "--train.precision bf16"),
        (["--load_in_4bit"], "--method lora --method.quantize nf4"),
        (["--base_model", "x"], "--model"),
        (["--warmup_ratio", "0.1"], "--train.schedule.warmup"),
        (["--lr_scheduler_type", "cosine"], "--train.schedule"),
        (["--cutoff_len", "128"], "--model.max_length"),
        (["--micro_batch_size", "2"], "--compute.micro_batch_rows"),
        (["--resume_from_checkpoint", "x"], "--resume"),
        (["--overwrite_output_dir"], "--overwrite"),
        (["--columns", "text=review"], "--data.columns.text COLUMN"),
        (["--train.lr", "1"], "--train.learning_rate"),
        (["--LR", "1"], "--train.learning_rate"),
    ],
)
def test_flags_of_other_tools(arguments: list[str], meant: str) -> None:
    assert fix_of(*arguments).startswith(f"Did you mean {meant}")


def test_what_needs_no_setting_says_so() -> None:
    assert "metrics.jsonl" in fix_of("--report_to", "wandb")
    assert "one device" in fix_of("--deepspeed", "x.json")
    assert "never run" in fix_of("--trust_remote_code")


def test_keys_of_files_of_other_tools() -> None:
    for path, meant in (
        ("learning_rate", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("lora_r", "method.rank"),
        ("sequence_len", "model.max_length"),
        ("load_in_8bit", "'method: lora' and 'method.quantize: int8'"),
        ("model.model_name_or_path", "model"),
    ):
        assert meant in suggest_key(RunConfig, path, list(RunConfig.model_fields)), path
    with pytest.raises(InputError) as caught:
        build(RunConfig, {"model": "lstm", "data": "x", "num_epochs": 3, "train": {"bf16": True}})
    text = str(caught.value)
    assert "num_epochs is not a known key.\n  → Did you mean 'train.epochs'?" in text
    assert "train.bf16 is not a known key.\n  → Did you mean 'train.precision: bf16'?" in text


def test_choices_in_other_words_and_other_letters() -> None:
    for what, name, choice in foreign_choices():
        registry = {"task": TASKS, "method": METHODS}[what]
        assert choice in registry
        assert plain(name) == name
        assert name not in registry
        with pytest.raises(InputError) as caught:
            build(RunConfig, {"model": "lstm", "data": "x", what: name.replace("_", "-")})
        assert f"Did you mean '{choice}'" in str(caught.value), name
    base = {"model": "lstm", "data": "x"}
    config = build(
        RunConfig, {**base, "method": "LoRA", "task": "Token-Classification", "train": {"precision": "BF16"}}
    )
    assert config.method.name == "lora"
    assert config.task is not None
    assert config.task.name == "token_classification"
    assert config.train.precision == "bf16"
    assert build(RunConfig, {**base, "data": {"path": "x", "clean": {"unicode": "nfkc"}}}).data.clean.unicode == "NFKC"
    for name in ("LSTM", "Org/Name"):
        assert build(RunConfig, {**base, "model": name}).model.name == name, "the name of a model is not ours to change"


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("trian", "tunesmith train"),
        ("Train", "tunesmith train"),
        ("fine-tune", "tunesmith train"),
        ("eval", "tunesmith evaluate"),
        ("predcit", "tunesmith predict"),
        ("infer", "tunesmith predict"),
        ("inspect", "tunesmith data inspect"),
        ("reviews.csv", "tunesmith data inspect reviews.csv"),
        ("lora.yaml", "tunesmith train lora.yaml"),
        ("contest", "tunesmith compare"),
        ("optuna", "tunesmith search"),
        ("cross_validation", "tunesmith cross-validate"),
        ("webui", "tunesmith studio"),
        ("dpo", "tunesmith train --task=preference"),
        ("convert", "tunesmith export"),
        ("blah", "There is train, plan, slurm, compare"),
    ],
)
def test_commands(command: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "x"]) == 2
    assert meant in capsys.readouterr().err


def test_what_is_said_of_commands_is_true() -> None:
    group = application.tunesmith
    context = click.Context(group)
    for command, names in OTHER_COMMANDS.items():
        words = [word for word in command.split() if word.isalpha() and word.islower()]
        found: click.Command | None = group
        for word in words:
            assert isinstance(found, click.Group)
            found = found.get_command(context, word)
            assert found is not None, command
        assert not set(names) & COMMANDS.keys()
    assert not NOT_YET.keys() & COMMANDS.keys()
    options = set()
    for name in COMMANDS:
        command_ = group.get_command(context, name)
        assert command_ is not None
        for one in [*getattr(command_, "commands", {}).values(), command_]:
            options |= {option for parameter in one.params for option in parameter.opts}
    assert set(OPTIONS) <= options | {"--model", "--data", "--output"}
    assert {own.split()[0] for own in OWN_OPTIONS.values()} <= options
    assert set(INSTEAD) <= set(NOT_YET.values())


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["predict", "x", "--prompt", "a"], "Did you mean --text?"),
        (["predict", "x", "--file", "a"], "Did you mean --data?"),
        (["predict", "--model", "x", "--text", "a"], "given as it is, without an option"),
        (["predict", "x", "--batch-size", "3"], "There is nothing to set"),
        (["predict"], "Give the folder that 'tunesmith train' wrote"),
        (["evaluate", "x", "new.csv"], "A file goes with --data"),
        (["evaluate", "x", "--data.columns.text", "review"], "Did you mean --columns?"),
        (["data", "inspct", "x"], "Did you mean 'tunesmith data inspect'?"),
        (["data", "reviews.csv"], "To look at data: tunesmith data inspect reviews.csv"),
        (["data", "x" * 5000], "There is audit, export, inspect"),
        (["train", "reviews.csv"], "Data go with --data"),
        (["train", "-m", "lstm"], "Did you mean --model?"),
        (["data", "inspect", "x", "-n", "3"], "Did you mean --rows?"),
        (["doctor", "--jsn"], "Did you mean --json?"),
        (["predict", "x", "--text", "a", "--columns", "text=b"], "there is no such file"),
        (["predict", "x", "--data", "a.csv", "--columns", "review"], "expected ROLE=COLUMN"),
    ],
)
def test_slips_of_other_commands(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert meant in capsys.readouterr().err


def test_help_is_there_whatever_else_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["train", "--model", "lstm", "--help"],
        ["train", "--nonsense", "-h"],
        ["train", "--help", "--lr"],
    ):
        assert run(arguments) == 0
        assert "--train.learning_rate" in capsys.readouterr().out
