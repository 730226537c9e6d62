"""``tunesmith slurm``."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.flags import ConfigCommand, FlagTree, flags_of
from tunesmith.cli.training_command import configured


class SlurmCommand(ConfigCommand):
    """Takes every key of ``RunConfig`` as a flag, as the training itself."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.run import RunConfig

        return FlagTree(RunConfig)


@click.command(cls=SlurmCommand, short_help="Write a job for Slurm that trains on several machines.")
@click.argument("path", metavar="[CONFIG.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--nodes", type=click.IntRange(1, 1024), default=1, help="Machines that train together.")
@click.option(
    "--ranks-per-node",
    type=click.IntRange(1, 1024),
    help="Processes on each machine; one for each GPU asked for, or one, when not given.",
)
@click.option("--gpus-per-node", type=click.IntRange(0, 1024), default=0, help="GPUs of each machine.")
@click.option("--cores-per-node", type=click.IntRange(min=1), help="Cores of each machine, shared by its ranks.")
@click.option("--memory", help="Memory of each machine, such as 64G.")
@click.option("--time", "time_limit", help="Time limit, as Slurm writes it: 12:00:00.")
@click.option("--partition", help="Where it is queued.")
@click.option("--account", help="Who is charged.")
@click.option(
    "--grace",
    type=int,
    default=120,
    show_default=True,
    help="Seconds before the end in which a checkpoint is saved and the job queued again.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How often it goes on from the last checkpoint after a process was lost.",
)
@click.pass_context
def slurm_command(
    context: click.Context,
    *,
    path: Path | None,
    nodes: int,
    ranks_per_node: int | None,
    gpus_per_node: int,
    cores_per_node: int | None,
    memory: str | None,
    time_limit: str | None,
    partition: str | None,
    account: str | None,
    grace: int,
    max_restarts: int,
) -> None:
    """Write a script that trains CONFIG.yaml on several machines of a Slurm cluster, to be read and submitted.

    Nothing is submitted. The job saves a checkpoint when Slurm asks for its machines, is queued
    again, and goes on from there.

    \b
    tunesmith slurm config.yaml --nodes 2 --gpus-per-node 8 --time 12:00:00 > job.sh
    tunesmith slurm config.yaml --nodes 4 --ranks-per-node 2 --cores-per-node 16 --partition long > job.sh
    """  # noqa: D301
    from tunesmith.cli.terminal import write
    from tunesmith.run import RunConfig
    from tunesmith.run.slurm_script import SlurmJob, script_of
    from tunesmith.run.training import default_output

    config = configured(context, path, RunConfig, quiet=False)
    arguments = [] if path is None else [str(path.resolve())]
    for name, value in flags_of(context).pairs:
        if name != "output":
            arguments += [f"--{name}", value]
    job = SlurmJob(
        nodes=nodes,
        ranks_per_node=ranks_per_node or gpus_per_node or 1,
        gpus_per_node=gpus_per_node,
        cores_per_node=cores_per_node,
        time=time_limit,
        partition=partition,
        account=account,
        memory=memory,
        grace_seconds=grace,
        max_restarts=max_restarts,
    )
    output = Path(config.output or default_output(config)).absolute()
    write(script_of(job, config, arguments, output, Path.cwd()))
