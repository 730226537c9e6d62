"""What a method may look at before its first step: some of the training rows, run through the model as it then is.

A method that says so by ``Method.num_calibration_rows`` is asked, once, to ``calibrate``: it runs batches, watches
the model (by forward hooks, or by gradients) and returns tensors. These are kept with the run until it ends, and
``take_calibration`` sets the model up from them: in a run that is resumed from the same tensors, which are not
computed again, and in runs of a study that differ in their learning rate alone, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn


class CalibrationBatch(Protocol):
    """Some of the rows, laid out for the device.

    The model computes by its authors' own code while they run (padded, without dropout, in its own number format),
    so that hooks of every module are called.
    """

    @property
    def num_rows(self) -> int:
        """How many sequences it holds."""

    def forward(self) -> None:
        """Run the model, without gradients."""

    def backward(self) -> None:
        """Run the model both ways: a part of the gradient is added to ``.grad`` of all that requires it.

        Those of all batches add up to the gradient of the mean loss of all rows (a mean over units, as in a step).
        """

    def real(self, states: torch.Tensor) -> torch.Tensor:
        """Return [T, D] of [B, L, D]: what a module has read or made, without what stands for padding.

        States of another shape (of a head that reads one vector a row) are returned as [T, D] with all they hold.
        """


class Calibration(Protocol):
    """The rows that a method looks at: the same ones for every run of the same data and seed."""

    def batches(self, max_rows: int | None = None) -> Iterator[CalibrationBatch]:
        """Yield all rows in batches of at most ``max_rows``, as often as it is asked."""

    def classes(self) -> npt.NDArray[np.int64] | None:
        """Return [N]: the class of every row; None where rows are not of one class each."""

    def vectors(self, model: nn.Module, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return [B, D], with gradients: what the head of ``model`` reads of these rows, from 0 to N.

        ``model`` is the one that is looked at, or a copy of it. Raises ``InputError`` where its head reads no vector.
        """
