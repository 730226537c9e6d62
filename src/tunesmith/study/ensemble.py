"""Several finished runs made one: by what they answer, or by their weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.evaluate.averaging import values_of, weights_of_mixture, weights_of_values
from tunesmith.evaluate.stacking import Stacker
from tunesmith.files.space import require_writable
from tunesmith.kernels.waiting import cores_shared
from tunesmith.methods.full import Full
from tunesmith.models import LoadedModel
from tunesmith.readable import count
from tunesmith.run.assembly import make_network
from tunesmith.run.directory import RunDirectory
from tunesmith.run.ensemble import Ensemble
from tunesmith.run.guest import as_guest
from tunesmith.run.judgement import Judged, judge
from tunesmith.run.training import enter
from tunesmith.study.combined_folder import Made, write_combined
from tunesmith.study.ensemble_config import EnsembleConfig
from tunesmith.study.ensemble_members import Member, Rows, open_members
from tunesmith.study.model_merging import (
    Ingredients,
    Merged,
    averaged_weights,
    load_ingredients,
    merged_changes,
    proven,
    require_common_ground,
)
from tunesmith.study.stacking_rows import out_of_fold
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from torch import nn

Notify = Callable[[str], None]
FEW_ROWS = 200
"""Validation rows below which a model on top of others learns more of chance than of them."""
VALIDATION = "the validation rows"


@dataclass
class _Work:
    """What is being made."""

    members: list[Member]
    rows: Rows
    config: EnsembleConfig
    working: Notify
    problems: list[Problem] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)


@cores_shared()
def make_ensemble(
    folders: Sequence[str | Path],
    output: str | Path,
    config: EnsembleConfig,
    *,
    overwrite: bool = False,
    working: Notify = lambda _: None,
) -> Path:
    """Combine the runs in ``folders``, judge what comes of it beside them, and return its folder.

    A merged model is a run folder like any other; an ensemble that averages or stacks names its members, or holds
    ``copies`` of them. ``working`` is told what is being done.

    Raises ``InputError`` where the runs do not fit each other, or where what was merged is not what they are together;
    nothing is written then.
    """
    members = open_members([Path(folder) for folder in folders])
    if members[0].task.vectors_of and not config.is_one_model:
        raise InputError(
            f"The runs were trained for {members[0].task.title.lower()}: vectors of several models mean nothing to "
            "each other, and cannot be averaged or stacked.",
            "Make one model of their weights: --how soup.",
        )
    place = RunDirectory(Path(output))
    require_writable(place.path)
    if any(member.directory.path.resolve().is_relative_to(place.path.resolve()) for member in members):
        raise InputError(f"One of the runs lies in {place.path} itself.", "Give another folder as --output.")
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        directory = enter(stack, place, members[0].config, resume=False, overwrite=overwrite)
        assert directory is not None, "only a run that is resumed may be finished"
        working("reading the data")
        work = _Work(members, Rows(members), config, working)
        made = _merged(work) if config.is_one_model else _together(work)
        working("writing the results")
        return write_combined(directory, work.rows, made).place


def _together(work: _Work) -> Made:
    """Return an ensemble whose members answer each for itself."""
    rows, members, split = work.rows, work.members, work.rows.judged_split
    stacker, weighted_by = None, ""
    weights = [1.0 / len(members)] * len(members)
    if work.config.how == "stack":
        stacker, weighted_by = _stacker(work)
    else:
        weights, weighted_by = _weights(work)
    ensemble = Ensemble(rows.task, tuple(member.model for member in members), tuple(weights), stacker)
    work.working(f"evaluating on the {split} rows")
    if rows.by_tokens:
        scored = ensemble.tokens(rows.task, rows.encoded(split))
        judged = Judged(scored.outputs, scored.targets, scored.loss)
    else:
        answers = ensemble.combine([rows.answers(member, split) for member in members])
        judged = Judged(rows.task.outputs_from(answers), rows.targets(split), None)
    return Made(
        config=work.config,
        judged=judged,
        weights=weights,
        weighted_by=weighted_by,
        problems=work.problems,
        began=work.began,
        stacker=stacker,
    )


def _stacker(work: _Work) -> tuple[Stacker, str]:
    """Return the model on top of the members, and what it learned from."""
    rows, members = work.rows, work.members
    if rows.by_tokens:
        raise InputError(
            "Language models cannot be stacked: what they expect is of tokens, too many to learn weights for.",
            "Average what they expect (--how average --weights tuned).",
        )
    if studies := work.config.out_of_fold:
        if len(studies) != len(members):
            raise InputError(
                f"There are {len(members)} runs and {len(studies)} cross-validations (--out-of-fold).",
                "Give one for each run, in their order.",
            )
        work.working("learning from predictions out of folds")
        answers, targets, number = out_of_fold(rows.task, [Path(study) for study in studies])
        return Stacker.fit(rows.task, answers, targets), f"{count(number)} rows that folds held out"
    _require_validation(work, "Stacking")
    work.working("learning from the validation rows")
    number = len(next(iter(rows.columns("validation").values())))
    if number < FEW_ROWS:
        message = f"Stacking learned from no more than {count(number)} validation rows."
        fix = "Cross-validate the runs' settings and give the studies with --out-of-fold, or average instead."
        work.problems.append(Problem("warning", message, fix))
    answers = [rows.answers(member, "validation") for member in members]
    return Stacker.fit(rows.task, answers, rows.targets("validation")), f"{count(number)} validation rows"


def _weights(work: _Work) -> tuple[list[float], str]:
    """Return how much each member counts, and what that follows from."""
    wish, members, rows = work.config.weights, work.members, work.rows
    if isinstance(wish, tuple):
        if len(wish) != len(members):
            raise InputError(
                f"There are {len(members)} runs and {len(wish)} weights.",
                "Give one weight for each run, in their order.",
            )
        return [weight / sum(wish) for weight in wish], "given"
    if wish == "equal":
        return [1.0 / len(members)] * len(members), "equal"
    _require_validation(work, "Tuning weights")
    work.working("tuning weights on the validation rows")
    if rows.task.followed == "value":
        values = np.stack([values_of(rows.answers(member, "validation")) for member in members])
        truth = np.asarray(rows.targets("validation")[rows.task.truths[0]], dtype=np.float64)
        return weights_of_values(values, truth), VALIDATION
    return weights_of_mixture(np.stack([rows.likelihoods(one, "validation") for one in members])), VALIDATION


def _require_validation(work: _Work, what: str) -> None:
    if not work.rows.has_validation:
        raise InputError(
            f"{what} takes validation rows that the result is not judged on, and the runs have none.",
            "Use equal weights, or train the runs with validation and test rows.",
        )


def _merged(work: _Work) -> Made:
    """Return one model of all members."""
    require_common_ground(work.members)
    rows, members, config = work.rows, work.members, work.config
    columns = rows.columns(rows.judged_split)
    work.working("loading the weights of all runs")
    ingredients = load_ingredients(members, columns)
    weights, weighted_by = _weights(work)
    if config.how == "soup" and config.selection == "greedy":
        _require_validation(work, "A greedy soup")
        weights, weighted_by = _greedy(work, ingredients), f"greedy selection on {VALIDATION}"
    if config.how in ("soup", "linear"):
        merged = averaged_weights(ingredients, members, weights)
    else:
        merged = merged_changes(ingredients, config.how, weights, config.kept_share, config.seed)
    work.working("comparing the merged model with the runs' own")
    model = proven(ingredients, merged, members[0], columns)
    work.working(f"evaluating on the {rows.judged_split} rows")
    return Made(
        config=config,
        judged=_judged(work, model, ingredients, rows.judged_split),
        weights=weights,
        weighted_by=weighted_by,
        problems=work.problems,
        began=work.began,
        model=model,
        tokenizer=ingredients.base.tokenizer,
    )


def _greedy(work: _Work, ingredients: Ingredients) -> list[float]:
    """Return the weights of a soup of what makes it better (Wortsman et al. 2022, recipe 1)."""
    rows, members = work.rows, work.members
    figures = [rows.figure(rows.judged(member, "validation")) for member in members]
    order = sorted(range(len(members)), key=lambda one: -figures[one])
    chosen = [order[0]]
    best = figures[order[0]]
    for one in order[1:]:
        tried = [*chosen, one]
        work.working(f"trying a soup of {len(tried)}")
        merged = averaged_weights(ingredients, members, _equal(tried, len(members)))
        value = rows.figure(_judged(work, _model_of(ingredients, merged), ingredients, "validation"))
        if value >= best:
            chosen, best = tried, value
    if len(chosen) == 1:
        message = f"No soup is better on the validation rows than {members[chosen[0]].name} alone: it is that run."
        work.problems.append(Problem("warning", message, "Average what the runs answer: --how average."))
    return _equal(chosen, len(members))


def _equal(chosen: Sequence[int], number: int) -> list[float]:
    return [1.0 / len(chosen) if one in chosen else 0.0 for one in range(number)]


def _model_of(ingredients: Ingredients, merged: Merged) -> nn.Module:
    model = copy.deepcopy(ingredients.models[0].model)
    model.load_state_dict(dict(merged.state))
    return model


def _judged(work: _Work, model: Any, ingredients: Ingredients, split: str) -> Judged:
    """Return what a model of merged weights makes of a split."""
    rows, member = work.rows, work.members[0]
    loaded = LoadedModel(
        copy.deepcopy(model), ingredients.base.tokenizer, member.summary["max_length"], ingredients.base.source
    )
    config = member.config.model_copy(update={"method": Full()})
    network = make_network(loaded, config, rows.task, lambda same: same)
    columns = rows.columns(split)
    return judge(network, rows.task, network.encode(rows.task, columns), columns, config)
