"""``tunesmith train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.flags import FlagTree, ParsedFlags, build_config, flags_of
from tunesmith.cli.ranks import one_of_several, train_in_ranks
from tunesmith.cli.suggestions import DATA_SUFFIXES
from tunesmith.cli.sweep import Variant, variants
from tunesmith.cli.training_command import TrainingCommand
from tunesmith.cli.writing import text_flags
from tunesmith.config.base import ConfigError
from tunesmith.config.load import load_yaml
from tunesmith.config.migrate import migrate, note_moved, present_name
from tunesmith.types import DiskError, InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run import RunConfig


RUNS = Path("runs")
"""Where runs go whose folder is not named."""
MAX_RESUMABLE = 5


class TrainCommand(TrainingCommand):
    """Takes every key of ``RunConfig`` as a flag."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.run import RunConfig

        return FlagTree(RunConfig)


@click.command(cls=TrainCommand, short_help="Fine-tune a model on your data.")
@click.argument("configs", metavar="[CONFIG.yaml]...", required=False, nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--sweep",
    metavar="KEY=A,B,...",
    multiple=True,
    help="Train a run for each value (for each combination, given several times), one after the other. "
    "Each run has a folder of its own in the output folder.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run in the folder given as --output.")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in the output folder.")
@click.option(
    "--ranks",
    type=click.IntRange(min=1),
    default=1,
    help="Train with so many processes of this machine, which share the rows of each step.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=0,
    help="With --ranks: go on from the last checkpoint so many times after a process was lost.",
)
@click.option("--quiet", is_flag=True, help="Show warnings and errors only.")
@click.pass_context
def train_command(
    context: click.Context,
    *,
    configs: tuple[Path, ...],
    sweep: tuple[str, ...],
    resume: bool,
    overwrite: bool,
    ranks: int,
    max_restarts: int,
    quiet: bool,
) -> None:
    """Fine-tune a model on your data, as CONFIG.yaml and the flags say; flags go first.

    Several files, or values to --sweep, are several runs, one after the other: what they have in
    common is read, loaded and computed once.

    \b
    tunesmith train --model sample:minilm --data reviews.csv
    tunesmith train --model lstm --data reviews.csv --output runs/lstm
    tunesmith train config.yaml --method lora --method.rank 16
    tunesmith train config.yaml --method lora --sweep train.seed=0,1,2,3
    tunesmith train config.yaml --ranks 4
    """  # noqa: D301
    several = Ranks(ranks, max_restarts)
    train_as_told(context, configs, sweep, resume=resume, overwrite=overwrite, quiet=quiet, ranks=several)


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many processes train."""

    number: int = 1
    max_restarts: int = 0


def train_as_told(
    context: click.Context,
    configs: Sequence[Path],
    sweep: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    ranks: Ranks = Ranks(),
    base: Mapping[str, Any] | None = None,
) -> None:
    """Train what a command's files and flags say, over values of ``base`` where there is no file."""
    from tunesmith.cli.application import show_problems

    plans, notes = _configure(context, configs, sweep, resume=resume, base=base or {})
    if not quiet:
        show_problems(notes)
    if len(plans) == 1 and ranks.number > 1:
        config, options = plans[0].config, {"resume": resume, "overwrite": overwrite, "quiet": quiet}
        context.exit(train_in_ranks(config, ranks.number, **options, max_restarts=ranks.max_restarts))
    if len(plans) == 1:
        _train_one(plans[0].config, resume=resume, overwrite=overwrite, quiet=quiet)
    else:
        _require_one_process(ranks)
        _train_many(plans, resume=resume, overwrite=overwrite, quiet=quiet)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run to be trained."""

    name: str
    config: RunConfig
    place: Path
    """The folder that its own lies in."""


def _train_one(config: RunConfig, *, resume: bool, overwrite: bool, quiet: bool) -> None:
    from tunesmith.cli.console import ConsoleObserver
    from tunesmith.run import train

    with one_of_several(config) as is_first:
        observers = [ConsoleObserver(quiet=quiet)] if is_first else []
        folder = train(config, resume=resume, overwrite=overwrite, observers=observers)
    if not is_first:
        return
    page = _write_report([folder], folder)
    if not quiet:
        _show_result(folder, page)


def _require_one_process(ranks: Ranks) -> None:
    """Refuse several runs by several processes."""
    from tunesmith.engine.rank_group import num_started

    if ranks.number > 1 or num_started() > 1:
        raise InputError(
            "Several processes train one run, and several were given.",
            "Give one configuration without --sweep, or leave out --ranks: each run is then trained by one process.",
        )


def _train_many(plans: Sequence[_Plan], *, resume: bool, overwrite: bool, quiet: bool) -> None:
    from tunesmith.cli.console import ConsoleObserver
    from tunesmith.run import SomeRunsFailedError, train_several

    headings = (f"run {number} of {len(plans)}: {plan.name}" for number, plan in enumerate(plans, 1))
    observers = [[ConsoleObserver(quiet=quiet, heading=heading)] for heading in headings]
    configs = [plan.config for plan in plans]
    try:
        train_several(configs, resume=resume, overwrite=overwrite, observers=observers)
    except SomeRunsFailedError as error:
        finished = [plan for plan in plans if Path(plan.config.output or "") in error.finished]
        _conclude(finished, _place_of_all(plans), quiet=quiet)
        raise
    _conclude(plans, _place_of_all(plans), quiet=quiet)


def _conclude(plans: Sequence[_Plan], place: Path | None, *, quiet: bool) -> None:
    """Write a report of every run and one of all side by side; show their main figures."""
    folders = [Path(plan.config.output or "") for plan in plans]
    for folder in folders:
        _write_report([folder], folder)
    page = _write_report(folders, place) if place is not None else None
    if not quiet:
        _show_results(plans, page)


def _place_of_all(plans: Sequence[_Plan]) -> Path | None:
    """Return the folder that all runs lie in, or nothing: a report there must not replace another one."""
    from tunesmith.run.directory import RunDirectory

    places = {plan.place.resolve(): plan.place for plan in plans}
    if len(places) > 1:
        return None
    ((resolved, place),) = places.items()
    is_ours = not Path.cwd().is_relative_to(resolved) and not RunDirectory(place).config.exists()
    return place if is_ours else None


def _configure(
    context: click.Context, paths: Sequence[Path], sweeps: Sequence[str], *, resume: bool, base: Mapping[str, Any]
) -> tuple[list[_Plan], list[Problem]]:
    """Lay flags and swept values over the files; report all problems together. What is to be noted comes, too."""
    from tunesmith.run import RunConfig

    flags = flags_of(context)
    command = context.command
    assert isinstance(command, TrainCommand)
    axes = [*sweeps, *(str(path) for path in paths if sweeps and _is_axis(path))]
    made, problems = variants(axes, command.flag_tree())
    paths = [path for path in paths if str(path) not in axes]
    if not paths and resume and (saved := _saved_config(flags.pairs)):
        paths = [saved]
    keys = [axis.partition("=")[0].replace("-", "_") for axis in axes]
    swept = [key for key in keys if key != present_name(key)]
    notes = [*flags.notes, *note_moved(swept, "--sweep")]
    found = [*flags.problems, *problems]
    if misplaced := [path for path in paths if path.suffix.lower() in DATA_SUFFIXES]:
        raise ConfigError([*map(_no_configuration, misplaced), *found])
    plans: list[_Plan] = []
    files: Sequence[Path | None] = paths or [None]
    stems = _stems(paths)
    for path in files:
        try:
            values, moved = migrate(load_yaml(path), str(path)) if path is not None else (dict(base), [])
        except ConfigError as error:
            raise ConfigError([*error.problems, *found]) from error
        notes += moved
        stem = stems[path] if path is not None and len(paths) > 1 else ""
        for variant in made or [Variant("", ())]:
            laid = replace(flags, pairs=(*flags.pairs, *variant.pairs), problems=())
            try:
                plans.append(_plan(build_config(RunConfig, laid, values), laid, stem, variant))
            except ConfigError as error:
                found += [problem for problem in error.problems if problem not in found]
    if found:
        raise ConfigError([*found, *notes])
    return plans, notes


def _is_axis(path: Path) -> bool:
    """Say whether an argument is a further KEY=A,B,... of --sweep rather than a file."""
    return "=" in str(path) and not path.exists()


def _stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Return names that tell files apart: stems, after as many of the folders as it takes (``a-config``)."""
    whole = {path: path.parent.resolve() / path.name for path in paths}
    parts = {path: place.with_suffix("").parts[1:] for path, place in whole.items()}
    if len(set(parts.values())) < len(parts):  # of one name but for the suffix
        parts = {path: place.parts[1:] for path, place in whole.items()}

    def name_of(path: Path) -> str:
        own = parts[path]
        others = [other for other in parts.values() if other != own]
        lengths = range(1, len(own) + 1)
        enough = (length for length in lengths if all(other[-length:] != own[-length:] for other in others))
        return "-".join(own[-next(enough, len(own)) :])

    return {path: name_of(path) for path in paths}


def _plan(config: RunConfig, flags: ParsedFlags, stem: str, variant: Variant) -> _Plan:
    """Give one of several runs a name, and a folder of its own."""
    from tunesmith.run.training import default_output

    given = config.output
    if stem and given and "output" not in dict(flags.pairs):
        parts = [given, variant.name]  # the file's own
    else:
        parts = [given or default_output(config), stem, variant.name]
    name = "-".join(filter(None, (stem, variant.name)))
    if not name:
        return _Plan("", config, Path(parts[0]).parent)
    below = list(filter(None, parts[1:]))
    place = Path(parts[0]) if below else Path(parts[0]).parent
    return _Plan(name, config.model_copy(update={"output": str(Path(parts[0], *below))}), place)


def _no_configuration(path: Path) -> Problem:
    fix = f"Data go with --data: tunesmith train --model MODEL --data {path}"
    return Problem("error", f"{path} is no configuration (CONFIG.yaml).", fix)


def _saved_config(pairs: tuple[tuple[str, str], ...]) -> Path | None:
    """Return the configuration that the run to be resumed has saved; nothing where flags say what it was.

    Raises ``InputError`` where neither ``--output`` nor the flags tell which run is meant.
    """
    from tunesmith.run.directory import RunDirectory

    given = dict(pairs)
    output = given.get("output")
    if output:
        directory = RunDirectory(Path(output))
        places = (directory.staged.config, directory.config)  # one that is to replace a run there comes first
        if saved := next((place for place in places if place.is_file()), None):
            return saved
    if {path.split(".")[0] for path in given} >= {"model", "data"}:
        return None
    if output:
        raise InputError(f"There is nothing to resume in {output}: it holds no config.yaml.", _resumable(RUNS))
    raise InputError("--resume needs the run that is to go on: give its folder as --output.", _resumable(RUNS))


def _resumable(place: Path) -> str:
    """Say which runs in a folder did not finish, and how to go on with them."""
    from tunesmith.run.directory import RunDirectory

    found = [
        path.parent
        for pattern in ("*/config.yaml", "*/*/config.yaml")
        for path in sorted(place.glob(pattern))
        if not RunDirectory(path.parent).is_finished
    ]
    if not found:
        return f"No run in {place}/ is unfinished; give the folder of the run, wherever it is: --output FOLDER."
    shown = "\n  → ".join(f"tunesmith train --resume --output {quote(str(path))}" for path in found[:MAX_RESUMABLE])
    more = f"\n  → … and {len(found) - MAX_RESUMABLE} more" if len(found) > MAX_RESUMABLE else ""
    return f"Unfinished in {place}/:\n  → {shown}{more}"


def _write_report(folders: Sequence[Path], place: Path) -> Path | None:
    """Write the page of finished runs; where it cannot be written, they are finished all the same."""
    from tunesmith.cli.application import show_problems
    from tunesmith.report import write_report

    try:
        return write_report(folders, place / "report.html")
    except InputError as error:
        problems = [replace(problem, severity="warning") for problem in error.problems]
    except DiskError as error:
        fix = f"The run is finished; write its report later: tunesmith report {folders[0]}"
        problems = [Problem("warning", error.what, fix)]
    show_problems(problems)
    return None


def _show_result(folder: Path, page: Path | None) -> None:
    from tunesmith.cli.tables import evaluation_table, print_table, sets_table, stdout_console
    from tunesmith.run.assembly import inputs_of
    from tunesmith.run.directory import RunDirectory

    console = stdout_console()
    directory = RunDirectory(folder)
    if (folder / "evaluation.json").exists():
        evaluation = directory.read_json("evaluation")
        print_table(console, evaluation_table(evaluation, console.width))
        if (apart := sets_table(evaluation)) is not None:
            print_table(console, apart)
    console.print()
    console.print(f"run      {folder}", f"report   {page or 'none'}", sep="\n", markup=False, soft_wrap=True)
    config = directory.read_config()
    assert config.task is not None
    use = "chat" if config.task.chats else "predict"
    texts = f" {text_flags(inputs_of(config.task, config.data.columns))}" if use == "predict" else ""
    next_command = f"tunesmith {use} {quote(str(folder))}{texts}"
    console.print(f"{use.ljust(8)} {next_command}", soft_wrap=True)


def _show_results(plans: Sequence[_Plan], page: Path | None) -> None:
    from tunesmith.cli.tables import print_table, runs_table, stdout_console
    from tunesmith.run.directory import RunDirectory

    console = stdout_console()
    judged = {
        plan.name: RunDirectory(folder).read_json("evaluation")
        for plan in plans
        if ((folder := Path(plan.config.output or "")) / "evaluation.json").exists()
    }
    alike: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, evaluation in judged.items():
        kind = tuple(evaluation[key] for key in ("main_metric", "split", "num_rows"))
        alike.setdefault(kind, {})[name] = evaluation
    for evaluations in alike.values():
        print_table(console, runs_table(evaluations))
    console.print()
    for plan in plans:
        console.print(f"run      {plan.config.output}", markup=False, soft_wrap=True)
    shown = page or "one in each; the runs have no folder to themselves for a common one (tunesmith report RUN...)"
    console.print(f"report   {shown}", markup=False, soft_wrap=True)
