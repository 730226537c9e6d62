"""``measure_privacy``: what a run gives away of its training rows, beside rows of the same data that it never saw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.joined import joined
from tunesmith.metrics.membership import FALSE_POSITIVES, exposures
from tunesmith.models.wrapping import writes_from_encoder
from tunesmith.privacy.extraction import are_extracted, begun
from tunesmith.privacy.membership import attack_scores, judged_attack, loss_gap, mean_with_interval
from tunesmith.privacy.row_losses import before, encode, losses_of
from tunesmith.run.canaries import canary_rows, side_by_side
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.data.encoded import Encoded
    from tunesmith.evaluate import IntervalDict
    from tunesmith.run import Run
    from tunesmith.tasks.base import Columns

NUM_ROWS = 1000
"""Training rows, and as many others, that attacks are tried on, unless somebody says otherwise."""
NUM_CANDIDATES = 256
"""Sentences that a canary is ranked among, itself included."""
CHANCE = 1 / math.log(2)
"""Bits of exposure that secrets have in the mean which nobody has seen, among many candidates."""
PREFIX, CONTINUATION = 16, 16
"""Tokens of a row that a language model is given, and that it is to write."""
FEWEST_ROWS = 20
"""Training rows, or others, with fewer of which an attack is not judged."""

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a run is attacked."""

    num_rows: int = NUM_ROWS
    prefix: int = PREFIX
    continuation: int = CONTINUATION


def measure_privacy(run: Run, attempt: Attempt = Attempt(), *, working: Notify = lambda _: None) -> dict[str, Any]:
    """Return what attacks find out, as ``tunesmith privacy --json`` writes it.

    ``auroc`` and ``tpr_at_1_fpr`` are those of one attack, ``main_attack``, chosen before anything is looked at: the
    reference attack where it can be made, else that by the loss. All are in ``attacks``. ``exposure`` and
    ``extraction`` are None where there is nothing to measure; ``not_measured`` says why. Every figure has an interval
    as in ``evaluation.json``.

    Raises ``InputError`` for runs whose rows have no loss of their own, and for data that are not the run's any more.
    """
    _refuse(run)
    train, _ = run.labelled_columns(split="train")
    held_out, split = _held_out(run)
    settings = _Settings.of(run, attempt)
    working("scoring training rows and others")
    sides = [_some(columns, attempt.num_rows, settings.seed) for columns in (train, held_out)]
    encoded = [encode(run, columns) for columns in sides]
    both = joined(*encoded)
    member_N = np.arange(both.num_data_rows) < encoded[0].num_data_rows
    own = losses_of(run, run.network, both)
    not_measured: dict[str, str] = {}
    untuned = None
    if run.task.followed == "vocabulary" and not run.config.model.from_scratch:
        working("scoring them with the model as it was before training")
        untuned = losses_of(run, before(run), both)
    else:
        not_measured["reference"] = "the model could not do the task before it was trained: there is no reference"
    scores = attack_scores(own, untuned)
    if "min_k" not in scores:
        not_measured["min_k"] = "the model gives no probabilities of tokens"
    judged = {name: judged_attack(member_N, found, **settings.bootstrap) for name, found in scores.items()}
    main = "reference" if "reference" in judged else "loss"
    exposure = _exposure(run, train, settings, not_measured, working)
    extraction = _extraction(run, encoded, settings, not_measured, working)
    recorded = run.summary.get("privacy")
    found = {
        "run": str(run.folder),
        "held_out": split,
        "num_members": int(member_N.sum()),
        "num_others": int((~member_N).sum()),
        "main_attack": main,
        **judged[main],
        "attacks": judged,
        "loss": loss_gap(member_N, own.of_rows, **settings.bootstrap),
        "exposure": exposure,
        "extraction": extraction,
        "not_measured": not_measured,
        "promised": recorded,
        "most_tpr_promised": most_found(recorded),
        "confidence": settings.confidence,
        "num_resamples": settings.num_resamples,
    }
    return {**found, "meaning": meaning(found)}


@dataclass(frozen=True, slots=True)
class _Settings:
    """How a run is attacked, and intervals are computed: as for the run's own figures."""

    attempt: Attempt
    seed: int
    num_resamples: int
    confidence: float

    @classmethod
    def of(cls, run: Run, attempt: Attempt) -> _Settings:
        evaluation = run.config.evaluation
        return cls(attempt, run.config.train.seed, evaluation.num_resamples, evaluation.confidence)

    @property
    def bootstrap(self) -> dict[str, Any]:
        return {"seed": self.seed, "num_resamples": self.num_resamples, "confidence": self.confidence}


def _refuse(run: Run) -> None:
    task = run.task
    if task.draws or task.corrupts or task.surveys or task.needs_whole_step:
        why = "holds rows against each other" if task.needs_whole_step or task.surveys else "makes rows anew each time"
        raise InputError(
            f"The run in {run.folder} was trained for {task.title.lower()}, which {why}: a row has no loss of its own "
            "to attack.",
            "Attack a run of another task.",
        )
    if run.config.data.mixture:
        raise InputError(
            f"The run in {run.folder} was trained on a mixture of sets: which of their rows came how often differs.",
            "Attack a run of a single set.",
        )
    _ = run.network  # an ensemble says that it has none


def _held_out(run: Run) -> tuple[Columns, str]:
    """Return rows that the run never learned from, and what their split is called."""
    rows = run.summary.get("rows") or {}
    split = next((name for name in ("test", "validation") if rows.get(name)), None)
    if split is None:
        raise InputError(
            f"The run in {run.folder} has neither test nor validation rows: there is nothing to hold its training rows "
            "against.",
            "Train with --data.test_fraction above 0.",
        )
    if min(rows["train"], rows[split]) < FEWEST_ROWS:
        raise InputError(
            f"The run in {run.folder} has {rows['train']} training and {rows[split]} {split} rows; an attack is judged "
            f"on {FEWEST_ROWS} of each or more.",
            "Train with more rows, or with a larger --data.test_fraction.",
        )
    return run.labelled_columns(split=split)


def _some(columns: Columns, most: int, seed: int) -> dict[str, list[Any]]:
    """Return so many rows, drawn at random, in their order."""
    num_rows = len(next(iter(columns.values())))
    chosen = np.sort(np.random.default_rng(seed).choice(num_rows, min(most, num_rows), replace=False)).tolist()
    return {name: [values[row] for row in chosen] for name, values in columns.items()}


def _exposure(
    run: Run, train: Columns, settings: _Settings, not_measured: dict[str, str], working: Notify
) -> dict[str, Any] | None:
    """Return the mean exposure of the canaries that were planted, in bits, with an interval over them."""
    planted = run.config.privacy
    if planted is None or not planted.canaries:
        not_measured["exposure"] = "no canaries were planted: train with --privacy.canaries N"
        return None
    working("ranking canaries")
    rows = [
        row
        for canary in range(planted.canaries)
        for row in canary_rows(run.task, train, canary, settings.seed, NUM_CANDIDATES)
    ]
    losses = losses_of(run, run.network, encode(run, side_by_side(rows))).of_rows
    found = exposures(losses.reshape(planted.canaries, NUM_CANDIDATES))
    return {
        **mean_with_interval(found, **settings.bootstrap),
        "most": math.log2(NUM_CANDIDATES),
        "by_chance": CHANCE,
        "canaries": planted.canaries,
        "repeats": planted.canary_repeats,
        "first_of_all": int((found == math.log2(NUM_CANDIDATES)).sum()),
    }


def _extraction(
    run: Run, encoded: list[Encoded], settings: _Settings, not_measured: dict[str, str], working: Notify
) -> dict[str, Any] | None:
    """Return which share of training rows, and of others, the model goes on with to the letter."""
    if run.task.writer is None or run.task.followed != "vocabulary":
        not_measured["extraction"] = "the model writes no texts"
        return None
    if writes_from_encoder(run.network.model):
        not_measured["extraction"] = "an encoder reads what is asked: an answer cannot be begun for it"
        return None
    attempt = settings.attempt
    sides = {
        name: begun(one, attempt.prefix, attempt.continuation)
        for name, one in zip(("train", "held_out"), encoded, strict=True)
    }
    if not all(some.continuations for some in sides.values()):
        not_measured["extraction"] = (
            f"no row has {attempt.prefix} tokens to be given and {attempt.continuation} to go on with"
        )
        return None
    working("having rows written on")
    shares = {name: mean_with_interval(are_extracted(run, some), **settings.bootstrap) for name, some in sides.items()}
    numbers = {f"num_{name}": len(some.continuations) for name, some in sides.items()}
    return {**shares, **numbers, "prefix": attempt.prefix, "continuation": attempt.continuation}


def most_found(promised: dict[str, Any] | None) -> float | None:
    """Return the largest true positive rate at 1% false positives that a promise allows any attack; None without one.

    ``e^epsilon * FPR + delta`` (Kairouz et al. 2015, theorem 2.1).
    """
    if not promised or promised.get("epsilon") is None:
        return None
    epsilon = min(float(promised["epsilon"]), 700.0)  # beyond that a float has no power
    return min(math.exp(epsilon) * FALSE_POSITIVES + float(promised["delta"]), 1.0)


def meaning(found: dict[str, Any]) -> str:
    """Say in a sentence what the main attack finds."""
    area: IntervalDict = found["auroc"]
    value, low = area["value"], area["low"]
    if value is None or low is None:
        return "The attack could not be judged."
    share = found["tpr_at_1_fpr"]["value"]
    caught = f"it names {share:.1%} of them while it is wrong about 1% of the others"
    if low <= 0.5:
        return (
            f"This attack does not tell training rows from others (it is right about {value:.0%} of pairs, chance "
            "about 50%, and the interval includes that); other attacks may do better."
        )
    word = "hardly" if value < 0.55 else "somewhat" if value < 0.65 else "clearly"
    return f"Whoever may ask the model about a row can {word} tell whether it was trained on it: {caught}."
