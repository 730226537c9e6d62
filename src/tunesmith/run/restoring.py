"""A run of a form of its own made a plain model of ``transformers``, with the same scores on real rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tunesmith.engine.stand_ins import remove_stand_ins
from tunesmith.files.atomic import new_folder
from tunesmith.files.space import require_writable
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.merging import TOLERANCE, probe_rows, probe_scores
from tunesmith.models.quiet import quiet
from tunesmith.models.weights import align
from tunesmith.models.wrapping import inner
from tunesmith.run.assembly import load_data
from tunesmith.run.finished_run import Run
from tunesmith.types import InputError

ROWS = 16
"""Of the run's own judged split that scores are compared on, besides a few texts that every run is compared on."""


def restore(run: Run, folder: Path) -> dict[str, float]:
    """Write the model of ``run`` into ``folder`` as plain ``transformers`` loads it, with layers of their old sizes.

    Returns ``rows``, how many were compared, and ``difference``, the largest between their scores, relative to the
    largest score. Nothing is written where they are not those of the run. The model in memory is changed: open the run
    again to predict with it.

    Raises ``InputError`` where the run is a plain model or an adapter, or the folder is there, or scores differ.
    """
    method = run.config.method
    if method.result != "own":
        what = "a plain model already" if method.result == "model" else "an adapter beside its base model"
        fix = "Give its folder as --model" + (
            ", or to transformers." if method.result == "model" else ": it is merged."
        )
        raise InputError(f"The run in {run.folder} is {what}: there is nothing to restore.", fix)
    if folder.exists():
        raise InputError(f"{folder} is there already.", "Choose another folder.")
    require_writable(folder.parent)
    network = run.network
    rows = _rows(run)
    model = remove_stand_ins(network.model).float().cpu().eval()
    expected = probe_scores(model, rows)
    dense = method.dense(model).eval()
    difference = _difference(expected, probe_scores(dense, rows))
    _require_equal(difference, folder)
    with new_folder(folder) as temporary:
        whole = inner(dense)
        with quiet():
            whole.save_pretrained(temporary)
            network.tokenizer.save_pretrained(temporary)
        difference = max(difference, _difference(expected, probe_scores(_loaded(run, temporary), rows)))
        _require_equal(difference, folder)
    return {"rows": float(len(rows)), "difference": difference}


def _rows(run: Run) -> list[list[int]]:
    """Return token ids of a few texts and, where the run's data can still be read, of its own rows."""
    network: Any = run.network
    anatomy = Anatomy.of(network.model)
    places = None if anatomy.max_positions is None else anatomy.max_positions - anatomy.position_offset
    found = probe_rows(network.model, network.tokenizer, places)
    with suppress(InputError, OSError):
        data = load_data(run.config)
        columns = data.prepared.splits[data.judged_split(run.config.evaluation.split)].columns()
        few = {name: values[:ROWS] for name, values in columns.items()}
        ids = network.encode(data.task, few).stream("input_ids")
        found += [ids[index].tolist() for index in range(len(ids))] if ids is not None else []
    return found


def _loaded(run: Run, folder: Path) -> torch.nn.Module:
    """Return the model in ``folder`` as a stranger loads it."""
    import transformers

    auto_class = getattr(transformers, run.summary["auto_class"])
    with quiet():
        model: torch.nn.Module = auto_class.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    align(model)
    return model.eval()


def _difference(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    size = max(float(one.abs().max()) for one in expected)
    return max(float((one - two).abs().max()) for one, two in zip(expected, found, strict=True)) / max(size, 1e-30)


def _require_equal(difference: float, folder: Path) -> None:
    if not difference <= TOLERANCE:
        raise InputError(
            f"{folder} was not written: the restored model gives other scores than the run (they differ by "
            f"{difference:.2g} of the largest).",
            "This should not happen: please report it with the run's config.yaml.",
        )
