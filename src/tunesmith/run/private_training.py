"""Training that promises something to those whose rows it learns from: what that takes, refuses and promises.

The promise is differential privacy of the weights: with and without any one row of the training data, every set of
outcomes is nearly as likely (by a factor of e^epsilon, but for a probability delta). The unit is the row or, where rows
are of persons who have several (``data.group``), all rows of one of them.

Shapes: N training rows, E samples, G groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from tunesmith.config.build import show
from tunesmith.engine import ranks
from tunesmith.engine.noised_gradients import NoisedGradients
from tunesmith.engine.poisson import PoissonPlan, Secret
from tunesmith.readable import count
from tunesmith.run.noise_accounting import epsilon_of, multiplier_for, require_accounting
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunesmith.data.encoded import Encoded
    from tunesmith.data.records import PreparedData
    from tunesmith.engine.batch import IntArray
    from tunesmith.engine.step import Training
    from tunesmith.run.assembly import Network
    from tunesmith.run.config import PrivacyConfig, RunConfig
    from tunesmith.tasks.base import Task

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DELTA_EXPONENT = 1.1
"""Delta, where none is given, is one over the number of rows to this power: less than one row's share."""
MOST_ROW_GRADIENTS = 2**26
"""Numbers of the gradients of single rows that are held at once: 256 MB in float32."""
_DEMANDS = {
    "train.precision": ("fp32", ("auto", "fp32"), "sums over rows are exact enough in float32 alone"),
    "compute.layout": ("padded", ("auto", "padded"), "the gradient of each row is taken apart there"),
    "compute.compile": ("never", ("auto", "never"), "compiled layers give one gradient for all rows"),
    "compute.checkpointing": ("never", ("auto", "never"), "layers that run twice would count a row twice"),
    "compute.kernels": ("own", ("own",), "other kernels give one gradient for all rows"),
    "compute.cuda_graphs": (False, (False,), "captured graphs give one gradient for all rows"),
}
"""Keys that privacy decides: the value, what may be given, and why."""


def is_private(config: RunConfig) -> bool:
    """Say whether rows are to stay private."""
    return config.privacy is not None and config.privacy.epsilon is not None


def as_private(config: RunConfig) -> RunConfig:
    """Return the configuration with what privacy demands, where rows are to stay private.

    Raises ``InputError`` with everything that was given and cannot be had with it.
    """
    if not is_private(config):
        _check_planted(config)
        return config
    require_accounting()
    problems = []
    updates: dict[str, dict[str, Any]] = {"train": {}, "compute": {}}
    for key, (value, allowed, reason) in _DEMANDS.items():
        section, name = key.split(".")
        given = getattr(getattr(config, section), name)
        if given not in allowed:
            message = f"{key} is {show(given)}, and privacy.epsilon takes {show(value)}: {reason}."
            problems.append(Problem("error", message, f"Leave {key} out, or privacy.epsilon."))
        updates[section][name] = value
    if config.teacher is not None:
        message = "privacy.epsilon: a teacher hands on what it knows of its own rows, which no noise covers."
        problems.append(Problem("error", message, "Leave the teacher out."))
    if config.data.mixture:
        message = "privacy.epsilon: where sets are mixed, their rows do not take part with one probability."
        problems.append(Problem("error", message, "Join the sets into one file, or leave data.mixture out."))
    if config.data.augment is not None:
        message = "privacy.epsilon: of a row that others are made of, several take part, and what is protected is one."
        problems.append(Problem("error", message, "Leave data.augment out."))
    if config.fairness is not None:
        message = "privacy.epsilon: how rows of groups weigh is read from the rows, and no noise covers that."
        problems.append(Problem("error", message, "Leave fairness out, or privacy.epsilon."))
    if ranks.size() > 1:
        message = "privacy.epsilon: steps that several processes make together have no noise of their own yet."
        problems.append(Problem("error", message, "Leave out --ranks: train with one process."))
    if problems:
        raise InputError(problems)
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=updates["train"]),
            "compute": config.compute.model_copy(update=updates["compute"]),
        }
    )


def _check_planted(config: RunConfig) -> None:
    """Refuse secrets among rows that are told apart by their groups: they belong to none."""
    if config.privacy is not None and config.privacy.canaries and config.fairness is not None:
        raise InputError("privacy.canaries: planted rows belong to no group.", "Leave fairness out, or the canaries.")


def check_private(config: RunConfig, task: Task, network: Network, rows: Encoded) -> list[Problem]:
    """Refuse what cannot be trained privately; return what is to be said of what the promise does not cover."""
    if not is_private(config):
        return []
    if reasons := list(_hindrances(config, task, network, rows)):
        raise InputError([Problem("error", f"privacy.epsilon: {message}", fix) for message, fix in reasons])
    if not config.model.from_scratch:
        return []
    message = (
        "The vocabulary of a model from scratch is made from the training rows: which words these hold can be read in "
        "tokenizer.json, and no noise covers that."
    )
    return [Problem("warning", message, "Take a pretrained model where words themselves are secret.")]


def _hindrances(config: RunConfig, task: Task, network: Network, rows: Encoded) -> Iterator[tuple[str, str]]:
    """Yield why rows cannot be kept apart, each with what would do."""
    method = config.method
    others = "Choose another task, or train without privacy.epsilon."
    if task.needs_whole_step or task.surveys or task.mines:
        yield f"the loss of the task {task.name} holds rows against each other, so that no row has a gradient.", others
    if task.draws or task.corrupts:
        yield f"the task {task.name} makes rows anew in every step.", others
    if rows.rows is not None and not rows.keeps_rows and not protects_groups(config):
        longest = int((rows.rows[1:] - rows.rows[:-1]).max())
        yield (
            f"rows are cut into up to {longest} pieces, each learned for itself, and what is protected is a row.",
            "Raise model.max_length, or shorten the rows.",
        )
    if method.num_calibration_rows:
        fix = "Choose --method lora, full or freeze."
        yield f"the method {method.name} looks at training rows before its first step, without noise.", fix
    if method.has("after_gradients"):
        fix = "Choose --method lora, full or freeze."
        yield f"the method {method.name} decides by gradients, which are mostly noise here.", fix
    if any(isinstance(module, BATCH_NORMS) for module in network.model.modules()):
        yield "the model has batch norms, which mix the rows of a step.", "Choose a model with layer norms."


def protects_groups(config: RunConfig) -> bool:
    """Say whether the promise is made to whole groups of rows."""
    settings = config.privacy
    if settings is None or settings.epsilon is None:
        return False
    return config.data.group is not None if settings.unit is None else settings.unit == "group"


def groups_of(config: RunConfig, data: PreparedData, rows: Encoded) -> IntArray | None:
    """Return [E]: the group of each sample, from 0 on; None where rows are protected each for itself.

    Rows without a value, and rows that are planted, are groups of their own. Raises ``InputError`` where there are no
    groups.
    """
    if not protects_groups(config):
        return None
    known = data.groups("train")
    if known is None:
        raise InputError(
            "privacy.unit is group, and no column says which rows belong together.",
            "Name it as data.group (a person's or an account's number), or leave privacy.unit out.",
        )
    of_row = np.unique(known, return_inverse=True)[1].astype(np.int64)
    planted = rows.num_data_rows - len(of_row)
    of_row = np.concatenate([of_row, of_row.max(initial=-1) + 1 + np.arange(planted)])
    firsts = rows.samples[:-1]
    of_sample = firsts if rows.rows is None else np.searchsorted(rows.rows, firsts, side="right") - 1
    found: IntArray = np.unique(of_row[of_sample], return_inverse=True)[1].astype(np.int64)
    return found


def with_privacy(
    config: RunConfig, training: Training, groups_E: IntArray | None = None
) -> tuple[Training, list[Problem]]:
    """Return the training with steps that keep its promise, and what is to be said of that.

    ``groups_E`` are those of ``groups_of``. Raises ``InputError`` for a promise that the rows and steps cannot give,
    naming one that they can.
    """
    settings = config.privacy
    if settings is None or settings.epsilon is None:
        return training, []
    plan, secret = training.plan, Secret()
    private = PoissonPlan(
        plan.num_samples,
        plan.batch_size,
        plan.epochs,
        plan.seed,
        plan.max_steps,
        secret=secret,
        group_of_sample=groups_E,
    )
    unit = "row" if groups_E is None else "group"
    delta = delta_of(settings, private.num_units, unit)
    multiplier = _multiplier(settings, private, delta, unit)
    expected = private.sample_rate * private.num_units
    most_rows = max(MOST_ROW_GRADIENTS // max(training.optimizer.num_trained, 1), 1)
    most_rows = min(training.compute.micro_batch_rows or most_rows, most_rows)
    noised = NoisedGradients(
        settings.max_grad_norm, multiplier, expected, secret, group_of_sample=groups_E, most_groups=most_rows
    )
    compute = training.compute.model_copy(update={"micro_batch_rows": most_rows})
    sizes = np.ones(1, dtype=np.int64) if groups_E is None else np.bincount(groups_E)
    of_groups = "" if groups_E is None else f" (of up to {count(int(sizes.max()))} rows, which count as one)"
    message = (
        f"Every {unit} of the data{of_groups} is protected by epsilon {settings.epsilon:g} at delta {delta:.2g}: noise "
        f"of {multiplier:.3g} times the largest gradient of a {unit} ({settings.max_grad_norm:g}), {count(expected)} "
        f"of {count(private.num_units)} {unit}s a step in the mean, {count(private.total_steps)} steps."
    )
    fix = (
        "What is protected are the weights. Figures of the training rows (metrics.jsonl, tensorboard, report.html) "
        "are exact: keep them to yourself."
    )
    return replace(training, plan=private, noised=noised, compute=compute), [Problem("note", message, fix)]


def delta_of(settings: PrivacyConfig, num_units: int, unit: str = "row") -> float:
    """Return delta: as given, or by the number of rows or groups. ``InputError`` where it promises nothing."""
    delta = settings.delta or float(f"{num_units**-DELTA_EXPONENT:.2g}")
    if delta >= 1 / num_units:
        raise InputError(
            f"privacy.delta is {delta:g} for {num_units:,} {unit}s: whoever gave away a {unit} drawn at random would "
            "keep that promise.",
            f"Give less than {1 / num_units:.2g}, or leave it out.",
        )
    return delta


def _multiplier(settings: PrivacyConfig, plan: PoissonPlan, delta: float, unit: str) -> float:
    """Return the noise that the promise takes; ``InputError`` where nothing could be learned with it.

    That is where it is stronger than the gradients of all units of a step that point in the same direction.
    """
    rate, steps, accountant = plan.sample_rate, plan.total_steps, settings.accountant
    assert settings.epsilon is not None
    most = rate * plan.num_units
    multiplier = multiplier_for(settings.epsilon, rate, steps, delta, accountant)
    if multiplier is not None and multiplier <= most:
        return multiplier
    possible = epsilon_of(most, rate, steps, delta, "rdp")
    needed = "more noise than can be counted" if multiplier is None else f"noise of {multiplier:.3g} {unit}s"
    raise InputError(
        f"privacy.epsilon: {settings.epsilon:g} at delta {delta:.2g} takes {needed} in each of {steps:,} steps, and a "
        f"step has {most:,.0f} of the {plan.num_units:,} {unit}s in the mean: nothing would be learned.",
        f"Give epsilon {_rounded_up(possible)} or more, larger steps (--train.batch_size), fewer steps "
        f"(--train.max_steps, --train.epochs), or more {unit}s.",
    )


def _rounded_up(value: float) -> str:
    """Return a number of two digits that is no smaller."""
    rounded = float(f"{value:.1e}")
    return f"{rounded if rounded >= value else float(f'{value * 1.05:.1e}'):g}"


def privacy_record(config: RunConfig, training: Training) -> dict[str, Any] | None:
    """Return ``privacy`` of ``training.json``: what was promised and how, and what was planted; None for nothing.

    The promise is that of all steps planned, also where the training has ended before: whether it does may depend on
    what it has learned.
    """
    settings, noised, plan = config.privacy, training.noised, training.plan
    if settings is None:
        return None
    found: dict[str, Any] = {}
    if noised is not None and isinstance(plan, PoissonPlan):
        of_groups = plan.group_of_sample is not None
        delta = delta_of(settings, plan.num_units)
        multiplier, rate, steps = noised.multiplier, plan.sample_rate, plan.total_steps
        found = {
            "epsilon": epsilon_of(multiplier, rate, steps, delta, settings.accountant),
            "delta": delta,
            "accountant": settings.accountant,
            "unit": "group" if of_groups else "row",
            **({"groups": plan.num_units, "group": config.data.group} if of_groups else {}),
            "noise_multiplier": multiplier,
            "max_grad_norm": noised.bound,
            "sample_rate": rate,
            "steps": steps,
            "gradients_of_rows": "at once" if noised.are_at_once else "one by one",
        }
    planted = {"canaries": settings.canaries, "canary_repeats": settings.canary_repeats} if settings.canaries else {}
    return {**found, **planted} or None
