"""What a leader knows of one follower, and how fast it may send to it.

    PROBE ------ a request was accepted ------> REPLICATE
      ^  <----- a request was refused ---------   |
      |                                           |
      +-- failed --  SNAPSHOT  <-- needs entries that are cut (from either)

*PROBE*: where the logs agree is a guess; one request at a time tests it, repeated with each
heartbeat answer in case it was lost. *REPLICATE*: the guess holds; requests are pipelined,
``next_index`` runs ahead of the answers, at most ``append_inflight_max`` requests are under way.
*SNAPSHOT*: nothing can be sent from the log until the snapshot is installed.

``matched`` is a promise of the follower, bound to the leader's term: durable there, and equal to
our log. It never falls, whatever is lost, repeated or overtaken on the way, and ``next_index``
never falls to it or below.
"""

import enum
from collections import deque
from dataclasses import dataclass, field


class ProgressState(enum.Enum):
    """How a follower is fed."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """One follower of a leader, for the leader's term."""

    next_index: int
    """The first entry of the next request."""
    heard_at: int
    """The leader's tick at which the follower was last heard of."""
    matched: int = 0
    state: ProgressState = ProgressState.PROBE
    probing: bool = False
    """PROBE only: the request that tests the guess is under way."""
    inflight: deque[int] = field(default_factory=deque)
    """REPLICATE only: the last index of every request under way, ascending."""
    told_commit: int = 0
    """The commit index that the follower has learned if nothing was lost."""
    sent_at: int = 0
    """The follower's own time in its newest heartbeat answer."""
    asked_at: int = 0
    """What ``sent_at`` was when the read round under way began."""
    vouched_at: int = 0
    """What it was when the last confirmed round began: we led at that time or later."""
    disk_full: bool = False

    def may_send(self, inflight_max: int) -> bool:
        """Whether another request may go out now."""
        match self.state:
            case ProgressState.PROBE:
                return not self.probing
            case ProgressState.REPLICATE:
                return len(self.inflight) < inflight_max
            case ProgressState.SNAPSHOT:
                return False

    def sent(self, last_index: int) -> None:
        """A request with entries up to ``last_index`` has gone out (none: ``next_index - 1``)."""
        assert self.state is not ProgressState.SNAPSHOT, "nothing is sent during a snapshot"
        assert last_index >= self.next_index - 1, "requests go forward"
        if self.state is ProgressState.PROBE:
            self.probing = True
        else:
            self.next_index = last_index + 1
            self.inflight.append(last_index)

    def accepted(self, matched: int, log_start: int) -> bool:
        """The follower holds everything up to ``matched``: is that news?

        News or the answer to the probe moves on to REPLICATE, unless the entries that follow are
        cut.
        """
        news = matched > self.matched
        if not news and not (matched == self.matched and self.state is ProgressState.PROBE):
            return False
        self.matched = matched
        self.next_index = max(self.next_index, matched + 1)
        while self.inflight and self.inflight[0] <= matched:
            self.inflight.popleft()
        if self.state is not ProgressState.REPLICATE and matched >= log_start:
            self._become(ProgressState.REPLICATE)
            self.next_index = matched + 1
        assert self.matched < self.next_index, "what is matched is not sent again"
        return news

    def refused(self, refused_index: int, agreement: int) -> None:
        """The request after ``refused_index`` did not fit; the logs may agree at ``agreement``.

        An old refusal is recognised: everything up to ``matched`` fits, and a probe has one answer.
        """
        match self.state:
            case ProgressState.PROBE:
                stale = refused_index != self.next_index - 1
            case ProgressState.REPLICATE:
                stale = refused_index <= self.matched
            case ProgressState.SNAPSHOT:
                stale = True
        if not stale:
            self.become_probe(max(self.matched, min(refused_index - 1, agreement)) + 1)

    def become_probe(self, next_index: int) -> None:
        """Looks for the place where the logs agree; ``next_index`` is the next guess."""
        assert next_index > self.matched, "the guess never goes back behind what is known"
        self._become(ProgressState.PROBE)
        self.next_index = next_index

    def become_snapshot(self) -> None:
        """The follower needs entries that are cut: it waits for a snapshot."""
        assert self.state is not ProgressState.SNAPSHOT, "one snapshot at a time"
        self._become(ProgressState.SNAPSHOT)

    def _become(self, state: ProgressState) -> None:
        self.state = state
        self.probing = False
        self.inflight.clear()

    def check_invariants(self) -> None:
        """Raises AssertionError when the progress contradicts itself."""
        assert self.matched < self.next_index
        assert list(self.inflight) == sorted(self.inflight), "requests go forward"
        assert not self.inflight or self.state is ProgressState.REPLICATE
        assert not self.inflight or self.matched < self.inflight[0]
        assert not self.probing or self.state is ProgressState.PROBE
