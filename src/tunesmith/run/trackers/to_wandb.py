"""Weights & Biases: offline unless asked otherwise, into the folder ``wandb`` beside the work (or ``WANDB_DIR``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.run.trackers.tracker import WAIT_SECONDS, Figures, Tracker, silenced


class WeightsAndBiases(Tracker):
    """Tells W&B; what it gathers beside the figures (console, code, git, the machine, reports of its errors) is off."""

    _run: Any = None

    def begin(self, known: Mapping[str, str]) -> Mapping[str, str]:
        with silenced(WANDB_ERROR_REPORTING="false"):
            import wandb

            mode: Any = "online" if self.asked.online else os.environ.get("WANDB_MODE", "offline")
            settings = wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                init_timeout=WAIT_SECONDS / 2,
                finish_timeout=WAIT_SECONDS / 2,
            )
            self._run = wandb.init(
                project=self.asked.project,
                name=self.title,
                id=known.get("id"),
                resume="allow" if known and mode == "online" else None,
                mode=mode,
                config=self.facts(),
                reinit="create_new",
                settings=settings,
            )
        self._run.define_metric("*", step_metric="step")
        found = {"id": self._run.id, "project": self.asked.project, "mode": str(mode), "url": self._run.url}
        return {name: str(value) for name, value in found.items() if value}

    def send(self, figures: Sequence[Figures]) -> None:
        for step, values in figures:
            self._run.log({"step": step, **values})

    def end(self, figures: Mapping[str, float], *, is_finished: bool) -> None:
        self._run.summary.update(figures)
        self._run.finish(exit_code=0 if is_finished else 1)
