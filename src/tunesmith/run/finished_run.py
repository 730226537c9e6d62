"""A finished run, opened: evaluate it on other data, predict with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tunesmith.data import read_for_prediction
from tunesmith.data.columns import NOTHING
from tunesmith.data.encodings import describe_mark, has_marks
from tunesmith.data.forms import Form
from tunesmith.data.frames import as_path, is_table
from tunesmith.data.rows import Rows
from tunesmith.engine.generate import stream
from tunesmith.engine.predict import predict
from tunesmith.files.root import cache_root
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run.assembly import Network, inputs_of, load_data
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory, open_directory
from tunesmith.run.ensemble import Ensemble, read_ensemble
from tunesmith.run.file_predictions import FilePredictions, predicted
from tunesmith.run.judgement import check_answers, figures
from tunesmith.run.predictor import Predictor, TrainedModel, fingerprint
from tunesmith.run.shown import run_html
from tunesmith.run.written_answers import Notify, Writing, encode_prompts, sampling_for
from tunesmith.tasks import chatting
from tunesmith.tasks.base import Columns, Task
from tunesmith.types import ColumnChoice, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_EXPECTED = {
    1: ("single texts", "Leave the second texts out."),
    2: ("pairs of texts", "Give a second text with every first one."),
}
"""Texts a row -> what a run was trained on, and what to do about others."""


class Run:
    """A finished run. Its files are verified on opening; the model is loaded when first needed."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.config: RunConfig = directory.read_config()

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open the run in ``folder``.

        Raises ``InputError`` when it is no run, did not finish, or a file was damaged or changed.
        """
        return cls(open_directory(Path(folder)))

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def task(self) -> Task:
        """The task with the labels it was trained on."""
        assert self.config.task is not None
        return self.config.task

    @property
    def title(self) -> str:
        """What it is called beside others: its model and method, or how many runs it is made of."""
        record = read_ensemble(self.directory)
        if record is None:
            model = Path(self.config.model.name)
            return f"{model.name if model.is_absolute() else model}, {self.config.method.name}"
        return f"{record.how} of {len(record.members)} runs"

    @property
    def evaluation(self) -> dict[str, Any]:
        """The content of ``evaluation.json``: the figures of the run's own test rows."""
        return self.directory.read_json("evaluation")

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``training.json``: steps, cost, what was noticed."""
        return self.directory.read_json("training")

    def _repr_html_(self) -> str:
        judged = self.evaluation if (self.folder / "evaluation.json").is_file() else None
        title = f"{self.task.title}: {self.title}"
        return run_html(title, self.summary, judged, page=self.directory.report, folder=self.folder)

    @cached_property
    def predictor(self) -> Predictor:
        """What predicts; its models are loaded when first needed."""
        record = read_ensemble(self.directory)
        if record is None:
            return TrainedModel(self.directory, self.config)
        return Ensemble.open(self.directory, self.config, record)

    @property
    def network(self) -> Network:
        """The trained model, ready to score; ``InputError`` where there are several."""
        if not isinstance(self.predictor, TrainedModel):
            raise InputError(
                f"{self.folder} is an ensemble: it has no model of its own.",
                "Use one of its members, or make one model of them: tunesmith ensemble RUN... --how soup.",
            )
        return self.predictor.network

    @cores_shared()
    def evaluate(
        self,
        data: Any = None,
        split: str = "test",
        *,
        answers: int | None = None,
        columns: Mapping[str, str] | None = None,
        working: Notify = lambda _: None,
    ) -> dict[str, Any]:
        """Return the figures, as in ``evaluation.json``, on a file of labelled rows or on a split of the run's data.

        ``data`` is a path or rows in memory, as for ``predict``.
        ``answers`` is how many rows answers are written to, for tasks that generate; the run's own setting
        when not given; they are kept in the cache until all are there, so that an evaluation that was broken off goes
        on when it is asked for again. ``working`` is told how far that is. ``columns`` are the columns of ``data``, by
        role, where they have other names than in training. Raises ``InputError`` when the rows lack the labels, or
        carry labels unknown to the run.
        """
        read, name = self.labelled_columns(data, split, columns)
        problems = self.task.check(name, read)
        if errors := [problem for problem in problems if problem.severity == "error"]:
            raise InputError(errors)
        config = self.config
        if answers is not None:
            check_answers(self.task, answers)
            config = config.changed(evaluation=config.evaluation.changed(answers=answers))
        judged = self.predictor.judge(read, name, config, working=working, kept=cache_root() / "answers")
        return figures(self.task, judged, read, config, split=name)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The canonical columns that a plain row to predict on is given by, such as ``("text", "text_pair")``."""
        return inputs_of(self.task, self.config.data.columns)

    def predict(self, rows: Any, text_pairs: Any = None, writing: Writing | None = None) -> list[dict[str, Any]]:
        """Return one prediction per row: ``label`` (``value``; ``tags`` and ``entities``; ``answer``) and more.

        A row is a text, or a tuple of texts where the run was trained on several (pairs): a list of rows, or a single
        text, which gives a list of one. ``text_pairs`` may hold the second texts instead. Rows with columns (a
        dictionary, a list of them, a dictionary of lists, a pandas or polars frame, a pyarrow Table, a ``Dataset``)
        are read as a file with them would be. ``writing`` says how answers are written, for tasks that generate.
        """
        if is_table(rows):
            return self.predict_file(rows, writing)
        if isinstance(rows, Mapping) and rows:
            return self.predict_file([rows], writing)
        return self._predict(self.columns_of(rows, text_pairs), writing)

    def columns_of(self, rows: Any, text_pairs: Any = None) -> Columns:
        """Return the canonical columns of rows that are given as plain texts, as for ``predict``."""
        names, values = self.inputs, [rows] if isinstance(rows, str) else list(rows)
        if text_pairs is None:
            given = [tuple(value) if isinstance(value, (tuple, list)) else (value,) for value in values]
            lengths = {len(row) for row in given} or {1}
        else:
            seconds = [text_pairs] if isinstance(text_pairs, str) else list(text_pairs)
            given, lengths = list(zip(values, seconds, strict=False)), {2}
        if lengths != {len(names)}:
            expected, fix = _EXPECTED.get(len(names), (f"{len(names)} texts a row", f"Give {', '.join(names)}."))
            raise InputError(f"The run in {self.folder} was trained on {expected}.", fix)
        if text_pairs is not None and len(seconds) != len(values):
            raise InputError(f"There are {len(values)} texts and {len(seconds)} second texts.")
        columns = {name: [row[place] for row in given] for place, name in enumerate(names)}
        for number, text in enumerate((text for column in columns.values() for text in column), start=1):
            _check_text(text, f"Text {number}")
        return columns

    def predict_file(
        self, path: Any, writing: Writing | None = None, *, columns: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return one prediction per row of a file (per line of a plain text), in its order, none left out.

        Instead of a file it can be rows in memory, as for ``predict``. ``columns`` are its columns, by role, where
        they have other names than in training.
        """
        parts = self.predictions(path, writing, columns=columns).parts()
        return [prediction for part in parts for prediction in part]

    def predictions(
        self, path: Any, writing: Writing | None = None, *, columns: Mapping[str, str] | None = None
    ) -> FilePredictions:
        """Return the same for files of any length: predictions that are made some rows after the other, when asked."""
        rows = self.rows_to_predict(path, columns)
        return FilePredictions(self.predictor, rows, writing or Writing(), fingerprint(self.directory))

    def rows_to_predict(self, path: Any, columns: Mapping[str, str] | None = None) -> Rows:
        """Return the rows of a file in the task's canonical columns, as they are predicted on; options as above."""
        config = self.config.data
        # Lines that were joined for training are predicted on one by one.
        config = config if config.passage is None else config.changed(passage=0)
        return read_for_prediction(as_path(path), self._choices(columns), config, self._form)

    @cores_shared()
    def embed(
        self, rows: Any, *, passages: bool = False, columns: Mapping[str, str] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the vector of every text, float32 [N, D], in their order; each has length 1.

        ``rows`` are texts, or a file or table with a column of them (one line a text, of plain text files). With
        ``passages`` they are what is searched, and not what is searched by: the column, and what is put before texts,
        are then those of the other side. ``columns`` names the column, by role, where it has another name than in
        training. Raises ``InputError`` for runs whose task makes no vectors.
        """
        if not self.task.vectors_of:
            raise InputError(
                f"The run in {self.folder} was trained for {self.task.title.lower()}: it gives texts no vectors.",
                "Use 'tunesmith predict', or a run of a task that gives some.",
            )
        role = self.task.vectors_of[1 if passages else 0]
        if isinstance(rows, (str, Path)) or is_table(rows):
            choices = [choice for choice in self._choices(columns) if choice.role == role]
            texts = read_for_prediction(as_path(rows), choices, self.config.data, self._form)[:][role]
        else:
            texts = list(rows)
            for number, text in enumerate(texts, start=1):
                _check_text(text, f"Text {number}")
        network, budget = self.network, self.config.compute.micro_batch_tokens
        encoded = network.encode(self.task, {role: texts})
        return self.task.vectors(predict(network.scorer, network.collate, self.task, encoded, budget).outputs)

    def chat(self, messages: Sequence[Mapping[str, Any]], writing: Writing | None = None) -> Iterator[str]:
        """Yield the model's answer to a conversation, piece by piece as it is written.

        ``messages`` are ``{"role", "content"}`` with the roles system, user and assistant, the last
        one the user's. Closing the iterator ends the work. Raises ``InputError`` for tasks that write no answers.
        """
        task_that_writes = self.task.writer
        if task_that_writes is None or not self.task.chats:
            raise InputError(
                f"The run in {self.folder} was trained for {self.task.title.lower()}: it writes no answers.",
                f"Use 'tunesmith predict', or chat with a run of the task {chatting()}.",
            )
        for number, message in enumerate(messages, start=1):
            _check_text(message.get("content"), f"Message {number}")
        network, writing = self.network, writing or Writing()
        columns = self.task.complete(task_that_writes.conversation(messages))
        prompts, beside = encode_prompts(network, self.task, columns, writing.max_new_tokens)
        shown = ""
        tokens: list[int] = []
        sampling = sampling_for(network, self.task, writing)
        with (
            cores_shared(),
            closing(stream(network.model, prompts[0].tolist(), sampling, keep=True, beside=beside)) as answer,
        ):
            for token in answer:
                tokens.append(token)
                text = str(network.tokenizer.decode(tokens, skip_special_tokens=True))
                if text.endswith("\ufffd"):  # a character of which only some bytes are there
                    continue
                yield text[len(shown) :]
                shown = text

    def _predict(self, columns: Columns, writing: Writing | None) -> list[dict[str, Any]]:
        parts = predicted(self.predictor, columns, writing or Writing())
        return [prediction for part in parts for prediction in part]

    def labelled_columns(
        self, data: Any = None, split: str = "test", columns: Mapping[str, str] | None = None
    ) -> tuple[Columns, str]:
        """Return rows in the task's canonical columns with what they are judged by, and what they are called.

        They are those of ``data``, a path or rows in memory, or without any those of a split of the run's own data.
        Raises ``InputError`` where they have nothing to be judged by, or the run's data has changed since.
        """
        if data is not None:
            data = as_path(data)
            choices = self._choices(columns)
            read = dict(read_for_prediction(data, choices, self.config.data, self._form)[:])
            if not set(self.task.truths) <= read.keys():
                names = [choice.column for choice in choices if choice.role in self._form.truths]
                raise InputError(
                    f"{data} has no column '{', '.join(names)}' to judge the predictions by.",
                    "Name the column that has them (--columns label=COLUMN), or use 'tunesmith predict' for rows "
                    "without labels.",
                )
            return read, Path(data).name
        own = load_data(self.config)
        if split not in own.prepared.splits:
            raise InputError(
                f"The run has no {split} rows.", f"Choose one of {', '.join(own.prepared.splits)}, or give --data FILE."
            )
        if own.prepared.hashes[split] != self.directory.read_json("environment")["data"]["hashes"].get(split):
            raise InputError(
                f"The {split} rows of {self.config.data.path} are not those of the run: the data has changed since.",
                f"The figures of the run's own rows are in {self.folder / 'evaluation.json'}; to judge other rows, "
                "give them as --data FILE.",
            )
        return own.columns(split), split

    def _choices(self, given: Mapping[str, str] | None) -> list[ColumnChoice]:
        """Return what fills the run's roles: the columns of training but for what is ``given``, several with commas."""
        trained, given = self.config.data.columns, given or {}
        if unknown := [role for role in given if role not in trained]:
            raise InputError(
                f"The run in {self.folder} has no column for {', '.join(unknown)}; it was trained on "
                f"{', '.join(f'{role}={column}' for role, column in trained.items())}.",
                "Give one of these roles: --columns ROLE=COLUMN.",
            )
        numbers = {role.name for role in self.task.roles if role.holds_numbers}
        return [
            ColumnChoice(role, column, "chosen by you" if role in given else "as trained", role in numbers)
            for role, column in {**trained, **given}.items()
            if role in given or column.strip().lower() != NOTHING
        ]

    @property
    def _form(self) -> type[Form]:
        """What the run's rows are."""
        return self.task.form_for(self.config.data.columns)


def _check_text(text: Any, name: str) -> None:
    """Refuse text that came from bytes in another encoding: no tokenizer can read it."""
    if isinstance(text, str) and has_marks(text):
        raise InputError(f"{name}: {describe_mark(text, 'utf-8')}.", "Give texts in UTF-8, or a file.")
