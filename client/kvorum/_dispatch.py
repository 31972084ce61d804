"""The whole life of a client, without sockets and clock: calls in, frames out.

The shell feeds what happens (a call, an opened or broken stream, a frame, the passing of time)
and drains what has to be done (frames to write, links to open). Everything that decides what is
sent where, when again, and what a caller is told at the end is here and in the modules below it
(``_route``, ``_link``, ``_call``, ``_session``, ``_directory``), so tests and simulators drive the
very object that runs in production.

Invariants:

* a live call is queued in its route, rests in ``_resting``, or has a carrier;
* a command is sent under one (session, sequence) for ever, or under none;
* a write that may have been applied ends with its answer or with UnknownOutcome, nothing else;
* what is settled leaves ``_live`` at once; queues and carriers drop it when they come across it.

Deadlines are looked at every 50 ms for all calls together: a timer per call would cost more than
the call. A route whose target owes an answer for half a second and has given none since is turned
to other endpoints: a stopped process looks like a slow one, and asking twice is harmless (same
sequence).

``now`` is seconds of a monotonic clock; ``jitter`` gives numbers of [0, 1).
"""

import heapq
from collections.abc import Callable, Iterator, Sequence

from kvorum._call import (
    CommandCall,
    Outcome,
    Request,
    answer_lost,
    failure_at_deadline,
)
from kvorum._directory import PROBE_SECONDS, Directory
from kvorum._errors import (
    Busy,
    DeadlineExceeded,
    KvorumError,
    LimitExceeded,
    Unavailable,
    UnknownOutcome,
    WrongCluster,
    from_wire,
)
from kvorum._frames import next_frame
from kvorum._link import Link, LinkState, backoff
from kvorum._results import SESSION_OPEN, OpenedSession
from kvorum._route import Route, requeue
from kvorum._routing import RoutingTable
from kvorum._session import Session
from kvorum_proto import command_pb2 as wire
from kvorum_proto.kv_pb2 import ServerFrame, ServerHello

REQUEST_BYTES_MAX = 2 << 20
PENDING_CALLS_MAX = 65_536
SESSION_WINDOW_MAX = 4096
SWEEP_SECONDS = 0.050
SILENCE_SECONDS = 0.5
"""How long a leader that owes answers may say nothing: the shortest election timeout of a cluster
with default options, before which there can be no other leader to ask."""

CONTACT_GROUP = -1
"""Calls on this route are never sent: the first hello of any node settles them."""


class ProtocolViolation(Exception):
    """A node answered with something that was not asked for; its stream must end."""


class Dispatcher:
    """Calls in, frames out. Not thread-safe; belongs to one event loop."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        jitter: Callable[[], float],
        cluster_id: bytes = b"",
        sessions: bool = True,
    ) -> None:
        self._directory = Directory(addresses, jitter)
        self._jitter = jitter
        self._sessions = sessions
        self._routes: dict[tuple[int, bool], Route] = {}
        self._live: set[Request] = set()
        self._resting: list[tuple[float, int, Request]] = []
        self._rests = 0
        self._to_open: list[Link] = []
        self._next_sweep = 0.0
        self._wrong_cluster = ""
        self.cluster_id = cluster_id
        self.table: RoutingTable | None = None
        self._leaders: dict[int, str] = {}
        self.contact = self.route(CONTACT_GROUP, any_replica=True)

    # --- What the shell asks ---

    def route(self, group: int, *, any_replica: bool = False) -> Route:
        """The route to a group; ``any_replica`` for reads that allow staleness."""
        key = (group, any_replica)
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(group, any_replica=any_replica)
        return route

    def addresses(self) -> tuple[str, ...]:
        """Every endpoint known: those given and those that the cluster named."""
        return self._directory.addresses()

    def leader_of(self, group: int) -> str:
        """The address that commands of a group are sent to, or would be; empty when unknown."""
        route = self._routes.get((group, False))
        if route is not None and route.target is not None:
            return route.target.address
        return self._leaders.get(group, "")

    def open_sessions(self) -> list[tuple[Route, Session]]:
        """What a client that says goodbye should close."""
        return [(route, route.session) for route in self._routes.values() if route.session]

    def links_to_open(self) -> list[Link]:
        """The endpoints to dial now; each must be answered with ``opened`` or ``broken``."""
        links, self._to_open = self._to_open, []
        return links

    def wake_at(self) -> float | None:
        """When ``tick`` and ``flush`` are due if nothing happens before; None = never."""
        if not self._live:
            return None
        wake = self._next_sweep
        if self._resting:
            wake = min(wake, self._resting[0][0])
        for route in self._routes.values():
            if route.target is None and route.has_work():
                wake = min(wake, route.search_at)
        return wake

    def describe(self) -> str:
        """One line about all endpoints."""
        return self._directory.describe()

    # --- Calls ---

    def submit(self, call: Request) -> None:
        """Queues a call for ``flush``. Raises Busy (too many are pending) and WrongCluster."""
        if self._wrong_cluster:
            raise WrongCluster(self._wrong_cluster)
        live = self._live
        if len(live) >= PENDING_CALLS_MAX:
            raise Busy(f"{PENDING_CALLS_MAX} calls are pending in this client; await some of them")
        live.add(call)
        call.queued = True
        if isinstance(call, CommandCall):
            call.route.commands.append(call)
        else:
            call.route.queries.append(call)

    def give_up(self, call: Request) -> None:
        """Nobody waits for the call any more; a copy may be on its way all the same."""
        self._live.discard(call)
        if isinstance(call, CommandCall) and call.session is not None:
            call.session.finish(call.sequence)

    def abandon(self, error: KvorumError) -> None:
        """The client closes: settles every call, UnknownOutcome for writes that may be applied."""
        for call in list(self._live):
            if isinstance(call, CommandCall) and call.maybe_applied:
                self._fail(call, answer_lost(call, "the client was closed"))
            else:
                self._fail(call, error)
        assert not self._live, "a closed client has no calls"

    # --- What happens ---

    def opened(self, link: Link, hello: ServerHello, now: float) -> str:
        """A node has said hello; not empty: why its stream must be dropped."""
        if not hello.cluster_id:
            return "is not part of a complete cluster yet"
        if self.cluster_id and hello.cluster_id != self.cluster_id:
            link.become_foreign(
                f"belongs to cluster {hello.cluster_id.hex()}, not {self.cluster_id.hex()}"
            )
            self._drop_target(link, now)
            if self._directory.all_foreign():
                self._wrong_cluster = f"check the endpoints: {self.describe()}"
                for call in list(self._live):
                    self._fail(call, WrongCluster(self._wrong_cluster))
            return link.reason
        self.cluster_id = hello.cluster_id
        known = self.table.version if self.table is not None else -1
        if hello.table.partitions and hello.table.version > known:
            self.table = RoutingTable(hello.table)
        if self.table is None:
            return "is not part of a complete cluster yet"
        link.become_ready(now)
        named = self._learn(hello)
        for call in self.contact.queries:
            self._succeed(call, None)
        self.contact.queries.clear()
        for route in self._routes.values():
            if not route.trusted and not route.probe_sent_at:
                self._directory.suggest(route, named.get(route.group, ""), now)
            if route.target is None and route.has_work():
                route.search_at = now
        return ""

    def _learn(self, hello: ServerHello) -> dict[int, str]:
        """Addresses of nodes, and of the leaders of groups, as a node knows them now."""
        for address in hello.addresses:
            self._directory.link(address)
        named = {part.group: part.leader for part in hello.table.partitions if part.leader}
        self._leaders.update(named)
        return named

    def broken(self, link: Link, reason: str, now: float) -> None:
        """A stream ended, or could not be opened."""
        lost = link.become_idle(reason, now, self._jitter())
        self._drop_target(link, now)
        again: list[Request] = []
        for call in lost:
            call.drop_carrier(link)
            if call.promise.done():
                continue
            if isinstance(call, CommandCall):
                call.uncertain = True
                if not call.repeatable:
                    self._fail(call, answer_lost(call, f"no session, {link.describe()}"))
                    continue
            again.append(call)
        requeue(again)

    def received(self, link: Link, frame: ServerFrame, now: float) -> None:
        """Answers, and news. Raises ProtocolViolation when one is no answer to what was asked."""
        link.suspect = False
        if frame.HasField("hello"):
            self._learn(frame.hello)
        in_flight = link.in_flight
        live = self._live
        for replies in frame.replies:
            if len(replies.ids) != len(replies.results):
                raise ProtocolViolation("answered with more or fewer results than ids")
            again: list[Request] = []
            served: set[Route] = set()
            for number, result in zip(replies.ids, replies.results, strict=True):
                call = in_flight.pop(number, None)
                if call is None:
                    raise ProtocolViolation(f"answered request {number}, which was never sent")
                arm = result.WhichOneof("result")
                if arm == call.arm:
                    served.add(call.route)
                    promise = call.promise
                    if not promise.done():
                        promise.set_result(call.decode(result))
                        live.discard(call)
                        if type(call) is CommandCall and call.session is not None:
                            call.session.answered(call.sequence, call.sent_at)
                    continue
                if arm != "error":
                    raise ProtocolViolation(f"answered {call.arm} with {arm}")
                call.drop_carrier(link)
                if self._refused(call, link, result.error, now):
                    again.append(call)
            requeue(again)
            for route in served:
                route.confirm(link, now)
                if route.opening is not None and route.opening.promise.done():
                    self._session_opened(route)

    def tick(self, now: float) -> None:
        """Time has passed: wakes resting calls, sweeps deadlines, doubts silent targets."""
        resting = self._resting
        while resting and resting[0][0] <= now:
            call = heapq.heappop(resting)[2]
            if not call.promise.done():
                call.route.requeue([call])
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_SECONDS
        overdue: list[Request] = []
        unanswered: set[Route] = set()
        for call in self._live:
            if call.deadline <= now:
                overdue.append(call)
            route = call.route
            if route.target in call.carriers and now - call.sent_at > _patience(route):
                unanswered.add(route)
        for call in overdue:
            target = call.route.target
            reachable = (
                call.route.trusted and target is not None and target.state is LinkState.READY
            )
            self._fail(call, failure_at_deadline(call, self.describe(), reachable))
        for route in self._routes.values():
            self._review_target(route, route in unanswered, now)

    # --- Sending ---

    def flush(self, now: float) -> Iterator[tuple[Link, bytes]]:
        """The frames to write now. Everything of one loop pass for one group goes in one frame."""
        for route in self._routes.values():
            while route.has_work():
                link = self._aim(route, now)
                if link is None:
                    break
                frame = next_frame(route, link, now, self._prepare)
                if frame is None:
                    break
                yield link, frame

    def _aim(self, route: Route, now: float) -> Link | None:
        """The READY link that a route may send to; None: somebody is dialled, or we wait."""
        target = route.target
        if target is None:
            if now < route.search_at:
                return None
            hint = "" if route.any_replica or route.aimed_at else self.leader_of(route.group)
            target = self._directory.find_target(route, hint, now)
            if target is None:
                return None
        if target.state is LinkState.READY:
            return None if target.congested or route is self.contact else target
        if target.state is LinkState.IDLE:
            target.become_opening(now)
            self._to_open.append(target)
        return None

    def _prepare(self, call: CommandCall, now: float) -> bool:
        """Gives a command its bytes, and with sessions on its sequence; False: it has to wait."""
        if not self._sessions:
            call.encode_alone(repeatable=False)
        else:
            route = call.route
            session = route.session
            if session is None or not session.usable(now):
                self._open_session(route, call)
                return False
            if not session.has_room():
                return False
            call.encode_with(session)
        if len(call.encoded) > REQUEST_BYTES_MAX:
            size = len(call.encoded)
            self._fail(
                call,
                LimitExceeded(
                    f"{call.arm} takes {size} bytes; a request holds at most {REQUEST_BYTES_MAX}"
                ),
            )
        return True

    # --- Sessions ---

    def _open_session(self, route: Route, waiting: CommandCall) -> None:
        """Asks for a session, ahead of the commands that wait for it. One request at a time."""
        if route.opening is not None:
            return
        batch = wire.CommandBatch()
        batch.submissions.add().session_open.SetInParent()
        call = CommandCall(route, batch, SESSION_OPEN, Outcome(), waiting.deadline, waiting.timeout)
        call.encode_alone(repeatable=True)
        call.queued = True
        self._live.add(call)
        route.commands.appendleft(call)
        route.opening = call

    def _session_opened(self, route: Route) -> None:
        opening = route.opening
        assert opening is not None, "no session was being opened"
        route.opening = None
        promise = opening.promise
        assert isinstance(promise, Outcome), "a session is opened by the dispatcher itself"
        answer = promise.result
        assert isinstance(answer, OpenedSession), "SessionOpen is answered with a session"
        route.session = Session(
            answer.session,
            idle_ms=answer.idle_ms,
            window=min(answer.window or SESSION_WINDOW_MAX, SESSION_WINDOW_MAX),
            now=opening.sent_at,
        )

    def _session_expired(self, call: CommandCall) -> None:
        """The group has forgotten a session: what may be applied is unknown for good."""
        session = call.session
        assert session is not None, "only a session can expire"
        session.expired = True
        if call.route.session is session:
            call.route.session = None
        call.uncertain = True
        for other in list(self._live):
            if not isinstance(other, CommandCall) or other.session is not session:
                continue
            if other.maybe_applied:
                self._fail(other, answer_lost(other, "its session has expired"))
            else:
                other.leave_session()

    # --- Refusals ---

    def _refused(self, call: Request, link: Link, error: wire.Error, now: float) -> bool:
        """Judges a refusal; True: send the call again, to whatever its route aims at now."""
        route = call.route
        if route.target is link:
            route.probe_sent_at = 0.0
        match error.code:
            case wire.NOT_LEADER | wire.UNAVAILABLE | wire.WRONG_GROUP | wire.UNCERTAIN:
                self._directory.redirect(route, link, error, now)
                return self._refused_by_node(call, link, error)
            case wire.BUSY | wire.DISK_FULL | wire.WINDOW_EXCEEDED:
                self._rest(call, error, now)
            case wire.TOO_STALE:
                self._directory.redirect(route, link, error, now)
                self._rest(call, error, now)
            case wire.FUTURE_REVISION if route.any_replica:
                self._directory.redirect(route, link, error, now)
                self._rest(call, error, now)
            case wire.LIMIT_EXCEEDED if isinstance(call, CommandCall) and call.maybe_applied:
                # A full session does not store its refusals: another copy may yet be applied.
                self._fail(call, answer_lost(call, error.message))
            case wire.SESSION_EXPIRED if isinstance(call, CommandCall) and call.session:
                if not call.promise.done():
                    self._session_expired(call)
            case _:
                route.confirm(link, now)
                self._fail(call, from_wire(error))
        return False

    def _refused_by_node(self, call: Request, link: Link, error: wire.Error) -> bool:
        """Never appended, or appended by a leader that lost its office (UNCERTAIN)."""
        if call.promise.done():
            return False
        call.refusal = error
        if isinstance(call, CommandCall) and error.code == wire.UNCERTAIN:
            call.uncertain = True
            if not call.repeatable:
                reason = f"no session, {link.address} lost the leadership"
                self._fail(call, answer_lost(call, reason))
                return False
        return all(carrier.suspect for carrier in call.carriers)

    def _rest(self, call: Request, error: wire.Error, now: float) -> None:
        """The call goes again after a pause that grows with its attempts, and never before the
        node wants to see it. Those that were refused together come back spread out.
        """
        if call.promise.done():
            return
        call.refusal = error
        wanted = error.retry_after_ms / 1000 * (1 + self._jitter())
        pause = max(wanted, backoff(call.attempts, self._jitter()))
        call.attempts += 1
        self._rests += 1
        heapq.heappush(self._resting, (now + pause, self._rests, call))

    def _review_target(self, route: Route, owes: bool, now: float) -> None:
        """Turns away from a target that cannot be opened, or that owes answers and is silent."""
        target = route.target
        if target is None:
            return
        if target.state is LinkState.OPENING:
            if route.has_work() and now - target.changed_at > PROBE_SECONDS:
                route.search(now)
            return
        probe_lost = not route.trusted and 0.0 < route.probe_sent_at < now - PROBE_SECONDS
        if (owes or (probe_lost and route.has_work())) and route.silent(now, _patience(route)):
            target.doubt(now)
            route.search(now)
            route.requeue(
                [
                    call
                    for call in target.in_flight.values()
                    if call.route is route and not call.promise.done() and call.repeatable
                ]
            )

    def _drop_target(self, link: Link, now: float) -> None:
        for route in self._routes.values():
            if route.target is link:
                route.search(now)

    # --- Ends ---

    def _succeed(self, call: Request, value: object) -> None:
        self.give_up(call)
        if not call.promise.done():
            call.promise.set_result(value)

    def _fail(self, call: Request, error: KvorumError) -> None:
        self.give_up(call)
        if call.promise.done():
            return
        call.promise.set_exception(error)
        route = call.route
        if call is route.opening:
            route.opening = None
            if not isinstance(error, (Unavailable, DeadlineExceeded, UnknownOutcome)):
                for waiting in list(route.commands):
                    if not waiting.encoded:
                        self._fail(waiting, error)


def _patience(route: Route) -> float:
    return SILENCE_SECONDS if route.trusted else PROBE_SECONDS
