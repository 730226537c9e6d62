"""When the machine was started: files not yet on the disk itself are whole for as long as it stays up."""

from __future__ import annotations

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_start() -> str | None:
    """Return what is another at each start of the machine, and on each machine; None where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
