"""From repeated measurements to the figures of a case."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import flops
from benchmarks.cases import EXPONENT, TOKENS, Case

LOSS_TOLERANCE = 0.05
"""Mean losses of two trainings on the same rows agree when they differ by no more than this share of the larger one."""
SAME_ANSWERS = 0.98
"""Share of equal answers from which predictions agree (bf16 rounds differently in different orders)."""

FAILURES = frozenset({"error", "unavailable"})
"""What a child's answer has in the place of figures."""

Round = dict[str, dict[str, Any]]
"""What each child returned in one round, and the rates of ``gemm``."""


def paired_ratios(values: Sequence[float], references: Sequence[float], *, higher_is_better: bool) -> list[float]:
    """Return, round by round, how many times better ``values`` are."""
    pairs = zip(values, references, strict=True)
    return [(value / reference if higher_is_better else reference / value) for value, reference in pairs]


def exponent(points: Sequence[Sequence[float]]) -> float:
    """Return the slope of a straight line through the points (x, y) in logarithms, by least squares."""
    logs = [(math.log(x), math.log(y)) for x, y, *_ in points]
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


def losses_agree(one: float, other: float) -> bool:
    return abs(one - other) <= LOSS_TOLERANCE * max(abs(one), abs(other))


def case_record(case: Case, rounds: Sequence[Round], facts: dict[str, Any]) -> dict[str, Any]:
    """Return a case's figures over all rounds in which both sides finished, or why there are none."""
    record: dict[str, Any] = {"case": case.name, "title": case.title, "peer_name": case.peer_name}
    record |= {"unit": case.measure.unit, "note": case.note, "data": facts.get("source", "")}
    record["num_rows"] = facts.get("num_rows")
    record |= {"tunesmith": None, "peer": None, "ratio": None}
    sides = [case.ours, *([case.peer] if case.peer else [])]
    done = [found for found in rounds if all(side in found and not FAILURES & found[side].keys() for side in sides)]
    record["failures"] = [reason for found in rounds if (reason := _failure(case, found))]
    if not done:
        return {**record, **(record["failures"][0] if record["failures"] else {"error": "not measured"})}
    if case.measure is EXPONENT:
        return {**record, **_exponents(case, done, facts)}
    values = [float(found[case.ours][case.measure.key]) for found in done]
    references = [_reference(case, found) for found in done]
    ratios = paired_ratios(values, references, higher_is_better=case.measure.higher_is_better)
    record |= {
        "tunesmith": statistics.median(values),
        "peer": statistics.median(references),
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "repeats": len(done),
    }
    for key in ("peak_memory_bytes", "baseline_memory_bytes", "first_step_seconds", "num_trained", "precision"):
        record[key] = _of_both(case, done, key)
    record["warmup_seconds"] = record.pop("first_step_seconds")
    if case.measure is TOKENS and "num_weights" in facts and case.compare == "loss":
        record["tokens_per_second"] = {"tunesmith": record["tunesmith"], "peer": record["peer"]}
        record["mfu"] = _utilisation(case, done, facts)
    return {**record, **_agreement(case, done)}


def _failure(case: Case, found: Round) -> dict[str, str]:
    """Return why a round has no figures of the case, and on whose side; empty where it has."""
    for side, name in ((case.ours, "tunesmith"), (case.peer, "peer")):
        for key in FAILURES & found.get(side, {}).keys():
            return {key: found[side][key], "side": name}
    return {}


def _reference(case: Case, found: Round) -> float:
    if not case.peer:
        assert case.limit is not None, case.name
        return case.limit
    result = found[case.peer]
    # The peer's process is its command: what counts of it is the time up to its first step.
    key = "first_step_seconds" if case.name == "first-step" else case.measure.key
    return float(result[key])


def _of_both(case: Case, rounds: Sequence[Round], key: str) -> dict[str, Any]:
    """Return the median over rounds (or the one value, if it is no number) of both sides."""
    found: dict[str, Any] = {}
    for name, side in (("tunesmith", case.ours), ("peer", case.peer)):
        values = [result[side].get(key) for result in rounds if side in result]
        known = [value for value in values if value is not None]
        is_number = all(isinstance(value, (int, float)) for value in known)
        found[name] = None if not known else statistics.median(known) if is_number else known[0]
    return found


def _utilisation(case: Case, rounds: Sequence[Round], facts: dict[str, Any]) -> dict[str, float | None]:
    shape = flops.Shape.of(facts)
    found: dict[str, float | None] = {}
    for name, side in (("tunesmith", case.ours), ("peer", case.peer)):
        shares = []
        for result in rounds:
            measured, rates = result[side], result.get("gemm", {})
            num_trained = int(measured.get("num_trained") or result[case.ours].get("num_trained") or 0)
            rate = rates.get("bf16" if "bf16" in str(measured.get("precision")) else "fp32")
            if rate:
                per_token = flops.training(shape, facts["method"], num_trained)
                shares.append(flops.utilisation(measured["tokens_per_second"], per_token, rate))
        found[name] = statistics.median(shares) if shares else None
    return found


def _agreement(case: Case, rounds: Sequence[Round]) -> dict[str, Any]:
    if case.compare == "loss":
        losses, first, final = (_of_both(case, rounds, key) for key in ("mean_loss", "first_loss", "final_loss"))
        fell = [final[side] < first[side] for side in final if None not in (first[side], final[side])]
        return {
            "losses": losses,
            "first_losses": first,
            "final_losses": final,
            "loss_agrees": losses_agree(losses["tunesmith"], losses["peer"]),
            "loss_tolerance": LOSS_TOLERANCE,
            "loss_fell": all(fell),
        }
    if case.compare == "answers":
        ours, theirs = (rounds[-1][side]["answers"] for side in (case.ours, case.peer))
        equal = [one == other for one, other in zip(ours, theirs, strict=True)]
        setting = rounds[-1][case.peer].get("setting", "")
        return {"same_answers": sum(equal) / len(equal), "answers_agree": _agree(equal), "peer_setting": setting}
    return {}


def _agree(equal: Sequence[bool]) -> bool:
    return sum(equal) >= SAME_ANSWERS * len(equal)


def _exponents(case: Case, rounds: Sequence[Round], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the exponents of measured cost and of the reference; see the notes of the two cases."""
    num_points = len(rounds[0][case.ours]["points"])
    points = []
    for index in range(num_points):
        size, _, tokens, num_rows = rounds[0][case.ours]["points"][index]
        seconds = statistics.median(found[case.ours]["points"][index][1] for found in rounds)
        points.append([size, seconds if case.limit is not None else seconds / num_rows, tokens, num_rows])
    measured = exponent(points)
    if case.limit is not None:
        expected = case.limit
    else:
        sizes = [point[0] for point in points]
        operations = [flops.full(_with_length(facts, size)) * size for size in sizes]
        expected = exponent(list(zip(sizes, operations, strict=True)))
    each = [
        exponent([[x, y / (1 if case.limit is not None else rows)] for x, y, _, rows in found[case.ours]["points"]])
        for found in rounds
    ]
    spread = [expected / max(each), expected / min(each)]
    return {
        "tunesmith": measured,
        "peer": expected,
        "ratio": expected / measured,
        "spread": spread,
        "points": points,
        "repeats": len(rounds),
    }


def _with_length(facts: dict[str, Any], length: int) -> flops.Shape:
    return flops.Shape.of({**facts, "attended_length": length, "labelled_share": 0.0})
