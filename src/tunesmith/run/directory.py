"""The run directory: the only record of a run and the only thing that later stages read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.build import build
from tunesmith.config.load import dump_yaml, load_yaml
from tunesmith.data import RejectedRow
from tunesmith.files.atomic import remove_folder, update_manifest, write_text
from tunesmith.files.lock import LOCK
from tunesmith.files.manifest import MANIFEST, verify_manifest
from tunesmith.run.config import RunConfig
from tunesmith.types import InputError, Problem

LIVING = ("checkpoints", "untuned", "states", "tensorboard", "report.html", "README.md", "rejected.jsonl")
"""What the manifest leaves out: it has its own, or is made again at will."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names and formats of everything in a run directory."""

    path: Path

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
    def untuned(self) -> Path:
        """What the model made of the judged rows before training; there until the run ends."""
        return self.path / "untuned"

    @property
    def states(self) -> Path:
        """What frozen layers make of the rows; there until the run ends."""
        return self.path / "states"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end and everything was written."""
        return (self.path / MANIFEST).exists()

    def write_config(self, config: RunConfig) -> None:
        write_text(self.config, dump_yaml(config))

    def read_config(self) -> RunConfig:
        """Read ``config.yaml``."""
        return build(RunConfig, load_yaml(self.config), str(self.config))

    def clear(self) -> None:
        """Delete the run, its lock excepted."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                remove_folder(entry)
            elif not entry.name.startswith(".lock"):
                entry.unlink()

    def remove_if_empty(self) -> None:
        """Delete the folder if it holds nothing but its lock: work that was refused leaves nothing behind."""
        if self.path.is_dir() and all(entry.name == LOCK for entry in self.path.iterdir()):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``name``.json; numbers that are not finite become null."""
        write_text(self.path / f"{name}.json", json.dumps(_finite(content), ensure_ascii=False, indent=1) + "\n")

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

        from tunesmith.files.atomic import write_bytes

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(columns)), sink)
        write_bytes(self.predictions, sink.getvalue().to_pybytes())

    def seal(self) -> None:
        """Write the manifest: from now on the run counts as finished."""
        update_manifest(self.path, exclude=LIVING)

    def verify(self) -> list[Problem]:
        """Return what is missing or damaged, file by file."""
        return verify_manifest(self.path)


def open_directory(path: Path) -> RunDirectory:
    """Return a finished run's directory; ``InputError`` that says what is wrong otherwise."""
    directory = RunDirectory(path)
    if not path.is_dir():
        raise InputError(f"There is no run at {path}: the folder does not exist.", "Train one with 'tunesmith train'.")
    if not directory.config.exists():
        raise InputError(f"{path} is not a run: it holds no config.yaml.", "Name the folder given as --output.")
    if not directory.is_finished:
        raise InputError(
            f"The run in {path} did not finish.",
            f"Continue it with: tunesmith train {directory.config} --output {path} --resume",
        )
    if damage := directory.verify():
        raise InputError(damage)
    return directory


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
