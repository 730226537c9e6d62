"""The end of a run: back to the best step, judged, saved, described, sealed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tunesmith.engine import checkpoint as checkpoints
from tunesmith.evaluate import Baseline, baseline, has_baseline, predictions_table
from tunesmith.files.atomic import new_folder, remove_folder, write_text
from tunesmith.files.manifest import MANIFEST
from tunesmith.files.operations import rename, sync_folder
from tunesmith.models.structure import inner
from tunesmith.run.assembly import parameter_counts
from tunesmith.run.card import model_card
from tunesmith.run.judging import figures, judge
from tunesmith.types import Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Session


def finish(session: Session, *, peak_memory: int) -> None:
    """Write everything that makes the run directory complete."""
    directory, observers = session.directory, session.observers
    _return_to_best(session)
    observers.working("saving the model")
    saved_bytes = _save_model(session)
    observers.working(f"evaluating on the {session.data.judged_split} rows")
    evaluation, predictions = _judge(session)
    summary = _summary(session, peak_memory, saved_bytes)
    if evaluation is not None:
        directory.write_json("evaluation", evaluation)
    if predictions is not None:
        directory.write_predictions(predictions)
    directory.write_json("training", summary)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    environment = {**directory.read_json("environment"), "finished": finished}
    directory.write_json("environment", environment)
    config = directory.read_config().model_dump(mode="json")
    write_text(directory.path / "README.md", model_card(config, summary, evaluation, environment))
    remove_folder(directory.untuned)
    remove_folder(directory.states)
    directory.seal()
    observers.finished(summary | {"evaluation": evaluation})


def _return_to_best(session: Session) -> None:
    """Set the weights to those of the best evaluated step, if that is wanted and not the last."""
    best, last = session.progress.best_step, session.training.step
    if not session.config.train.early_stopping.restore_best or best is None or best == last:
        return
    path = checkpoints.list_steps(session.directory.checkpoints).get(best)
    found, damage = checkpoints.open_checkpoint(path, best) if path else (None, [])
    if found is None:
        for problem in damage:
            session.note(problem)
        message = f"The best step ({best}) cannot be restored; the run keeps the weights of its last step ({last})."
        session.note(Problem("warning", message, "Raise --train.keep_checkpoints, or look at the disk."))
        session.progress.best_step = last
        return
    checkpoints.restore_weights(session.training, found.folder)


def _save_model(session: Session) -> int:
    """Save model and tokenizer into the run directory; return the bytes of the model's files."""
    folder = session.directory.path
    staging = folder / ".model"
    if staging.exists():
        shutil.rmtree(staging)
    _name_end_tokens(session)
    with new_folder(staging) as temporary:
        session.config.method.save(session.network.model, temporary)
        model_files = [path.name for path in temporary.iterdir()]
        session.network.tokenizer.save_pretrained(temporary)
    (staging / MANIFEST).unlink()
    for path in sorted(staging.iterdir()):
        rename(path, folder / path.name)
    staging.rmdir()
    sync_folder(folder)
    return sum((folder / name).stat().st_size for name in model_files if (folder / name).is_file())


def _name_end_tokens(session: Session) -> None:
    """Let plain ``transformers`` end answers where training ended them: the template may end turns in its own way."""
    task, network = session.data.task, session.network
    settings = getattr(inner(network.model), "generation_config", None)
    if not task.generates or settings is None:
        return
    own = settings.eos_token_id
    ends = {*task.stop_tokens(network.tokenizer), *(own if isinstance(own, list) else [] if own is None else [own])}
    settings.eos_token_id = sorted(ends) if len(ends) > 1 else next(iter(ends), None)


def _judge(session: Session) -> tuple[dict[str, Any] | None, Mapping[str, Any] | None]:
    """Evaluate on the judged split; return ``evaluation.json`` and the predictions' columns."""
    data, network, settings = session.data, session.network, session.config.evaluation
    split, task = data.judged_split, data.task
    if split not in data.prepared.splits:
        message = "There are neither test nor validation rows, so that nothing says how good the model is."
        session.note(Problem("warning", message, "Give --data.test FILE, or set --data.test_fraction above 0."))
        return None, None
    columns = data.columns(split)
    judged = judge(network, task, session.encoded(split), columns, session.config, working=session.observers.working)
    rival = session.rival
    if settings.baseline and has_baseline(task):
        rival = _classical(session, split)
    evaluation = figures(task, judged, columns, session.config, split=split, rival=rival)
    return evaluation, predictions_table(task, judged.outputs, judged.targets, columns)


def _classical(session: Session, split: str) -> Baseline | None:
    """Return the baseline of this split: it depends on the rows alone, so that runs with other seeds have the same."""
    data, seed = session.data, session.config.data.split_seed
    key = ["baseline", data.task.model_dump(mode="json"), data.prepared.hashes["train"], data.prepared.hashes[split]]

    def train() -> Baseline | None:
        session.observers.working("training the baseline")
        return baseline(data.task, data.columns("train"), data.columns(split), seed)

    return session.shared.once([*key, seed], train)


def _summary(session: Session, peak_memory: int, saved_bytes: int) -> dict[str, Any]:
    """Return the content of ``training.json``."""
    progress, training, network = session.progress, session.training, session.network
    num_parameters, num_trained = parameter_counts(network.model, training.optimizer.names)
    step_seconds = max(progress.step_seconds, 1e-9)
    return {
        "status": "finished" if training.step == training.plan.total_steps else "stopped early",
        "steps": training.step,
        "epochs": training.plan.epoch_after(training.step),
        "best_step": progress.best_step,
        "best_metric": {"name": session.metric[0], "value": progress.best_value},
        "skipped_steps": progress.num_skipped,
        "num_parameters": num_parameters,
        "num_trained_parameters": num_trained,
        "seconds": progress.seconds,
        "step_seconds": progress.step_seconds,
        "tokens": progress.num_tokens,
        "tokens_per_second": progress.num_tokens / step_seconds,
        "rows_per_second": progress.num_rows / step_seconds,
        "peak_memory_bytes": peak_memory,
        **(session.settled.record() if session.settled is not None else {}),
        "saved_bytes": saved_bytes,
        "layout": network.scorer.layout,
        "layout_reason": network.layout_reason,
        "precision": network.precision,
        "device": str(network.device),
        "max_length": network.max_length,
        "auto_class": session.data.task.head().auto_class,
        "rows": {split: len(rows) for split, rows in session.data.prepared.splits.items()},
        "left_out": dict(session.data.left_out),
        "columns": [asdict(choice) for choice in session.data.prepared.choices],
        "problems": [asdict(problem) for problem in session.problems],
    }
