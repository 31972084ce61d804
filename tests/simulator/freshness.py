"""Who was told an old state? Every answer carries its group's revision; nobody may be sent back.

*   A linearizable operation shows at least the newest revision that anybody had been told before it
    began. That follows from linearizability; this check is kept beside it because it is cheap and
    names both operations, the one that was too old and the one that proves it.
*   So no client sees a revision fall between two such operations, one after the other.
*   A read that allows so much staleness shows at least the newest revision that anybody had been
    told that long before it began. Time is virtual time; a node measures with its own clock, which
    a seed may let drift, so the bound is stretched by as much.
*   A stale read without a bound may show anything that ever was; ``witness.py`` sees to that.
"""

from bisect import bisect_left
from collections.abc import Sequence

from tests.simulator.checkers import require
from tests.simulator.linearizability import Call
from tests.simulator.model import revision_of
from tests.simulator.scheduler import MILLISECOND

CLOCK_GRAIN = 2 * MILLISECOND
"""Nodes count whole milliseconds, at both ends of what they measure."""


def check_freshness(history: Sequence[Call], *, clock_drift: float) -> None:
    """Raises Violation for an answer older than what had been told. ``clock_drift`` 0.1: the clock
    of a node may run up to a tenth too slow."""
    told = sorted(
        (call.end, revision_of(call.outcome) or 0, number)
        for number, call in enumerate(history)
        if call.outcome is not None and call.staleness is None
    )
    ends = [end for end, _, _ in told]
    newest: list[tuple[int, int]] = []
    """The largest revision told up to each end, and by which call."""
    for _, revision, number in told:
        best = newest[-1] if newest else (0, number)
        newest.append(max(best, (revision, number), key=lambda pair: pair[0]))
    for call in history:
        shown = None if call.outcome is None else revision_of(call.outcome)
        if shown is None or call.staleness == 0:
            continue
        allowance = 0
        if call.staleness is not None:
            allowance = int(call.staleness / (1 - clock_drift)) + CLOCK_GRAIN
        position = bisect_left(ends, call.begin - allowance) - 1
        if position < 0:
            continue
        floor, number = newest[position]
        require(
            shown >= floor,
            f"too old by more than {allowance / MILLISECOND:g} ms: {call}\n"
            f"shows revision {shown}; {floor} had been told by {history[number]}",
        )
