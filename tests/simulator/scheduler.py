"""Virtual time: a heap of things to do, and the only clock of a simulation.

Nothing in a simulation waits. What has to happen later is put here with a delay; the scheduler
jumps from one instant to the next, so that seconds of a cluster's life cost milliseconds. Two
things that fall on the same instant happen in the order in which they were asked for: with the
same seed the same things happen in the same order, always.

Times are integers of microseconds since the start of the simulation.
"""

import heapq
from collections.abc import Callable

Action = Callable[[], None]

MILLISECOND = 1000
SECOND = 1000 * MILLISECOND


class Scheduler:
    """Runs actions in the order of their instants.

    >>> scheduler = Scheduler()
    >>> seen = []
    >>> scheduler.after(30, lambda: seen.append(("late", scheduler.now)))
    >>> scheduler.after(10, lambda: seen.append(("early", scheduler.now)))
    >>> scheduler.run(until=20)
    >>> seen, scheduler.now
    ([('early', 10)], 20)
    """

    __slots__ = ("_asked", "_heap", "now")

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._asked = 0

    def after(self, delay: int, action: Action) -> None:
        """Runs ``action`` after ``delay`` microseconds; 0: at this instant, after the others."""
        assert delay >= 0, f"time does not run backwards: {delay}"
        self._asked += 1
        heapq.heappush(self._heap, (self.now + delay, self._asked, action))

    def run(self, until: int) -> None:
        """Runs everything that is due up to the instant ``until`` and stops there."""
        assert until >= self.now
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = until
