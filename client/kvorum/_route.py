"""The way to one group: what waits for it, and which link we believe leads there.

A route with a *target* sends to it. A *trusted* target gets everything: it has answered for the
group, or a node named it as the leader. An untrusted one gets a single call, the *probe*, until
it answers; so the search for a new leader costs one refused request a step, however many calls
wait. Without a target the route searches: one candidate after the other, round robin, every 10 to
20 ms.

Commands and linearizable queries of a group share a route, since both need its leader. Queries that
allow staleness have a route of their own, on which any replica is trusted.
"""

from collections import deque

from kvorum._call import CommandCall, QueryCall, Request
from kvorum._link import Link
from kvorum._session import Session

REDIRECTS_MAX = 3
"""Leader hints followed in a row before the route searches by itself."""


class Route:
    """Queues and aim of one group. Times are seconds."""

    __slots__ = (
        "aimed_at",
        "answered_at",
        "any_replica",
        "commands",
        "cursor",
        "group",
        "opening",
        "probe_sent_at",
        "queries",
        "redirects",
        "search_at",
        "session",
        "target",
        "trusted",
    )

    def __init__(self, group: int, *, any_replica: bool) -> None:
        self.group = group
        self.any_replica = any_replica
        self.commands: deque[CommandCall] = deque()
        self.queries: deque[QueryCall] = deque()
        self.session: Session | None = None
        self.opening: CommandCall | None = None
        self.target: Link | None = None
        self.trusted = False
        self.probe_sent_at = 0.0
        self.aimed_at = 0.0
        self.answered_at = 0.0
        self.search_at = 0.0
        self.redirects = 0
        self.cursor = 0

    def has_work(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self.commands or self.queries)

    def aim(self, link: Link, now: float, *, trusted: bool) -> None:
        """Sends to this link from now on."""
        self.target = link
        self.trusted = trusted or self.any_replica
        self.aimed_at = now
        self.probe_sent_at = 0.0

    def search(self, at: float) -> None:
        """Nobody to send to: look for somebody, not before then."""
        self.target = None
        self.trusted = False
        self.redirects = 0
        self.search_at = at

    def confirm(self, link: Link, now: float) -> None:
        """A link has answered for the group."""
        if link is self.target:
            self.trusted = True
            self.answered_at = now
            self.redirects = 0
        elif self.target is None or not self.trusted:
            self.aim(link, now, trusted=True)
            self.answered_at = now

    def requeue(self, calls: list[Request]) -> None:
        """Puts calls in front of their queues, keeping their order."""
        for call in reversed(calls):
            if call.queued:
                continue
            call.queued = True
            if isinstance(call, CommandCall):
                self.commands.appendleft(call)
            else:
                self.queries.appendleft(call)

    def silent(self, now: float, patience: float) -> bool:
        """Whether the target has said nothing for this long. The caller knows that it owes
        answers."""
        return now - max(self.aimed_at, self.answered_at) > patience


def requeue(calls: list[Request]) -> None:
    """Puts calls in front of the queues of their routes."""
    routes: dict[Route, list[Request]] = {}
    for call in calls:
        routes.setdefault(call.route, []).append(call)
    for route, its_calls in routes.items():
        route.requeue(its_calls)
