"""What is shown of the measurements: comparisons, a Markdown table, and remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.jobs import first_line
from benchmarks.gpu.step_profile import profile_text

Measurement = dict[str, Any]
"""What a job gave, with the names of its case and its variant."""

HEAD = (
    "| Case | tunesmith | Peer | Ratio | MFU, ours / peer | Our peak memory (predicted) | Peer's |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
)


def compare(measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Return, case by case, our fastest variant beside each peer, then our other variants alone.

    The sides are names of variants or empty; speeds are in tokens per second, None where there is none.
    """
    found = []
    for case in dict.fromkeys(one["case"] for one in measured):
        speeds = {one["variant"]: one.get("tokens_per_second") for one in measured if one["case"] == case}
        speeds.pop("profile", None)
        ours = [name for name in speeds if name.startswith("tunesmith")]
        peers = [name for name in speeds if name not in ours]
        best = max(ours, key=lambda name: speeds[name] or 0.0, default="")
        pairs = [(best, name) for name in peers or ([""] if best else [])]
        pairs += [(name, "") for name in ours if name != best]
        found += [_pair(case, *pair, speeds) for pair in pairs]
    return found


def _pair(case: str, variant: str, peer: str, speeds: dict[str, float | None]) -> dict[str, Any]:
    mine, theirs = speeds.get(variant), speeds.get(peer)
    ratio = mine / theirs if mine and theirs else None
    sides = {"variant": variant, "peer_name": peer}
    return {"case": case, **sides, "tunesmith": mine, "peer": theirs, "ratio": ratio, "unit": "tokens/s"}


def markdown(measured: Sequence[Measurement]) -> str:
    """Return the table, what is to be said about single measurements, and the profiles."""
    results = {(one["case"], one["variant"]): one for one in measured}
    lines = list(HEAD)
    for pair in compare(measured):
        ours = results.get((pair["case"], pair["variant"]), {})
        peer = results.get((pair["case"], pair["peer_name"]), {})
        cells = [
            pair["case"],
            _speed(ours),
            _speed(peer),
            _shown(pair["ratio"], "{:.2f}"),
            f"{_shown(ours.get('mfu'), '{:.1%}')} / {_shown(peer.get('mfu'), '{:.1%}')}",
            f"{_gigabytes(ours, 'peak_memory_bytes')} ({_gigabytes(ours, 'predicted_memory_bytes')})",
            _gigabytes(peer, "peak_memory_bytes"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    remarks = [f"- {one['case']}, {one['variant']}: {text}" for one in measured if (text := _remark(one))]
    profiles = [profile_text(one["case"], one) for one in measured if "kernels" in one]
    return "\n\n".join(["\n".join(block) for block in (lines, remarks) if block] + profiles)


def _speed(one: Measurement) -> str:
    if not one:
        return ""
    if "not_started" in one:
        return f"{one['variant']}: not started, {one['not_started']}"
    speed = "failed" if "error" in one else _shown(one.get("tokens_per_second"), "{:,.0f}")
    return f"{one['variant']}: {speed}"


def _remark(one: Measurement) -> str:
    if "error" in one:
        return first_line(one["error"])
    if "unavailable" in one:
        return str(one["unavailable"])
    if one["variant"] == "profile" and "not_started" in one:
        return f"not started, {one['not_started']}"
    parts = [f"attention: {one['attention']}"] if "attention" in one else []
    parts += ["activations are computed again: memory did not suffice without"] if one.get("recomputes") else []
    return "; ".join(parts)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _gigabytes(one: Measurement, key: str) -> str:
    return _shown(one[key] / 1e9, "{:.2f} GB") if key in one else "–"
