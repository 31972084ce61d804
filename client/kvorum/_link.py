"""One endpoint as the dispatcher sees it: its stream, what travels there, when to dial again.

A link is IDLE, OPENING or READY; FOREIGN is final: the node belongs to another cluster. A link
that is READY but owes answers is *suspect*: a stopped process or a dead cable looks exactly like
that, and only a word from the other side clears it.
"""

import enum

from kvorum._call import Request

RETRY_MIN, RETRY_MAX = 0.010, 1.0
"""Bounds of the pause before an endpoint is dialled again, seconds."""
DOUBT_SECONDS = 1.0
"""How long a search asks everybody else before an endpoint that was silent."""


def backoff(attempts: int, jitter: float) -> float:
    """Full jitter: anything up to a bound that doubles with each attempt.

    >>> backoff(1, 1.0), backoff(3, 0.5), backoff(40, 1.0)
    (0.02, 0.04, 1.0)
    """
    assert attempts >= 0, "attempts are counted from 0"
    return min(RETRY_MAX, RETRY_MIN * (1 << min(attempts, 10))) * jitter


class LinkState(enum.Enum):
    """Where a link is in its life."""

    IDLE = enum.auto()
    OPENING = enum.auto()
    READY = enum.auto()
    FOREIGN = enum.auto()


class Link:
    """One endpoint. Invariant: only a READY link carries calls."""

    __slots__ = (
        "address",
        "changed_at",
        "congested",
        "doubted_until",
        "failures",
        "in_flight",
        "last_id",
        "reason",
        "retry_at",
        "state",
        "suspect",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.state = LinkState.IDLE
        self.changed_at = 0.0
        self.retry_at = 0.0
        self.failures = 0
        self.suspect = False
        self.doubted_until = 0.0
        self.congested = False
        self.reason = ""
        self.last_id = 0
        self.in_flight: dict[int, Request] = {}

    def __repr__(self) -> str:
        return f"<Link {self.address} {self.state.name}>"

    def dialable(self, now: float) -> bool:
        """Whether a stream may be opened now."""
        return self.state is LinkState.IDLE and self.retry_at <= now

    def doubt(self, now: float) -> None:
        """The node owes answers and has been silent for too long."""
        assert self.state is LinkState.READY, f"{self!r} owes nothing"
        self.suspect = True
        self.doubted_until = now + DOUBT_SECONDS

    def doubtful(self, now: float) -> bool:
        """Whether anybody else should be asked first. Not for ever: an answer may be lost."""
        return self.suspect and now < self.doubted_until

    def become_opening(self, now: float) -> None:
        """Somebody dials."""
        assert self.dialable(now), f"{self!r} must not be dialled now"
        self.state = LinkState.OPENING
        self.changed_at = now

    def become_ready(self, now: float) -> None:
        """The node has said hello."""
        assert self.state is LinkState.OPENING, f"{self!r} was not being opened"
        assert not self.in_flight, "nothing travels before the hello"
        self.state = LinkState.READY
        self.changed_at = now
        self.failures = 0
        self.suspect = False
        self.reason = ""

    def become_foreign(self, reason: str) -> None:
        """The node belongs to another cluster."""
        assert self.state is LinkState.OPENING, "only a hello tells"
        self.state = LinkState.FOREIGN
        self.reason = reason

    def become_idle(self, reason: str, now: float, jitter: float) -> list[Request]:
        """The stream broke or never stood; gives back what it carried, oldest first."""
        assert self.state in (LinkState.OPENING, LinkState.READY), f"{self!r} had no stream"
        self.state = LinkState.IDLE
        self.changed_at = now
        self.retry_at = now + backoff(self.failures, jitter)
        self.failures += 1
        self.suspect = False
        self.reason = reason
        lost = list(self.in_flight.values())
        self.in_flight = {}
        return lost

    def describe(self) -> str:
        """One clause for an error message."""
        match self.state:
            case LinkState.READY if self.suspect:
                return f"{self.address} does not answer"
            case LinkState.READY:
                return f"{self.address} {self.reason or 'connected'}"
            case LinkState.OPENING:
                return f"{self.address} {self.reason or 'has not answered yet'}"
            case LinkState.IDLE | LinkState.FOREIGN:
                return f"{self.address} {self.reason or 'was not tried'}"
