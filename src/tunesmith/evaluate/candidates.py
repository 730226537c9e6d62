"""Which methods of a contest may be the best one.

The highest mean of a contest is in part luck, and others lie so near that nobody can tell. What can be told is who is
*not* the best: a method is ruled out where the one of the highest mean is better than it by a one-sided test at
(1 - confidence) / (number of the others). In at least ``confidence`` of contests the truly best method is among those
that are left, whichever came out highest (subset selection, Gupta 1965; comparisons with the best, Hsu 1984, with
Bonferroni's bound in the place of Dunnett's quantile).
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.evaluate.comparisons import Comparison, Terms


def may_be_best(beside_highest: Sequence[Comparison], terms: Terms) -> list[str]:
    """Return the names of the methods that are not ruled out, in the order given.

    Args:
        beside_highest: Every other method compared with the one of the highest mean (the lowest, where less is better).
        terms: What they were compared by, the confidence among it.
    """
    error = terms.error / max(1, len(beside_highest))
    return [one.method for one in beside_highest if not one.p_alone / 2 < error]
