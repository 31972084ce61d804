"""All endpoints of a client, and which of them a route should try.

Three sources say who leads a group, in this order of trust: an answer from the leader itself, the
hint in a refusal, the partition table of a hello. The last two may be old, for after a leader's
death its followers name it until they have elected another. So hints to endpoints that are down
or silent are passed over, only a few are followed in a row, and then the route asks one endpoint
after the other.
"""

from collections.abc import Callable, Sequence

from kvorum._link import Link, LinkState
from kvorum._route import REDIRECTS_MAX, Route
from kvorum_proto.command_pb2 import Error

SEARCH_SECONDS = 0.010
"""A step of the search for a leader takes this long, and up to twice as long by jitter."""
PROBE_SECONDS = 0.250
"""How long an untrusted target may take to answer its probe, and an endpoint to be opened."""


class Directory:
    """The links, in the order in which they became known."""

    def __init__(self, addresses: Sequence[str], jitter: Callable[[], float]) -> None:
        assert addresses, "a client needs an endpoint"
        self._links = {address: Link(address) for address in addresses}
        self._jitter = jitter

    def addresses(self) -> tuple[str, ...]:
        """Every endpoint known."""
        return tuple(self._links)

    def link(self, address: str) -> Link:
        """The link to an address; new ones are learned."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link(address)
        return link

    def all_foreign(self) -> bool:
        """Whether every endpoint belongs to another cluster."""
        return all(link.state is LinkState.FOREIGN for link in self._links.values())

    def describe(self) -> str:
        """One line about all endpoints."""
        return "; ".join(link.describe() for link in self._links.values())

    def find_target(self, route: Route, hint: str, now: float) -> Link | None:
        """Aims a searching route at the next endpoint worth asking; None: all must rest a while."""
        assert route.target is None, "the route has a target"
        if self.suggest(route, hint, now):
            return route.target
        links = list(self._links.values())
        if route.any_replica:
            for link in links:
                if link.state is LinkState.READY and not link.suspect:
                    route.aim(link, now, trusted=True)
                    return link
        order = [(route.cursor + step) % len(links) for step in range(len(links))]
        # Those that were silent a moment ago come last: asking one costs the time of a probe.
        for position in sorted(order, key=lambda position: links[position].doubtful(now)):
            link = links[position]
            opening = link.state is LinkState.OPENING and now - link.changed_at < PROBE_SECONDS
            if opening or link.state is LinkState.READY or link.dialable(now):
                route.cursor = position + 1
                route.aim(link, now, trusted=False)
                return link
        resting = [link.retry_at for link in links if link.state is LinkState.IDLE]
        route.search_at = max(min(resting, default=0.0), now + SEARCH_SECONDS)
        return None

    def redirect(self, route: Route, link: Link, error: Error, now: float) -> None:
        """A link cannot serve the route: follow its hint, or search."""
        link.reason = error.message or "does not lead the group"
        if route.target is not None and route.target is not link:
            return
        if route.any_replica:
            self._rotate(route, link, now)
            return
        if error.leader and error.leader != link.address and route.redirects < REDIRECTS_MAX:
            route.redirects += 1
            if self.suggest(route, error.leader, now):
                return
        if route.target is link:
            route.search(now + SEARCH_SECONDS * (1 + self._jitter()))

    def suggest(self, route: Route, address: str, now: float) -> bool:
        """Somebody names the leader: aims the route there, unless it is down or silent."""
        if not address or route.any_replica:
            return False
        leader = self.link(address)
        awake = leader.state in (LinkState.READY, LinkState.OPENING) or leader.dialable(now)
        if leader.suspect or not awake:
            return False
        route.aim(leader, now, trusted=True)
        return True

    def _rotate(self, route: Route, link: Link, now: float) -> None:
        """Any replica may answer, this one did not: the next one that can be asked."""
        links = list(self._links.values())
        after = links.index(link) + 1
        for other in links[after:] + links[: after - 1]:
            if other.state is LinkState.READY or other.dialable(now):
                route.aim(other, now, trusted=True)
                return
