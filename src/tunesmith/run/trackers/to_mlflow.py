"""MLflow: into the store that it takes by itself, a file beside the work, or where ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.run.trackers.tracker import Figures, Tracker, flat, silenced

MOST_METRICS = 1000
"""That MLflow takes at once."""
MOST_PARAMETERS = 100
LONGEST_VALUE = 500
"""Characters of a parameter: older stores take no more."""


class MLflow(Tracker):
    """Tells MLflow, by a client of its own: the caller's active run and settings stay as they are."""

    _client: Any = None
    _id: str = ""

    def begin(self, known: Mapping[str, str]) -> Mapping[str, str]:
        with silenced(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true"):
            from mlflow import MlflowClient

            self._client = MlflowClient()
            self._id = known.get("run_id", "")
            if self._id:
                self._client.update_run(self._id, status="RUNNING")
            else:
                self._id = self._new_run()
        return {"run_id": self._id, "project": self.asked.project, "store": str(self._client.tracking_uri)}

    def _new_run(self) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self.asked.project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self.asked.project)
        tags = {"mlflow.source.name": "tunesmith", "tunesmith.folder": str(self.place)}
        run = self._client.create_run(number, run_name=self.title, tags=tags)
        given = [(name, value) for name, value in flat(self.facts()) if value is not None]
        parameters = [Param(name, str(value)[:LONGEST_VALUE]) for name, value in given]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(run.info.run_id, params=parameters[start : start + MOST_PARAMETERS])
        return str(run.info.run_id)

    def send(self, figures: Sequence[Figures]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, values in figures for name, value in values.items()]
        with silenced(MLFLOW_DISABLE_TELEMETRY="true"):
            for start in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(self._id, metrics=metrics[start : start + MOST_METRICS])

    def end(self, figures: Mapping[str, float], *, is_finished: bool) -> None:
        if figures:
            self.send([(int(figures.get("run/steps", 0)), figures)])
        self._client.set_terminated(self._id, "FINISHED" if is_finished else "KILLED")
