"""The tables of docs/contests.md, from the records of contests that were held.

python -m benchmarks.contest_tables STUDY [STUDY ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.readable import MISSING, compact, duration, number, size

COLUMNS = "| Method | {metric} | Beside {reference} | Verdict | Rate | Time | Peak memory | Trained | Latency |"
RULE = "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, help="folders of contests")
    for folder in parser.parse_args().studies:
        record = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        print("\n".join([f"## {folder.name}", "", *lines(record), ""]))


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of methods, the rates that were tried, and what is forgotten where that was measured."""
    yield f"**{record['verdict']}**"
    yield ""
    if record.get("recommended"):
        yield record["recommended"]["reason"]
        yield ""
    yield COLUMNS.format(metric=record["metric"], reference=record["reference"])
    yield RULE
    against = {one["method"]: one for one in record["comparisons"] if one["reference"] == record["reference"]}
    better_first = sorted(
        (one for one in record["methods"] if one["low"] is not None),
        key=lambda one: -one["mean"] if record["higher_is_better"] else one["mean"],
    )
    for one in better_first:
        yield row(one, against.get(one["name"]))
    for one in record["methods"]:
        if one["low"] is None:
            yield f"| `{one['name']}` | {one['state']}: {one['reason']} |"
    yield ""
    yield from rates(record)
    yield from forgotten(record)


def row(one: Mapping[str, Any], compared: Mapping[str, Any] | None) -> str:
    against, verdict = MISSING, MISSING
    if compared is not None:
        against = f"{compared['difference']:+.3f} [{compared['low']:+.3f}, {compared['high']:+.3f}]"
        verdict = compared["verdict"]
    cells = [
        f"`{one['name']}`",
        f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]",
        against,
        verdict,
        MISSING if one["learning_rate"] is None else f"{one['learning_rate']:.2g}",
        MISSING if one.get("seconds") is None else duration(one["seconds"]),
        MISSING if one.get("peak_memory") is None else size(one["peak_memory"]),
        MISSING if one.get("trained_parameters") is None else compact(one["trained_parameters"]),
        MISSING if one.get("latency") is None else f"{number(1000 * one['latency'])} ms",
    ]
    return "| " + " | ".join(cells) + " |"


def rates(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rates by their place beside the default, what the validation rows said and how far it went."""
    yield f"Rates tried, each with {record['tuned_by']} on the validation rows (* followed to the end):"
    yield ""
    for method in dict.fromkeys(one["method"] for one in record["tuning"]):
        own: dict[float, Mapping[str, Any]] = {
            one["learning_rate"]: one for one in record["tuning"] if one["method"] == method
        }
        shown = [
            f"{rate:.2g}: {MISSING if one['value'] is None else format(one['value'], '.3f')}"
            f"{'*' if one['stage'] == 'whole' else ''}"
            for rate, one in sorted(own.items())
        ]
        yield f"- `{method}` {', '.join(shown)}"


def forgotten(record: Mapping[str, Any]) -> Iterator[str]:
    known = [one for one in record["methods"] if one.get("forgetting")]
    if known:
        yield ""
        yield "| Method | Loss on general text before | After | Growth |"
        yield "| --- | ---: | ---: | ---: |"
    for one in known:
        lost = one["forgetting"]
        interval = f"{lost['difference']:+.3f} [{lost['low']:+.3f}, {lost['high']:+.3f}]"
        yield f"| `{one['name']}` | {lost['before']:.3f} | {lost['after']:.3f} | {interval} |"


if __name__ == "__main__":
    main()
