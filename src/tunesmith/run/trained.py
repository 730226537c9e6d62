"""A finished run, opened: evaluate it on other data, predict with it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tunesmith.data import read_for_prediction
from tunesmith.data.canonical import TRUTHS
from tunesmith.engine.predict import predict
from tunesmith.evaluate import evaluate
from tunesmith.models import load_trained, tokenizer_hash
from tunesmith.run.assembly import Network, load_data, make_network
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory, open_directory
from tunesmith.tasks.base import Columns, Task
from tunesmith.types import ColumnChoice, InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


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
    def evaluation(self) -> dict[str, Any]:
        """The content of ``evaluation.json``: the figures of the run's own test rows."""
        return self.directory.read_json("evaluation")

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``training.json``: steps, cost, what was noticed."""
        return self.directory.read_json("training")

    @cached_property
    def network(self) -> Network:
        """The trained model, ready to score; refused when the tokenizer is not the run's own."""
        head = self.task.head()
        if self.config.method.saves_adapter:
            loaded = self.config.model.load(head, [], self.config.train.seed)
        else:
            loaded = load_trained(self.folder, head, self.summary["max_length"])
        recorded = self.directory.read_json("environment")["tokenizer"]["sha256"]
        if tokenizer_hash(loaded.tokenizer) != recorded:
            raise InputError(
                f"The tokenizer of {loaded.source} is not the one that the run was trained with (its hash differs).",
                "Use the model that the run was trained from, or the run's own files as they were written.",
            )
        return make_network(loaded, self.config, self.task, self._restore)

    def _restore(self, model: PreTrainedModel) -> nn.Module:
        """Add what the run trained to a base model; a whole model was loaded with it."""
        method = self.config.method
        return method.load(model, self.folder) if method.saves_adapter else model

    def evaluate(self, data: str | None = None, split: str = "test") -> dict[str, Any]:
        """Return the figures, as in ``evaluation.json``, on a file of labelled rows or on a split of the run's data.

        Raises ``InputError`` when the rows lack the labels, or carry labels unknown to the run.
        """
        columns, name = self._labelled_columns(data, split)
        problems = self.task.check(name, columns)
        if errors := [problem for problem in problems if problem.severity == "error"]:
            raise InputError(errors)
        encoded = self.network.encode(self.task, columns)
        scored = self._score(encoded)
        settings = self.config.evaluation
        evaluation = evaluate(
            self.task,
            scored.outputs,
            encoded.data_targets,
            seed=self.config.train.seed,
            num_resamples=settings.num_resamples,
            confidence=settings.confidence,
            columns=columns,
        )
        return {"split": name, "loss": scored.loss, **evaluation}

    def predict(self, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return one prediction per text: ``label`` (``value``; ``tags`` and ``entities``), ``score`` and more."""
        columns: dict[str, list[Any]] = {"text": list(texts)}
        if self._takes_pairs != (text_pairs is not None):
            expected = "pairs of texts" if self._takes_pairs else "single texts"
            raise InputError(
                f"The run in {self.folder} was trained on {expected}.",
                "Give a second text with every first one." if self._takes_pairs else "Leave the second texts out.",
            )
        if text_pairs is not None:
            if len(text_pairs) != len(texts):
                raise InputError(f"There are {len(texts)} texts and {len(text_pairs)} second texts.")
            columns["text_pair"] = list(text_pairs)
        return self._predict(columns)

    def _predict(self, columns: Columns) -> list[dict[str, Any]]:
        if not columns["text"]:
            return []
        columns = self.task.complete(columns)
        return self.task.decode(self._score(self.network.encode(self.task, columns)).outputs, columns)

    def predict_file(self, path: str) -> list[dict[str, Any]]:
        """Return one prediction per row of a file, in the file's order, none left out."""
        columns = read_for_prediction(path, self._choices, self.config.data)[:]
        return self._predict({name: values for name, values in columns.items() if name not in self.task.truths})

    def _score(self, encoded: Any) -> Any:
        network = self.network
        return predict(network.scorer, network.collate, self.task, encoded, self.config.train.micro_batch_tokens)

    def _labelled_columns(self, data: str | None, split: str) -> tuple[dict[str, list[Any]], str]:
        if data is not None:
            columns = dict(read_for_prediction(data, self._choices, self.config.data)[:])
            if not set(self.task.truths) <= columns.keys():
                names = [column for role, column in self.config.data.columns.items() if role in TRUTHS]
                raise InputError(
                    f"{data} has no column '{', '.join(names)}' to judge the predictions by.",
                    "Use 'tunesmith predict' for rows without labels.",
                )
            return columns, Path(data).name
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

    @property
    def _choices(self) -> list[ColumnChoice]:
        return [
            ColumnChoice(role, column, "as trained")
            for role, columns in self.config.data.columns.items()
            for column in columns.split(",")
        ]

    @property
    def _takes_pairs(self) -> bool:
        return "text_pair" in self.config.data.columns
