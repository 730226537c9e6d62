"""Where the trainings of a study are computed: nothing here decides what comes of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tunesmith.run import RunConfig


class StudyConfig(RunConfig):
    """A run's configuration, many of which are trained for one question, here or on a Ray cluster."""

    free: ClassVar[frozenset[str]] = frozenset(
        {"compute", "output", "executor", "ray_address", "workers", "cores_per_worker", "gpus_per_worker"}
    )
    """Keys that a study may be gone on with by other values of."""

    executor: Literal["local", "ray"] = "local"
    """Who trains: this machine, or the workers of a Ray cluster (extra `ray`), which see the study's folder."""
    ray_address: str | None = None
    """An existing cluster, such as 10.0.0.1:6379, or auto; by default what RAY_ADDRESS says, or else one that is
    started on this machine for the study."""
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """How many train at the same time on the cluster; as many as it has room for when not given."""
    cores_per_worker: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Cores of each worker of the cluster; those of all, divided among as many as there is work for, when not given."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=64)] | None = None
    """GPUs, or the share of one, that each worker has; by the predicted memory when not given."""

    def asked(self, *free: str) -> dict[str, Any]:
        """Return what makes a study this one: how and where it is computed, and what ``free`` names, may change."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in self.free and name not in free}

    @model_validator(mode="after")
    def _suits_the_executor(self) -> Self:
        if self.executor == "ray":
            return self
        given = [name for name in ("ray_address", "cores_per_worker", "gpus_per_worker") if getattr(self, name)]
        if given:
            raise ValueError(f"{given[0]} says how a Ray cluster is used; set executor to ray, or leave it out")
        return self
