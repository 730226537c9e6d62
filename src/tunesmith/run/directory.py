"""The run directory: the only record of a run and the only thing that later stages read."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.build import build
from tunesmith.config.load import dump_yaml, load_yaml
from tunesmith.config.migrate import migrate
from tunesmith.data import RejectedRow
from tunesmith.files.atomic import remove_empty_folders, remove_file, update_manifest, write_bytes, write_text
from tunesmith.files.hashing import hash_bytes
from tunesmith.files.jsons import finite
from tunesmith.files.lock import LOCK
from tunesmith.files.manifest import MANIFEST, verify_manifest
from tunesmith.files.operations import make_folder, rename, sync_folder
from tunesmith.files.ownership import MARK, REPLACED, STAGED, marked_names, owned_files, write_mark
from tunesmith.run.config import RunConfig
from tunesmith.run.scores_file import KeptScores, pack_scores
from tunesmith.types import InputError, Problem, RunError


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names and formats of everything in a run directory."""

    path: Path
    """Where the files are."""
    final: Path | None = None
    """The folder that they will be in, for a run that is made to replace the one there."""

    @property
    def place(self) -> Path:
        """The folder that the run has for its user."""
        return self.final or self.path

    @property
    def staged(self) -> RunDirectory:
        """Where a run that is to replace this one is made: a folder in this one, on the same file system."""
        return RunDirectory(self.path / STAGED, self.path)

    @property
    def how_to_resume(self) -> str:
        """The command that continues the run, or brings it to its end."""
        return f"tunesmith train --output {shlex.quote(str(self.place))} --resume"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def scores(self) -> Path:
        return self.path / "scores.npz"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end and everything was written."""
        return (self.path / MANIFEST).exists() and self.config.exists()

    @property
    def is_replaced(self) -> bool:
        """Whether a complete run waits to take the place of this one, or has begun to."""
        return (self.path / STAGED / MANIFEST).exists()

    @property
    def has_begun(self) -> bool:
        """Whether there is something here to be resumed or to be looked at: this run or one to replace it."""
        return self.config.exists() or self.staged.config.exists() or self.is_replaced

    @property
    def awaits_replacement(self) -> bool:
        """Whether a run that has yet to begin is to replace what is here: one of several, whose turn has not come."""
        return marked_names(self.staged.path) is not None and not self.staged.config.exists()

    def write_config(self, config: RunConfig) -> None:
        write_text(self.config, dump_yaml(config))

    def read_config(self) -> RunConfig:
        """Read ``config.yaml``, whatever version has written it."""
        values, _ = migrate(load_yaml(self.config), str(self.config))
        config = build(RunConfig, values, str(self.config))
        if config.method.head_factor is not None:
            return config
        # Runs of earlier versions, which do not say it, gave all parameters one rate.
        return config.model_copy(update={"method": config.method.model_copy(update={"head_factor": 1.0})})

    def begin(self, *, anew: bool) -> None:
        """Make the folder a run's, before anything else is written; ``anew`` removes a replacement begun before."""
        if anew:
            begun = self if self.final is not None else self.staged
            begun._remove_files(owned_files(begun.path) or ())
            remove_empty_folders(begun.path)
        if marked_names(self.path) is None:
            write_mark(self.path, ())

    def expect(self, names: Collection[str]) -> None:
        """Take note of the model's files, before they are written. ``RunError`` where others are in their place."""
        own = marked_names(self.path) or ()
        if taken := [name for name in names if name not in own and os.path.lexists(self.path / name)]:
            raise RunError(
                f"{self.path / taken[0]} is in the way of the model's file of that name, and the run has not written "
                f"it.\n  → Move it elsewhere, then: {self.how_to_resume}"
            )
        write_mark(self.path, names)

    def seal(self) -> None:
        """Write the manifest of what the run has written: from now on it counts as finished."""
        names = marked_names(self.path)
        assert names is not None
        update_manifest(self.path, names)
        remove_file(self.path / MARK)

    def install(self) -> RunDirectory:
        """Let a sealed run take the place of the one that it is to replace, and return where it is then.

        A crash leaves one of the two whole: the new one, until its last file is moved, in the folder that it was
        made in. Calling this again goes on where it ended. Only files that the old run has written are removed.

        Raises ``RunError`` when something that is not the old run's is in the way.
        """
        if self.final is None:
            return self
        final = RunDirectory(self.final)
        remove_file(self.path / MARK)
        final.remove_replaced()
        names = [path.relative_to(self.path) for path in sorted(self.path.rglob("*")) if not path.is_dir()]
        if blocked := [name for name in names if os.path.lexists(final.path / name)]:
            raise RunError(
                f"The new run is complete, in {self.path}, but {final.path / blocked[0]} is in its way and is not of "
                f"the run that it replaces.\n  → Move it elsewhere, then: {self.how_to_resume}"
            )
        for name in sorted(names, key=lambda name: (name == Path(MANIFEST), name)):
            make_folder((final.path / name).parent)
            rename(self.path / name, final.path / name)
        sync_folder(final.path)
        remove_empty_folders(self.path)
        return final

    def remove_replaced(self) -> None:
        """Remove the run's files, the manifest first: from then on nobody takes it for a finished one."""
        listed = self.path / REPLACED
        if not listed.exists():
            owned = owned_files(self.path)
            if owned is None:
                return
            write_text(listed, json.dumps(owned) + "\n")
        self._remove_files(json.loads(listed.read_text(encoding="utf-8")))
        remove_file(listed)
        sync_folder(self.path)

    def _remove_files(self, names: Collection[str]) -> None:
        if MANIFEST in names:
            remove_file(self.path / MANIFEST)
            sync_folder(self.path)
        for name in names:
            remove_file(self.path / name)
        for folder in sorted({name.split("/", 1)[0] for name in names if "/" in name}):
            remove_empty_folders(self.path / folder)

    def remove_if_empty(self) -> None:
        """Delete the folder if it holds nothing but its lock: work that was refused leaves nothing behind."""
        if self.path.is_dir() and all(entry.name == LOCK for entry in self.path.iterdir()):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``name``.json; numbers that are not finite become null."""
        write_text(self.path / f"{name}.json", json.dumps(finite(content), ensure_ascii=False, indent=1) + "\n")

    def write_card(self, text: str, environment: Mapping[str, Any]) -> None:
        """Write the model card, and ``environment.json`` with its hash: whoever changes the card makes it theirs."""
        self.write_json("environment", {**environment, "card_sha256": hash_bytes(text.encode("utf-8"))})
        write_text(self.path / "README.md", text)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read ``name``.json; ``InputError`` when it is missing or damaged."""
        path = self.path / f"{name}.json"
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} is missing.", "Is this a finished run? Continue it with --resume.") from None
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}") from error
        return content

    def write_rejected(self, rejected: Sequence[RejectedRow]) -> None:
        """Keep the rows that could not be read, if there are any, with file, line and reason."""
        if not rejected:
            return
        lines = (json.dumps(asdict(row), ensure_ascii=False) for row in rejected)
        write_text(self.path / "rejected.jsonl", "".join(line + "\n" for line in lines))

    def write_predictions(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write ``predictions.parquet`` atomically."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(columns)), sink)
        write_bytes(self.predictions, sink.getvalue().to_pybytes())

    def write_scores(
        self, outputs: Mapping[str, Any], targets: Mapping[str, Any], rival: Mapping[str, Any] | None
    ) -> None:
        """Write ``scores.npz`` atomically."""
        write_bytes(self.scores, pack_scores(KeptScores(outputs, targets, rival or {})))

    def verify(self) -> list[Problem]:
        """Return what is missing or damaged, file by file."""
        return verify_manifest(self.path)


def open_directory(path: Path) -> RunDirectory:
    """Return a finished run's directory; ``InputError`` that says what is wrong otherwise."""
    directory = RunDirectory(path)
    if not path.is_dir():
        raise InputError(f"There is no run at {path}: the folder does not exist.", "Train one with 'tunesmith train'.")
    if directory.is_replaced and not directory.is_finished:
        raise InputError(
            f"The run in {path} was being replaced by a new one, which is complete, when that was interrupted.",
            f"Let it take its place: {directory.how_to_resume}",
        )
    if not directory.config.exists():
        raise InputError(f"{path} is not a run: it holds no config.yaml.", "Name the folder given as --output.")
    if not directory.is_finished:
        raise InputError(
            f"The run in {path} did not finish.",
            f"Continue it with: {directory.how_to_resume}",
        )
    if damage := directory.verify():
        raise InputError(damage)
    return directory
