"""The short way in: one call from data to a trained, judged and explained run, or to a comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from warnings import warn

if TYPE_CHECKING:
    from tunesmith.config.base import Config
    from tunesmith.run import Observer, Run
    from tunesmith.study import CrossValidation, Plan, Search, Study, Watcher

C = TypeVar("C", bound="Config")


def finetune(
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any,
    *,
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    method: str | Mapping[str, Any] | Config = "full",
    task: str | Mapping[str, Any] | Config | None = None,
    teacher: str | PathLike[str] | Mapping[str, Any] | Config | None = None,
    few_shot: int | None = None,
    train: Mapping[str, Any] | Config | None = None,
    compute: Mapping[str, Any] | Config | None = None,
    evaluation: Mapping[str, Any] | Config | None = None,
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: bool = True,
    observers: Sequence[Observer] = (),
) -> Run:
    """Fine-tune ``model`` on ``data`` by ``method`` and return the finished run.

    ``data`` is a path, rows in memory (a pandas or polars frame, a pyarrow Table, a ``Dataset`` or
    ``DatasetDict`` of ``datasets``, a list of dictionaries, a dictionary of lists), or the section of the
    configuration, in which paths may be rows in memory, too. ``few_shot`` trains on so few rows of each class, and
    judges on the others.

    Every argument that is a section of the configuration takes a name, a mapping of its keys
    or its config object; ``train={"epochs": 1}`` is ``--train.epochs 1`` on the command line.

        run = finetune("reviews.csv", model="sample:minilm", method={"name": "lora", "rank": 16})
        run.evaluation["metrics"]["accuracy"]
        run.predict(["a joy from start to finish"])

    Raises:
        InputError: Something given cannot be used; every problem is listed.
        RunError: Training could not go on; what was saved stays.
    """
    from tunesmith.report import write_report
    from tunesmith.run import Run, RunConfig
    from tunesmith.run import train as train_run

    config = _built(
        RunConfig,
        data,
        model=model,
        task=task,
        method=method,
        teacher=str(teacher) if isinstance(teacher, PathLike) else teacher,
        few_shot=few_shot,
        train=train,
        compute=compute,
        evaluation=evaluation,
        output=output,
    )
    run = Run.open(train_run(config, resume=resume, overwrite=overwrite, observers=observers))
    if report:
        write_report([run.folder], Path(run.folder) / "report.html")
    return run


def distill(
    teacher: str | PathLike[str] | Run,
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any = None,
    *,
    model: str | Mapping[str, Any] | Config = "lstm",
    mix: float = 0.5,
    temperature: float = 2.0,
    unlabelled: str | PathLike[str] | Any = None,
    **sections: Any,
) -> Run:
    """Train ``model`` on labels and on what ``teacher``, a run or an ensemble, answers for the same rows.

        student = distill("runs/minilm", model="lstm", unlabelled=["a text without a label", ...])

    Without ``data`` the teacher's rows are taken. ``unlabelled`` are further rows, a file or in memory, on which only
    the teacher speaks. ``sections`` are those of ``finetune``, which this calls. Raises what that does.
    """
    from tunesmith.data.frames import as_path
    from tunesmith.run import Run

    taught_by = teacher if isinstance(teacher, Run) else Run.open(str(teacher))
    settings: dict[str, Any] = {"run": str(taught_by.folder), "mix": mix, "temperature": temperature}
    if unlabelled is not None:
        rows: Any = unlabelled
        if isinstance(rows, (list, tuple)) and all(isinstance(one, str) for one in rows):
            rows = {taught_by.config.data.columns["text"]: list(rows)}
        settings["unlabelled"] = as_path(rows)
    return finetune(taught_by.config.data if data is None else data, model=model, teacher=settings, **sections)


def ensemble(
    runs: Sequence[str | PathLike[str] | Run],
    *,
    output: str | PathLike[str],
    overwrite: bool = False,
    report: bool = True,
    **options: Any,
) -> Run:
    """Combine finished ``runs`` into one and return it: what they answer, averaged, or one model of their weights.

        whole = ensemble(["runs/a", "runs/b", "runs/c"], output="runs/all")
        soup = ensemble(["runs/a", "runs/b"], how="soup", output="runs/soup")

    ``options`` are the keys of ``tunesmith.study.ensemble_config.EnsembleConfig``: ``how``, ``weights``,
    ``selection``, ``density``, ``seed``, ``copies``, ``out_of_fold``.

    Raises:
        InputError: The runs do not fit each other, or what was merged is not what they are together.
    """
    from tunesmith.config.build import build
    from tunesmith.report import write_report
    from tunesmith.run import Run
    from tunesmith.study.ensemble import make_ensemble
    from tunesmith.study.ensemble_config import EnsembleConfig

    folders = [run.folder if isinstance(run, Run) else Path(run) for run in runs]
    made = Run.open(make_ensemble(folders, Path(output), build(EnsembleConfig, options), overwrite=overwrite))
    if report:
        write_report([made.folder], made.folder / "report.html")
    return made


def compare(
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any,
    *,
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    methods: Sequence[str | Mapping[str, Any]] | str | None = None,
    seeds: int | None = None,
    rates: int | None = None,
    few_shot: int | None = None,
    budget: str | None = None,
    metric: str | None = None,
    margin: float | None = None,
    reference: str | None = None,
    task: str | Mapping[str, Any] | Config | None = None,
    train: Mapping[str, Any] | Config | None = None,
    compute: Mapping[str, Any] | Config | None = None,
    evaluation: Mapping[str, Any] | Config | None = None,
    output: str | PathLike[str] | None = None,
    overwrite: bool = False,
    report: bool = True,
    watchers: Sequence[Watcher] = (),
) -> Study:
    """Compare methods of fine-tuning on ``data`` and return the study: quality with error bars, against cost.

    Every method is tuned alike on validation rows, then trained anew with each seed and judged on test rows that
    nothing else has seen; with ``few_shot`` every seed draws so few rows of each class to train on, and all others are
    test rows. The arguments mean what they mean to ``finetune`` and in ``CompareConfig``. Stopped or
    killed, the same call goes on. ``watchers`` are told of all that happens: the table of
    ``tunesmith.cli.contest_table.LiveTable()`` shows it, in a terminal and in a notebook.

        study = compare("reviews.csv", model="sample:minilm", methods=["full", "lora", "ia3"], seeds=3)
        study.verdict
        study.best.predict(["a joy from start to finish"])

    Raises:
        InputError: Something given cannot be used; every problem is listed, and nothing was trained.
        RunError: The disk takes nothing any more.
    """
    from tunesmith.study import CompareConfig, Study, run_contest

    config = _built(
        CompareConfig,
        data,
        model=model,
        methods=methods,
        seeds=seeds,
        rates=rates,
        few_shot=few_shot,
        budget=budget,
        metric=metric,
        margin=margin,
        reference=reference,
        task=task,
        train=train,
        compute=compute,
        evaluation=evaluation,
        output=output,
    )
    study = Study(run_contest(config, overwrite=overwrite, watchers=watchers))
    if report:
        study.write_reports()
    return study


def plan(
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any,
    *,
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    methods: Sequence[str | Mapping[str, Any]] = (),
    within: str | None = None,
    memory: str | None = None,
    quality: str = "best",
    task: str | Mapping[str, Any] | Config | None = None,
    train: Mapping[str, Any] | Config | None = None,
    compute: Mapping[str, Any] | Config | None = None,
    observers: Sequence[Observer] = (),
) -> Plan:
    """Say what each of ``methods`` would take on ``data``, and which to choose; nothing is trained or written.

    Arguments are those of ``finetune``; ``within`` (``"10m"``) and ``memory`` (``"8GB"``) are what there is, and
    ``quality`` is what is asked for: best, good or fair.

        found = plan("reviews.csv", model="sample:minilm", within="10m")
        found.recommended.name, found.command, found.to_dict()["candidates"]

    Raises:
        InputError: Something given cannot be used, or no method can be taken; every problem is listed.
    """
    from tunesmith.study import PlanConfig, make_plan

    config = _built(
        PlanConfig,
        data,
        model=model,
        methods=tuple(methods),
        within=within,
        memory=memory,
        quality=quality,
        task=task,
        train=train,
        compute=compute,
    )
    return make_plan(config, observers=observers)


def cross_validate(
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any,
    *,
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    method: str | Mapping[str, Any] | Config = "full",
    folds: int = 5,
    repeats: int = 1,
    rates: int = 1,
    task: str | Mapping[str, Any] | Config | None = None,
    train: Mapping[str, Any] | Config | None = None,
    compute: Mapping[str, Any] | Config | None = None,
    evaluation: Mapping[str, Any] | Config | None = None,
    output: str | PathLike[str] | None = None,
    overwrite: bool = False,
    report: bool = True,
) -> CrossValidation:
    """Cut the training rows of ``data`` into folds and judge each by a model that was trained on the others.

    Other arguments are those of ``finetune``; ``rates`` learning rates are tried inside each fold. Stopped or killed,
    the same call goes on.

        found = cross_validate("reviews.csv", method="lora", folds=5, repeats=2)
        found.metrics["accuracy"], found.predictions["prediction"]

    Raises:
        InputError: Something given cannot be used; every problem is listed, and nothing was trained.
        RunError: No fold could be trained, or the disk takes nothing any more.
    """
    from tunesmith.report import write_study_report
    from tunesmith.study import CrossValidation, CrossValidationConfig, run_cross_validation

    config = _built(
        CrossValidationConfig,
        data,
        model=model,
        method=method,
        folds=folds,
        repeats=repeats,
        rates=rates,
        task=task,
        train=train,
        compute=compute,
        evaluation=evaluation,
        output=output,
    )
    study = CrossValidation(run_cross_validation(config, overwrite=overwrite))
    if report:
        write_study_report(study.folder)
    return study


def search(
    data: str | PathLike[str] | Mapping[str, Any] | Config | Any,
    *,
    over: Mapping[str, Any],
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    method: str | Mapping[str, Any] | Config = "full",
    trials: int = 40,
    workers: int = 1,
    prune: bool = True,
    task: str | Mapping[str, Any] | Config | None = None,
    train: Mapping[str, Any] | Config | None = None,
    compute: Mapping[str, Any] | Config | None = None,
    output: str | PathLike[str] | None = None,
    overwrite: bool = False,
    report: bool = True,
) -> Search:
    """Try values of the keys in ``over`` and keep what is best on the validation rows; the test rows stay closed.

    Other arguments are those of ``finetune``. Stopped or killed, the same call goes on; with more trials, further.

        rates = {"train.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "train.batch_size": [8, 16, 32]}
        found = search("reviews.csv", over=rates, trials=20, method="lora")
        found.best, train(found.config)

    Raises:
        InputError: Something given cannot be used; every problem is listed, and nothing was trained.
        RunError: No trial came to its end, or the disk takes nothing any more.
    """
    from tunesmith.report import write_study_report
    from tunesmith.study import Search, SearchConfig, run_search

    config = _built(
        SearchConfig,
        data,
        over=dict(over),
        model=model,
        method=method,
        trials=trials,
        workers=workers,
        prune=prune,
        task=task,
        train=train,
        compute=compute,
        output=output,
    )
    study = Search(run_search(config, overwrite=overwrite))
    if report:
        write_study_report(study.folder)
    return study


def _built(cls: type[C], data: Any, **sections: Any) -> C:
    """Return the configuration of what was given; sections that were not are left to it."""
    from tunesmith.config.build import build
    from tunesmith.config.migrate import migrate

    if isinstance(output := sections.pop("output", None), (str, PathLike)):
        sections["output"] = str(output)
    given = {"data": _data_section(data, sections.pop("few_shot", None)), **sections}
    values, moved = migrate({name: value for name, value in given.items() if value is not None})
    for note in moved:
        warn(str(note), FutureWarning, stacklevel=3)
    return build(cls, values)


def _data_section(data: Any, few_shot: int | None = None) -> Any:
    """Return the section ``data`` of the configuration; rows in memory go to the cache and come as paths."""
    from tunesmith.config.base import Config
    from tunesmith.data.frames import as_path, is_table, with_paths

    drawn = {} if few_shot is None else {"few_shot": few_shot}
    if isinstance(data, Config):
        return data.changed(**drawn) if drawn else data
    if isinstance(data, Mapping) and not is_table(data):
        return {**with_paths(data), **drawn}
    return {"path": as_path(data), **drawn} if drawn else as_path(data)
