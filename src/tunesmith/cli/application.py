"""The group of commands, loaded one by one as they are asked for, and what becomes of errors.

Exit status: 0 done; 1 the work failed; 2 the input cannot be used; 128 + n ended by signal n.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path

import click

from tunesmith.cli.suggestions import SuggestingGroup, usage_problem
from tunesmith.cli.terminal import allow_any_text, is_gone, say, silence
from tunesmith.types import InputError, Problem, RunError
from tunesmith.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}

COMMANDS = {
    "train": ("tunesmith.cli.train:train_command", "Fine-tune a model on your data."),
    "plan": ("tunesmith.cli.plan:plan_command", "Say what each method would cost, and which to take."),
    "slurm": ("tunesmith.cli.slurm:slurm_command", "Write a job for Slurm that trains on several machines."),
    "compare": ("tunesmith.cli.compare:compare_command", "Compare methods on your data, fairly and with error bars."),
    "cross-validate": (
        "tunesmith.cli.cross_validate:cross_validate_command",
        "Judge a training on every row of your data, fold by fold.",
    ),
    "search": ("tunesmith.cli.search:search_command", "Search the best values of any settings on the validation rows."),
    "evaluate": ("tunesmith.cli.evaluate:evaluate_command", "Measure a run on its test rows or on other data."),
    "predict": ("tunesmith.cli.predict:predict_command", "Apply a run to texts or to a file."),
    "embed": ("tunesmith.cli.embed:embed_command", "Write the vectors that a run gives texts."),
    "ensemble": ("tunesmith.cli.ensemble:ensemble_command", "Combine finished runs into one."),
    "distill": ("tunesmith.cli.distill:distill_command", "Train a model that learns from a run or an ensemble."),
    "chat": ("tunesmith.cli.chat:chat_command", "Talk with a fine-tuned language model."),
    "serve": ("tunesmith.cli.serve:serve_command", "Answer requests over HTTP with finished runs."),
    "studio": ("tunesmith.cli.studio:studio_command", "Do all of this in the browser."),
    "merge": ("tunesmith.cli.merge:merge_command", "Write an adapter and its base as one plain model."),
    "export": ("tunesmith.cli.export_run:export_command", "Write a run for another program, proven equal there."),
    "push": ("tunesmith.cli.push:push_command", "Put a run on the Hugging Face hub, or into a folder."),
    "import": ("tunesmith.cli.import_config:import_command", "Read another tool's configuration as one of ours."),
    "explain": ("tunesmith.cli.explain:explain_command", "Show which words a run's answers come from."),
    "audit": ("tunesmith.cli.audit:audit_command", "Say for whom and where a run fails, and how sure it may be."),
    "privacy": ("tunesmith.cli.privacy:privacy_command", "Measure what a run gives away of its training rows."),
    "gate": ("tunesmith.cli.gate:gate_command", "Say whether a new run may replace an old one."),
    "restore": ("tunesmith.cli.restore:restore_command", "Write a compressed or sparse run as a plain model."),
    "data": (
        "tunesmith.cli.data_commands:data_group",
        "Look at a data set; audit it; write out a sample; cut documents into passages.",
    ),
    "augment": ("tunesmith.cli.augment:augment_command", "Make more training rows of those of a file."),
    "report": ("tunesmith.cli.report:report_command", "Write an HTML report of one or more runs, or of a study."),
    "doctor": ("tunesmith.cli.doctor:doctor_command", "Check this machine and installation."),
}

EPILOG = "Start with: tunesmith train --model sample:minilm --data reviews.csv"


_OF_PATHS = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EINVAL,
    }
)
"""Errors of the system that speak of a path that the user gave."""


class LazyGroup(SuggestingGroup):
    """Imports a command's module only when the command itself is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings=CONTEXT, epilog=EPILOG, no_args_is_help=False, invoke_without_command=True)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def tunesmith(context: click.Context) -> None:
    """Fine-tune language models and prove which way of fine-tuning wins on your data."""
    if context.invoked_subcommand is None:
        say(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; every error is shown on the way."""
    allow_any_text()
    try:
        status = _run(arguments)
        _flush()
    except BrokenPipeError:  # whoever reads the output has seen enough
        silence(sys.stdout)
        return 1
    return status


def _flush() -> None:
    """Write what is not written yet; where the terminal was closed meanwhile, that is nothing to end with."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not is_gone(error):
                raise
            silence(stream)


def _run(arguments: Sequence[str]) -> int:
    try:
        result = tunesmith.main(args=list(arguments), prog_name="tunesmith", standalone_mode=False)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _explain(error, arguments)
    except BaseException as error:
        status = _stopped_status(error)
        if status is None:
            raise
        return status
    return result if isinstance(result, int) else 0


def _explain(error: Exception, arguments: Sequence[str]) -> int:
    """Show an error and return the exit status that belongs to it."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            show_problems([usage_problem(error)])
            return error.exit_code
        case click.Abort():
            return _stopped_status(KeyboardInterrupt()) or 1
        case InputError() | RunError():
            return _told(error)
        case OSError() if error.filename is not None and error.errno in _OF_PATHS:
            problem = f"{os.fsdecode(error.filename)[:300]!r} cannot be used: {error.strerror}."
            return _explain(InputError(problem, "Give another path, or change its permissions."), arguments)
    return _report_crash(error, arguments)


def _told(error: InputError | RunError) -> int:
    if isinstance(error, InputError):
        show_problems(error.problems)
        return 2
    say("Error: ", err=True, end="", fg="red", bold=True)
    say(error, err=True)
    return 1


def show_problems(problems: Sequence[Problem]) -> None:
    """Write to stderr every problem with its severity, what happened and how to mend it."""
    colors = {"error": "red", "warning": "yellow", "note": "cyan"}
    for problem in problems:
        say(f"{problem.severity.capitalize()}: ", err=True, end="", fg=colors[problem.severity], bold=True)
        say(problem, err=True)
    num_errors = sum(problem.severity == "error" for problem in problems)
    if num_errors > 1:
        say(f"{num_errors} problems; nothing was done.", err=True)


def _stopped_status(error: BaseException) -> int | None:
    """Return the status for work that was asked to stop, after saying how to go on; None for anything else."""
    if isinstance(error, KeyboardInterrupt):
        say("Interrupted.", err=True)
        return 128 + signal.SIGINT
    signals = sys.modules.get("tunesmith.run.signals")  # not imported, then it was not raised either
    if signals is None or not isinstance(error, signals.Stopped):
        return None
    say(error.advice or "Stopped.", err=True)
    return int(error.exit_code)


def _report_crash(error: Exception, arguments: Sequence[str]) -> int:
    """Say that this is our mistake and where the traceback is; arguments may hold secrets and are not kept."""
    details = "".join(traceback.format_exception(error))
    if os.environ.get("TUNESMITH_DEBUG") == "1":
        say(details, err=True)
        return 1
    say("Unexpected error: ", err=True, end="", fg="red", bold=True)
    say(f"{type(error).__name__}: {error}", err=True)
    path = _write_crash(details, arguments[0] if arguments else "")
    where = f"The traceback was written to {path}." if path else "The traceback could not be written."
    say(f"{where}\n  → This is a fault of tunesmith; please report it. TUNESMITH_DEBUG=1 shows it here.", err=True)
    return 1


def _write_crash(details: str, command: str) -> Path | None:
    from tunesmith.files.atomic import write_text
    from tunesmith.files.cache import cache_root

    now = datetime.now().astimezone()
    path = cache_root() / "crashes" / f"{now:%Y-%m-%dT%H-%M-%S}-{os.getpid()}.txt"
    header = f"tunesmith {__version__}, Python {sys.version.split()[0]}, command {command}, {now.isoformat()}\n\n"
    with suppress(OSError, RunError):
        write_text(path, header + details)
        return path
    return None
