"""The table of ``tunesmith plan --machine``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.readable import compact, count, duration, number, percent, size

if TYPE_CHECKING:
    from tunesmith.study.costs.cluster_plan import Choice, ClusterPlan

WORDS = {
    "products": "arithmetic",
    "memory": "memory bandwidth",
    "queueing": "the program that queues work",
    "exchange": "exchange between devices",
}


def show_cluster_plan(plan: ClusterPlan) -> None:
    """Print what methods take on the machines, and what the figures stand on."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say

    has_price = any(one.price is not None for one in plan.choices)
    headers = ["method", "parallel", "fits", "time", *(["price"] if has_price else [])]
    table = new_table(headers=[*headers, "step", "tokens/s", "memory", "trained", "MFU", "most of it"])
    for one in plan.choices:
        table.add_row(*_cells(one, has_price=has_price))
    say(
        f"{plan.machines}; {plan.model}, {compact(plan.num_weights)} weights; {count(plan.steps)} steps of "
        f"{count(plan.rows.rows)} rows of {plan.rows.length:.0f} tokens"
    )
    print_table(stdout_console(), table)
    for one in plan.choices:
        if one.reason:
            say(f"{one.method}, {one.parallel}: {one.reason}.")
    for problem in plan.notes:
        say(str(problem), dim=True)
    say("By arithmetic from published figures, and not tried: docs/scale.md says how far off that is.", dim=True)


def _cells(one: Choice, *, has_price: bool) -> list[str]:
    step = one.step
    if step is None:
        return [one.method, "", "no", *[""] * (8 if has_price else 7)]
    fits = ("recomputed" if step.recomputes else "yes") if one.fits else "no"
    price = [number(one.price, decimals=2)] if has_price else []
    return [
        one.method,
        one.parallel,
        fits,
        duration(one.seconds),
        *price,
        duration(step.seconds),
        count(round(step.tokens_per_second)),
        size(step.bytes_needed),
        compact(one.trained),
        percent(one.mfu),
        WORDS[step.bound_by],
    ]
