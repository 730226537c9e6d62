"""``tunesmith plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.flags import FlagTree, ParsedFlags, flags_of
from tunesmith.cli.training_command import TrainingCommand, configured
from tunesmith.readable import compact, duration, number, size

if TYPE_CHECKING:
    from tunesmith.study.plan import Candidate, Plan

OWN = ("method", "methods", "within", "memory", "quality", "machine", "nodes", "network", "price_per_hour")
"""Keys that say what is planned, and are no part of the run or decided by the plan."""
MOST_NOTES = 5


class PlanCommand(TrainingCommand):
    """Takes every key of ``PlanConfig`` as a flag."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.study import PlanConfig

        return FlagTree(PlanConfig)


@click.command(cls=PlanCommand, short_help="Say what each method would cost, and which to take.")
@click.argument("path", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Write the plan as JSON.")
@click.option("--quiet", is_flag=True, help="Show the result only.")
@click.pass_context
def plan_command(context: click.Context, *, path: Path | None, as_json: bool, quiet: bool) -> None:
    """Say, from a few real steps of each method, what a training would take, and which method to choose.

    A few steps are made and thrown away; time, memory and disk follow from them. How well a method is
    likely to do is judged by what is known of it beforehand, with the source of every reason.
    'tunesmith compare' measures it.

    \b
    tunesmith plan --model sample:minilm --data reviews.csv
    tunesmith plan --model M --data reviews.csv --within 10m --memory 8GB
    tunesmith plan --model M --data D --methods "full,lora(rank=64),ia3" --json

    With --machine nothing is tried, and no weights are loaded: time, memory and price follow from
    the model's config and from published figures of the devices.

    \b
    tunesmith plan --model M --data D --machine '8x H100' --nodes 4 --price-per-hour 24
    tunesmith plan --model 8B --data D --machine 'L40S' --methods lora
    """  # noqa: D301
    from tunesmith.cli.console import ConsoleObserver
    from tunesmith.cli.terminal import say_json
    from tunesmith.study import PlanConfig, make_plan

    quiet = quiet or as_json
    config = configured(context, path, PlanConfig, quiet=quiet)
    observers = [] if quiet else [ConsoleObserver()]
    if config.machine is not None:
        from tunesmith.cli.cluster_table import show_cluster_plan
        from tunesmith.study.costs.cluster_plan import plan_for_machines

        elsewhere = plan_for_machines(config, observers=observers)
        say_json(elsewhere.to_dict(), indent=1) if as_json else show_cluster_plan(elsewhere)
        return
    plan = make_plan(config, given=_words(path, flags_of(context)), observers=observers)
    if as_json:
        say_json(plan.to_dict(), indent=1)
    else:
        _show(plan)


def _words(path: Path | None, flags: ParsedFlags) -> list[str]:
    """Return the command that was given, as one that trains, but for the method."""
    words = ["tunesmith", "train", *([str(path)] if path is not None else [])]
    for name, value in flags.pairs:
        if name.split(".")[0] not in OWN:
            words += [f"--{name}", value]
    return words


def _show(plan: Plan) -> None:
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say

    table = new_table(headers=["method", "fits", "time", "peak memory", "saved", "trained", "rate", "likely quality"])
    for one in plan.candidates:
        table.add_row(*_cells(one))
    print_table(stdout_console(), table)
    say()
    for one in plan.candidates:
        if not one.fits:
            say(f"{one.name}: {one.reason}.")
    for problem in plan.notes[:MOST_NOTES]:
        say(f"Rows: {problem.message}", dim=True)
    if plan.recommended is None:
        say(f"Recommended: nothing. {plan.reasons[0]}")
        return
    say(f"Recommended: {plan.recommended.name}.", bold=True)
    for reason in plan.reasons:
        say(f"  {reason[:1].upper()}{reason[1:]}.")
    say(f"Run it: {plan.command}")


def _cells(one: Candidate) -> list[str]:
    found = one.forecast
    if found is None or one.likely is None:
        return [one.name, "no", "", "", "", "", "", ""]
    return [
        one.name,
        "yes" if one.fits else "changed" if one.change else "no",
        duration(found.seconds),
        size(found.peak_memory),
        size(found.disk),
        compact(found.trained.num_weights),
        number(found.config.train.learning_rate),
        one.likely.quality,
    ]
