"""What nobody said about a training, decided by the model, the task, the method and the amount of data.

The rules are few and plain; ``docs/defaults.md`` says where they come from and how far they are from the best of a
grid. What parts know of themselves they say themselves: a method its rate, a model from scratch its own, a task after
how many passes it knows its rows by heart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.config.base import BY_DATA
from tunesmith.engine.mixing import Mix, MixedPlan
from tunesmith.engine.order import StepPlan
from tunesmith.engine.schedules import WARMUP
from tunesmith.methods.base import REFERENCE_ROWS, REFERENCE_WEIGHTS
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.origin import origin
from tunesmith.models.weights import num_weights
from tunesmith.models.wrapping import inner, token_table
from tunesmith.readable import compact, count
from tunesmith.run.private_training import is_private

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.data.encoded import Encoded
    from tunesmith.engine.config import TrainConfig
    from tunesmith.run.assembly import Network
    from tunesmith.run.config import RunConfig
    from tunesmith.run.directory import RunDirectory
    from tunesmith.tasks.base import Task

BATCH_SIZES = (8, 32)
"""Fewest and most rows of a step."""
PRIVATE_BATCH_SIZES, PRIVATE_SHARE = (32, 1024), 1 / 16
"""The same where rows are to stay private: the noise of a step is the same however many rows it has, so that large ones
learn more; and the share of all rows that a step has within these bounds."""
FEWEST_EPOCHS = 3
"""However many steps that makes, up to ``AFFORDABLE_STEPS``."""
AFFORDABLE_STEPS = 3000
"""Steps over which data are not read a second time."""
FROM_SCRATCH = 2
"""How many times as long a model that begins with nothing learns."""
MOST_EPOCHS = 20
"""However few the rows are."""
FEW_SHOT_STEPS, FEW_SHOT_EPOCHS = 100, 50
"""Steps that are made of few rows drawn on purpose (``data.few_shot``), as far as so many passes over them reach."""
HEAD_RATE, MOST_HEAD_FACTOR = 1e-2, 30.0
"""The rate that a new head is learned with where nothing else is trained, and how many times that of the rest it gets
at most: it begins with nothing, and the rest learns through it."""
SIZE_EXPONENT = 0.5
"""The rate falls with this power of the model's weights."""
FEWEST_EVALUATIONS, MOST_EVALUATIONS = 5, 10
"""Looks at the validation rows in a whole training, as many as there are epochs in between."""
SCORED_SHARE = 0.5
"""Rows scored on the way at most, as a share of those trained on: scoring costs a third of training."""
PATIENCE = 4
"""Evaluations in a row without gain before a training ends."""
LONGEST_WARMUP = 100
"""Steps of warm-up at most."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A value that nobody gave."""

    value: Any
    reason: str


class _Choices:
    """Values by key: those given, and the others with their reasons."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}

    def settle(self, key: str, given: Any, value: Any, reason: str) -> Any:
        if given is not None:
            return given
        self.decisions[key] = Decision(value, reason)
        return value


def decide(
    config: RunConfig,
    task: Task,
    network: Network,
    rows: Encoded,
    validation: Encoded | None,
    *,
    num_samples: int | None = None,
) -> tuple[RunConfig, dict[str, Decision]]:
    """Return the configuration without gaps in how it trains, and what filled them, by key.

    ``rows`` are the training rows, ``validation`` those that it is stopped by; an epoch has ``num_samples``, or all of
    the rows. What the configuration holds stays as it
    is, and the rest is made to suit it: a larger batch gives a larger rate.
    """
    choices, train, has_validation = _Choices(), config.train, validation is not None
    num_validation = 0 if validation is None else len(validation)
    num_samples = num_samples or rows.num_samples
    amount = amount_of(config, task, num_samples, num_validation, has_validation=has_validation)
    batch_size = choices.settle("train.batch_size", train.batch_size, *amount.batch_size)
    epochs = choices.settle("train.epochs", train.epochs, *amount.epochs)
    plan = amount.plan
    scale = _rate_scale(config, task, network.model, batch_size)
    rate = choices.settle("train.learning_rate", train.learning_rate, *_learning_rate(config, scale))
    head_factor = choices.settle(
        "method.head_factor", config.method.head_factor, *_head_factor(config, network, scale, rate)
    )
    warmup = choices.settle("train.schedule.warmup", train.schedule.warmup, *_warmup(plan.total_steps))
    every = choices.settle("train.evaluate_steps", train.evaluate_steps, *amount.evaluate_steps)
    patience = choices.settle(
        "train.early_stopping.patience", train.early_stopping.patience, *_patience(has_validation=has_validation)
    )
    length = choices.settle("model.max_length", config.model.max_length, *_max_length(task, network, rows))
    filled = train.model_copy(
        update={
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": rate,
            "schedule": train.schedule.model_copy(update={"warmup": warmup}),
            "evaluate_steps": every,
            "early_stopping": train.early_stopping.model_copy(update={"patience": patience}),
        }
    )
    model = config.model.model_copy(update={"max_length": length})
    method = config.method.model_copy(update={"head_factor": head_factor})
    return config.model_copy(update={"train": filled, "model": model, "method": method}), choices.decisions


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is trained, where nobody says: values with their reasons, and the steps that come of them."""

    batch_size: tuple[int, str]
    epochs: tuple[float, str]
    plan: StepPlan
    evaluate_steps: tuple[int, str]


def amount_of(config: RunConfig, task: Task, num_samples: int, num_validation: int, *, has_validation: bool) -> Amount:
    """Return how much is trained on so many samples; what the configuration says of it counts."""
    train, few_shot = config.train, config.data.few_shot is not None
    batch_size = _private_batch_size(num_samples) if is_private(config) else _batch_size(num_samples)
    rows = train.batch_size or batch_size[0]
    per_epoch = math.ceil(num_samples / rows) * task.steps_per_drawing
    longer = FROM_SCRATCH if config.model.from_scratch else 1
    epochs = (
        _epochs_of_few(task, per_epoch) if few_shot else _epochs(task, per_epoch, longer, has_validation=has_validation)
    )
    repeats = task.steps_per_drawing
    plan = StepPlan(num_samples, rows, train.epochs or epochs[0], train.seed, train.max_steps, repeats)
    evaluations = (
        (plan.total_steps, "at the end: there are no validation rows, and all steps together take little time")
        if few_shot
        else _evaluate_steps(plan, num_validation)
    )
    return Amount(batch_size, epochs, plan, evaluations)


def planned(train: TrainConfig, num_rows: int, repeats: int = 1, mix: Mix | None = None) -> tuple[float, StepPlan]:
    """Return rate and steps of a configuration without gaps, for rows of one set or for sets that are mixed.

    ``repeats`` steps are made with the same rows.
    """
    rate, batch_size, epochs = train.learning_rate, train.batch_size, train.epochs
    assert rate is not None
    assert batch_size is not None
    assert epochs is not None
    if mix is None or mix.is_whole:
        return rate, StepPlan(num_rows, batch_size, epochs, train.seed, train.max_steps, repeats)
    return rate, MixedPlan(mix.num_samples, batch_size, epochs, train.seed, train.max_steps, repeats, mix=mix)


def taken_up(config: RunConfig, directory: RunDirectory) -> RunConfig:
    """Return the configuration of a run that is resumed: what nobody gives is what was decided when it began.

    So are precision and layout where they are left to the machine, which may be another one now.
    """
    before = directory.read_config()

    def fill(now: Any, saved: Any) -> Any:
        gaps = {
            name: getattr(saved, name)
            for name, field in type(now).model_fields.items()
            if (field.json_schema_extra == BY_DATA and getattr(now, name) is None)
            or (name in ("precision", "layout") and getattr(now, name) == "auto")
        }
        return now.model_copy(update=gaps)

    train, saved = config.train, before.train
    sections = {name: fill(getattr(train, name), getattr(saved, name)) for name in ("schedule", "early_stopping")}
    same_model, same_method = type(config.model) is type(before.model), type(config.method) is type(before.method)
    return config.model_copy(
        update={
            "train": fill(train, saved).model_copy(update=sections),
            "compute": fill(config.compute, before.compute),
            "model": fill(config.model, before.model) if same_model else config.model,
            "method": fill(config.method, before.method) if same_method else config.method,
        }
    )


def as_record(decisions: Mapping[str, Decision]) -> dict[str, dict[str, Any]]:
    """Return what is written into the run directory."""
    return {key: asdict(decision) for key, decision in decisions.items()}


def decisions_of(directory: RunDirectory) -> dict[str, Decision]:
    """Return what was decided when the run in ``directory`` began."""
    if not (directory.path / "environment.json").exists():
        return {}
    found = directory.read_json("environment").get("defaults", {})
    return {key: Decision(one["value"], one["reason"]) for key, one in found.items()}


def in_one_line(decisions: Mapping[str, Decision]) -> str:
    """Say what was decided, or nothing."""
    words: dict[str, Callable[[Any], str]] = {
        "train.learning_rate": lambda value: f"rate {value:g}",
        "method.head_factor": lambda value: "" if value == 1 else f"{value:g} times that for the head",
        "train.batch_size": lambda value: f"{value} rows a step",
        "train.epochs": lambda value: f"{value:g} epoch{'' if value == 1 else 's'}",
        "train.schedule.warmup": lambda value: f"warm-up {f'{value:.0%}' if value < 1 else f'{value:.0f} steps'}",
        "train.evaluate_steps": lambda value: f"evaluation every {count(value)} steps",
        "train.early_stopping.patience": lambda value: f"patience {value}",
        "model.max_length": lambda value: f"at most {count(value)} tokens",
    }
    said = [say(decisions[key].value) for key, say in words.items() if key in decisions]
    told = ", ".join(filter(None, said))
    return f"decided by the data: {told} (training.json says why)" if told else ""


def _batch_size(num_rows: int) -> tuple[int, str]:
    least, most = BATCH_SIZES
    size = 2 ** round(math.log2(max(math.sqrt(num_rows) / 2, 1)))
    size = min(max(size, least), most)
    return size, f"half the square root of {count(num_rows)} training rows, as a power of two from {least} to {most}"


def _private_batch_size(num_rows: int) -> tuple[int, str]:
    least, most = PRIVATE_BATCH_SIZES
    size = min(max(2 ** round(math.log2(max(num_rows * PRIVATE_SHARE, 1))), least), most, num_rows)
    return (
        size,
        f"a sixteenth of {count(num_rows)} training rows, from {least} to {most}: steps that have noise are large",
    )


def _epochs(task: Task, per_epoch: int, longer: int, *, has_validation: bool) -> tuple[float, str]:
    most = min(longer * task.most_epochs, MOST_EPOCHS) if has_validation else FEWEST_EPOCHS
    wanted_steps = task.wanted_steps(longer)
    wanted = math.ceil(wanted_steps / per_epoch)
    affordable = max(1, AFFORDABLE_STEPS // per_epoch)
    epochs = min(max(wanted, min(FEWEST_EPOCHS, affordable)), most)
    if epochs == wanted:
        reason = f"{count(wanted_steps)} steps or more, with {count(per_epoch)} an epoch"
    elif epochs == most:
        reason = f"the most for {task.name}" + ("" if has_validation else " without validation rows to stop by")
    elif epochs == FEWEST_EPOCHS:
        reason = f"{count(per_epoch)} steps an epoch: as few epochs as are made of data of this size"
    else:
        reason = f"{count(per_epoch)} steps an epoch: more than {count(AFFORDABLE_STEPS)} steps are not made twice"
    return float(epochs), reason


def _epochs_of_few(task: Task, per_epoch: int) -> tuple[float, str]:
    """Return epochs for rows that are few on purpose: long, since a short training of them is not learned to its end.

    Mosbach et al. 2021 ("On the stability of fine-tuning BERT"); what is written is known by heart much sooner.
    """
    if task.writer is not None:
        return float(task.most_epochs), f"the most for {task.name}"
    epochs = min(max(math.ceil(FEW_SHOT_STEPS / per_epoch), task.most_epochs), FEW_SHOT_EPOCHS)
    return float(epochs), f"{FEW_SHOT_STEPS} steps of few rows, in {FEW_SHOT_EPOCHS} epochs at most"


def suited_rate(config: RunConfig, task: Task, model: nn.Module, batch_size: int) -> float:
    """Return the rate that is taken where none is given."""
    return _learning_rate(config, _rate_scale(config, task, model, batch_size))[0]


def _rate_scale(config: RunConfig, task: Task, model: nn.Module, batch_size: int) -> tuple[float, list[str]]:
    """Return what a rate is multiplied with for the task, the model and its steps, and why."""
    batch_factor = math.sqrt(batch_size / REFERENCE_ROWS)
    by_batch = f"x {batch_factor:.2g} for steps of {batch_size} rows"
    if config.model.default_learning_rate is not None:
        return batch_factor, [by_batch]
    weights = _weights_that_think(model)
    size_factor = (REFERENCE_WEIGHTS / weights) ** SIZE_EXPONENT
    reasons = [
        *([f"x {task.rate_factor:.2g} for the task {task.name}"] if task.rate_factor != 1 else ()),
        f"x {size_factor:.2g} for {compact(weights)} weights below the vocabulary",
        by_batch,
    ]
    return task.rate_factor * size_factor * batch_factor, reasons


def _learning_rate(config: RunConfig, scale: tuple[float, list[str]]) -> tuple[float, str]:
    factor, reasons = scale
    own = config.model.default_learning_rate
    if own is not None:
        return _rounded(own * factor), f"{own:g} for models from scratch, {', '.join(reasons)}"
    base, options = config.method.default_learning_rate, config.method.rate_factor()
    by_options = [f"x {options:.2g} for its options"] if options != 1 else []
    return _rounded(base * options * factor), ", ".join(
        [f"{base:g} for the method {config.method.name}", *by_options, *reasons]
    )


def _head_factor(config: RunConfig, network: Network, scale: tuple[float, list[str]], rate: float) -> tuple[float, str]:
    """Return how many times the rate of the rest a head gets that is new: what it would get if it were alone."""
    if config.model.default_learning_rate is not None:
        return 1.0, "all of a model from scratch is new"
    known = origin(network.model)
    if not (known and known.new_parameters):
        return 1.0, "no head of the model is new"
    if network.trained.issubset(Anatomy.of(network.model).head_parameter_names):
        return 1.0, "nothing but the head is trained"
    alone = _rounded(HEAD_RATE * scale[0])
    factor = _rounded(min(max(alone / rate, 1.0), MOST_HEAD_FACTOR))
    return factor, f"a new head alone would have a rate of {alone:g}; from 1 to {MOST_HEAD_FACTOR:g} times {rate:g}"


def _weights_that_think(model: nn.Module) -> int:
    """Return the weights of the model without its table of tokens, of which a step touches little."""
    whole = inner(model)
    table = token_table(whole)
    known = {id(parameter) for parameter in table.parameters()} if table is not None else set()
    return max(1, sum(num_weights(one) for one in whole.parameters() if id(one) not in known))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _warmup(total_steps: int) -> tuple[float, str]:
    if WARMUP * total_steps > LONGEST_WARMUP:
        return float(LONGEST_WARMUP), f"a tenth of {count(total_steps)} steps would be more than {LONGEST_WARMUP}"
    return WARMUP, f"a tenth of {count(total_steps)} steps"


def _evaluate_steps(plan: StepPlan, num_validation: int) -> tuple[int, str]:
    if not num_validation:
        return plan.steps_per_epoch, "once an epoch, for the checkpoint: there are no validation rows"
    epochs = plan.total_steps / plan.steps_per_epoch
    affordable = SCORED_SHARE * plan.total_steps * plan.batch_size / num_validation
    wanted = min(max(FEWEST_EVALUATIONS, epochs), MOST_EVALUATIONS)
    number = max(1.0, min(wanted, affordable))
    why = "" if number == wanted else f", since {count(num_validation)} validation rows are scored each time"
    if number > epochs:
        parts = math.ceil(number / epochs) if number == wanted else math.floor(number / epochs)
        steps = math.ceil(min(plan.steps_per_epoch, plan.total_steps) / parts)
        return steps, ("once an epoch" if parts == 1 else f"{parts} times an epoch") + why
    every = math.ceil(epochs / number)
    return every * plan.steps_per_epoch, ("once an epoch" if every == 1 else f"every {every} epochs") + why


def _patience(*, has_validation: bool) -> tuple[int | str, str]:
    if not has_validation:
        return "never", "there are no validation rows to stop by"
    return PATIENCE, f"of {FEWEST_EVALUATIONS} to {MOST_EVALUATIONS} evaluations; the best step's weights are kept"


def _max_length(task: Task, network: Network, rows: Encoded) -> tuple[int, str]:
    if not task.head().reads_texts:
        return network.max_length, "what an image takes"
    usual = task.head().default_max_length
    is_usual = network.max_length == usual
    limit = f"{count(usual)} for {task.name}" if is_usual else "what model and tokenizer are made for"
    if not rows.num_truncated:
        return network.max_length, f"{limit}; no training row is longer"
    return network.max_length, f"{limit}; {count(rows.num_truncated)} training rows are longer"
