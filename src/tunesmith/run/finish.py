"""The end of a run: back to the best step, judged, saved, described, sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine import ranks
from tunesmith.engine.snapshot import put_back_weights
from tunesmith.evaluate import has_baseline, predictions_table
from tunesmith.files.atomic import new_folder, remove_folder
from tunesmith.files.manifest import MANIFEST
from tunesmith.files.operations import make_folder, rename, sync_folder
from tunesmith.methods.base import Method
from tunesmith.models.wrapping import inner
from tunesmith.publish import Parts, model_card
from tunesmith.run.advice import hints
from tunesmith.run.assembly import count_parameters, inputs_of
from tunesmith.run.course import require_finite_weights
from tunesmith.run.defaults import as_record
from tunesmith.run.directory import RunDirectory
from tunesmith.run.general_text import forgetting
from tunesmith.run.judgement import figures, judge, prediction_speed
from tunesmith.run.mixture import figures_of_sets
from tunesmith.run.private_training import privacy_record
from tunesmith.run.session import Ready
from tunesmith.run.tuning import tuned
from tunesmith.tasks.base import Task
from tunesmith.types import Problem, RunError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def finish(session: Ready, *, peak_memory: int) -> None:
    """Write everything that makes the run directory complete; let it take the place of a run that it replaces."""
    directory = session.directory
    session.working("saving the model")
    session.stop.check()
    decisions = session.config.method.decisions(session.network.model)
    _return_to_best(session)
    _require_trained(session)
    session = tuned(session)
    network = session.network
    name_end_tokens(session.data.task, network.model, network.tokenizer)
    beside = session.data.task.files_beside(network.model, network.max_length)
    saved_bytes = save_model(directory, session.config.method, network.model, network.tokenizer, beside)
    session.working(f"evaluating on the {session.judged_split} rows")
    evaluation, predictions = _judge(session)
    session.working("writing the results")
    for problem in hints(session, evaluation, predictions):
        session.note(problem)
    session.close_records()
    summary = _summary(session, peak_memory, saved_bytes) | {"decisions": [dict(one) for one in decisions]}
    if evaluation is not None:
        directory.write_json("evaluation", evaluation)
    if predictions is not None:
        directory.write_predictions(predictions)
    directory.write_json("training", summary)
    if session.data.task.tuned:
        directory.write_config(session.resolved)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    environment = {**directory.read_json("environment"), "finished": finished}
    _write_card(session, summary, evaluation, environment)
    session.columns.delete()
    if session.training.noised is not None:
        checkpoints.rotate(directory.checkpoints, 0, set())  # they hold what the noise followed from
    directory.seal()
    place = directory.install().place
    session.stop.advice = f"Stopped after the run had finished; it is in {place}."
    session.observers.finished(summary | {"evaluation": evaluation})


def _write_card(
    session: Ready, summary: dict[str, Any], evaluation: dict[str, Any] | None, environment: dict[str, Any]
) -> None:
    config, task = session.resolved, session.data.task  # what ``config.yaml`` holds
    said = task.card(inputs_of(task, config.data.columns), session.network.tokenizer)
    parts = Parts(said, task.head(), config.method, config.model)
    card = model_card(parts, config.model_dump(mode="json"), summary, evaluation, environment)
    session.directory.write_card(card, environment)


def _require_trained(session: Ready) -> None:
    """Raise ``RunError`` where what would be saved is not a trained model; warn where that is in doubt."""
    progress, num_steps = session.progress, session.training.step
    require_finite_weights(session)
    if not progress.num_skipped:
        return
    if progress.num_skipped >= num_steps:
        raise RunError(
            f"Nothing was learned: none of the {num_steps} steps made an update, since their losses or gradients were "
            "not finite; the rows are named above.\n  → Lower --train.learning_rate, try --train.precision fp32, or "
            "look at the rows."
        )
    session.note(
        Problem(
            "warning",
            f"{progress.num_skipped} of {num_steps} steps made no update: the model may be worse than it could be.",
            "Lower train.learning_rate, or look at the rows named above.",
            count=progress.num_skipped,
        )
    )


def _return_to_best(session: Ready) -> None:
    """Set the weights to those of the best evaluated step, if that is wanted and not the last."""
    best, last = session.progress.best_step, session.training.step
    if not session.config.train.early_stopping.restore_best or best is None or best == last:
        return
    if (held := session.logbook.best) is not None and held.step == best:
        put_back_weights(session.training, held)
        return
    path = checkpoints.list_weights(session.directory.checkpoints).get(best)
    found, damage = checkpoints.open_checkpoint(path, best) if path else (None, [])
    if found is None:
        for problem in damage:
            session.note(problem)
        message = f"The best step ({best}) cannot be restored; the run keeps the weights of its last step ({last})."
        session.note(Problem("warning", message, "Raise --compute.keep_checkpoints, or look at the disk."))
        session.progress.best_step = last
        return
    checkpoints.restore_weights(session.training, found.folder)


def save_model(
    directory: RunDirectory,
    method: Method,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    beside: Mapping[str, Any],
) -> int:
    """Save model and tokenizer into a run directory; return the bytes of the model's files.

    ``beside`` holds what else stands there for other libraries: by file name, as JSON.
    """
    folder = directory.path
    staging = folder / ".model"
    remove_folder(staging)
    with new_folder(staging) as temporary:
        method.save(model, temporary)
        model_files = [path.name for path in temporary.iterdir()]
        tokenizer.save_pretrained(temporary)
        for name, content in beside.items():
            make_folder((temporary / name).parent)
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    names = [path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()]
    names.remove(MANIFEST)
    directory.expect(names)
    for name in sorted(names):
        make_folder((folder / name).parent)
        rename(staging / name, folder / name)
    sync_folder(folder)
    remove_folder(staging)
    return sum((folder / name).stat().st_size for name in model_files if (folder / name).is_file())


def name_end_tokens(task: Task, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let plain ``transformers`` write as the run does, and end answers where training ended them.

    A template may end turns in its own way, and a task may have its own search.
    """
    settings = getattr(inner(model), "generation_config", None)
    if task.writer is None or settings is None:
        return
    own = settings.eos_token_id
    ends = {
        *task.writer.stop_tokens(tokenizer),
        *(own if isinstance(own, list) else [] if own is None else [own]),
    }
    settings.eos_token_id = sorted(ends) if len(ends) > 1 else next(iter(ends), None)
    settings.update(**task.writer.search())


def _judge(session: Ready) -> tuple[dict[str, Any] | None, Mapping[str, Any] | None]:
    """Evaluate on the judged split; return ``evaluation.json`` and the predictions' columns."""
    data, network, settings = session.data, session.network, session.config.evaluation
    split, task = session.judged_split, data.task
    if split not in data.prepared.splits:
        message = "There are neither test nor validation rows, so that nothing says how good the model is."
        session.note(Problem("warning", message, "Give --data.test FILE, or set --data.test_fraction above 0."))
        return None, None
    columns = data.columns(split)
    judged = judge(network, task, session.encoded(split), columns, session.config, working=session.working)
    rival = session.rival
    if settings.baseline and has_baseline(task):
        seed = session.config.data.split_seed
        rival = session.workshop.baseline(data, split, seed, lambda: session.working("training the baseline"))
    if rival is not None and task.writer is not None:
        rival = replace(rival, outputs=task.writer.as_answered(rival.outputs, judged.outputs))
    beside = [one for one in (session.taught_by,) if one is not None]
    evaluation = figures(task, judged, columns, session.config, split=split, rival=rival, beside=beside)
    numbers = data.prepared.sets(split)
    if data.sets and numbers is not None:
        evaluation["sets"] = figures_of_sets(
            task,
            judged.outputs,
            judged.targets,
            data.sets,
            numbers,
            seed=session.config.train.seed,
            num_resamples=settings.num_resamples,
            confidence=settings.confidence,
        )
    if (forgotten := forgetting(session)) is not None:
        evaluation["forgetting"] = forgotten
    if settings.keep_scores:
        session.directory.write_scores(judged.outputs, judged.targets, None if rival is None else rival.outputs)
        evaluation["speed"] = prediction_speed(network, task, columns)
    return evaluation, predictions_table(task, judged.outputs, judged.targets, columns)


def _summary(session: Ready, peak_memory: int, saved_bytes: int) -> dict[str, Any]:
    """Return the content of ``training.json``."""
    progress, training, network = session.progress, session.training, session.network
    num_parameters = count_parameters(network.model)
    step_seconds = max(progress.step_seconds, 1e-9)
    return {
        "status": "finished" if training.step == training.plan.total_steps else "stopped early",
        "steps": training.step,
        "epochs": training.plan.epoch_after(training.step),
        "best_step": progress.best_step,
        "best_metric": {"name": progress.judged_by or session.metric[0], "value": progress.best_value},
        "skipped_steps": progress.num_skipped,
        "num_parameters": num_parameters,
        "num_trained_parameters": training.optimizer.num_trained,
        "seconds": progress.seconds,
        "step_seconds": progress.step_seconds,
        "tokens": progress.num_tokens,
        "tokens_per_second": progress.num_tokens / step_seconds,
        "rows_per_second": progress.num_rows / step_seconds,
        "peak_memory_bytes": peak_memory,
        "predicted": progress.predicted,
        **session.settings.record(),
        "saved_bytes": saved_bytes,
        **({"overfitting": dict(progress.fit)} if "since" in progress.fit else {}),
        **({} if progress.compression is None else {"compression": progress.compression}),
        "layout": network.scorer.layout,
        "layout_reason": network.layout_reason,
        "precision": network.precision,
        "device": str(network.device),
        "ranks": ranks.size(),
        "parallel": session.config.compute.parallel if ranks.size() > 1 else None,
        "max_length": network.max_length,
        "auto_class": session.data.task.head().auto_class,
        "rows": {split: len(rows) for split, rows in session.data.prepared.splits.items()},
        "left_out": dict(session.data.left_out),
        "columns": [asdict(choice) for choice in session.data.prepared.choices],
        **({} if (privacy := privacy_record(session.config, training)) is None else {"privacy": privacy}),
        "defaults": as_record(session.decisions),
        "problems": [asdict(problem) for problem in (*session.logbook.problems, *session.observers.failures)],
    }
