"""When ticks are due and which of them count: a node that stood still must not blame its leader.

A process can be stopped, swapped out, starved of its processor, or held up by a collection of
garbage. When it goes on, its clock has jumped, and it has not heard its leader for that long
because it could not hear anybody. So time is counted in ticks that the node has lived through:

-   a late tick counts once, however much time has passed, and missed ones are not made up for;
-   a tick that comes later than half an election timeout shows that the node *stood still*. It does
    not count at all, and the next one comes a full tick later: what waited on the sockets is taken
    in meanwhile, so that a follower has heard its leader before it can think of campaigning.

Never are two in a row left out: a node that is always late is slow, but it lives, and it is the
only one perhaps.

For a leader that stood still nothing is needed here: it serves no read without a new round, and a
later term makes it step down. No clock inside; all times are seconds of a monotonic one.
"""

from collections import deque

LAG_WINDOW_SECONDS = 10.0


class Pace:
    """The ticks of one node.

    >>> pace = Pace(tick_seconds=0.025, stall_seconds=0.25, now=100.0)
    >>> pace.tick(100.0), pace.next_at
    (True, 100.025)
    >>> pace.tick(102.0), pace.next_at, pace.has_stalled
    (False, 102.025, True)
    """

    def __init__(self, *, tick_seconds: float, stall_seconds: float, now: float) -> None:
        assert stall_seconds > tick_seconds, "a tick that is a little late is no stall"
        self._tick_seconds = tick_seconds
        self._stall_seconds = stall_seconds
        self._lags: deque[tuple[float, float]] = deque()
        self.next_at = now
        self.lag_seconds = 0.0
        """How late the last tick came."""
        self.has_stalled = False
        """Whether the last tick found that the node had stood still."""

    def tick(self, now: float) -> bool:
        """A tick has come; whether it counts. ``next_at`` says when the next one is due."""
        lag = self.lag_seconds = now - self.next_at
        self._lags.append((now, lag))
        while self._lags[0][0] < now - LAG_WINDOW_SECONDS:
            self._lags.popleft()
        self.has_stalled = lag >= self._stall_seconds and not self.has_stalled
        if self.has_stalled:
            self.next_at = now + self._tick_seconds
        else:
            self.next_at = max(self.next_at + self._tick_seconds, now)
        return not self.has_stalled

    @property
    def worst_lag_seconds(self) -> float:
        """The longest delay of a tick within the last ten seconds."""
        return max((lag for _, lag in self._lags), default=0.0)
