"""The cost model beside published throughputs, and for 1 to 1,024 devices: ``python -m benchmarks.cost_model``.

``--scaling`` gives the table of devices and sizes. Both are arithmetic, and take a second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tunesmith.readable import count, duration, percent
from tunesmith.study.costs.estimate import Rows, Setting, Step, estimate, step_of
from tunesmith.study.costs.machines import find_machines
from tunesmith.study.costs.shape import Shape

PUBLISHED = Path(__file__).with_name("published_throughput.yaml")


@dataclass(frozen=True, slots=True)
class Figure:
    """A published throughput beside what is predicted."""

    values: dict[str, Any]
    step: Step
    num_devices: int

    @property
    def predicted(self) -> float:
        """Tokens a second of each device."""
        return self.step.tokens_per_second / self.num_devices

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return float(self.predicted / self.values["per_device"] - 1)

    @property
    def is_check(self) -> bool:
        """Whether no constant was found by it."""
        return "found" not in self.values

    @property
    def method(self) -> str:
        """What is trained."""
        return "LoRA" if "rank" in self.values else "full"


def figures() -> list[Figure]:
    """Return all published figures with what is predicted."""
    known = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return [_figure(values, known["models"][values["model"]]) for values in known["figures"]]


def _figure(values: dict[str, Any], sizes: dict[str, Any]) -> Figure:
    more = {name: values[name] for name in ("rank",) if name in values}
    if "adapted" in values:
        more["adapted"] = tuple(values["adapted"])
    shape = Shape.of_decoder(**sizes, **more)
    machines = find_machines(values["machine"], values["machines"])
    length = float(values["length"])
    if "bandwidth" in values:
        machines = replace(machines, device=machines.device.changed(bandwidth=values["bandwidth"]))
    rows = Rows(values["rows"], length, float(values.get("squared", length**2)), values.get("read", 1.0))
    setting = Setting(values["parallel"], values["micro"], values["recomputes"], values["reduced"])
    return Figure(values, step_of(shape, machines, rows, setting), machines.num_devices)


def lines(chosen: Sequence[Figure]) -> list[str]:
    """Return a table of figures in Markdown."""
    head = ["Source", "Model", "Method", "Devices", "Row", "tokens/s per device", "Predicted", "Off by"]
    found = ["| " + " | ".join(head) + " |", "| --- | --- | --- | --- |" + " ---: |" * 4]
    for one in chosen:
        values = one.values
        device = f"{one.num_devices}x {values['machine'].split('x ')[-1]}"
        notes = [values["note"]] if "note" in values else []
        again = values["recomputes"]
        notes += ["layers recomputed" if again == 1 else "half recomputed"] if again else []
        source = values["source"] + (f" ({', '.join(notes)})" if notes else "")
        cells = [source, values["model"], one.method, device, count(values["length"])]
        cells += [count(values["per_device"]), count(round(one.predicted)), f"{100 * one.error:+.0f}%"]
        found.append("| " + " | ".join(cells) + " |")
    return found


def summary(chosen: Sequence[Figure]) -> str:
    """Return how far off the predictions are, in a line."""
    errors = [abs(one.error) for one in chosen]
    near = sum(error <= 0.25 for error in errors)
    return f"median {percent(statistics.median(errors))}, {near} of {len(errors)} within 25%"


def scaling() -> list[str]:
    """Return what a step takes with 1 to 1,024 devices, for models of all sizes."""
    sizes = {
        "0.1B": Shape.of_decoder(30, 576, 1536, 49152, keys=192, tied=True),
        "1B": Shape.of_decoder(16, 2048, 8192, 128256, keys=512, tied=True),
        "8B": Shape.of_decoder(32, 4096, 14336, 128256, keys=1024),
        "70B": Shape.of_decoder(80, 8192, 28672, 128256, keys=1024),
    }
    found = ["| Model | Parallel | " + " | ".join(f"{8 * n if n else 1}" for n in (0, 1, 8, 128)) + " |"]
    found.append("| --- | --- |" + " ---: |" * 4)
    for name, shape in sizes.items():
        for parallel in ("data", "fsdp"):
            cells = []
            for nodes in (0, 1, 8, 128):
                machines = find_machines("8x H100" if nodes else "H100", max(nodes, 1))
                rows = Rows.alike(8 * machines.num_devices, 2048)
                step = estimate(shape, machines, rows, Setting(parallel, 16384))
                said = f"{count(round(step.tokens_per_second / machines.num_devices))} ({duration(step.seconds)})"
                cells.append(said if step.fits else "no room")
            found.append(f"| {name} | {parallel} | " + " | ".join(cells) + " |")
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scaling", action="store_true", help="1 to 1,024 devices instead")
    if parser.parse_args().scaling:
        sys.stdout.write("\n".join(scaling()) + "\n")
        return
    known = figures()
    sys.stdout.write("\n".join(lines(known)) + "\n\n")
    checks = [one for one in known if one.is_check]
    for title, chosen in (("all checks", checks), ("constants found by", [one for one in known if not one.is_check])):
        sys.stdout.write(f"{title}: {summary(chosen)}\n")
    for source in dict.fromkeys(one.values["source"] for one in checks):
        sys.stdout.write(f"{source}: {summary([one for one in checks if one.values['source'] == source])}\n")


if __name__ == "__main__":
    main()
