"""From a configuration to all parts of a run; nothing is written but what the cache holds for everybody."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from tunesmith.data.bad_rows import errors_among
from tunesmith.data.encoded import Encoded
from tunesmith.engine import ranks
from tunesmith.engine.mixing import Mix
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.order import StepPlan
from tunesmith.engine.precision import be_deterministic
from tunesmith.engine.prefix import find_prefix
from tunesmith.engine.step import Training
from tunesmith.files.fetching import telling
from tunesmith.run.advisor import situation_before
from tunesmith.run.answering import check_judges, with_answering
from tunesmith.run.assembly import Network, TaskData, make_network, resolve
from tunesmith.run.canaries import with_canaries
from tunesmith.run.config import RunConfig
from tunesmith.run.defaults import decide, planned
from tunesmith.run.directory import RunDirectory
from tunesmith.run.fair_rows import FairRows, fair_rows
from tunesmith.run.general_text import with_general_text
from tunesmith.run.guards import check_composed, check_method
from tunesmith.run.idle_networks import Assembled
from tunesmith.run.mixed_up import check_mixup
from tunesmith.run.mixture import REPLAY, mix_notes, mix_of, with_replayed
from tunesmith.run.observers import Observers
from tunesmith.run.offload import check_offload
from tunesmith.run.private_training import as_private, check_private, groups_of, with_privacy
from tunesmith.run.session import Composed, Logbook
from tunesmith.run.signals import StopRequests
from tunesmith.run.teacher import Teacher, check_teacher, with_task_of
from tunesmith.run.trackers import check_trackers
from tunesmith.run.unlabelled import rows_to_learn_from, with_unlabelled
from tunesmith.run.workshop import Workshop
from tunesmith.tasks.base import Task
from tunesmith.tasks.left_out import encoding_problems, num_refused
from tunesmith.types import InputError, Problem


def compose(
    config: RunConfig,
    directory: RunDirectory,
    observers: Observers,
    stop: StopRequests,
    workshop: Workshop,
    *,
    how_to_resume: str = "",
) -> Composed:
    """Build every part of a run.

    Args:
        config: What was given.
        directory: Where the run will be.
        observers: Who is told of what takes a while, and of notes.
        stop: What asks it to stop.
        workshop: What it has in common with other runs.
        how_to_resume: What continues the run; its own command when not given.

    Raises:
        InputError: Something cannot be used, or can be seen to fail.
    """
    check_method(config)
    check_offload(config)
    check_trackers(config)
    config = as_private(config)
    teacher = Teacher.of(config)
    config = with_task_of(teacher, config)
    _seed_everything(config.train.seed, deterministic=config.compute.deterministic)
    observers.working("reading the data")
    data = _rows(config, teacher, workshop)
    config = with_general_text(config, data)
    observers.working("loading the model")
    with telling(observers.fetching):
        config, data, network, notes = _network(config, data, workshop)
    observers.working("tokenising")
    with ranks.after_first("tokens"):
        data, splits, refused = _encode(config, data, network, workshop)
    rows = with_replayed(rows_to_learn_from(splits), splits)
    fair = fair_rows(config, data, rows)
    rows, planted = with_canaries(config, data, network, rows)
    notes += [*planted, *check_private(config, data.task, network, rows)]
    check_mixup(config, data.task, network.model, rows)
    mix = _mix(config, data, rows, fair)
    notes += [] if fair is None else [fair.note()]
    size = rows.num_samples if mix is None else mix.num_samples
    config, decisions = decide(config, data.task, network, rows, splits.get("validation"), num_samples=size)
    groups = groups_of(config, data.prepared, rows)
    training, promised = with_privacy(config, new_training(config, data.task, network, rows, mix=mix), groups)
    notes += promised
    notes += [] if mix is None or fair is not None else mix_notes(data.sets, mix, training.plan, data.task.most_epochs)
    composed = Composed(
        config=config,
        resolved=resolve(config, data, network, directory.place),
        decisions=decisions,
        directory=directory,
        data=data,
        network=network,
        training=training,
        validation=splits.get("validation"),
        workshop=workshop,
        teacher=teacher,
        fair=fair,
        columns=workshop.columns(directory.path, network, config.compute),
        logbook=Logbook(observers),
        stop=stop,
        how_to_resume=how_to_resume or directory.how_to_resume,
    )
    check_composed(composed)
    notes += check_teacher(teacher, data, network, composed.judged_split) if teacher is not None else []
    _require_units(splits["train"], network.max_length)
    lengths = _length_notes(data.task, splits["train"], network.max_length)
    for problem in (*data.problems, *notes, *network.notes, *refused, *lengths):
        composed.note(problem)
    return composed


def _seed_everything(seed: int, *, deterministic: bool) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (other libraries draw from it)
    torch.manual_seed(seed)
    be_deterministic(wanted=deterministic)


def _rows(config: RunConfig, teacher: Teacher | None, workshop: Workshop) -> TaskData:
    """Return all rows, those without labels among them."""
    with ranks.after_first("rows"):  # what it leaves in the cache, the others take from there
        data = with_unlabelled(workshop.data(config), config)
    if teacher is not None and REPLAY in data.prepared.splits:
        message = "teacher: general texts that are replayed are learned as they stand, and no teacher speaks on them."
        raise InputError(message, "Leave out the teacher, or the set that is replayed.")
    return data


def _mix(config: RunConfig, data: TaskData, rows: Encoded, fair: FairRows | None) -> Mix | None:
    """Return what a step draws by, where not all rows alike: by set, or by group."""
    if fair is None:
        return mix_of(data.sets, data.prepared, rows, config.data.temperature)
    return fair.balanced_mix() if config.fairness is not None and config.fairness.how == "balance" else None


def _network(
    config: RunConfig, data: TaskData, workshop: Workshop
) -> tuple[RunConfig, TaskData, Network, list[Problem]]:
    """Return the adapted model, with memory of its own for all that is trained, and what there is to say of it.

    The configuration holds the method as it was settled for this model and these rows, the data the task as it suits
    the model.
    """
    found = workshop.networks.take(config, data)
    if found is None:
        name = f"{config.output} {config.method.name} {config.train.seed}"
        found = workshop.reuse.make("network", name, lambda: _assembled(name, config, data, workshop))
    else:
        workshop.reuse.used_again("network", found.name)
    config = config.model_copy(update={"method": found.method})
    return config, replace(data, task=found.task), found.network, list(found.notes)


def _assembled(name: str, given: RunConfig, rows: TaskData, workshop: Workshop) -> Assembled:
    """Return a network that was not there before; runs that begin alike may have it later."""
    loaded = workshop.load(given, rows)
    data = replace(rows, task=rows.task.suited_to(loaded.model, loaded.tokenizer))
    method = given.method.settled(loaded.model, situation_before(given, data, loaded.model))
    config = given.model_copy(update={"method": method})
    notes = data.task.adapt(loaded.tokenizer)
    torch.manual_seed(config.train.seed)
    check_judges(data.task)
    proven = workshop.proven_layouts(config, data)
    network = make_network(loaded, config, data.task, config.method.apply, is_trained=True, proven=proven)
    network = with_answering(network, data.task)
    workshop.own(network)
    assembled = Assembled(name, method, data.task, network, tuple(notes))
    workshop.networks.lend(given, rows, assembled, workshop.shared_places)
    return assembled


def _encode(
    config: RunConfig, data: TaskData, network: Network, workshop: Workshop
) -> tuple[TaskData, Mapping[str, Encoded], list[Problem]]:
    """Return the tokens of every split, and the data with a count of rows that could not be encoded."""
    splits = {split: workshop.encoded(network, data, split) for split in data.prepared.splits}
    found = [
        problem
        for split, rows in splits.items()
        for problem in encoding_problems(rows, data.columns(split), split, config.data.bad_rows)
    ]
    if errors := errors_among(found):
        raise InputError(errors)
    refused = (Counter(num_refused(rows)) for rows in splits.values())
    return replace(data, left_out=sum(refused, Counter(data.left_out))), splits, found


def new_training(
    config: RunConfig,
    task: Task,
    network: Network,
    rows: Encoded,
    *,
    mix: Mix | None = None,
    plan: StepPlan | None = None,
) -> Training:
    """Return the engine's part, before its first step; with a plan that stands, or one of the configuration."""
    learning_rate, own_plan = planned(config.train, rows.num_samples, task.steps_per_drawing, mix)
    plan = plan or own_plan
    groups = config.method.parameter_groups(network.model)
    penalties = Penalties(config.train.l1, config.train.l2)
    optimizer = MasterOptimizer(network.model, groups, config.train.optimizer, learning_rate, penalties)
    return Training(
        scorer=replace(network.scorer, prefix=find_prefix(network.model, optimizer.names)),
        collate=network.collate,
        task=task,
        data=rows,
        plan=plan,
        optimizer=optimizer,
        learning_rate=learning_rate,
        config=config.train,
        compute=config.compute.model_copy(update={"layout": network.scorer.layout}),
        method=config.method,
    )


def _length_notes(task: Task, encoded: Encoded, max_length: int) -> list[Problem]:
    if not encoded.num_truncated:
        return []
    num_rows = max(len(encoded), encoded.num_data_rows)  # some may have been left out, some cut into several
    share = encoded.num_truncated / num_rows
    return [
        Problem(
            "warning" if share > 0.05 else "note",
            f"{encoded.num_truncated:,} of {num_rows:,} training rows ({share:.1%}) are longer than {max_length} "
            f"tokens and {task.shortening}.",
            "Raise --model.max_length if the model allows it.",
            count=encoded.num_truncated,
        )
    ]


def _require_units(encoded: Encoded, max_length: int) -> None:
    """Refuse rows of which truncation or masking left nothing to learn from."""
    if encoded.reads is not None and not len(encoded.reads.values):
        raise InputError(
            f"Nothing is left to learn from: none of the {len(encoded):,} training rows, cut to {max_length} tokens, "
            "holds a token that is trained.",
            "Raise --model.max_length, or look at the rows with: tunesmith data inspect FILE --model M --show-mask",
        )
