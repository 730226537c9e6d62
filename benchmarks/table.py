"""What is shown of the figures: a Markdown table, JSON, and the place in a page where the table stands."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

START, END = "<!-- table -->", "<!-- /table -->"
PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "peft", "trl", "accelerate")
MISSING = "–"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are compared."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what is known of the processor without asking anything heavy."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        flags = next((line for line in lines if line.startswith("flags")), "")
        model += "".join(f", {name.upper()}" for name in ("amx_bf16", "avx512_bf16") if name in flags)
    affinity = getattr(os, "sched_getaffinity", None)
    return {"processor": model, "cores": len(affinity(0)) if affinity else os.cpu_count()}


def write_json(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the list of all cases; the file is whole at any time."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> list[dict[str, Any]]:
    """Return the list of cases that ``write_json`` wrote."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, what stands against it, and where it was measured."""
    lines = [
        "| Case | tunesmith | Peer | Ratio [range] of | MFU, ours / peer | Peak memory | First step | Mean loss |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
        *(_row(record) for record in records),
        "",
    ]
    if remarks := [remark for record in records for remark in _remarks(record)]:
        lines += [*(f"- {remark}" for remark in remarks), ""]
    known = records[0] if records else {}
    if "machine" in known:
        names = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
        place = known["machine"]
        lines += [f"Measured on {place['cores']} cores of {place['processor']}; {names}.", ""]
    return "\n".join(lines)


def _row(record: Mapping[str, Any]) -> str:
    peer = record["peer_name"].replace("|", "\\|")
    data = [record["data"]] if record.get("data") else []
    data += [f"{record['num_rows']:,} rows"] if data and record.get("num_rows") else []
    name = f"`{record['case']}`<br>{record['title']}" + (f" ({', '.join(data)})" if data else "")
    if record["ratio"] is None:
        reason = "failed" if "error" in record else "not available"
        return f"| {name} | {MISSING} | {peer} | {reason} | | | | |"
    unit = f" {record['unit']}" if record["unit"] else ""
    low, high = record["spread"]
    cells = [
        name,
        f"{number(record['tunesmith'])}{unit}",
        f"{peer}: {number(record['peer'])}{unit}",
        f"**{record['ratio']:.2f}** [{low:.2f}, {high:.2f}] of {record['repeats']}",
        _both(record.get("mfu"), lambda share: f"{share:.1%}"),
        _both(record.get("peak_memory_bytes"), lambda size: f"{size / 1e9:.2f} GB"),
        _both(record.get("warmup_seconds"), lambda seconds: f"{seconds:.1f} s"),
        _both(record.get("losses"), lambda loss: f"{loss:.3f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _both(pair: Mapping[str, Any] | None, show: Any) -> str:
    if not pair or (pair["tunesmith"] is None and pair["peer"] is None):
        return ""
    return " / ".join(MISSING if pair[side] is None else show(pair[side]) for side in ("tunesmith", "peer"))


def _remarks(record: Mapping[str, Any]) -> list[str]:
    name = f"`{record['case']}`"
    if "error" in record:
        return [f"{name} failed on the side of {record.get('side', 'both')}: {record['error']}"]
    if "unavailable" in record:
        return [f"{name} was not measured: {record['unavailable']}."]
    found = [f"{name}: {record['note']}."] if record.get("note") else []
    if record.get("loss_agrees") is False:
        share = record["loss_tolerance"]
        found.append(f"{name}: **mean losses differ by more than {share:.0%}**: this is no fair comparison.")
    if record.get("loss_fell") is False:
        found.append(f"{name}: the loss has not fallen yet on one side, so that little was learned in this time.")
    for reason in record.get("failures") or []:
        what = reason.get("error", reason.get("unavailable"))
        found += [f"{name}: a round was left out, which failed on the side of {reason['side']}: {what}"]
    if record.get("peer_setting"):
        found.append(f"{name}: the peer's best setting: {record['peer_setting']}.")
    if record.get("answers_agree") is False:
        found.append(f"{name}: only {record['same_answers']:.1%} of the answers are equal.")
    trained = record.get("num_trained") or {}
    if len({count for count in trained.values() if count}) > 1:
        found.append(f"{name}: trained parameters {trained['tunesmith']:,.0f} and {trained['peer']:,.0f}.")
    return found


def number(value: float) -> str:
    """Return a number with three or more significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def has_place(page: Path) -> bool:
    """Say whether a page has a place for the table."""
    _, start, after = page.read_text(encoding="utf-8").partition(START)
    return bool(start) and END in after


def update(page: Path, table: str) -> None:
    """Put the table between the page's markers; ``ValueError`` when it has none."""
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page} has no place for the table: {START} … {END}")
    page.write_text(f"{before}{START}\n\n{table.strip()}\n\n{END}{after}", encoding="utf-8")
