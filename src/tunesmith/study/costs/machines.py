"""Machines by the figures that decide how long a training takes: a table of devices, and how a user names some.

The table is ``machines.yaml``. A machine of one's own is a file of the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tunesmith.config.base import nearest
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.study.costs.device import HERE, Device
from tunesmith.types import InputError

TABLE = Path(__file__).with_name("machines.yaml")
MOST_DEVICES = 1024
_TEXT = re.compile(r"\s*(?:(?P<count>\d+)\s*[x×*]\s*)?(?P<name>\S.*?)\s*", re.IGNORECASE)
_NETWORK = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(gbit/s|gb/s|gbps|gbit|g)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Machines:
    """Some equal machines with some equal devices each."""

    device: Device
    per_machine: int
    """Devices of one machine."""
    num_machines: int = 1
    network: float | None = None
    """Gb/s from a machine to others, where it is known better than by the device's table."""

    @property
    def num_devices(self) -> int:
        """All of them."""
        return self.per_machine * self.num_machines

    @property
    def link_bytes(self) -> float:
        """Bytes a second from a device to the others of its machine."""
        return 1e9 * self.device.link

    @property
    def network_bytes(self) -> float:
        """Bytes a second from a machine to others: the table's, for the part of its devices that this one has."""
        known = self.device.network * min(self.per_machine / self.device.per_machine, 1.0)
        return 1e9 / 8 * (self.network or known)

    def __str__(self) -> str:
        one = f"{self.per_machine}x {self.device.name}"
        return one if self.num_machines == 1 else f"{self.num_machines} machines with {one} each"


@cache
def devices() -> tuple[Device, ...]:
    """Return the table."""
    return tuple(build(Device, values, f"{TABLE.name}, {values.get('name')}") for values in _entries(TABLE))


def _entries(path: Path) -> Sequence[dict[str, Any]]:
    import yaml

    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, list)
    return found


def find_machines(text: str, num_machines: int = 1, network: str | None = None) -> Machines:
    """Return the machines that ``text`` speaks of: ``8x H100``, ``here``, ``2x here``, or a file of one's own device.

    Raises ``InputError`` with the nearest name where the device is not known, and what a file lacks.
    """
    found = _TEXT.fullmatch(text)
    count = 0 if found is None else int(found["count"] or 1)
    if found is None or not 1 <= count <= MOST_DEVICES:
        raise InputError(
            f"--machine {text!r} is no machine: expected from 1 to {MOST_DEVICES:,} devices and their name.",
            "Write it as '8x H100', or as 'here' for this one.",
        )
    rate = None if network is None else parse_network(network)
    return Machines(_device(found["name"], count), count, num_machines, rate)


def _device(name: str, count: int) -> Device:
    if name.lower() == HERE:
        from tunesmith.study.costs.this_machine import measure

        return measure(count)
    if Path(name).suffix.lower() in (".yaml", ".yml"):
        return build(Device, load_yaml(Path(name)), name)
    known = {alias.lower(): device for device in devices() for alias in (device.name, *device.also)}
    if name.lower() in known:
        return known[name.lower()]
    names = [device.name for device in devices()]
    hint = nearest(name.upper(), names)
    raise InputError(
        f"--machine: no device {name!r} is known.{f' {hint}' if hint else ''}",
        f"Known: {', '.join(names)}, here. Or give a file with its figures: see docs/scale.md.",
    )


def parse_network(text: str) -> float:
    """Return the Gb/s of ``3200Gb/s`` or ``400``; ``InputError`` where it is none."""
    found = _NETWORK.fullmatch(text)
    if found is None or not float(found[1]):
        raise InputError(
            f"--network {text!r} is no rate: expected gigabits a second from a machine to others.",
            "Write it as --network 400Gb/s.",
        )
    return float(found[1])
